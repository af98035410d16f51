"""Views of a stack of layers under a linear mix: which layer, which neuron, when.

The mix `sum_l w_l h_l` is the first step of the score, so gradients are those of the mixed frames, and
a layer's terms are `w_l g_th d_lth`. These views are matrix products of both that never hold the terms; the
directions are read once for all targets.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.linear_step import LinearStep
from wavshap_lightning.attribution.views import View
from wavshap_lightning.errors import AttributionError

LayerWeights = Float[Tensor, " layer"]
Gradients = Float[Tensor, "targets time hidden"]
Directions = Float[Tensor, "layer time hidden"]


def layer_mix(weights: LayerWeights) -> LinearStep:
    """The mix as a score's first step, from `(draws, layer, time, hidden)` to `(draws, time, hidden)`."""

    def apply(layers: Float[Tensor, "draws layer time hidden"]) -> Float[Tensor, "draws time hidden"]:
        return torch.einsum("l,dlth->dth", weights.to(layers), layers)

    def adjoint(
        gradients: Float[Tensor, "draws targets time hidden"],
    ) -> Float[Tensor, "draws targets layer time hidden"]:
        return gradients[:, :, None] * weights.to(gradients)[:, None, None]

    return LinearStep(apply, adjoint)


def layer_frame(weights: LayerWeights) -> View:
    """Layers by frames, `w_l sum_h g_th d_lth`."""

    def of_draw(gradients: Gradients, directions: Directions) -> Float[Tensor, "targets layer time"]:
        products = directions.transpose(0, 1) @ gradients.permute(1, 2, 0)
        return products.permute(2, 1, 0)

    return _layer_view("layer_frame", weights, of_draw, weights[:, None], neighbours=True)


def layer_neuron(weights: LayerWeights) -> View:
    """Layers by neurons, `w_l sum_t g_th d_lth`."""

    def of_draw(gradients: Gradients, directions: Directions) -> Float[Tensor, "targets layer hidden"]:
        terms = torch.empty_like(gradients)  # of one layer at a time: more would leave a processor's cache
        units = [torch.mul(gradients, layer, out=terms).sum(1) for layer in directions]
        return torch.stack(units, 1)

    return _layer_view("layer_neuron", weights, of_draw, weights[:, None])


def layer_detail(weights: LayerWeights, layer: int) -> View:
    """One layer in full, frames by neurons; named `layer_3` and so on.

    Raises:
        AttributionError: If there is no such layer.
    """
    if not 0 <= layer < len(weights):
        raise AttributionError(f"layer={layer} must lie between 0 and {len(weights) - 1}")

    def of_draw(gradients: Gradients, directions: Directions) -> Float[Tensor, "targets time hidden"]:
        return gradients * directions[layer]

    return _layer_view(f"layer_{layer}", weights, of_draw, weights[layer])


def _layer_view(
    name: str,
    weights: LayerWeights,
    of_draw: Callable[[Gradients, Directions], Float[Tensor, "targets *units"]],
    scale: Tensor,
    *,
    neighbours: bool = False,
) -> View:
    """A view from what it does with a single draw, which is where a processor's cache serves best."""

    def project(gradients: Tensor, directions: Tensor) -> Float[Tensor, "draws targets *units"]:
        _check(name, weights, gradients, directions)
        units = torch.stack([of_draw(*draw) for draw in zip(gradients, directions, strict=True)])
        return units * scale.to(units)

    return View(name, project, neighbours, after_first=True)


def _check(name: str, weights: LayerWeights, gradients: Tensor, directions: Tensor) -> None:
    expected = (len(directions), len(weights), *gradients.shape[2:])
    if gradients.ndim != 4 or directions.shape != expected:
        raise AttributionError(
            f"view={name!r}: the input has shape {tuple(directions.shape[1:])} and the score begins at shape "
            f"{tuple(gradients.shape[2:])}; they must be ({len(weights)}, time, hidden), one layer for each "
            "weight, and (time, hidden): explain the stack with first=layer_mix(weights)"
        )
