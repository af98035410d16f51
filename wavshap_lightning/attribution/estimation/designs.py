"""Designs: which draws are taken, where they lie, and how their error is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wavshap_lightning.attribution.baselines import BaselineDistribution, Baselines, BaselineSet, take
from wavshap_lightning.attribution.estimation.moments import (
    LATTICE,
    NET,
    BlockMoments,
    PairMoments,
    WeightedSum,
)
from wavshap_lightning.attribution.estimation.problem import Inputs, Positions, Problem, first_not_finite
from wavshap_lightning.attribution.estimation.sampling import (
    LATTICE_PARTS,
    AlphaStrata,
    BaselineLattice,
    Points,
    SobolNet,
)
from wavshap_lightning.attribution.views.frames import View
from wavshap_lightning.errors import AttributionError

Moments = WeightedSum | PairMoments | BlockMoments

LATTICE_BASELINES = 4
"""From so many on, the shifts of a lattice are many enough for its error to be stated more closely."""


@dataclass(frozen=True)
class Placement:
    """Positions and directions of some draws.

    Args:
        positions: Points at which gradients are taken: after the score's linear first step, if it has one.
        directions: Factors of the gradients, before that step.
        directions_after: The directions after that step.
        fresh: The baselines of these draws after that step, where each took its own.
    """

    positions: Positions
    directions: Inputs
    directions_after: Positions
    fresh: Positions | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, part: slice) -> Placement:
        fresh = None if self.fresh is None else self.fresh[part]
        return Placement(self.positions[part], self.directions[part], self.directions_after[part], fresh)


def by_path(points: Points, index: int) -> str:
    """Words for a draw on a path, for a message."""
    own = "a baseline of its own" if points.baselines is None else f"baseline={int(points.baselines[index])}"
    return f"{own}, alpha={float(points.alphas[index]):.4f}"


@dataclass(frozen=True)
class Design:
    """A plan of draws that can be extended.

    Args:
        extend: Gives the next so many draws, in blocks.
        place: Gives the positions of some draws; called once for each, in order.
        moments: Makes the sums for a view's terms.
        baselines: Baselines at which the paths begin; None for methods without paths.
        declared: The baselines of a declared set after the score's linear first step; None without such a
            set.
        name_draw: Gives words for one of some draws, for a message.
    """

    extend: Callable[[int], list[Points]]
    place: Callable[[Points], Placement]
    moments: Callable[[View], Moments]
    baselines: Baselines | None = None
    declared: Float[Tensor, "baselines *path"] | None = None
    name_draw: Callable[[Points, int], str] = by_path


def declared_spread(
    problem: Problem, baselines: BaselineSet, generator: torch.Generator, first_draws: int
) -> Design:
    """Draws spread evenly over alpha and the baselines of a declared set.

    A lattice where every baseline gets the same multiple of four draws at first; otherwise a Sobol net, which
    serves any number.

    Args:
        problem: What is explained.
        baselines: The declared set.
        generator: Source of shifts or scrambling.
        first_draws: Number of draws of the first call of `extend`.
    """
    on_lattice = first_draws % (LATTICE_PARTS * len(baselines)) == 0
    sampler = (BaselineLattice if on_lattice else SobolNet)(len(baselines), generator)
    reduction = LATTICE if on_lattice and len(baselines) >= LATTICE_BASELINES else NET
    paths = DeclaredPaths(problem, baselines)
    return Design(
        _Quarters(sampler).extend,
        paths.place,
        lambda view: BlockMoments(smooth=view.smooth_variance, reduction=reduction),
        baselines,
        paths.after,
    )


class _Quarters:
    """Draws in four quarters at first, then as many again in halves, so that the parts can be compared."""

    def __init__(self, sampler: BaselineLattice | SobolNet) -> None:
        self._sampler = sampler
        self._parts = 4

    def extend(self, count: int) -> list[Points]:
        points = self._sampler.draw(count)
        points = replace(points, weights=points.weights * count)  # twice as many draws weigh twice as much
        edges = [count * part // self._parts for part in range(self._parts + 1)]
        self._parts = 2
        return [points[slice(*pair)] for pair in pairwise(edges) if pair[0] < pair[1]]


def fresh_strata(problem: Problem, baselines: BaselineDistribution, generator: torch.Generator) -> Design:
    """Strata of alpha, each draw with a baseline of its own from a distribution.

    Args:
        problem: What is explained.
        baselines: The distribution.
        generator: Source of alphas and baselines.
    """
    strata = AlphaStrata(generator)
    return Design(
        lambda count: [strata.draw(count)],
        _FreshPaths(problem, baselines, generator).place,
        lambda _: PairMoments(),
        baselines,
    )


class _FreshPaths:
    """Straight paths from the next baselines of a stream."""

    def __init__(self, problem: Problem, baselines: BaselineDistribution, generator: torch.Generator) -> None:
        self._problem = problem
        self._baselines = baselines
        self._stream: Iterator[Tensor] = baselines.stream(generator)
        self._num_placed = 0

    def place(self, points: Points) -> Placement:
        drawn = take(self._stream, len(points), self._baselines.name)
        encoded = self._baselines.encoded(drawn)
        fresh = like_input(encoded, self._problem.input, self._baselines.name, self._num_placed)
        self._num_placed += len(points)
        after = self._problem.after_step(fresh)
        return replace(_along_path(self._problem, fresh, after, points), fresh=after)


class DeclaredPaths:
    """Straight paths from a declared set, which goes through the score's linear first step once.

    Args:
        problem: What is explained.
        baselines: The declared set.
    """

    def __init__(self, problem: Problem, baselines: BaselineSet) -> None:
        self._problem = problem
        self._values = like_input(baselines.values, problem.input, baselines.name)
        self.after = problem.after_step(self._values)

    def place(self, points: Points) -> Placement:
        """Positions and directions of draws that name their baselines."""
        assert points.baselines is not None  # noqa: S101 - draws of a set have them; tells the type checker
        values = _rows(self._values, points.baselines)
        after = values if self._problem.step is None else _rows(self.after, points.baselines)
        return _along_path(self._problem, values, after, points)


def _rows(values: Tensor, chosen: Int[Tensor, " draws"]) -> Tensor:
    # a single row is not copied: of a large input that would take long
    return values[int(chosen) :][:1] if len(chosen) == 1 else values[chosen.to(values.device)]


def _along_path(problem: Problem, baselines: Inputs, after: Positions, points: Points) -> Placement:
    """`A b + alpha A (x - b)`, `x - b` and `A (x - b)`, with `A` the score's linear first step."""
    directions = problem.input - baselines
    directions_after = directions if problem.step is None else problem.input_after - after
    alphas = points.alphas.to(after).reshape(-1, *(1,) * (after.ndim - 1))
    return Placement(after + alphas * directions_after, directions, directions_after)


def like_input(values: Tensor, input: Tensor, name: str, start: int = 0) -> Inputs:
    """Baselines on the input's device and in its precision.

    Args:
        values: The baselines.
        input: The input.
        name: Their family, for a message.
        start: The number of the first draw, for a message.

    Raises:
        AttributionError: If their shape is not that of the input, or one is not finite.
    """
    if values.shape[1:] != input.shape:
        raise AttributionError(
            f"baselines={name!r} have shape {tuple(values.shape[1:])}, the input has {tuple(input.shape)}; "
            "they must agree: fit recordings to the clip's length, and take both through the same stages"
        )
    bad = first_not_finite(values)
    if bad is not None:
        raise AttributionError(
            f"baselines={name!r}: that of draw={start + bad} holds NaN or infinity; check how they are drawn"
        )
    return values.detach().to(input)
