"""Running the frozen backbone once over many clips and keeping what a head needs."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import lightning as L  # noqa: N812
import torch
from torch import Tensor

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.pooling import LayerStatistics, Statistic, summarize_layers
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.dataset import (
    StatisticsBatch,
    WaveformBatch,
    pad_waveforms,
    read_waveform,
)
from wavshap_lightning.training.progress import progress_bar

SMALL_BACKBONE = 5_000_000  # parameters; smaller ones are not quicker on many threads


def fill_cache(
    trainer: L.Trainer, classifier: EmotionClassifier, clips: Iterable[KeyedClip], cache: TensorCache
) -> None:
    """Run the backbone over the clips that the cache lacks, each on one rank.

    Args:
        trainer: Knows the ranks; every rank must call this.
        classifier: Its backbone is run, for the statistic its head needs.
        clips: What the cache must hold afterwards.
        cache: Just opened.

    Raises:
        AudioError: If a clip cannot be read.
        CacheError: If the cache cannot be written.
    """
    by_key = {keyed.key: keyed for keyed in clips}
    missing = sorted(
        (by_key[key] for key in cache.missing(by_key)), key=lambda keyed: (keyed.duration_s, keyed.key)
    )
    trainer.strategy.barrier("before extraction")  # all ranks see the same cache before any adds to it
    _extract(trainer, classifier, missing[trainer.global_rank :: trainer.world_size], cache)
    trainer.strategy.barrier("after extraction")
    cache.refresh()
    elsewhere = [by_key[key] for key in cache.missing(by_key)]  # on the disk of another node
    _extract(trainer, classifier, elsewhere, cache)


def _extract(
    trainer: L.Trainer, classifier: EmotionClassifier, clips: Sequence[KeyedClip], cache: TensorCache
) -> None:
    if not clips:
        return
    backbone, device = classifier.backbone, trainer.strategy.root_device
    backbone.to(device)
    small = sum(parameter.numel() for parameter in backbone.parameters()) < SMALL_BACKBONE
    with (
        one_thread(when=small and device.type == "cpu"),
        progress_bar("Running backbone", len(clips)) as on_progress,
    ):
        on_progress(0)  # the first batch may take a while
        extract_features(backbone, clips, classifier.head.statistic, cache, on_progress=on_progress)


@contextmanager
def one_thread(*, when: bool) -> Iterator[None]:
    """Within the block torch computes on one thread, where that is wanted."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if when else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


FORMAT_VERSION = 1
READERS = ("soundfile", "soxr")
"""Packages that decode and resample recordings."""

SHARD_BYTES, SHARD_S = 32 * 2**20, 60.0  # a shard is written once it is so large, or so much work
CPU_BATCH_S, GPU_BATCH_S = 20.0, 240.0


@dataclass(frozen=True, slots=True)
class KeyedClip:
    """A clip, its content key and its length.

    Args:
        clip: The clip.
        key: Hash of the audio and the span; see [`clip_key`][].
        duration_s: Its length in seconds.
    """

    clip: Clip
    key: str
    duration_s: float


def clip_key(sha256: str, clip: Clip) -> str:
    """The content key of a clip: its file's hash and its span, never its name."""
    return f"{sha256}@{clip.start_s}-{clip.end_s}"


def open_feature_cache(directory: Path, backbone: SpeechBackbone, statistic: Statistic) -> TensorCache:
    """The cache of one statistic of one backbone: everything that decides the values decides the folder."""
    recipe = {
        "format": FORMAT_VERSION,
        "backbone": backbone.fingerprint,
        "precision": backbone.settings.precision,
        "sample_rate": backbone.sample_rate,
        "reader": [f"{name} {version(name)}" for name in READERS],
        "statistic": statistic,
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    return TensorCache(directory / "features" / f"{statistic}-{digest[:32]}")


def extract_features(
    backbone: SpeechBackbone,
    clips: Sequence[KeyedClip],
    statistic: Statistic,
    cache: TensorCache,
    *,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> None:
    """Compute what `cache` lacks of these clips, a shard at a time.

    An interrupted run keeps what was finished, a killed one loses a minute's work at most.

    Args:
        backbone: On the device to compute on.
        clips: The clips wanted.
        statistic: What to keep of their layers.
        cache: Where to put it.
        on_progress: Called with the number of clips done so far; clips of equal content are done together.

    Raises:
        AudioError: If a clip cannot be read.
        CacheError: If the cache cannot be written.
    """
    by_key = {keyed.key: keyed for keyed in clips}
    num_clips = Counter(keyed.key for keyed in clips)
    todo = sorted((by_key[key] for key in cache.missing(by_key)), key=lambda keyed: -keyed.duration_s)
    limit_s = CPU_BATCH_S if _device(backbone).type == "cpu" else GPU_BATCH_S
    pending: dict[str, LayerStatistics] = {}
    done, written_at_s = len(clips) - sum(num_clips[keyed.key] for keyed in todo), time.monotonic()
    try:
        for batch, waveforms in _prefetched(list(_batches(todo, limit_s)), backbone.sample_rate):
            entries = layer_statistics(backbone, waveforms, statistic)
            pending |= zip((keyed.key for keyed in batch), entries, strict=True)
            if _num_bytes(pending) > SHARD_BYTES or time.monotonic() - written_at_s > SHARD_S:
                cache.write(pending)
                pending, written_at_s = {}, time.monotonic()
            done += sum(num_clips[keyed.key] for keyed in batch)
            on_progress(done)
    finally:
        cache.write(pending)


def layer_statistics(
    backbone: SpeechBackbone, waveforms: Sequence[Tensor], statistic: Statistic
) -> list[LayerStatistics]:
    """The statistics of each waveform, on the CPU; a batch that does not fit into memory is halved."""
    entries = _try_batch(backbone, waveforms, statistic)
    if entries is not None:
        return entries
    torch.cuda.empty_cache()
    half = len(waveforms) // 2
    parts = waveforms[:half], waveforms[half:]
    return [entry for part in parts for entry in layer_statistics(backbone, part, statistic)]


@torch.no_grad()
def live_difference(classifier: EmotionClassifier, live: WaveformBatch, cached: StatisticsBatch) -> float:
    """How far the logits of the same clips lie apart, from their waveforms and from their cached statistics.

    Returns:
        The largest difference, relative to the largest logit where that exceeds one.
    """
    device, was_training = _device(classifier.backbone), classifier.training
    classifier.eval()
    expected = classifier(live.waveforms.to(device), live.lengths.to(device))
    statistics = {name: values.to(device) for name, values in cached.statistics.items()}
    found = classifier.head.classify_statistics(statistics)
    classifier.train(was_training)
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))


def _batches(clips: Sequence[KeyedClip], limit_s: float) -> Iterator[list[KeyedClip]]:
    """Neighbours in length, together at most `limit_s` seconds with their padding."""
    batch: list[KeyedClip] = []
    for keyed in clips:
        if batch and batch[0].duration_s * (len(batch) + 1) > limit_s:
            yield batch
            batch = []
        batch.append(keyed)
    if batch:
        yield batch


def _prefetched(
    batches: Sequence[list[KeyedClip]], sample_rate: int
) -> Iterator[tuple[list[KeyedClip], list[Tensor]]]:
    """Each batch with its waveforms, read while the one before is computed."""

    def submit(batch: list[KeyedClip]) -> list[Future[Tensor]]:
        return [pool.submit(read_waveform, keyed.clip, sample_rate) for keyed in batch]

    with ThreadPoolExecutor() as pool:
        waiting = submit(batches[0]) if batches else []
        for batch, following in zip(batches, [*batches, []][1:], strict=True):
            futures, waiting = waiting, submit(following)
            yield batch, [future.result() for future in futures]


def _try_batch(
    backbone: SpeechBackbone, waveforms: Sequence[Tensor], statistic: Statistic
) -> list[LayerStatistics] | None:
    """The statistics of each clip, or None, with nothing left in memory, where the batch is too large."""
    try:
        return _batch_statistics(backbone, waveforms, statistic)
    except torch.OutOfMemoryError:
        if len(waveforms) == 1:
            raise
        return None


@torch.no_grad()
def _batch_statistics(
    backbone: SpeechBackbone, waveforms: Sequence[Tensor], statistic: Statistic
) -> list[LayerStatistics]:
    padded, lengths = (tensor.to(_device(backbone)) for tensor in pad_waveforms(waveforms))
    num_frames = backbone.num_frames(lengths)
    batch = summarize_layers(backbone(padded, lengths), num_frames, statistic)
    if statistic == "frames":
        layers = batch["layers"].cpu()
        return [{"layers": layers[i, :, :n]} for i, n in enumerate(num_frames.tolist())]
    by_name = {name: values.cpu() for name, values in batch.items()}
    return [{name: values[i] for name, values in by_name.items()} for i in range(len(waveforms))]


def _device(backbone: SpeechBackbone) -> torch.device:
    return next(backbone.parameters()).device


def _num_bytes(entries: dict[str, LayerStatistics]) -> int:
    return sum(tensor.nbytes for entry in entries.values() for tensor in entry.values())
