"""Designs: which draws are taken, where they lie, and how their error is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wavshap_lightning.attribution.baselines import BaselineDistribution, BaselineSet, take
from wavshap_lightning.attribution.estimation.lattice_variance import LATTICE, NET, NetMoments
from wavshap_lightning.attribution.estimation.moments import Moments, PairMoments, WeightedSum
from wavshap_lightning.attribution.estimation.problem import Problem, first_not_finite, image
from wavshap_lightning.attribution.estimation.sampling import (
    LATTICE_PARTS,
    AlphaStrata,
    BaselineLattice,
    Points,
    SobolNet,
)
from wavshap_lightning.attribution.views.frames import View
from wavshap_lightning.errors import AttributionError

LATTICE_BASELINES = 4
"""From so many on, the shifts of a lattice are many enough for its error to be told more closely."""


@dataclass(frozen=True)
class Placement:
    """Some draws, ready to be evaluated.

    Args:
        positions: Where the gradient is taken: after the score's first step, where there is one.
        directions: What it is multiplied with: before that step.
        directions_after: The directions after that step.
        fresh: The baselines of these draws after that step, where each took its own.
    """

    positions: Float[Tensor, "draws *path"]
    directions: Float[Tensor, "draws *input"]
    directions_after: Float[Tensor, "draws *path"]
    fresh: Float[Tensor, "draws *path"] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, part: slice) -> Placement:
        fresh = None if self.fresh is None else self.fresh[part]
        return Placement(self.positions[part], self.directions[part], self.directions_after[part], fresh)


@runtime_checkable
class Design(Protocol):
    """A plan of draws that can go on; the estimator asks for blocks and places them chunk by chunk."""

    def extend(self, count: int) -> list[Points]:
        """The next `count` draws, in blocks."""
        ...

    def place(self, points: Points) -> Placement:
        """Where these draws lie; asked once for each, in order."""
        ...

    def moments_for(self, view: View) -> Moments:
        """What adds up the terms of a view."""
        ...

    def name_draw(self, points: Points, index: int) -> str:
        """Words for one of these draws, for a message."""
        ...

    def declared(self) -> Float[Tensor, "baselines *path"] | None:
        """The baselines of a declared set after the score's first step; None without such a set."""
        ...


class DeclaredSpread:
    """Draws spread evenly over alpha and the baselines of a declared set.

    A lattice where every baseline gets the same multiple of four draws at first; a Sobol net, which serves
    any number, where not.
    """

    def __init__(
        self, problem: Problem, baselines: BaselineSet, generator: torch.Generator, first_draws: int
    ) -> None:
        self._paths = _DeclaredPaths(problem, baselines)
        on_lattice = first_draws % (LATTICE_PARTS * len(baselines)) == 0
        self._sampler = (BaselineLattice if on_lattice else SobolNet)(len(baselines), generator)
        self._credit = LATTICE if on_lattice and len(baselines) >= LATTICE_BASELINES else NET
        self._started = False

    def extend(self, count: int) -> list[Points]:
        """Four quarters first, then halves of as many again."""
        points, parts = self._sampler.draw(count), 2 if self._started else 4
        points = replace(points, weights=points.weights * count)  # twice as many draws weigh twice as much
        self._started = True
        edges = [count * part // parts for part in range(parts + 1)]
        return [points[slice(*pair)] for pair in pairwise(edges) if pair[0] < pair[1]]

    def place(self, points: Points) -> Placement:
        """On the straight path from each draw's baseline."""
        return self._paths.place(points)

    def moments_for(self, view: View) -> Moments:
        """The parts are compared."""
        return NetMoments(neighbours=view.neighbours, credit=self._credit)

    def name_draw(self, points: Points, index: int) -> str:
        """With its baseline and alpha."""
        return _named(points, index)

    def declared(self) -> Float[Tensor, "baselines *path"]:
        """The set after the score's first step."""
        return self._paths.after


class Quadrature:
    """Every baseline of a declared set with the same nodes; there is no chance in it."""

    def __init__(self, problem: Problem, baselines: BaselineSet, points: Points) -> None:
        self._paths = _DeclaredPaths(problem, baselines)
        self._points = points

    def extend(self, count: int) -> list[Points]:
        """All of them at once."""
        return [self._points[:count]]

    def place(self, points: Points) -> Placement:
        """On the straight path from each draw's baseline."""
        return self._paths.place(points)

    def moments_for(self, view: View) -> Moments:  # noqa: ARG002 - all views alike
        """A weighted sum."""
        return WeightedSum()

    def name_draw(self, points: Points, index: int) -> str:
        """With its baseline and alpha."""
        return _named(points, index)

    def declared(self) -> Float[Tensor, "baselines *path"]:
        """The set after the score's first step."""
        return self._paths.after


class FreshStrata:
    """Strata of alpha, each draw with a baseline of its own from a distribution."""

    def __init__(self, problem: Problem, baselines: BaselineDistribution, generator: torch.Generator) -> None:
        self._problem = problem
        self._baselines = baselines
        self._strata = AlphaStrata(generator)
        self._stream: Iterator[Tensor] = baselines.stream(generator)
        self._num_placed = 0

    def extend(self, count: int) -> list[Points]:
        """One block of pairs."""
        return [self._strata.draw(count)]

    def place(self, points: Points) -> Placement:
        """On the straight path from the next baselines of the stream."""
        drawn = take(self._stream, len(points), self._baselines.name)
        encoded = self._baselines.encoded(drawn)
        fresh = like_input(encoded, self._problem.input, self._baselines.name, self._num_placed)
        self._num_placed += len(points)
        after = image(self._problem.first, fresh)
        return replace(along_path(self._problem, fresh, after, points), fresh=after)

    def moments_for(self, view: View) -> Moments:  # noqa: ARG002 - all views alike
        """Pairs of neighbouring strata are compared."""
        return PairMoments()

    def name_draw(self, points: Points, index: int) -> str:
        """With its alpha; its baseline is its own."""
        return _named(points, index)

    def declared(self) -> None:
        """There is no such set."""


class _DeclaredPaths:
    """The straight paths from a declared set, which goes through the score's first step once."""

    def __init__(self, problem: Problem, baselines: BaselineSet) -> None:
        self._problem = problem
        self._values = like_input(baselines.values, problem.input, baselines.name)
        self.after = image(problem.first, self._values)

    def place(self, points: Points) -> Placement:
        assert points.baselines is not None  # noqa: S101 - draws of a set have them; tells the type checker
        values = _rows(self._values, points.baselines)
        after = values if self._problem.first is None else _rows(self.after, points.baselines)
        return along_path(self._problem, values, after, points)


def _rows(values: Tensor, chosen: Int[Tensor, " draws"]) -> Tensor:
    """Those rows; a single one without a copy, which a large input would feel."""
    return values[int(chosen) :][:1] if len(chosen) == 1 else values[chosen.to(values.device)]


def along_path(
    problem: Problem,
    baselines: Float[Tensor, "draws *input"],
    after: Float[Tensor, "draws *path"],
    points: Points,
) -> Placement:
    """`A b + alpha A (x - b)`, `x - b` and `A (x - b)`, with `A` the score's first step.

    Args:
        problem: Holds the input, before and after the step.
        baselines: The draws' baselines.
        after: They after the step.
        points: The draws.
    """
    directions = problem.input - baselines
    directions_after = directions if problem.first is None else problem.input_after - after
    alphas = points.alphas.to(after).reshape(-1, *(1,) * (after.ndim - 1))
    return Placement(after + alphas * directions_after, directions, directions_after)


def like_input(
    values: Tensor,
    input: Tensor,  # noqa: A002 - the word for it
    name: str,
    start: int = 0,
) -> Float[Tensor, "draws *input"]:
    """Baselines on the input's device and in its precision; counted from `start` in messages.

    Raises:
        AttributionError: If they have another shape, or one is not finite.
    """
    if values.shape[1:] != input.shape:
        raise AttributionError(
            f"baselines={name!r} have shape {tuple(values.shape[1:])}, the input has {tuple(input.shape)}; "
            "they must agree. Crop or repeat recordings to the clip's length, and take both through the same "
            "stages"
        )
    bad = first_not_finite(values)
    if bad is not None:
        raise AttributionError(
            f"baselines={name!r}: that of draw={start + bad} holds NaN or infinity; look at what draws or "
            "encodes them"
        )
    return values.detach().to(input)


def _named(points: Points, index: int) -> str:
    own = "a baseline of its own" if points.baselines is None else f"baseline={int(points.baselines[index])}"
    return f"{own}, alpha={float(points.alphas[index]):.4f}"
