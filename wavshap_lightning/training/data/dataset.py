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
from wavshap_lightning.models.pooling import LayerStatistics
from wavshap_lightning.training.data.cache import TensorCache

# Called as transform(samples, sample_rate), gives a waveform: the convention of audiomentations. The command
# line would take a stricter type for that of a factory of arrays.
Transform = Callable[..., Any]


class ClipRequest(NamedTuple):
    """Clip that a sampler requests, and the random seed for it.

    Args:
        position: Where it stands in the dataset.
        seed: For the augmentation of this clip in this epoch.
    """

    position: int
    seed: int


class LabelledWaveform(NamedTuple):
    """One item of a [`SpeechDataset`][]: its samples, the index of its class, its place in the dataset."""

    waveform: Float[Tensor, " time"]
    label: int
    position: int


class WaveformBatch(NamedTuple):
    """Clips padded to one length.

    Args:
        waveforms: Samples, zero beyond each clip's end.
        lengths: Valid samples of each clip.
        labels: Class indices.
        positions: Where each clip stands in the dataset.
    """

    waveforms: Float[Tensor, "batch time"]
    lengths: Int[Tensor, " batch"]
    labels: Int[Tensor, " batch"]
    positions: Int[Tensor, " batch"]


class StatisticsBatch(NamedTuple):
    """Clips as statistics of their layers; fields as in [`WaveformBatch`][]."""

    statistics: LayerStatistics
    labels: Int[Tensor, " batch"]
    positions: Int[Tensor, " batch"]


Batch = WaveformBatch | StatisticsBatch


def read_waveform(clip: Clip, sample_rate: int) -> Float[Tensor, " time"]:
    """The samples of a clip.

    Raises:
        AudioError: If it cannot be read.
    """
    return torch.from_numpy(
        load_audio(clip.path, sample_rate=sample_rate, start_s=clip.start_s, end_s=clip.end_s)
    )


def pad_waveforms(
    waveforms: Sequence[Tensor],
) -> tuple[Float[Tensor, "batch time"], Int[Tensor, " batch"]]:
    """Waveforms padded with zeros to the longest, and their lengths."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    return pad_sequence(list(waveforms), batch_first=True), lengths


class SpeechDataset(Dataset[LabelledWaveform]):
    """Clips as waveforms.

    Args:
        clips: The clips.
        labels: The classes, in the order of their indices.
        sample_rate: Samples per second to read at.
        transform: Applied to every waveform as `transform(samples, sample_rate)`. Whatever it draws from the
            global generators of `random`, NumPy and torch is decided by the seed of the request.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        labels: Sequence[str],
        *,
        sample_rate: int,
        transform: Transform | None = None,
    ) -> None:
        self.clips = tuple(clips)
        self.sample_rate = sample_rate
        self.transform = transform
        self._index_of_label = {label: index for index, label in enumerate(labels)}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> LabelledWaveform:
        return self.read(ClipRequest(index, index))

    def read(self, request: ClipRequest) -> LabelledWaveform:
        """The clip asked for, transformed with the seed asked for.

        Raises:
            AudioError: If the clip cannot be read.
            SettingError: If the transform gives back anything but one waveform.
        """
        clip = self.clips[request.position]
        waveform = read_waveform(clip, self.sample_rate)
        if self.transform is not None:
            with _seeded(request.seed):
                waveform = _as_waveform(self.transform(waveform.numpy(), self.sample_rate))
        return LabelledWaveform(waveform, self._index_of_label[clip.label], request.position)


class WaveformBatches(Dataset[WaveformBatch]):
    """Batches of a [`SpeechDataset`][], each asked for by the list of its requests."""

    def __init__(self, dataset: SpeechDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, requests: Sequence[ClipRequest]) -> WaveformBatch:
        items = [self.dataset.read(request) for request in requests]
        waveforms, lengths = pad_waveforms([item.waveform for item in items])
        labels, positions = (torch.tensor([item[i] for item in items]) for i in (1, 2))
        return WaveformBatch(waveforms, lengths, labels, positions)


class StatisticsBatches(Dataset[StatisticsBatch]):
    """Batches of cached statistics.

    Means and moments are small and held in memory; whole frames are read from the cache when asked for.

    Args:
        cache: A cache that has every key.
        keys: Each clip's key.
        labels: Each clip's class index.
    """

    def __init__(self, cache: TensorCache, keys: Sequence[str], labels: Sequence[int]) -> None:
        self.labels = torch.tensor(labels)
        self._cache, self._keys = cache, list(keys)
        self._whole_frames = "layers" in cache.read(self._keys[0])
        self._held = {} if self._whole_frames else stack_statistics([cache.read(key) for key in self._keys])

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, requests: Sequence[ClipRequest]) -> StatisticsBatch:
        positions = torch.tensor([request.position for request in requests])
        statistics = (
            stack_statistics([self._cache.read(self._keys[i]) for i in positions.tolist()])
            if self._whole_frames
            else {name: values[positions] for name, values in self._held.items()}
        )
        return StatisticsBatch(statistics, self.labels[positions], positions)

    def between(self, start: int, stop: int) -> StatisticsBatch:
        """Clips that stand next to one another; of those held in memory nothing is copied."""
        if self._whole_frames:
            return self[[ClipRequest(position, 0) for position in range(start, stop)]]
        statistics = {name: values[start:stop] for name, values in self._held.items()}
        return StatisticsBatch(statistics, self.labels[start:stop], torch.arange(start, stop))


def stack_statistics(entries: Sequence[LayerStatistics]) -> LayerStatistics:
    """Statistics of single clips as a batch; whole frames are padded with zeros to the longest."""
    if "layers" not in entries[0]:
        return {name: torch.stack([entry[name] for entry in entries]) for name in entries[0]}
    layers = [entry["layers"] for entry in entries]
    by_time = pad_sequence([clip.transpose(0, 1) for clip in layers], batch_first=True)
    return {
        "layers": by_time.transpose(1, 2),
        "num_frames": torch.tensor([clip.shape[1] for clip in layers]),
    }


def _as_waveform(transformed: Any) -> Float[Tensor, " time"]:  # noqa: ANN401 - whatever a transform returns
    samples = np.asarray(transformed, dtype=np.float32)
    if samples.ndim != 1:
        raise SettingError(
            f"transform: it returned shape={samples.shape} and must return one waveform, shape (samples,)"
        )
    return torch.from_numpy(np.ascontiguousarray(samples))


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
