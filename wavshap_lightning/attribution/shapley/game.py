"""Games: the score with some parts of the input present and baselines in place of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines, BaselineSet, declared_only
from wavshap_lightning.attribution.estimation.chunks import in_parts
from wavshap_lightning.attribution.estimation.designs import like_input
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.estimation.problem import Problem, Progress, Score, open_problem
from wavshap_lightning.attribution.record import Attribution, ViewEstimate
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.errors import AttributionError

NUM_GROUPS = 8
"""Groups of coalitions, each left out once, for a standard error."""

Coalitions = Bool[Tensor, "coalitions players"]
Places = Float[Tensor, "places *rest"]
Values = Float64[Tensor, "targets players"]
Fit = Callable[[Int64[Tensor, " chosen"]], Values]


@dataclass(frozen=True)
class Players:
    """The parts of an input that are present or absent: owners of the places (frames) along its first axis.

    Args:
        owner: The player each place belongs to, counted from 0.
        count: Number of players; one may own nothing.
        name: Name of the players.

    Raises:
        AttributionError: If an owner is no player.
    """

    owner: Int64[Tensor, " places"]
    count: int
    name: str = "spans"

    def __post_init__(self) -> None:
        if len(self.owner) == 0 or not ((self.owner >= 0) & (self.owner < self.count)).all():
            raise AttributionError(
                f"owner: {len(self.owner)} places must each belong to one of count={self.count} players"
            )

    def fill(self, present: Coalitions, input: Places, baseline: Places) -> Tensor:
        """The input where its owner is present, the baseline elsewhere: `(coalitions, places, *rest)`."""
        kept = present.to(input.device)[:, self.owner.to(input.device)]
        return torch.where(kept.reshape(*kept.shape, *(1,) * (input.ndim - 1)), input, baseline)

    def spread(self, values: Values) -> Float64[Tensor, "targets places"]:
        """Each player's value shared evenly among its places; the sum is that of players who own any.

        >>> Players(torch.tensor([0, 0, 1]), 2).spread(torch.tensor([[4.0, 3.0]]).double())
        tensor([[2., 2., 3.]], dtype=torch.float64)
        """
        sizes = torch.bincount(self.owner, minlength=self.count).clamp(min=1)
        return (values / sizes.to(values))[:, self.owner.to(values.device)]


def equal_spans(num_places: int, count: int) -> Players:
    """Neighbors in spans as equal as can be; never more spans than places.

    >>> equal_spans(5, 2).owner
    tensor([0, 0, 0, 1, 1])

    Raises:
        AttributionError: If there would be no span.
    """
    if count < 1:
        raise AttributionError(f"count={count} must be at least 1: into how many spans the input is cut")
    count = min(count, num_places)
    return Players(torch.arange(num_places) * count // num_places, count)


def members(membership: Float[Tensor, "players places"], *, name: str) -> Players:
    """Players from a table of their places, each place belonging to one of them.

    Raises:
        AttributionError: If a place belongs to several, or to none.
    """
    if not ((membership == 0) | (membership == 1)).all() or not (membership.sum(0) == 1).all():
        raise AttributionError("membership: each place must belong to exactly one player")
    return Players(membership.argmax(0), len(membership), name)


def all_coalitions(count: int) -> Coalitions:
    """Every subset of so many players; player `i` is in number `n` if bit `i` of it is set.

    >>> all_coalitions(2).int()
    tensor([[0, 0],
            [1, 0],
            [0, 1],
            [1, 1]], dtype=torch.int32)
    """
    numbers = torch.arange(2**count)
    return (numbers[:, None] >> torch.arange(count)) % 2 == 1


@dataclass(frozen=True)
class Game:
    """A problem as a game of players.

    Args:
        problem: What is explained.
        players: The parts that are present or absent.
        baselines: What stands for absence: every one of them, on average.
        after: The baselines after the score's linear first step.
        report: Called with the number of evaluations that were done.
    """

    problem: Problem
    players: Players
    baselines: BaselineSet
    after: Float[Tensor, "baselines *path"]
    report: Callable[[int], None]

    def values(self, present: Coalitions) -> Float64[Tensor, "coalitions targets"]:
        """Mean score over the baselines, with these players present."""
        return in_parts(self._some, present, self.problem.chunks)

    def _some(self, present: Coalitions, start: int) -> Float64[Tensor, "coalitions targets"]:
        total = torch.zeros(1, dtype=torch.float64, device=self.after.device)
        for index, baseline in enumerate(self.after):
            filled = self.players.fill(present, self.problem.input_after, baseline)
            total = total + self.problem.scores(filled, start, what=f"baselines[{index}]: coalition")
            self.report(len(present))
        return total / len(self.after)

    def alone(self) -> Float64[Tensor, "baselines targets"]:
        """The scores of the baselines themselves."""
        return self.problem.scores(self.after, what="baseline")

    def attribution(
        self,
        method: str,
        values: Values,
        num_coalitions: int,
        *,
        stderr: Values | None = None,
        complete: bool = False,
        seed: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Attribution:
        """The record of the players' values; its views are the players, and the frames they share.

        Args:
            method: Name of the method.
            values: Each player's attribution to each target.
            num_coalitions: Number of coalitions that were evaluated.
            stderr: Standard error of the values; None where there is no chance.
            complete: Whether the values are meant to sum to the score above the baselines' mean.
            seed: Seed of the coalitions; None where there is no chance.
            settings: What is particular to the method, in plain JSON types.
        """
        players, problem, alone = self.players, self.problem, self.alone()
        freedom = float("inf") if stderr is None else NUM_GROUPS - 1.0
        spread = None if stderr is None else players.spread(stderr)
        views: Mapping[str, ViewEstimate] = {
            "frames": ViewEstimate(players.spread(values), spread, freedom),
            players.name: ViewEstimate(values, stderr, freedom),
        }
        gap = values.sum(1) - (problem.target_scores - alone.mean(0))
        return Attribution(
            method=method,
            estimand=self.baselines.estimand,
            views=views,
            target=problem.target,
            prediction=problem.prediction,
            score=tuple(problem.target_scores.tolist()),
            mean_baseline_score=tuple(alone.mean(0).tolist()),
            baseline_score_std=tuple(alone.std(0, unbiased=False).tolist()),
            gap=tuple(gap.tolist()) if complete else None,
            num_draws=num_coalitions * len(alone),
            seed=seed,
            settings={
                "stopping": asdict(Stopping(num_draws=num_coalitions)),
                "baselines": self.baselines.name,
                "views": [*views],
                "num_players": players.count,
                **(settings or {}),
            },
        ).warned()


@contextmanager
def open_game(
    score: Score,
    input: Tensor,
    baselines: Baselines,
    players: Players,
    target: Target,
    *,
    total: int,
    chunk_size: int | None,
    progress: Progress | None,
) -> Iterator[Game]:
    """A game whose score leaves no trace in its model as long as the context is open.

    Args:
        score: `(draws, *input) -> (draws, classes)`, logits; each row from its own input alone.
        input: What is explained, without a batch axis.
        baselines: A declared set; the mean over it stands for absence.
        players: The parts that are present or absent.
        target: Scalars of the logits that are explained.
        total: Number of coalitions that will be evaluated, for the report of progress.
        chunk_size: Inputs that go through the model at once; found from input and memory if None.
        progress: Called after every chunk with the evaluations done and planned.

    Raises:
        AttributionError: If the baselines are a distribution, or players or baselines are of another input.
    """
    baselines = declared_only(baselines)
    with open_problem(score, input, target, chunk_size=chunk_size) as problem:
        if len(players.owner) != len(problem.input_after):
            raise AttributionError(
                f"players own {len(players.owner)} places, but the input has {len(problem.input_after)}"
            )
        after = problem.after_step(like_input(baselines.values, problem.input, baselines.name))
        done, planned = 0, total * len(after)

        def report(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(min(done, planned), planned)

        yield Game(problem, players, baselines, after, report)


def check_num_coalitions(count: int, num_players: int) -> None:
    """Refuse too few coalitions for a fit without any one group of them.

    Raises:
        AttributionError: If there are fewer than twice the players or 32, or they are no pairs.
    """
    least = max(2 * num_players, 4 * NUM_GROUPS)
    if count < least or count % 2:
        raise AttributionError(
            f"num_coalitions={count} must be even and at least {least} for {num_players} players; ask for "
            "more evaluations, or take fewer players or baselines"
        )


def jackknife(fit: Fit, count: int) -> Values:
    """Standard error of values fitted to coalitions in pairs, by leaving out one group of pairs at a time.

    Source: the delete-a-group jackknife (Kott 2001).

    Args:
        fit: Gives the values from the coalitions with these indices.
        count: Number of coalitions; the first two are a pair, and so on.
    """
    groups = torch.arange(count) // 2 % NUM_GROUPS
    fitted = torch.stack([fit((groups != group).nonzero().flatten()) for group in range(NUM_GROUPS)])
    return ((NUM_GROUPS - 1) * fitted.var(0, unbiased=False)).sqrt()
