"""Views: what the attributions of an input are added up to, and at what resolution errors are stated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

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
