"""Datasets: clips as waveforms, or as cached statistics of their layers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.pooling import LayerStatistics
from wavshap_lightning.training.data.cache import TensorCache

# Called as transform(samples, sample_rate), gives a waveform: the convention of audiomentations. The command
# line would take a stricter type for that of a factory of arrays.
Transform = Callable[..., Any]
Targets = Float[Tensor, "clips outputs"]


ClipRequest = tuple[int, int]
"""Position of a clip in its dataset, and the random seed for its augmentation in this epoch."""


class WaveformBatch(NamedTuple):
    """Clips padded to one length.

    Args:
        waveforms: Samples, zero beyond each clip's end.
        lengths: Valid samples of each clip.
        labels: Class indices.
        positions: Index of each clip in the dataset.
        targets: Target of each clip for each output of the model; NaN where it is missing.
    """

    waveforms: Float[Tensor, "batch time"]
    lengths: Int[Tensor, " batch"]
    labels: Int[Tensor, " batch"]
    positions: Int[Tensor, " batch"]
    targets: Float[Tensor, "batch outputs"]

    def logits(self, classifier: EmotionClassifier) -> Float[Tensor, "batch classes"]:
        """Logits of the whole classifier."""
        logits: Tensor = classifier(self.waveforms, self.lengths)
        return logits


class StatisticsBatch(NamedTuple):
    """Clips as statistics of their layers; fields as in [`WaveformBatch`][]."""

    statistics: LayerStatistics
    labels: Int[Tensor, " batch"]
    positions: Int[Tensor, " batch"]
    targets: Float[Tensor, "batch outputs"]

    def logits(self, classifier: EmotionClassifier) -> Float[Tensor, "batch classes"]:
        """Logits of the classifier's head alone."""
        return classifier.head.classify_statistics(self.statistics)


Batch = WaveformBatch | StatisticsBatch


def read_waveform(clip: Clip, sample_rate: int) -> Float[Tensor, " time"]:
    """The samples of a clip.

    Raises:
        AudioError: If it cannot be read.
    """
    waveform = load_audio(clip.path, sample_rate=sample_rate, start_s=clip.start_s, end_s=clip.end_s)
    return torch.from_numpy(waveform)


def pad_waveforms(waveforms: Sequence[Tensor]) -> tuple[Float[Tensor, "batch time"], Int[Tensor, " batch"]]:
    """Waveforms padded with zeros to the longest, and their lengths."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    return pad_sequence(list(waveforms), batch_first=True), lengths


class WaveformBatches(Dataset[WaveformBatch]):
    """Batches of clips as waveforms, each asked for by the list of its requests.

    Args:
        clips: The clips.
        labels: Each clip's class index.
        targets: Each clip's targets.
        sample_rate: Samples per second to read at.
        transform: Applied to every waveform as `transform(samples, sample_rate)`. Whatever it draws from the
            global generators of `random`, NumPy and torch is decided by the seed of the request.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        labels: Sequence[int],
        targets: Targets,
        *,
        sample_rate: int,
        transform: Transform | None = None,
    ) -> None:
        self.clips = tuple(clips)
        self.labels, self.targets = torch.tensor(labels), targets
        self.sample_rate = sample_rate
        self.transform = transform

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, requests: Sequence[ClipRequest]) -> WaveformBatch:
        """The clips asked for, transformed with the seeds asked for.

        Raises:
            AudioError: If a clip cannot be read.
            SettingError: If the transform does not return a single waveform.
        """
        waveforms, lengths = pad_waveforms([self._read(*request) for request in requests])
        positions = torch.tensor([position for position, _ in requests])
        return WaveformBatch(waveforms, lengths, self.labels[positions], positions, self.targets[positions])

    def _read(self, position: int, seed: int) -> Float[Tensor, " time"]:
        waveform = read_waveform(self.clips[position], self.sample_rate)
        if self.transform is None:
            return waveform
        with _seeded(seed):
            samples = np.asarray(self.transform(waveform.numpy(), self.sample_rate), dtype=np.float32)
        if samples.ndim != 1:
            raise SettingError(f"transform: shape={samples.shape} must be that of one waveform, (samples,)")
        return torch.from_numpy(np.ascontiguousarray(samples))


class StatisticsBatches(Dataset[StatisticsBatch]):
    """Batches of cached statistics.

    Means and moments are small and held in memory; whole frames are read from the cache when asked for.

    Args:
        cache: A cache that has every key.
        keys: Each clip's key.
        labels: Each clip's class index.
        targets: Each clip's targets.
    """

    def __init__(
        self, cache: TensorCache, keys: Sequence[str], labels: Sequence[int], targets: Targets
    ) -> None:
        self.labels, self.targets = torch.tensor(labels), targets
        self._cache, self._keys = cache, list(keys)
        has_frames = "layers" in cache.read(self._keys[0])
        self._held = None if has_frames else stack_statistics([cache.read(key) for key in self._keys])

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, requests: Sequence[ClipRequest]) -> StatisticsBatch:
        positions = torch.tensor([position for position, _ in requests])
        if self._held is None:
            statistics = stack_statistics([self._cache.read(self._keys[i]) for i in positions.tolist()])
        else:
            statistics = {name: values[positions] for name, values in self._held.items()}
        return StatisticsBatch(statistics, self.labels[positions], positions, self.targets[positions])

    def between(self, start: int, stop: int) -> StatisticsBatch:
        """Clips that stand next to one another; of those held in memory nothing is copied."""
        if self._held is None:
            return self[[(position, 0) for position in range(start, stop)]]
        statistics = {name: values[start:stop] for name, values in self._held.items()}
        labels, targets = self.labels[start:stop], self.targets[start:stop]
        return StatisticsBatch(statistics, labels, torch.arange(start, stop), targets)


def stack_statistics(entries: Sequence[LayerStatistics]) -> LayerStatistics:
    """Statistics of single clips as a batch; whole frames are padded with zeros to the longest."""
    if "layers" not in entries[0]:
        return {name: torch.stack([entry[name] for entry in entries]) for name in entries[0]}
    layers = [entry["layers"] for entry in entries]
    by_time = pad_sequence([clip.transpose(0, 1) for clip in layers], batch_first=True)
    num_frames = torch.tensor([clip.shape[1] for clip in layers])
    return {"layers": by_time.transpose(1, 2), "num_frames": num_frames}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that augmentation libraries draw from, and put them back."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
