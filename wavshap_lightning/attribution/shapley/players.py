"""Players, the spans of an input that are present or absent, and the record of what each contributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines, declared_only
from wavshap_lightning.attribution.estimation.chunks import in_parts
from wavshap_lightning.attribution.estimation.designs import like_input
from wavshap_lightning.attribution.estimation.estimate import Stopping, build_record
from wavshap_lightning.attribution.estimation.problem import Positions, Problem
from wavshap_lightning.attribution.record import Attribution, ViewEstimate
from wavshap_lightning.errors import AttributionError

NUM_GROUPS = 8
"""Groups of coalitions, each left out once, for a standard error."""

Coalitions = Bool[Tensor, "coalitions players"]
Gains = Float64[Tensor, "coalitions targets"]
Places = Float[Tensor, "places *rest"]
Values = Float64[Tensor, "targets players"]

Fit = Callable[[Coalitions, Gains, Float64[Tensor, " targets"]], Values]
"""Players' values from coalitions, their scores above the baselines' mean, and that of the whole input."""


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
                f"owner: {len(self.owner)} positions must each belong to one of count={self.count} players"
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
        return (values / sizes)[:, self.owner]


def equal_spans(num_places: int, count: int) -> Players:
    """Spans of adjacent positions, as equal in length as possible; never more spans than positions.

    >>> equal_spans(5, 2).owner
    tensor([0, 0, 0, 1, 1])
    """
    count = min(count, num_places)
    return Players(torch.arange(num_places) * count // num_places, count)


def fewest_coalitions(num_players: int) -> int:
    """Smallest number of coalitions with a fit for each of the groups that are left out in turn."""
    return max(2 * num_players, 4 * NUM_GROUPS)


def check_num_coalitions(count: int, num_players: int) -> None:
    """Refuse too few coalitions for a fit without any one group of them.

    Raises:
        AttributionError: If there are fewer than twice the players or 32, or they are no pairs.
    """
    if count < (least := fewest_coalitions(num_players)) or count % 2:
        raise AttributionError(f"num_coalitions={count} must be even and at least {least}")


def explain_players(
    problem: Problem,
    baselines: Baselines,
    players: Players,
    present: Coalitions,
    fit: Fit,
    *,
    method: str,
    seed: int | None = None,
    complete: bool = False,
    num_apart: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Attribution:
    """The record of the players' values; its views are the players, and the frames they share.

    Args:
        problem: Score, input and target.
        baselines: A fixed set; removed spans take its values, and scores are averaged over it.
        players: The parts that are present or absent.
        present: The coalitions.
        fit: Gives the players' values.
        method: Name of the method.
        seed: Seed of the coalitions, which then come in pairs and give a standard error; None where there is
            no chance.
        complete: Whether the values are meant to sum to the score above the baselines' mean.
        num_apart: Number of coalitions that are evaluated apart from these.
        settings: What is particular to the method, in plain JSON types.

    Raises:
        AttributionError: If the baselines are a distribution, or players or baselines are of another input.
    """
    baselines = declared_only(baselines)
    if len(players.owner) != len(problem.input_after):
        raise AttributionError(
            f"players: {len(players.owner)} positions are given, but the input has {len(problem.input_after)}"
        )
    after = problem.after_step(like_input(baselines.values, problem.input, baselines.name))
    alone = problem.scores(after, what="baseline").cpu()
    gains = _mean_scores(problem, players, after, present).cpu() - alone.mean(0)
    whole = problem.target_scores.cpu() - alone.mean(0)

    def fit_some(chosen: Int64[Tensor, " chosen"]) -> Values:
        return fit(present[chosen], gains[chosen], whole)

    values = fit_some(torch.arange(len(present)))
    stderr = None if seed is None else _jackknife(fit_some, len(present))
    spread = None if stderr is None else players.spread(stderr)
    freedom = inf if stderr is None else NUM_GROUPS - 1.0
    num_coalitions = len(present) + num_apart
    return build_record(
        problem,
        baselines,
        alone,
        Stopping(num_draws=num_coalitions),
        method=method,
        views={
            "frames": ViewEstimate(players.spread(values), spread, freedom),
            players.name: ViewEstimate(values, stderr, freedom),
        },
        gap=values.sum(1) - whole if complete else None,
        num_draws=num_coalitions * len(after),
        seed=seed,
        settings={"num_players": players.count, **(settings or {})},
    )


def _mean_scores(problem: Problem, players: Players, after: Positions, present: Coalitions) -> Gains:
    """Mean score over the baselines, with each coalition's players present."""

    def score_some(some: Coalitions, start: int) -> Gains:
        total = torch.zeros(1, dtype=torch.float64, device=after.device)
        for index, baseline in enumerate(after):
            filled = players.fill(some, problem.input_after, baseline)
            total = total + problem.scores(filled, start, what=f"baselines[{index}]: coalition")
            done = start * len(after) + len(some) * (index + 1)
            problem.progress(done, len(present) * len(after))
        return total / len(after)

    return in_parts(score_some, present, problem.chunks)


def _jackknife(fit: Callable[[Int64[Tensor, " chosen"]], Values], count: int) -> Values:
    """Standard error of values fitted to coalitions in pairs, by leaving out one group of pairs at a time.

    Source: the delete-a-group jackknife (Kott 2001).

    Args:
        fit: Gives the values from the coalitions with these indices.
        count: Number of coalitions; the first two are a pair, and so on.
    """
    groups = torch.arange(count) // 2 % NUM_GROUPS
    fitted = torch.stack([fit((groups != group).nonzero().flatten()) for group in range(NUM_GROUPS)])
    return ((NUM_GROUPS - 1) * fitted.var(0, unbiased=False)).sqrt()
