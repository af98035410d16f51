"""Designs: the draws that are taken, where they lie, and how their error is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines, BaselineSet
from wavshap_lightning.attribution.estimation.moments import BlockMoments, PairMoments, WeightedSum
from wavshap_lightning.attribution.estimation.problem import Inputs, Positions, Problem, first_not_finite
from wavshap_lightning.attribution.estimation.sampling import Points
from wavshap_lightning.attribution.views.frames import View
from wavshap_lightning.errors import AttributionError

Moments = WeightedSum | PairMoments | BlockMoments


class Placement(NamedTuple):
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

    def rows(self, part: slice) -> Placement:
        """A part of the draws."""
        return Placement._make(None if values is None else values[part] for values in self)


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
    """

    extend: Callable[[int], list[Points]]
    place: Callable[[Points], Placement]
    moments: Callable[[View], Moments]
    baselines: Baselines | None = None
    declared: Float[Tensor, "baselines *path"] | None = None


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
        return along_path(self._problem, values, after, points)


def _rows(values: Tensor, chosen: Int[Tensor, " draws"]) -> Tensor:
    # a single row is not copied: of a large input that would take long
    return values[int(chosen) :][:1] if len(chosen) == 1 else values[chosen.to(values.device)]


def along_path(problem: Problem, baselines: Inputs, after: Positions, points: Points) -> Placement:
    """`A b + alpha A (x - b)`, `x - b` and `A (x - b)`, with `A` the score's linear first step.

    Args:
        problem: What is explained.
        baselines: Baseline of each draw.
        after: The baselines after the step.
        points: The draws.
    """
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
