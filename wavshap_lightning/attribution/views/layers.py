"""Views of a stack of layers under a linear mix: layers by frames, layers by neurons, one layer in full.

The mix `sum_l w_l h_l` is the first step of the score, so gradients are those of the mixed frames, and
a layer's terms are `w_l g_th d_lth`. These views are products of both that never hold all terms.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.estimation.problem import LinearFirst, Score
from wavshap_lightning.attribution.views.frames import View
from wavshap_lightning.errors import AttributionError

LayerWeights = Float[Tensor, " layer"]
Gradients = Float[Tensor, "targets time hidden"]
Directions = Float[Tensor, "layer time hidden"]
Units = Float[Tensor, "targets layer units"]


def layer_mix(weights: LayerWeights, rest: Score) -> LinearFirst:
    """A score of layers `(draws, layer, time, hidden)` that mixes them first.

    Args:
        weights: Weight of each layer in the mix.
        rest: The score of the mixed frames, `(draws, time, hidden)`.
    """

    def apply(layers: Float[Tensor, "draws layer time hidden"]) -> Float[Tensor, "draws time hidden"]:
        return torch.einsum("l,dlth->dth", weights.to(layers), layers)

    return LinearFirst(apply, rest)


def layer_frame(weights: LayerWeights) -> View:
    """Layers by frames, `w_l sum_h g_th d_lth`."""

    def of_draw(gradients: Gradients, directions: Directions) -> Units:
        return (directions.transpose(0, 1) @ gradients.permute(1, 2, 0)).permute(2, 1, 0)

    return _layer_view("layer_frame", weights, of_draw, smooth_variance=True)


def layer_neuron(weights: LayerWeights) -> View:
    """Layers by neurons, `w_l sum_t g_th d_lth`."""

    def of_draw(gradients: Gradients, directions: Directions) -> Units:
        terms = torch.empty_like(gradients)  # of one layer at a time: more would leave a processor's cache
        return torch.stack([torch.mul(gradients, layer, out=terms).sum(1) for layer in directions], 1)

    return _layer_view("layer_neuron", weights, of_draw)


def layer_detail(weights: LayerWeights, layer: int) -> View:
    """One layer in full, frames by neurons; named `layer_3` and so on.

    Raises:
        AttributionError: If there is no such layer.
    """
    if not 0 <= layer < len(weights):
        raise AttributionError(f"layer={layer} must lie between 0 and {len(weights) - 1}")

    def project(gradients: Tensor, directions: Tensor) -> Tensor:
        _check_stack(gradients, directions, weights)
        return gradients * directions[:, layer, None] * weights[layer].to(gradients)

    return View(f"layer_{layer}", project)


def _layer_view(
    name: str,
    weights: LayerWeights,
    of_draw: Callable[[Gradients, Directions], Units],
    *,
    smooth_variance: bool = False,
) -> View:
    """A view from its function of a single draw, which a processor's cache holds."""

    def project(gradients: Tensor, directions: Tensor) -> Tensor:
        _check_stack(gradients, directions, weights)
        draws = [of_draw(*draw) for draw in zip(gradients, directions, strict=True)]
        return torch.stack(draws) * weights[:, None].to(gradients)

    return View(name, project, smooth_variance)


def _check_stack(gradients: Tensor, directions: Tensor, weights: LayerWeights) -> None:
    found, wanted = tuple(directions.shape[1:]), (len(weights), *gradients.shape[2:])
    if found != wanted:
        raise AttributionError(f"input: shape {found} must be {wanted}; use score=layer_mix(weights, score)")
