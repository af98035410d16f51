"""From many units to few: segments, a summary over frames, and the units that matter most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.outcome import ViewEstimate
from wavshap_lightning.attribution.views import View, of_terms
from wavshap_lightning.errors import AttributionError

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
