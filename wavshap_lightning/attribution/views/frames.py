"""From many units to few: segments, a summary over frames, and the units that matter most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.record import ViewEstimate
from wavshap_lightning.errors import AttributionError


@dataclass(frozen=True)
class View:
    """A bilinear map from gradients and directions to units.

    The terms of a draw are its gradients times its direction, element by element, and units are sums of
    them; but a view need not form the terms, which may be far more numbers than either. Errors of sums are
    not sums of errors: a standard error holds for the units it was computed for. Several views share the
    same draws.

    Args:
        name: What the units are (`"frames"`, `"layer_neuron"`, ...).
        project: The map, from gradients `(draws, targets, *input)` and directions `(draws, *input)` to
            `(draws, targets, *units)`; linear in both.
        neighbours: Whether neighbours along the last axis resemble one another, as frames do; their
            variances are then smoothed.
        after_first: Whether the gradients it takes are those after the score's first step, where there is
            one, `(draws, targets, *path)`, or of a pooled score as they come: such a view goes back through
            the step itself.

    >>> frames = summed(1, name="frames", neighbours=True)
    >>> frames.project(torch.ones(1, 1, 2, 3), 2 * torch.ones(1, 2, 3))
    tensor([[[6., 6.]]])
    """

    name: str
    project: Callable[
        [Any, Float[Tensor, "draws *input"]],  # the first a tensor or, if after_first, any kind of gradients
        Float[Tensor, "draws targets *units"],
    ]
    neighbours: bool = False
    after_first: bool = False


def elements() -> View:
    """Every element of the input on its own."""
    return of_terms("elements", lambda terms: terms)


def summed(*axes: int, name: str, neighbours: bool = False) -> View:
    """Sums over some axes of the input (0 is its first), which keeps the total.

    With layers `(layer, time, hidden)`, `summed(2, ...)` is layers by frames and `summed(1, ...)`
    layers by neurons.
    """
    dimensions = tuple(axis + 2 if axis >= 0 else axis for axis in axes)
    return of_terms(name, lambda terms: terms.sum(dimensions), neighbours=neighbours)


def grouped(size: int, *, name: str) -> View:
    """Sums over `size` neighbours along the input's last axis; the last group may be smaller.

    >>> grouped(2, name="spans").project(torch.arange(5.0)[None, None], torch.ones(1, 5))
    tensor([[[1., 5., 4.]]])

    Raises:
        AttributionError: If a group would be empty.
    """
    if size < 1:
        raise AttributionError(f"size={size} must be at least 1")

    def add_up(terms: Float[Tensor, "draws targets *input"]) -> Float[Tensor, "draws targets *units"]:
        missing = -terms.shape[-1] % size
        return torch.nn.functional.pad(terms, (0, missing)).reshape(*terms.shape[:-1], -1, size).sum(-1)

    return of_terms(name, add_up, neighbours=True)


def of_terms(
    name: str,
    add_up: Callable[[Float[Tensor, "draws targets *input"]], Float[Tensor, "draws targets *units"]],
    *,
    neighbours: bool = False,
) -> View:
    """A view that is a linear map of the terms; each such view multiplies for itself, which costs little.

    Args:
        name: As in [`View`][], like `neighbours`.
        add_up: The map, which leaves the first two axes as they are.
        neighbours: See there.
    """

    def project(
        gradients: Float[Tensor, "draws targets *input"], directions: Float[Tensor, "draws *input"]
    ) -> Float[Tensor, "draws targets *units"]:
        return add_up(gradients * directions[:, None])

    return View(name, project, neighbours)


SHARE_TOLERANCE = 1e-6

Reduction = Literal["mean", "sum", "max"]
Sign = Literal["any", "positive", "negative"]


def segments(membership: Float[Tensor, "segments frames"], *, name: str = "segments", axis: int = 0) -> View:
    """Sums over segments of a view's frames: words, phones, pauses, windows.

    Their error must come from the run: those of a segment's frames are not independent.

    Args:
        membership: How much of each frame belongs to each segment; the shares of a frame sum to one, so
            that the segments sum to what the frames sum to. See [`with_rest`][].
        name: What the segments are.
        axis: Which axis of the input holds the frames; all others are summed.

    Raises:
        AttributionError: If the shares of a frame are negative or do not sum to one, or the input has
            another number of frames.

    >>> halves = segments(torch.tensor([[1.0, 1.0, 0.5, 0.0], [0.0, 0.0, 0.5, 1.0]]))
    >>> halves.project(torch.ones(1, 1, 4, 3), torch.ones(1, 4, 3))
    tensor([[[7.5000, 4.5000]]])
    """
    _check_shares(membership)

    def add_up(terms: Float[Tensor, "draws targets *input"]) -> Float[Tensor, "draws targets segments"]:
        frames = terms.movedim(axis + 2 if axis >= 0 else axis, 2)
        frames = frames.reshape(*frames.shape[:3], -1).sum(3)
        if frames.shape[2] != membership.shape[1]:
            raise AttributionError(
                f"membership: {membership.shape[1]} frames, but axis={axis} of the input has "
                f"{frames.shape[2]}; take both from the same clip"
            )
        return frames @ membership.to(frames).T

    return of_terms(name, add_up)


def with_rest(membership: Float[Tensor, "segments frames"]) -> Float[Tensor, "segments_and_rest frames"]:
    """One more segment, the last, that takes what belongs to none.

    >>> with_rest(torch.tensor([[1.0, 0.25, 0.0]]))
    tensor([[1.0000, 0.2500, 0.0000],
            [0.0000, 0.7500, 1.0000]])
    """
    return torch.cat([membership, (1 - membership.sum(0, keepdim=True)).clamp(min=0)])


def over_frames(
    values: Float[Tensor, "*units"], how: Reduction, *, axis: int = -1
) -> Float[Tensor, "*fewer_units"]:
    """One number for all frames: their mean, sum, or largest value, with its sign.

    A sum keeps the total; a mean compares clips of different length; the largest value is that of the
    strongest frame. Their errors do not follow from those of the frames: take a view for sums.

    Raises:
        AttributionError: If `how` is none of these.

    >>> over_frames(torch.tensor([[1.0, -4.0, 0.0]]), "max")
    tensor([1.])
    """
    match how:
        case "mean":
            return values.mean(axis)
        case "sum":
            return values.sum(axis)
        case "max":
            return values.amax(axis)
        case _:
            raise AttributionError(f"how={how!r} must be one of {', '.join(get_args(Reduction))}")


@dataclass(frozen=True)
class RankedUnit:
    """A unit in a list of the strongest.

    Args:
        index: Where it stands in its view, one number an axis.
        value: Its attribution.
        stderr: Standard error of that; None where there is none.
    """

    index: tuple[int, ...]
    value: float
    stderr: float | None


def top(
    values: Float[Tensor, "*units"],
    k: int,
    *,
    stderr: Float[Tensor, "*units"] | None = None,
    sign: Sign = "any",
) -> list[RankedUnit]:
    """The strongest units, strongest first; of equal ones the earlier first.

    Args:
        values: Attributions of one target, or a part of them, such as a layer's.
        k: How many; fewer if there are not so many.
        stderr: Their standard errors.
        sign: Whether both signs count, or only what speaks for the target, or against it.

    Raises:
        AttributionError: If `k` is not positive or `sign` none of these.

    >>> [(unit.index, unit.value) for unit in top(torch.tensor([[1.0, -3.0], [2.0, 0.0]]), 2)]
    [((0, 1), -3.0), ((1, 0), 2.0)]
    """
    if k < 1:
        raise AttributionError(f"k={k} must be at least 1")
    if sign not in get_args(Sign):
        raise AttributionError(f"sign={sign!r} must be one of {', '.join(get_args(Sign))}")
    flat = values.flatten()
    strength = {"any": flat.abs(), "positive": flat, "negative": -flat}[sign]
    order = strength.argsort(descending=True, stable=True)[:k]
    if sign != "any":
        order = order[strength[order] > 0]
    places = torch.stack(torch.unravel_index(order, values.shape), 1) if values.ndim else order[:, None]
    errors = [None] * len(order) if stderr is None else stderr.flatten()[order].tolist()
    rows = zip(places.tolist(), flat[order].tolist(), errors, strict=True)
    return [RankedUnit(tuple(index), value, error) for index, value, error in rows]


def top_units(view: ViewEstimate, k: int, *, target: int = 0, sign: Sign = "any") -> list[RankedUnit]:
    """[`top`][] of one target of a view, with its standard errors."""
    stderr = None if view.stderr is None else view.stderr[target]
    return top(view.values[target], k, stderr=stderr, sign=sign)


def _check_shares(membership: Float[Tensor, "segments frames"]) -> None:
    sums = membership.double().sum(0)
    wrong = ((sums - 1).abs() > SHARE_TOLERANCE) | (membership < 0).any(0)
    if wrong.any():
        frame = int(wrong.nonzero()[0])
        raise AttributionError(
            f"membership: frame={frame} has shares {membership[:, frame].tolist()} that sum to "
            f"{float(sums[frame]):.6g}; they must not be negative and sum to 1: with_rest(membership) gives "
            "what is left to a segment of its own"
        )
