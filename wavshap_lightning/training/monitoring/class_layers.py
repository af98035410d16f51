"""Attributions of each class to layers and neurons, over all clips of a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.record import tensor_sha256
from wavshap_lightning.attribution.targets import TargetKind, every_class
from wavshap_lightning.attribution.views.frames import top
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.evaluation.summary import evenness, magnitude_shares
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import EmotionHead
from wavshap_lightning.models.pooling import VARIANCE_FLOOR, LayerStatistics, covariance_with_mix
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.dataset import (
    StatisticsBatches,
    read_waveform,
    stack_statistics,
)
from wavshap_lightning.training.data.extraction import layer_statistics

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
    """Scores to differentiate, and the alphas at which they are."""

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
    """Pooled features at each alpha between each baseline and each clip."""
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


NUM_BASELINES, NUM_WITH_FRAMES = 8, 4
FRAMES_AT_ONCE = 8
NUM_NEURONS = 5


@dataclass(frozen=True)
class ClassLayers:
    """The layers of one class.

    Args:
        label: Which class.
        num_clips: How many clips have that label.
        shares: Share of the attributions' magnitude by layer, over all its clips.
        neurons: Those with the largest mean attribution to the class, as (layer, neuron, attribution).
    """

    label: str
    num_clips: int
    shares: Float[Tensor, " layer"]
    neurons: tuple[tuple[int, int, float], ...]

    @property
    def entropy(self) -> float:
        """1 where all layers count the same, 0 where one has all."""
        return evenness(self.shares)


def noise_statistics(
    classifier: EmotionClassifier, clips: Sequence[Clip], cache: TensorCache | None, seed: int
) -> LayerStatistics:
    """Statistics of the declared baselines: noise as long and as loud as some of the clips.

    The backbone runs over each once; later runs find it in the cache.

    Args:
        classifier: Its backbone is run, for the statistic its head needs.
        clips: Those to resemble; taken evenly from among them.
        cache: Of that statistic of that backbone.
        seed: Decides the noise.

    Raises:
        AudioError: If one of the clips cannot be read.
        AttributionError: If one is silent.
    """
    statistic = classifier.head.statistic
    count = min(NUM_WITH_FRAMES if statistic == "frames" else NUM_BASELINES, len(clips))
    generator = torch.Generator().manual_seed(seed)
    chosen = [clips[index * len(clips) // count] for index in range(count)]
    waveforms = [noise(read_waveform(clip, classifier.sample_rate)).draw(1, generator)[0] for clip in chosen]
    keys = [f"noise-{tensor_sha256(waveform)}" for waveform in waveforms]
    if cache is None:
        return stack_statistics(layer_statistics(classifier.backbone, waveforms, statistic))
    missing = cache.missing(keys)
    if missing:
        unknown = [waveforms[keys.index(key)] for key in missing]
        entries = layer_statistics(classifier.backbone, unknown, statistic)
        cache.write(dict(zip(missing, entries, strict=True)))
    return stack_statistics([cache.read(key) for key in keys])


def survey_classes(
    classifier: EmotionClassifier,
    clips: StatisticsBatches,
    baselines: LayerStatistics,
    *,
    score: TargetKind,
    seed: int,
) -> list[ClassLayers]:
    """Attribute every clip's score for its label to its layers, and add up by class.

    Args:
        classifier: In evaluation mode, its parameters without gradients; gradients are on.
        clips: All clips of a part, cached.
        baselines: Statistics of the declared baselines.
        score: Which score of a class.
        seed: Decides the alphas.
    """
    head, device = classifier.head, next(classifier.head.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    baselines = {name: values.to(device) for name, values in baselines.items()}
    num_classes = len(classifier.labels)
    count = torch.zeros(num_classes, dtype=torch.long)
    magnitudes = neurons = torch.zeros(())
    size = FRAMES_AT_ONCE if head.statistic == "frames" else CLIPS_AT_ONCE
    for start in range(0, len(clips), size):
        batch = clips.between(start, min(start + size, len(clips)))
        statistics = {name: values.to(device) for name, values in batch.statistics.items()}
        labels = batch.labels.to(device)
        found = survey_layers(head, statistics, labels, baselines, generator, score=score).cpu()
        of_class = torch.nn.functional.one_hot(batch.labels, num_classes)
        count += of_class.sum(0)
        magnitudes = magnitudes + of_class.T.to(found) @ found.sum(2).abs()
        neurons = neurons + torch.einsum("nc,nlh->clh", of_class.to(found), found)
    return [
        ClassLayers(
            label,
            int(count[index]),
            magnitude_shares(magnitudes[index]),
            _strongest(neurons[index] / count[index]),
        )
        for index, label in enumerate(classifier.labels)
        if count[index]
    ]


def _strongest(neurons: Float[Tensor, "layer hidden"]) -> tuple[tuple[int, int, float], ...]:
    return tuple(
        (layer, neuron, float(neurons[layer, neuron])) for layer, neuron in top(neurons, NUM_NEURONS)
    )
