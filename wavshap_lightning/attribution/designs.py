"""Designs: which draws are taken, where they lie, and how their error is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.baselines import BaselineDistribution, BaselineSet, take
from wavshap_lightning.attribution.moments import Moments, PairMoments, WeightedSum
from wavshap_lightning.attribution.net_moments import NetMoments
from wavshap_lightning.attribution.sampling import AlphaStrata, Points, SobolNet
from wavshap_lightning.attribution.views import View
from wavshap_lightning.errors import AttributionError


@dataclass(frozen=True)
class Placement:
    """Some draws, ready to be evaluated.

    Args:
        positions: Where the gradient is taken.
        directions: What it is multiplied with.
        fresh: The baselines of these draws, where each took its own.
    """

    positions: Float[Tensor, "draws *input"]
    directions: Float[Tensor, "draws *input"]
    fresh: Float[Tensor, "draws *input"] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, part: slice) -> Placement:
        fresh = None if self.fresh is None else self.fresh[part]
        return Placement(self.positions[part], self.directions[part], fresh)


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


class DeclaredNet:
    """One Sobol net over alpha and the baselines of a declared set."""

    def __init__(self, input: Tensor, baselines: BaselineSet, generator: torch.Generator) -> None:  # noqa: A002
        self._input = input
        self._values = like_input(baselines.values, input, baselines.name)
        self._net = SobolNet(len(baselines), generator)
        self._started = False

    def extend(self, count: int) -> list[Points]:
        """Four quarters first, then halves of as many again."""
        points, parts = self._net.draw(count), 2 if self._started else 4
        self._started = True
        edges = [count * part // parts for part in range(parts + 1)]
        return [points[slice(*pair)] for pair in pairwise(edges) if pair[0] < pair[1]]

    def place(self, points: Points) -> Placement:
        """On the straight path from each draw's baseline."""
        assert points.baselines is not None  # noqa: S101 - a net has them; tells the type checker
        return along_path(self._input, self._values[points.baselines.to(self._values.device)], points)

    def moments_for(self, view: View) -> Moments:
        """The parts of the net are compared."""
        return NetMoments(neighbours=view.neighbours)

    def name_draw(self, points: Points, index: int) -> str:
        """With its baseline and alpha."""
        return _named(points, index)


class Quadrature:
    """Every baseline of a declared set with the same nodes; there is no chance in it."""

    def __init__(self, input: Tensor, baselines: BaselineSet, points: Points) -> None:  # noqa: A002
        self._input = input
        self._values = like_input(baselines.values, input, baselines.name)
        self._points = points

    def extend(self, count: int) -> list[Points]:
        """All of them at once."""
        return [self._points[:count]]

    def place(self, points: Points) -> Placement:
        """On the straight path from each draw's baseline."""
        assert points.baselines is not None  # noqa: S101 - quadrature has them; tells the type checker
        return along_path(self._input, self._values[points.baselines.to(self._values.device)], points)

    def moments_for(self, view: View) -> Moments:  # noqa: ARG002 - all views alike
        """A weighted sum."""
        return WeightedSum()

    def name_draw(self, points: Points, index: int) -> str:
        """With its baseline and alpha."""
        return _named(points, index)


class FreshStrata:
    """Strata of alpha, each draw with a baseline of its own from a distribution."""

    def __init__(
        self,
        input: Tensor,  # noqa: A002 - the word for it
        baselines: BaselineDistribution,
        generator: torch.Generator,
    ) -> None:
        self._input = input
        self._baselines = baselines
        self._strata = AlphaStrata(generator)
        self._stream: Iterator[Tensor] = baselines.stream(generator)
        self._generator = generator

    def extend(self, count: int) -> list[Points]:
        """One block of pairs."""
        return [self._strata.draw(count)]

    def place(self, points: Points) -> Placement:
        """On the straight path from the next baselines of the stream."""
        drawn = take(self._stream, len(points), self._baselines.name)
        fresh = like_input(self._baselines.encoded(drawn), self._input, self._baselines.name)
        placed = along_path(self._input, fresh, points)
        return Placement(placed.positions, placed.directions, fresh)

    def moments_for(self, view: View) -> Moments:  # noqa: ARG002 - all views alike
        """Pairs of neighbouring strata are compared."""
        return PairMoments()

    def name_draw(self, points: Points, index: int) -> str:
        """With its alpha; its baseline is its own."""
        return _named(points, index)


def along_path(
    input: Float[Tensor, " *input"],  # noqa: A002 - the word for it
    baselines: Float[Tensor, "draws *input"],
    points: Points,
) -> Placement:
    """`b + alpha (x - b)`, and `x - b`."""
    directions = input - baselines
    alphas = points.alphas.to(input).reshape(-1, *(1,) * input.ndim)
    return Placement(baselines + alphas * directions, directions)


def like_input(values: Tensor, input: Tensor, name: str) -> Float[Tensor, "draws *input"]:  # noqa: A002
    """Baselines on the input's device and in its precision.

    Raises:
        AttributionError: If they have another shape, or one is not finite.
    """
    if values.shape[1:] != input.shape:
        raise AttributionError(
            f"baselines={name!r} have shape {tuple(values.shape[1:])}, the input has {tuple(input.shape)}; "
            "they must agree. Crop or repeat recordings to the clip's length, and take both through the same "
            "stages"
        )
    if not values.isfinite().all():
        raise AttributionError(f"baselines={name!r}: one that was drawn holds NaN or infinity")
    return values.detach().to(input)


def _named(points: Points, index: int) -> str:
    own = "a baseline of its own" if points.baselines is None else f"baseline={int(points.baselines[index])}"
    return f"{own}, alpha={float(points.alphas[index]):.4f}"
