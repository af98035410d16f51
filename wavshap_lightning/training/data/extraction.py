"""Running the frozen backbone once over all clips, and caching the statistics of its layers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import lightning as L  # noqa: N812
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from wavshap_lightning.errors import CacheError, ModelError
from wavshap_lightning.files import digest_of
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.pooling import LayerStatistics, Statistic, summarize_layers
from wavshap_lightning.progress import progress_bars
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.datamodule import STAGE_SPLITS, EmotionDataModule
from wavshap_lightning.training.data.dataset import pad_waveforms, read_waveform
from wavshap_lightning.training.data.preparation import KeyedClip

Item = TypeVar("Item")

CHECKED_CLIPS = 2
LIVE_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}

SMALL_BACKBONE = 5_000_000  # parameters; smaller ones are not quicker on many threads
FORMAT_VERSION = 1
READERS = ("soundfile", "soxr")
"""Packages that decode and resample recordings."""

SHARD_BYTES, SHARD_S = 32 * 2**20, 60.0  # a shard is written once it is so large, or so much work
CPU_BATCH_S, GPU_BATCH_S = 20.0, 240.0


def cache_features(
    trainer: L.Trainer, classifier: EmotionClassifier, data: EmotionDataModule, stage: str
) -> None:
    """Cache the layer statistics that a stage of training needs, and check some against the model.

    Args:
        trainer: Trainer whose ranks share the work; every rank must call this function.
        classifier: Classifier with a frozen backbone.
        data: Datamodule of the clips; its batches hold cached statistics afterwards.
        stage: `"fit"`, `"validate"` or `"test"`.

    Raises:
        AudioError: If a clip cannot be read.
        CacheError: If the cache cannot be used, or differs from the values of the model.
        ModelError: If the model gives no finite logits.
    """
    statistic = classifier.head.statistic
    data.feature_cache = open_feature_cache(data.cache_directory, classifier.backbone, statistic)
    splits = [split for split in STAGE_SPLITS.get(stage, ()) if data.is_cached(split)]
    clips = [one for split in splits for one in data.prepared[split]]
    fill_cache(trainer, classifier, clips, data.feature_cache)
    if clips:
        _check_against_live(data, classifier, clips, trainer.strategy.root_device)


def _check_against_live(
    data: EmotionDataModule, classifier: EmotionClassifier, clips: Sequence[KeyedClip], device: torch.device
) -> None:
    """Compare cached with live logits on a few clips."""
    chosen = clips[:: max(1, len(clips) // CHECKED_CLIPS)][:CHECKED_CLIPS]
    requests = [(position, 0) for position in range(len(chosen))]
    was_training = classifier.training
    classifier.to(device).eval()
    with torch.no_grad():
        expected, found = (
            move_data_to_device(batches[requests], device).logits(classifier)
            for batches in (data.waveforms(chosen), data.statistics(chosen))
        )
    classifier.train(was_training)
    if not expected.isfinite().all():
        raise ModelError("logits of the first clips are not finite: a weight is not; open another checkpoint")
    # Relative to the largest logit where that exceeds one.
    difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))
    tolerance = LIVE_TOLERANCE[classifier.backbone.settings.precision]
    if not difference <= tolerance:  # true for NaN as well
        raise CacheError(
            f"cache_dir={data.cache_directory}: cached and live logits differ by {difference:.2g}, more than "
            f"{tolerance:g}; was it filled on another device? Delete its folder features/ and run again"
        )


def open_feature_cache(directory: Path, backbone: SpeechBackbone, statistic: Statistic) -> TensorCache:
    """Cache of one statistic of one backbone; everything that decides the values decides its folder."""
    recipe = {
        "format": FORMAT_VERSION,
        "backbone": backbone.fingerprint,
        "precision": backbone.settings.precision,
        "sample_rate": backbone.sample_rate,
        "reader": [f"{name} {version(name)}" for name in READERS],
        "statistic": statistic,
    }
    return TensorCache(directory / "features" / f"{statistic}-{digest_of(recipe)[:32]}")


def fill_cache(
    trainer: L.Trainer, classifier: EmotionClassifier, clips: Sequence[KeyedClip], cache: TensorCache
) -> None:
    """Run the backbone over the clips that the cache lacks, each on one rank.

    Args:
        trainer: Trainer with the ranks; every rank must call this.
        classifier: Classifier whose backbone is run, for the statistic that its head needs.
        clips: Clips that the cache must hold afterwards.
        cache: The cache, just opened.

    Raises:
        AudioError: If a clip cannot be read.
        CacheError: If the cache cannot be written.
    """
    backbone, statistic = classifier.backbone.to(trainer.strategy.root_device), classifier.head.statistic
    mine = _missing(clips, cache)[trainer.global_rank :: trainer.world_size]
    trainer.strategy.barrier("before extraction")  # all ranks see the same cache before any adds to it
    extract_features(backbone, mine, statistic, cache)
    trainer.strategy.barrier("after extraction")
    cache.refresh()
    # Nodes with disks of their own do not see what the others wrote, and compute it themselves.
    extract_features(backbone, clips, statistic, cache)


def _missing(clips: Sequence[KeyedClip], cache: TensorCache) -> list[KeyedClip]:
    """Clips without an entry, each once, the longest first: memory runs out early or never."""
    by_key = {one.key: one for one in clips}
    return sorted((by_key[key] for key in cache.missing(by_key)), key=lambda one: (-one.duration_s, one.key))


@contextmanager
def one_thread(*, when: bool) -> Iterator[None]:
    """Compute on one thread within the block, if `when` is true."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if when else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def extract_features(
    backbone: SpeechBackbone, clips: Sequence[KeyedClip], statistic: Statistic, cache: TensorCache
) -> None:
    """Compute what `cache` lacks of these clips, a shard at a time.

    An interrupted run keeps what was finished; a killed one loses a minute's work at most.

    Args:
        backbone: Backbone on the device to compute on.
        clips: The clips wanted.
        statistic: Statistic of their layers to keep.
        cache: Cache to write to.

    Raises:
        AudioError: If a clip cannot be read.
        CacheError: If the cache cannot be written.
    """
    todo = _missing(clips, cache)
    if not todo:
        return
    on_cpu = next(backbone.parameters()).is_cpu
    small = sum(parameter.numel() for parameter in backbone.parameters()) < SMALL_BACKBONE
    grid = backbone.frame_grid
    window_s = (grid.max_samples or 0) / grid.sample_rate if grid.fixed else 0.0
    limit_s = CPU_BATCH_S if on_cpu else GPU_BATCH_S
    batches = list(batches_of(todo, limit_s, lambda one: max(one.duration_s, window_s)))
    pending: dict[str, LayerStatistics] = {}
    done, written_at_s = 0, time.monotonic()
    with one_thread(when=small and on_cpu), progress_bars(shown_after_s=0.0) as bar:
        on_progress = bar("Running backbone")
        on_progress(0, len(todo))  # the first batch may take a while
        try:
            for batch, waveforms in _prefetched(batches, backbone.sample_rate):
                entries = layer_statistics(backbone, waveforms, statistic)
                pending |= zip((one.key for one in batch), entries, strict=True)
                num_bytes = sum(tensor.nbytes for entry in pending.values() for tensor in entry.values())
                if num_bytes > SHARD_BYTES or time.monotonic() - written_at_s > SHARD_S:
                    cache.write(pending)
                    pending, written_at_s = {}, time.monotonic()
                done += len(batch)
                on_progress(done, len(todo))
        finally:
            cache.write(pending)


def layer_statistics(
    backbone: SpeechBackbone, waveforms: Sequence[Tensor], statistic: Statistic
) -> list[LayerStatistics]:
    """Statistics of each waveform, on the CPU; a batch that does not fit into memory is halved."""
    try:
        return _batch_statistics(backbone, waveforms, statistic)
    except torch.OutOfMemoryError:
        if len(waveforms) == 1:
            raise
    # Outside of the handler, whose traceback would hold on to the memory.
    torch.cuda.empty_cache()
    half = len(waveforms) // 2
    parts = waveforms[:half], waveforms[half:]
    return [entry for part in parts for entry in layer_statistics(backbone, part, statistic)]


def batches_of(
    clips: Iterable[Item], limit_s: float, duration_s: Callable[[Item], float]
) -> Iterator[list[Item]]:
    """Clips next to one another, together at most `limit_s` seconds with their padding.

    >>> list(batches_of([4.0, 4.0, 1.0, 2.0], 9.0, lambda one: one))
    [[4.0, 4.0], [1.0, 2.0]]
    """
    batch: list[Item] = []
    for one in clips:
        if batch and max(map(duration_s, [*batch, one])) * (len(batch) + 1) > limit_s:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _prefetched(
    batches: Sequence[list[KeyedClip]], sample_rate: int
) -> Iterator[tuple[list[KeyedClip], list[Tensor]]]:
    """Each batch with its waveforms, read while the one before is computed."""
    with ThreadPoolExecutor() as pool:
        waiting: Iterator[Tensor] = iter(())
        for batch, following in pairwise([[], *batches, []]):
            waveforms = list(waiting)
            waiting = pool.map(lambda one: read_waveform(one.clip, sample_rate), following)
            if batch:
                yield batch, waveforms


@torch.no_grad()
def _batch_statistics(
    backbone: SpeechBackbone, waveforms: Sequence[Tensor], statistic: Statistic
) -> list[LayerStatistics]:
    device = next(backbone.parameters()).device
    padded, lengths = (tensor.to(device) for tensor in pad_waveforms(waveforms))
    num_frames = backbone.num_frames(lengths)
    batch = summarize_layers(backbone(padded, lengths), num_frames, statistic)
    if statistic == "frames":
        layers = batch["layers"].cpu()
        return [{"layers": layers[i, :, :n]} for i, n in enumerate(num_frames.tolist())]
    by_name = {name: values.cpu() for name, values in batch.items()}
    return [{name: values[i] for name, values in by_name.items()} for i in range(len(waveforms))]
