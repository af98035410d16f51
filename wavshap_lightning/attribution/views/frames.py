"""Views: units that attributions are added up to; the strongest units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.errors import AttributionError

Sign = Literal["any", "positive", "negative"]


@dataclass(frozen=True)
class View:
    """A bilinear map from gradients and directions to units: a resolution of the result.

    The terms of a draw are its gradients times its direction, element by element, and units are sums of
    terms. A view may compute the sums without forming all terms. Standard errors of sums are not sums of
    standard errors, so each view has its own. Several views share the same draws.

    Args:
        name: Name of the units (`"frames"`, `"layer_neuron"`, ...).
        project: The map, from gradients `(draws, targets, *path)` and directions `(draws, *input)` to
            `(draws, targets, *units)`; linear in both. Of a score with a linear first step, the gradients
            are those after the step, and the directions lie before it.
        smooth_variance: Whether neighbors along the last axis resemble one another, as frames do, so that
            their variances may be smoothed.

    >>> frames = summed(1, name="frames", smooth_variance=True)
    >>> frames.project(torch.ones(1, 1, 2, 3), 2 * torch.ones(1, 2, 3))
    tensor([[[6., 6.]]])
    """

    name: str
    project: Callable[[Tensor, Float[Tensor, "draws *input"]], Float[Tensor, "draws targets *units"]]
    smooth_variance: bool = False


def of_terms(
    name: str,
    add_up: Callable[[Float[Tensor, "draws targets *input"]], Float[Tensor, "draws targets *units"]],
    *,
    smooth_variance: bool = False,
) -> View:
    """A view that is a linear map of the terms; each such view multiplies for itself, which costs little.

    Args:
        name: Name of the units.
        add_up: The map, which leaves the first two axes as they are.
        smooth_variance: Whether neighbors along the last axis resemble one another.
    """

    def project(gradients: Tensor, directions: Tensor) -> Tensor:
        if gradients.shape[2:] != directions.shape[1:]:
            raise AttributionError(f"view={name!r} takes no linear first step; use those of layers")
        return add_up(gradients * directions[:, None])

    return View(name, project, smooth_variance)


def elements() -> View:
    """Every element of the input on its own."""
    return of_terms("elements", lambda terms: terms)


def summed(*axes: int, name: str, smooth_variance: bool = False) -> View:
    """Sums over some axes of the input (0 is its first), which keep the total.

    With layers `(layer, time, hidden)`, `summed(2, ...)` is layers by frames and `summed(1, ...)`
    layers by neurons.
    """
    dimensions = tuple(axis + 2 for axis in axes)
    return of_terms(name, lambda terms: terms.sum(dimensions), smooth_variance=smooth_variance)


def grouped(size: int, *, name: str) -> View:
    """Sums over groups of `size` neighbors along the input's last axis; the last group may be smaller.

    >>> grouped(2, name="spans").project(torch.arange(5.0)[None, None], torch.ones(1, 5))
    tensor([[[1., 5., 4.]]])
    """

    def add_up(terms: Float[Tensor, "draws targets *input"]) -> Float[Tensor, "draws targets *units"]:
        missing = -terms.shape[-1] % size
        return torch.nn.functional.pad(terms, (0, missing)).reshape(*terms.shape[:-1], -1, size).sum(-1)

    return of_terms(name, add_up, smooth_variance=True)


def top(values: Float[Tensor, "*units"], k: int, *, sign: Sign = "any") -> list[tuple[int, ...]]:
    """Indices of the units with the largest attributions, in descending order; ties in order of position.

    Args:
        values: Attributions of one target, or a part of them, such as a layer's.
        k: Number of units; all of them if there are fewer.
        sign: Rank by magnitude (`"any"`), or only evidence for the target (`"positive"`) or against it
            (`"negative"`).

    Raises:
        AttributionError: If `k` is not positive or `sign` is not one of these.

    >>> top(torch.tensor([[1.0, -3.0], [2.0, 0.0]]), 2)
    [(0, 1), (1, 0)]
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
    return [tuple(place) for place in torch.stack(torch.unravel_index(order, values.shape), 1).tolist()]
