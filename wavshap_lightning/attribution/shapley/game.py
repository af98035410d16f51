"""A game: what a score comes to when some parts of the input are there and baselines stand for the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines, BaselineSet, check_kind
from wavshap_lightning.attribution.estimation.chunks import CPU_ELEMENTS, MAX_CHUNK
from wavshap_lightning.attribution.estimation.memory import in_parts
from wavshap_lightning.attribution.estimation.method import Method, Options, Question, run_method
from wavshap_lightning.attribution.estimation.problem import Problem, image
from wavshap_lightning.attribution.record import Attribution, Outcome, ViewEstimate
from wavshap_lightning.errors import AttributionError


@dataclass(frozen=True)
class Players:
    """Who owns which place along the first axis after the score's first step.

    Args:
        owner: The player each place belongs to, from 0.
        count: How many players; one may own nothing.
        name: What the players are.
        places: What the places are.

    Raises:
        AttributionError: If an owner is no player.
    """

    owner: Int64[Tensor, " places"]
    count: int
    name: str = "spans"
    places: str = "frames"

    def __post_init__(self) -> None:
        if len(self.owner) == 0 or not ((self.owner >= 0) & (self.owner < self.count)).all():
            raise AttributionError(
                f"owner: {len(self.owner)} places must each belong to one of count={self.count} players, "
                "counted from 0"
            )

    def fill(
        self,
        present: Bool[Tensor, "coalitions players"],
        input: Float[Tensor, "places *rest"],  # noqa: A002 - the word for it
        baseline: Float[Tensor, "places *rest"],
    ) -> Float[Tensor, "coalitions places *rest"]:
        """The input where its owner is present, the baseline elsewhere."""
        kept = present.to(input.device)[:, self.owner.to(input.device)]
        return torch.where(kept.reshape(*kept.shape, *(1,) * (input.ndim - 1)), input, baseline)

    def spread(self, values: Float64[Tensor, "targets players"]) -> Float64[Tensor, "targets places"]:
        """Each player's value shared evenly among its places; the sum is that of players who own any.

        >>> Players(torch.tensor([0, 0, 1]), 2).spread(torch.tensor([[4.0, 3.0]]).double())
        tensor([[2., 2., 3.]], dtype=torch.float64)
        """
        sizes = torch.bincount(self.owner, minlength=self.count).clamp(min=1)
        return (values / sizes.to(values))[:, self.owner.to(values.device)]


def equal_spans(num_places: int, count: int, *, places: str = "frames") -> Players:
    """Neighbours in spans as equal as can be; never more spans than places.

    >>> equal_spans(5, 2).owner
    tensor([0, 0, 0, 1, 1])

    Raises:
        AttributionError: If there would be no span.
    """
    if count < 1:
        raise AttributionError(f"count={count} must be at least 1: into how many spans the input is cut")
    count = min(count, num_places)
    return Players(torch.arange(num_places) * count // num_places, count, places=places)


def all_coalitions(count: int) -> Bool[Tensor, "coalitions players"]:
    """Every subset of so many players; player `i` is in number `n` if bit `i` of it is set.

    >>> all_coalitions(2).int()
    tensor([[0, 0],
            [1, 0],
            [0, 1],
            [1, 1]], dtype=torch.int32)
    """
    numbers = torch.arange(2**count)
    return (numbers[:, None] >> torch.arange(count)) % 2 == 1


def members(membership: Float[Tensor, "players places"], *, name: str, places: str = "frames") -> Players:
    """Players from a table of who owns what, each place belonging to one.

    Raises:
        AttributionError: If a place belongs to several, or to none.
    """
    if not ((membership == 0) | (membership == 1)).all() or not (membership.sum(0) == 1).all():
        raise AttributionError(
            "membership: each place must belong to exactly one player; leave nothing shared"
        )
    return Players(membership.argmax(0), len(membership), name, places)


NUM_GROUPS = 8
"""Groups of coalitions, each left out once, for a standard error."""

Coalitions = Bool[Tensor, "coalitions players"]
Fit = Callable[[Int64[Tensor, " chosen"]], Float64[Tensor, "targets players"]]


@dataclass(frozen=True)
class Game:
    """A problem as a game of players.

    Args:
        problem: What is explained.
        baselines: What stands for absence, after the score's first step; every one of them, on average.
        players: Who is there or not.
        chunk_size: Inputs the score is given at once.
        report: Told of the evaluations that were done.
    """

    problem: Problem
    baselines: Float[Tensor, "baselines *path"]
    players: Players
    chunk_size: int
    report: Callable[[int], None]

    def values(self, present: Coalitions) -> Float64[Tensor, "coalitions targets"]:
        """Mean score over the baselines, with these players present."""
        return in_parts(self._some, present, self.chunk_size)

    def _some(self, present: Coalitions, start: int) -> Float64[Tensor, "coalitions targets"]:
        total = torch.zeros(1, dtype=torch.float64, device=self.baselines.device)
        for index, baseline in enumerate(self.baselines):
            filled = self.players.fill(present, self.problem.input_after, baseline)
            total = total + self.problem.scores(filled, f"baselines[{index}]: coalition", start)
            self.report(len(present))
        return total / len(self.baselines)

    def alone(self) -> Float64[Tensor, "baselines targets"]:
        """The scores of the baselines themselves."""
        return self.problem.scores(self.baselines, "baseline")


@dataclass(frozen=True)
class Solution:
    """What a method made of a game.

    Args:
        values: Each player's attribution to each target.
        num_coalitions: How many were looked at.
        stderr: Standard error of the values; None where there is no chance.
        complete: Whether the values are meant to sum to the score above the baselines' mean.
    """

    values: Float64[Tensor, "targets players"]
    num_coalitions: int
    stderr: Float64[Tensor, "targets players"] | None = None
    complete: bool = False


def play(
    method: Method,
    solve: Callable[[Game], Solution],
    players: Players,
    question: Question,
    num_coalitions: int,
) -> Attribution:
    """Run a method that takes players away; the views are the players, and the places they share.

    Args:
        method: Which, with the declared baselines that stand for absence.
        solve: Makes a solution of the game.
        players: Who is there or not.
        question: What is explained; the views of its options are of no use here.
        num_coalitions: How many will be looked at, for the report of progress.

    Raises:
        AttributionError: If the baselines are a distribution, or the players are of another input.
    """
    baselines = _declared(method.baselines)

    def run(problem: Problem) -> Outcome:
        if len(players.owner) != len(problem.input_after):
            raise AttributionError(
                f"players own {len(players.owner)} places, but the input has {len(problem.input_after)}"
            )
        game = _open(problem, baselines, players, question.options, num_coalitions)
        return _outcome(game, solve(game))

    return run_method(method, run, question)


def check_num_coalitions(count: int, num_players: int) -> None:
    """Refuse too few for a fit without any one group of them.

    Raises:
        AttributionError: If there are fewer than twice the players or 32, or they are no pairs.
    """
    least = max(2 * num_players, 4 * NUM_GROUPS)
    if count < least or count % 2:
        raise AttributionError(
            f"num_coalitions={count} must be even and at least {least} for {num_players} players; ask for "
            "more evaluations, or take fewer players or baselines"
        )


def jackknife(fit: Fit, count: int) -> Float64[Tensor, "targets players"]:
    """Standard error of what is fitted to coalitions in pairs: by leaving out one group of pairs at a time.

    Source: the delete-a-group jackknife (Kott 2001).

    Args:
        fit: Gives the values from the coalitions with these indices.
        count: How many coalitions there are; the first two are a pair, and so on.
    """
    groups = torch.arange(count) // 2 % NUM_GROUPS
    fitted = torch.stack([fit((groups != group).nonzero().flatten()) for group in range(NUM_GROUPS)])
    return ((NUM_GROUPS - 1) * fitted.var(0, unbiased=False)).sqrt()


def _declared(baselines: Baselines | None) -> BaselineSet:
    check_kind(baselines)
    if not isinstance(baselines, BaselineSet):
        raise AttributionError(
            f"baselines={getattr(baselines, 'name', None)!r} is a distribution; what stands for absence must "
            "be the same in all coalitions: use baselines.declare(count, generator)"
        )
    return baselines


def _open(
    problem: Problem, baselines: BaselineSet, players: Players, options: Options, num_coalitions: int
) -> Game:
    after = image(problem.first, baselines.values.to(problem.input))
    if after.shape[1:] != problem.input_after.shape:
        raise AttributionError(
            f"baselines={baselines.name!r} have shape {tuple(after.shape[1:])}, the input "
            f"{tuple(problem.input_after.shape)}; they must be the same"
        )
    done, planned = 0, num_coalitions * len(after)

    def report(count: int) -> None:
        nonlocal done
        done += count
        if options.progress is not None:
            options.progress(min(done, planned), planned)

    at_once = options.chunk_size or max(1, min(MAX_CHUNK, CPU_ELEMENTS // problem.input_after.numel()))
    return Game(problem, after, players, at_once, report)


def _outcome(game: Game, found: Solution) -> Outcome:
    freedom = NUM_GROUPS - 1.0 if found.stderr is not None else float("inf")
    view = ViewEstimate(found.values, found.stderr, freedom)
    players = game.players
    spread = None if found.stderr is None else players.spread(found.stderr)
    views = {players.places: replace(view, values=players.spread(found.values), stderr=spread)}
    alone = game.alone()
    mean = alone.mean(0)
    gap = found.values.sum(1) - (game.problem.score - mean) if found.complete else None
    return Outcome(
        {**views, players.name: view},
        found.num_coalitions * len(game.baselines),
        mean,
        alone.std(0, unbiased=False),
        gap,
        unresolved=None,
        draws_needed=None,
    )
