"""The `layers` view of many clips at once, from what the feature cache holds of them.

A head that pools sees a clip only through its statistics, and so does the gradient on the way from a
baseline to the clip. With the layer mix `m = sum_l w_l h_l`, a clip `x`, a baseline `b` and alpha `a`,

- mean over time: `(1 - a) mean(m_b) + a mean(m_x)`,
- variance: `(1 - a)^2 var(m_b) + a^2 var(m_x) + 2 a (1 - a) cov(m_b, m_x)`,

and neuron `h` of layer `l` is attributed `w_l [df/dmean_h (mean(x_lh) - mean(b_lh)) + 2 df/dvar_h
(a cov(m_x, x_l) - (1 - a) cov(m_b, b_l) + ...)]`, averaged over baselines and alphas. What the cache lacks
are the covariances between clip and baseline, frame by frame. They are taken as 0: noise knows nothing of
the clip. So for a head that pools by mean this is the `layers` path exactly, and for mean and deviation it is
the path of baselines that are uncorrelated with the clip in time; the sum is `f(x) - mean f(b)` in both. A
head that attends takes the frames themselves; they are in its cache, and the path is exact, but dearer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wavshap_lightning.attribution.targets import TargetKind, every_class
from wavshap_lightning.models.head import EmotionHead
from wavshap_lightning.models.pooling import VARIANCE_FLOOR
from wavshap_lightning.models.statistics import LayerStatistics, covariance_with_mix

CLIPS_AT_ONCE = 64


def survey_layers(
    head: EmotionHead,
    clips: LayerStatistics,
    labels: Int[Tensor, " clips"],
    baselines: LayerStatistics,
    generator: torch.Generator,
    *,
    score: TargetKind = "log_odds",
) -> Float[Tensor, "clips layer hidden"]:
    """Attribute the scores of clips to the neurons of their layers.

    Every clip meets every baseline once, at an alpha from a stratum of its own, shuffled anew for each clip.

    Args:
        head: In evaluation mode, its parameters without gradients; gradients are on.
        clips: Statistics of the clips, as the head needs them.
        labels: The class whose score is explained, by clip.
        baselines: The same statistics of a declared set of baselines.
        generator: Draws the alphas.
        score: Which score of the class.
    """
    count = len(next(iter(baselines.values())))
    alphas = _alphas(len(labels), count, generator).to(labels.device)
    path = _framewise if head.statistic == "frames" else _pooled
    return path(head, clips, baselines, _Asked(labels, alphas, score))


def _alphas(num_clips: int, count: int, generator: torch.Generator) -> Float[Tensor, "clips count"]:
    """One alpha in each of `count` strata, in an order of its own for every clip."""
    order = torch.rand(num_clips, count, generator=generator).argsort(1)
    return (order + torch.rand(num_clips, count, generator=generator)) / count


def _own(logits: Tensor, labels: Tensor, score: TargetKind) -> Float[Tensor, " rows"]:
    """The score of each row's own label."""
    return every_class(logits.shape[1], score)(logits).gather(1, labels[:, None])[:, 0]


@dataclass(frozen=True)
class _Asked:
    """Which scores, at which alphas."""

    labels: Int[Tensor, " clips"]
    alphas: Float[Tensor, "clips draws"]
    score: TargetKind

    def own(self, logits: Tensor, rows: Tensor | slice | int) -> Float[Tensor, " logits"]:
        """The scores of the labels of some clips, as many logits for each in turn."""
        labels = self.labels[rows].reshape(-1)
        return _own(logits, labels.repeat_interleave(len(logits) // len(labels)), self.score)


@dataclass(frozen=True)
class _Mixed:
    """A mix of layers over time, and how each layer goes with it."""

    mean: Float[Tensor, "clips hidden"]
    layer_means: Float[Tensor, "clips layer hidden"]
    covariance: Float[Tensor, "clips layer hidden"] | None
    variance: Float[Tensor, "clips hidden"] | None


def _mix(statistics: LayerStatistics, weights: Float[Tensor, " layer"]) -> _Mixed:
    means = statistics["mean"]
    mean = torch.einsum("l,nlh->nh", weights, means)
    if "covariance" not in statistics:
        return _Mixed(mean, means, None, None)
    covariance = covariance_with_mix(statistics, weights)
    variance = torch.einsum("l,nlh->nh", weights, covariance).clamp(min=0.0)
    return _Mixed(mean, means, covariance, variance)


def _pooled(
    head: EmotionHead, clips: LayerStatistics, baselines: LayerStatistics, asked: _Asked
) -> Float[Tensor, "clips layer hidden"]:
    weights = head.mix.weights().detach()
    reference = _mix(baselines, weights)
    parts = []
    for rows in _chunks(len(asked.labels)):
        mixed = _mix({name: values[rows] for name, values in clips.items()}, weights)
        alpha = asked.alphas[rows, :, None]
        pooled = _between(reference, mixed, alpha).requires_grad_()
        scores = asked.own(head.mlp(pooled.flatten(0, 1)), rows)
        (gradient,) = torch.autograd.grad(scores.sum(), pooled)
        parts.append(_spread(gradient, pooled.detach(), reference, mixed, alpha))
    return torch.cat(parts) * weights[:, None]


def _between(reference: _Mixed, mixed: _Mixed, alpha: Tensor) -> Float[Tensor, "clips draws pooled"]:
    """What the head pools at each alpha between each baseline and each clip."""
    mean = torch.lerp(reference.mean[None], mixed.mean[:, None], alpha)
    if mixed.variance is None or reference.variance is None:
        return mean
    variance = (1 - alpha).square() * reference.variance + alpha.square() * mixed.variance[:, None]
    return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], 2)


def _spread(
    gradient: Float[Tensor, "clips draws pooled"],
    pooled: Float[Tensor, "clips draws pooled"],
    reference: _Mixed,
    mixed: _Mixed,
    alpha: Float[Tensor, "clips draws 1"],
) -> Float[Tensor, "clips layer hidden"]:
    """Gradients of what is pooled, handed on to the layers, before their weights."""
    size = mixed.mean.shape[1]
    by_mean = gradient[..., :size]
    units = by_mean.mean(1)[:, None] * mixed.layer_means
    _less_draws(units, by_mean, reference.layer_means)
    if mixed.covariance is not None and reference.covariance is not None:
        by_variance = (
            gradient[..., size:] / pooled[..., size:]
        )  # twice df/dvar, since d sqrt(v) = dv / 2 sqrt(v)
        units.addcmul_((alpha * by_variance).mean(1)[:, None], mixed.covariance)
        _less_draws(units, (1 - alpha) * by_variance, reference.covariance)
    return units


def _less_draws(
    units: Float[Tensor, "clips layer hidden"],
    weights: Float[Tensor, "clips draws hidden"],
    baselines: Float[Tensor, "draws layer hidden"],
) -> None:
    """Take the mean of `weights_nkh baselines_klh` over draws off the units, in place."""
    for weight, baseline in zip(weights.unbind(1), baselines, strict=True):
        units.addcmul_(weight[:, None], baseline, value=-1 / len(baselines))


def _framewise(
    head: EmotionHead, clips: LayerStatistics, baselines: LayerStatistics, asked: _Asked
) -> Float[Tensor, "clips layer hidden"]:
    """The path in the layers themselves, a clip at a time; baselines are repeated to its length."""
    weights = head.mix.weights().detach()
    used = weights.nonzero()[:, 0]
    units = torch.zeros(len(asked.labels), *clips["layers"].shape[1::2]).to(weights)
    for clip, alpha in enumerate(asked.alphas):
        size = int(clips["num_frames"][clip])
        own = clips["layers"][clip, used, :size]
        others = _fitted(baselines, used, size)
        mixed = torch.einsum("l,klth->kth", weights[used], others)
        ends = torch.einsum("l,lth->th", weights[used], own)
        frames = torch.lerp(mixed, ends, alpha[:, None, None]).requires_grad_()
        mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        scores = asked.own(head.mlp(head.pooling(frames, mask)), clip)
        (gradient,) = torch.autograd.grad(scores.sum(), frames)
        toward = torch.einsum("th,lth->lh", gradient.mean(0), own)
        units[clip, used] = toward - torch.einsum("kth,klth->lh", gradient, others) / len(alpha)
    return units * weights[:, None]


def _fitted(baselines: LayerStatistics, used: Tensor, size: int) -> Float[Tensor, "draws layer size hidden"]:
    """Baselines of a clip's length: their first frames, or all of them over and over."""
    fitted = []
    for layers, length in zip(baselines["layers"], baselines["num_frames"].tolist(), strict=True):
        places = torch.arange(size, device=layers.device) % length
        fitted.append(layers[used][:, places])
    return torch.stack(fitted)


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, CLIPS_AT_ONCE):
        yield slice(start, start + CLIPS_AT_ONCE)
