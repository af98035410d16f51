"""Views: what the attributions of an input are added up to, and at what resolution errors are stated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class View:
    """A linear map from attributions, shaped like the input, to units.

    Errors of sums are not sums of errors: a standard error holds for the units it was computed for. Several
    views share the same draws.

    Args:
        name: What the units are (`"frames"`, `"layer_neuron"`, ...).
        project: The map, `(terms, *input) -> (terms, *units)`; it must be linear.
        neighbours: Whether neighbours along the last axis resemble one another, as frames do; their
            variances are then smoothed.

    >>> summed(1, name="frames", neighbours=True).project(torch.ones(1, 2, 3))
    tensor([[3., 3.]])
    """

    name: str
    project: Callable[[Float[Tensor, "terms *input"]], Float[Tensor, "terms *units"]]
    neighbours: bool = False


def elements() -> View:
    """Every element of the input on its own."""
    return View("elements", lambda terms: terms)


def summed(*axes: int, name: str, neighbours: bool = False) -> View:
    """Sums over some axes of the input (0 is its first), which keeps the total.

    With layers `(layer, time, hidden)`, `summed(2, ...)` is layers by frames and `summed(1, ...)`
    layers by neurons.
    """
    dimensions = tuple(axis + 1 if axis >= 0 else axis for axis in axes)
    return View(name, lambda terms: terms.sum(dimensions), neighbours)


def grouped(size: int, *, name: str) -> View:
    """Sums over `size` neighbours along the input's last axis; the last group may be smaller.

    >>> grouped(2, name="spans").project(torch.arange(5.0)[None])
    tensor([[1., 5., 4.]])
    """

    def project(terms: Float[Tensor, "terms *input"]) -> Float[Tensor, "terms *units"]:
        missing = -terms.shape[-1] % size
        return torch.nn.functional.pad(terms, (0, missing)).reshape(*terms.shape[:-1], -1, size).sum(-1)

    return View(name, project, neighbours=True)
