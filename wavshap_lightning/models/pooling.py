"""Pooling over time: from the frames of a layer mix to one vector a clip.

Each pooling declares which statistic of the layers it needs, so that the cache stores only that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wavshap_lightning.models.frontends import valid_mask

Statistic = Literal["mean", "moments", "frames"]

# A clip's statistics by name: `mean` (layer, hidden); `covariance` (pair, hidden), the upper
# triangle over layers; `layers` (layer, time, hidden). In a batch, with a leading dimension.
LayerStatistics = dict[str, Tensor]


def summarize_layers(
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
    num_frames = num_frames.clamp(max=layers.shape[2])  # AST has fewer steps than frames
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


PoolingName = Literal["mean", "mean_std", "attentive"]
VARIANCE_FLOOR = 1e-6  # keeps the gradient of the square root finite where a clip has one frame


class Pooling(nn.Module):
    """Interface that the head uses of a pooling.

    Args:
        output_size: Size of the pooled vector.
    """

    statistic: Statistic = "frames"

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(
        self, frames: Float[Tensor, "batch time hidden"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch pooled"]:
        """Pool mixed frames; those outside the mask are zero and do not count."""
        raise NotImplementedError

    def pool_statistics(
        self, statistics: LayerStatistics, weights: Float[Tensor, " layer"]
    ) -> Float[Tensor, "batch pooled"]:
        """The pooled vector, as of the frames, from the layers' statistics and the mixing weights."""
        raise NotImplementedError(f"{type(self).__name__} needs the frames instead of statistics")


class MeanPooling(Pooling):
    """Mean over the valid frames."""

    statistic = "mean"

    def forward(
        self, frames: Float[Tensor, "batch time hidden"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch pooled"]:
        """Pool the mixed frames inside the mask."""
        return _weighted_mean(frames, _uniform(mask))

    def pool_statistics(
        self, statistics: LayerStatistics, weights: Float[Tensor, " layer"]
    ) -> Float[Tensor, "batch pooled"]:
        """Pool the statistics of the layers, mixed with these weights."""
        return mix_mean(statistics, weights)


class MeanStdPooling(Pooling):
    """Mean and standard deviation (divided by the number of frames) over the valid frames."""

    statistic = "moments"

    def __init__(self, hidden_size: int) -> None:
        super().__init__(2 * hidden_size)

    def forward(
        self, frames: Float[Tensor, "batch time hidden"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch pooled"]:
        """Pool the mixed frames inside the mask."""
        return _mean_and_deviation(frames, _uniform(mask))

    def pool_statistics(
        self, statistics: LayerStatistics, weights: Float[Tensor, " layer"]
    ) -> Float[Tensor, "batch pooled"]:
        """Pool the statistics of the layers, mixed with these weights."""
        deviation = (mix_variance(statistics, weights) + VARIANCE_FLOOR).sqrt()
        return torch.cat([mix_mean(statistics, weights), deviation], 1)


class AttentivePooling(Pooling):
    """Attentive pooling of the frames' deviations from the clip's mean.

    Several queries score each frame together with the clip's mean and standard deviation, so that a voice
    that is high throughout differs from one that rises. The pooled vector holds the clip's mean, then for
    each query the weighted mean of the deviations.

    Source: Zhu, Ko, Snyder, Mak and Povey 2018, "Self-Attentive Speaker Embeddings for Text-Independent
    Speaker Verification" (several queries); Desplanques, Thienpondt and Demuynck 2020, "ECAPA-TDNN:
    Emphasized Channel Attention, Propagation and Aggregation in TDNN Based Speaker Verification" (the
    clip's statistics with each frame). Weighted standard deviations, as in attentive statistics pooling, are
    left out: they couple all frames of a clip, which blurs the contribution of each frame.

    Args:
        hidden_size: Size of a frame.
        num_queries: Number of queries, each with its own attention weights.
        attention_size: Size of the layer that scores a frame.
    """

    def __init__(self, hidden_size: int, num_queries: int = 4, attention_size: int = 64) -> None:
        super().__init__((1 + num_queries) * hidden_size)
        self.score = nn.Sequential(
            nn.Linear(3 * hidden_size, attention_size), nn.Tanh(), nn.Linear(attention_size, num_queries)
        )

    def forward(
        self, frames: Float[Tensor, "batch time hidden"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch pooled"]:
        """Pool the mixed frames inside the mask."""
        of_clip = _mean_and_deviation(frames, _uniform(mask))
        mean = of_clip[:, : frames.shape[2]]
        departures = frames - mean[:, None]
        beside = of_clip[:, None].expand(-1, frames.shape[1], -1)
        scores = self.score(torch.cat([departures, beside], 2)).masked_fill(~mask[:, :, None], float("-inf"))
        departed = scores.softmax(1).transpose(1, 2) @ departures
        return torch.cat([mean, departed.flatten(1)], 1)


class FramewisePooling(Pooling):
    """Layers on each frame, then a mean over time, as in models of other projects.

    Source: Okabe, Koshinaka and Shinoda 2018, "Attentive Statistics Pooling for Deep Speaker Embedding"; the
    variance is at least 1e-5, as in the baselines of the Odyssey 2024 emotion challenge.

    Args:
        size: Size of a frame after the layers.
        layers: From a frame to a frame.
        score: From a frame to its score, whose softmax over time is its weight in a mean and a standard
            deviation; None for the plain mean.
        normalized: Normalize the frames over time and features before the plain mean, as SpeechBrain does.
    """

    def __init__(
        self, size: int, layers: nn.Module, score: nn.Module | None = None, *, normalized: bool = False
    ) -> None:
        super().__init__(size if score is None else 2 * size)
        self.layers, self.score, self.normalized = layers, score, normalized

    def forward(
        self, frames: Float[Tensor, "batch time hidden"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch pooled"]:
        """Pool the mixed frames inside the mask."""
        frames, weights = self.layers(frames), _uniform(mask)
        if self.score is not None:
            weights = self.score(frames)[:, :, 0].masked_fill(~mask, float("-inf")).softmax(1)
        mean = _weighted_mean(frames, weights)
        variance = _weighted_mean((frames - mean[:, None]).square(), weights)
        if self.score is not None:
            return torch.cat([mean, variance.clamp(min=1e-5).sqrt()], 1)
        if not self.normalized:
            return mean
        spread = mean.var(1, correction=0, keepdim=True) + variance.mean(1, keepdim=True)
        return (mean - mean.mean(1, keepdim=True)) / (spread + 1e-5).sqrt()


POOLINGS: dict[PoolingName, Callable[[int], Pooling]] = {
    "mean": MeanPooling,
    "mean_std": MeanStdPooling,
    "attentive": AttentivePooling,
}


def drop_frames(mask: Bool[Tensor, "batch time"], share: float) -> Bool[Tensor, "batch time"]:
    """Take frames out of a mask at random; a clip of which none would be left keeps all.

    Args:
        mask: Valid frames.
        share: The probability that a frame goes, from torch's global generator, like all dropout.
    """
    kept = mask & (torch.rand(mask.shape, device=mask.device) >= share)
    return torch.where(kept.any(1, keepdim=True), kept, mask)


def _uniform(mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    return mask / mask.sum(1, keepdim=True)


def _weighted_mean(
    frames: Float[Tensor, "batch time hidden"], weights: Float[Tensor, "batch time"]
) -> Float[Tensor, "batch hidden"]:
    return (weights[:, None].to(frames.dtype) @ frames)[:, 0]


def _mean_and_deviation(
    frames: Float[Tensor, "batch time hidden"], weights: Float[Tensor, "batch time"]
) -> Float[Tensor, "batch pooled"]:
    mean = _weighted_mean(frames, weights)
    variance = _weighted_mean((frames - mean[:, None]).square(), weights)
    return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], 1)
