"""Exact summaries of the hidden layers: all that a head needs, thousands of times smaller.

Layer mixing is linear, so what comes after it can be had from before it: the mean over time of a
mix is the mix of the means, and its variance follows from the covariances between layers,
`var(sum_l w_l x_l) = sum_lm w_l w_m cov(x_l, x_m)`, per neuron. A head that pools by mean, or by
mean and standard deviation, gives the same logits from these as from the frames themselves.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wavshap_lightning.models.normalisation import valid_mask

Statistic = Literal["mean", "moments", "frames"]

# A clip's statistics by name: `mean` (layer, hidden); `covariance` (pair, hidden), the upper
# triangle over layers; `layers` (layer, time, hidden). In a batch, with a leading dimension.
LayerStatistics = dict[str, Tensor]


def summarise_layers(
    layers: Float[Tensor, "batch layer time hidden"], num_frames: Int[Tensor, " batch"], statistic: Statistic
) -> LayerStatistics:
    """Reduce the layers of a batch to what `statistic` names.

    Args:
        layers: Hidden states, zero beyond each clip's last frame.
        num_frames: Valid frames of each clip.
        statistic: `"mean"`, `"moments"` (mean and covariance between layers) or `"frames"` (all).

    Returns:
        The statistics of the batch by name.
    """
    if statistic == "frames":
        return {"layers": layers, "num_frames": num_frames}
    counts = num_frames[:, None, None].to(layers.dtype)
    mean = layers.sum(2) / counts
    if statistic == "mean":
        return {"mean": mean}
    mask = valid_mask(num_frames, layers.shape[2])[:, None, :, None]
    centred = ((layers - mean[:, :, None]) * mask).permute(0, 3, 1, 2)
    covariance = (centred @ centred.transpose(2, 3)).permute(0, 2, 3, 1) / counts[..., None]
    rows, columns = _pairs(layers.shape[1], layers.device)
    return {"mean": mean, "covariance": covariance[:, rows, columns]}


def mix_mean(statistics: LayerStatistics, weights: Float[Tensor, " layer"]) -> Float[Tensor, "batch hidden"]:
    """Mean over time of the layer mix."""
    return torch.einsum("l,blh->bh", weights, statistics["mean"])


def mix_variance(
    statistics: LayerStatistics, weights: Float[Tensor, " layer"]
) -> Float[Tensor, "batch hidden"]:
    """Variance over time (divided by the number of frames) of the layer mix."""
    rows, columns = _pairs(weights.shape[0], weights.device)
    pair_weights = weights[rows] * weights[columns] * torch.where(rows == columns, 1.0, 2.0)
    return torch.einsum("p,bph->bh", pair_weights, statistics["covariance"]).clamp(min=0.0)


def covariance_with_mix(
    statistics: LayerStatistics, weights: Float[Tensor, " layer"]
) -> Float[Tensor, "batch layer hidden"]:
    """Covariance over time of each layer with the layer mix, per neuron: `sum_m w_m cov(x_l, x_m)`."""
    rows, columns = _pairs(weights.shape[0], weights.device)
    pairs = torch.arange(len(rows), device=weights.device)
    partners = weights.new_zeros(weights.shape[0], len(rows))
    partners[rows, pairs] = weights[columns]
    partners[columns, pairs] = weights[rows]
    return partners @ statistics["covariance"]


def _pairs(num_layers: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, columns = torch.triu_indices(num_layers, num_layers, device=device)
    return rows, columns
