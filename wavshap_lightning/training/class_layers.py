"""What each class is heard from, layer by layer and neuron by neuron, over all clips of a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.aggregate import top
from wavshap_lightning.attribution.record import tensor_sha256
from wavshap_lightning.attribution.targets import TargetKind
from wavshap_lightning.attribution.waveform_baselines import noise
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.evaluation.concentration import evenness, magnitude_shares
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.statistics import LayerStatistics
from wavshap_lightning.training.cache import TensorCache
from wavshap_lightning.training.dataset import (
    StatisticsBatches,
    read_waveform,
    stack_statistics,
)
from wavshap_lightning.training.features import layer_statistics
from wavshap_lightning.training.layer_survey import CLIPS_AT_ONCE, survey_layers

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
    units = top(neurons, NUM_NEURONS)
    return tuple((unit.index[0], unit.index[1], unit.value) for unit in units)
