"""Attributions of each class to layers and neurons, over all clips of a split."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.record import tensor_sha256
from wavshap_lightning.attribution.targets import TargetKind, every_class
from wavshap_lightning.attribution.views.frames import top
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.evaluation.summary import evenness, magnitude_shares
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import EmotionHead
from wavshap_lightning.models.pooling import VARIANCE_FLOOR, LayerStatistics, covariance_with_mix, mix_mean
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.dataset import StatisticsBatches, read_waveform, stack_statistics
from wavshap_lightning.training.data.extraction import layer_statistics

# Whole frames take more memory and time than means and moments, so fewer of them.
NUM_BASELINES, NUM_BASELINES_WITH_FRAMES = 8, 4
CLIPS_AT_ONCE, CLIPS_WITH_FRAMES_AT_ONCE = 64, 8
NUM_NEURONS = 5


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
        baselines: The same statistics of a fixed set of baselines.
        generator: Draws the alphas.
        score: Score of the class.
    """
    num_draws = len(next(iter(baselines.values())))
    alphas = stratified_alphas(len(labels), num_draws, generator).to(labels.device)
    attribute = _attribute_frames if head.statistic == "frames" else _attribute_moments
    units = attribute(head, clips, labels, baselines, alphas, score=score)
    return units * head.mix.weights().detach()[:, None]


def stratified_alphas(
    num_clips: int, num_draws: int, generator: torch.Generator
) -> Float[Tensor, "clips draws"]:
    """One alpha in each of `num_draws` strata, in random order for every clip."""
    order = torch.rand(num_clips, num_draws, generator=generator, dtype=torch.float32).argsort(1)
    return (order + torch.rand(num_clips, num_draws, generator=generator, dtype=torch.float32)) / num_draws


def _gradient(points: Tensor, logits: Tensor, labels: Int[Tensor, " rows"], score: TargetKind) -> Tensor:
    """Gradient at points of the score of the label of each row."""
    scores = every_class(logits.shape[1], score)(logits).gather(1, labels[:, None])
    (gradient,) = torch.autograd.grad(scores.sum(), points)
    return gradient


def _attribute_moments(
    head: EmotionHead,
    clips: LayerStatistics,
    labels: Int[Tensor, " clips"],
    baselines: LayerStatistics,
    alphas: Float[Tensor, "clips draws"],
    *,
    score: TargetKind,
) -> Float[Tensor, "clips layer hidden"]:
    """Attributions before the weights of the mix, for a head that pools by mean or by mean and deviation.

    On the path to a clip the mean of a layer is linear in alpha, and its covariance with the mix quadratic;
    the covariance of clip and baseline over time is taken as zero.
    """
    weights, alpha, num_draws = head.mix.weights().detach(), alphas[..., None], alphas.shape[1]
    pooled = torch.lerp(mix_mean(baselines, weights)[None], mix_mean(clips, weights)[:, None], alpha)
    size = pooled.shape[2]
    if "covariance" in clips:
        start, end = (covariance_with_mix(statistics, weights) for statistics in (baselines, clips))
        of_start, of_end = (torch.einsum("l,nlh->nh", weights, one).clamp(min=0.0) for one in (start, end))
        variance = (1 - alpha).square() * of_start + alpha.square() * of_end[:, None]
        pooled = torch.cat([pooled, (variance + VARIANCE_FLOOR).sqrt()], 2)
    logits = head.mlp(pooled.requires_grad_().flatten(0, 1))
    gradient = _gradient(pooled, logits, labels.repeat_interleave(num_draws), score)
    by_mean = gradient[..., :size]
    units = by_mean.mean(1)[:, None] * clips["mean"]
    units -= torch.einsum("nkh,klh->nlh", by_mean, baselines["mean"]) / num_draws
    if "covariance" in clips:  # twice the gradient by the variance, as d sqrt(v) = dv / 2 sqrt(v)
        by_variance = gradient[..., size:] / pooled.detach()[..., size:]
        units += (alpha * by_variance).mean(1)[:, None] * end
        units -= torch.einsum("nkh,klh->nlh", (1 - alpha) * by_variance, start) / num_draws
    return units


def _attribute_frames(
    head: EmotionHead,
    clips: LayerStatistics,
    labels: Int[Tensor, " clips"],
    baselines: LayerStatistics,
    alphas: Float[Tensor, "clips draws"],
    *,
    score: TargetKind,
) -> Float[Tensor, "clips layer hidden"]:
    """Attributions before the weights of the mix, for a head that needs all frames; clip by clip.

    Baselines get the length of the clip: their first frames, or all of them over and over.
    """
    weights, num_draws = head.mix.weights().detach(), alphas.shape[1]
    used = weights.nonzero()[:, 0]
    layers, lengths = baselines["layers"][:, used], baselines["num_frames"].tolist()
    units = torch.zeros(len(labels), *clips["layers"].shape[1::2]).to(weights)
    for clip, alpha in enumerate(alphas):
        time = torch.arange(int(clips["num_frames"][clip]), device=weights.device)
        end = clips["layers"][clip, used][:, time]
        start = torch.stack([one[:, time % length] for one, length in zip(layers, lengths, strict=True)])
        first, last = (torch.einsum("l,...lth->...th", weights[used], one) for one in (start, end))
        frames = torch.lerp(first, last, alpha[:, None, None]).requires_grad_()
        mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        logits = head.mlp(head.pooling(frames, mask))
        gradient = _gradient(frames, logits, labels[clip].expand(num_draws), score)
        by_clip = torch.einsum("th,lth->lh", gradient.mean(0), end)
        units[clip, used] = by_clip - torch.einsum("kth,klth->lh", gradient, start) / num_draws
    return units


def noise_statistics(
    classifier: EmotionClassifier, clips: Sequence[Clip], cache: TensorCache, seed: int
) -> LayerStatistics:
    """Statistics of the fixed set of baselines: noise as long and as loud as some of the clips.

    Eight baselines, or four where the head needs whole frames, but no more than clips. The backbone runs over
    each once; later runs find it in the cache.

    Args:
        classifier: Its backbone is run, for the statistic that its head needs.
        clips: Those to resemble; taken evenly from among them.
        cache: Cache of that statistic of that backbone.
        seed: Random seed of the noise.

    Raises:
        AudioError: If one of the clips cannot be read.
        AttributionError: If one is silent.
    """
    statistic = classifier.head.statistic
    count = min(NUM_BASELINES_WITH_FRAMES if statistic == "frames" else NUM_BASELINES, len(clips))
    generator = torch.Generator().manual_seed(seed)
    chosen = [clips[index * len(clips) // count] for index in range(count)]
    waveforms = [noise(read_waveform(clip, classifier.sample_rate)).draw(1, generator)[0] for clip in chosen]
    of_key = {f"noise-{tensor_sha256(waveform)}": waveform for waveform in waveforms}
    missing = cache.missing(of_key)
    if missing:
        entries = layer_statistics(classifier.backbone, [of_key[key] for key in missing], statistic)
        cache.write(dict(zip(missing, entries, strict=True)))
    return stack_statistics([cache.read(key) for key in of_key])


def survey_classes(
    classifier: EmotionClassifier,
    clips: StatisticsBatches,
    names: Sequence[str],
    baselines: LayerStatistics,
    *,
    score: TargetKind,
    seed: int,
) -> list[dict[str, Any]]:
    """Attribute the score of every clip's label, or each of its values, to layers, and aggregate by output.

    Args:
        classifier: The classifier in evaluation mode, with parameters that need no gradient; gradient mode
            must be on.
        clips: All clips of a split, cached.
        names: Label of each clip; those that the classifier does not have do not count.
        baselines: Statistics of the fixed set of baselines.
        score: Score of a class.
        seed: Random seed of the alphas.

    Returns:
        A row for each class that occurs, or for each dimension: `label`, number of `clips`, share of the
        magnitude of each layer (`layers/00`, ...), their `layer_entropy` (1 where all layers count the same,
        0 where one has all), and the `neurons` with the largest mean attribution, as
        `layer:neuron:attribution`.
    """
    head, device = classifier.head, next(classifier.head.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    baselines = {name: values.to(device) for name, values in baselines.items()}
    known, num_classes = classifier.labels, len(classifier.labels)
    magnitudes, neurons = torch.zeros(()), torch.zeros(())
    size = CLIPS_WITH_FRAMES_AT_ONCE if head.statistic == "frames" else CLIPS_AT_ONCE
    own = [known.index(name) if name in known else -1 for name in names]
    every = [[one] * len(names) for one in range(num_classes)]
    outputs = torch.tensor(every if classifier.task == "dimensions" else [own])
    for of, start in product(range(len(outputs)), range(0, len(clips), size)):
        batch = clips.between(start, min(start + size, len(clips)))
        statistics = {name: values.to(device) for name, values in batch.statistics.items()}
        labels = outputs[of, start : start + size]
        asked = labels.clamp(min=0).to(device)  # those of clips without an output do not count
        found = survey_layers(head, statistics, asked, baselines, generator, score=score).cpu()
        of_class = F.one_hot(asked.cpu(), num_classes).to(found) * (labels >= 0)[:, None]
        magnitudes = magnitudes + of_class.T @ found.sum(2).abs()
        neurons = neurons + torch.einsum("nc,nlh->clh", of_class, found)
    counts = torch.bincount(outputs[outputs >= 0], minlength=num_classes).tolist()
    rows = []
    for index, label in enumerate(classifier.labels):
        if counts[index]:
            shares, means = magnitude_shares(magnitudes[index]), neurons[index] / counts[index]
            places = top(means, NUM_NEURONS)
            strongest = [f"{layer}:{neuron}:{means[layer, neuron]:+.4g}" for layer, neuron in places]
            row = {"scope": "class", "label": label, "clips": counts[index], "neurons": " ".join(strongest)}
            row["layer_entropy"] = evenness(shares)
            rows.append(row | {f"layers/{layer:02d}": share for layer, share in enumerate(shares.tolist())})
    return rows
