"""Running the frozen backbone once over all clips, and training from the cached layer statistics."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import CacheError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.pooling import LayerStatistics, Statistic, summarize_layers
from wavshap_lightning.training.checkpoints import check_same_training, check_unseen
from wavshap_lightning.training.data.cache import TensorCache
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.data.dataset import ClipRequest, pad_waveforms, read_waveform
from wavshap_lightning.training.data.preparation import KeyedClip
from wavshap_lightning.training.progress import progress_bar

SPLITS_OF_STAGE = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}
CHECKED_CLIPS = 2
LIVE_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}

SMALL_BACKBONE = 5_000_000  # parameters; smaller ones are not quicker on many threads
FORMAT_VERSION = 1
READERS = ("soundfile", "soxr")
"""Packages that decode and resample recordings."""

SHARD_BYTES, SHARD_S = 32 * 2**20, 60.0  # a shard is written once it is so large, or so much work
CPU_BATCH_S, GPU_BATCH_S = 20.0, 240.0


class DataBinding(Callback):
    """Connects a module with its datamodule, so that neither has to know the other.

    Attached by `EmotionModule`. It audits the clips for the model's frames, caches the features of a frozen
    backbone, hands protocol and class counts to the module, and refuses checkpoints that know the clips.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Prepare the clips for the model.

        Raises:
            AuditError: If the audit of the clips found what must not be ignored.
            CacheError: If the cache cannot be used, or differs from the live values.
        """
        data, classifier = _bound(trainer), _classifier(pl_module)
        if data is None:
            return
        data.match(classifier.backbone.frame_grid)
        pl_module.protocol_record = data.protocol_record  # type: ignore[assignment]
        pl_module.class_counts = data.class_counts  # type: ignore[assignment]
        if data.cached and classifier.backbone.settings.frozen:
            statistic = classifier.head.statistic
            data.feature_cache = open_feature_cache(data.cache_directory, classifier.backbone, statistic)
            splits = [split for split in SPLITS_OF_STAGE.get(stage, ()) if data.is_cached(split)]
            clips = [clip for split in splits for clip in data.clips(split)]
            fill_cache(trainer, classifier, [data.prepared.keyed[clip] for clip in clips], data.feature_cache)
            if clips:
                _check_against_live(data, classifier, clips, trainer.strategy.root_device)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse to resume from a checkpoint that was trained on other clips.

        Raises:
            CheckpointError: If it was.
        """
        data = _bound(trainer)
        if data is not None and trainer.ckpt_path:
            check_same_training(_loaded_protocol(pl_module), data.protocol_record)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse to validate on speakers that the model was trained on.

        Raises:
            CheckpointError: If it was.
        """
        if trainer.state.fn == "validate":
            _check_unseen(trainer, pl_module, "validation")

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse to test on speakers that the model was trained or chosen on.

        Raises:
            CheckpointError: If it was.
        """
        _check_unseen(trainer, pl_module, "test")


def _bound(trainer: L.Trainer) -> EmotionDataModule | None:
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, EmotionDataModule) else None


def _classifier(module: L.LightningModule) -> EmotionClassifier:
    return module.classifier  # type: ignore[return-value]


def _loaded_protocol(module: L.LightningModule) -> Mapping[str, Any]:
    return _classifier(module).provenance.protocol


def _check_unseen(trainer: L.Trainer, module: L.LightningModule, split: str) -> None:
    data = _bound(trainer)
    if data is not None and not data.allow_shared_speakers:
        check_unseen(_loaded_protocol(module), data.protocol_record, split)


def _check_against_live(
    data: EmotionDataModule, classifier: EmotionClassifier, clips: Sequence[Clip], device: torch.device
) -> None:
    """Compare cached with live logits on a few clips."""
    chosen = clips[:: max(1, len(clips) // CHECKED_CLIPS)][:CHECKED_CLIPS]
    requests = [ClipRequest(position, 0) for position in range(len(chosen))]
    live, cached = data.waveforms(chosen)[requests], data.statistics(chosen)[requests]
    was_training = classifier.training
    classifier.to(device).eval()
    with torch.no_grad():
        expected = classifier(live.waveforms.to(device), live.lengths.to(device))
        statistics = {name: values.to(device) for name, values in cached.statistics.items()}
        found = classifier.head.classify_statistics(statistics)
    classifier.train(was_training)
    # Relative to the largest logit where that exceeds one.
    difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))
    tolerance = LIVE_TOLERANCE[classifier.backbone.settings.precision]
    if not difference <= tolerance:  # true for NaN as well
        raise CacheError(
            f"cache_dir={data.cache_directory}: cached and live logits differ by {difference:.2g}, more "
            f"than {tolerance:g}; was it filled on another kind of device? Delete its folder features/ "
            "and run again"
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
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    return TensorCache(directory / "features" / f"{statistic}-{digest[:32]}")


def fill_cache(
    trainer: L.Trainer, classifier: EmotionClassifier, clips: Iterable[KeyedClip], cache: TensorCache
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
    by_key = {keyed.key: keyed for keyed in clips}
    missing = sorted(
        (by_key[key] for key in cache.missing(by_key)), key=lambda keyed: (keyed.duration_s, keyed.key)
    )
    trainer.strategy.barrier("before extraction")  # all ranks see the same cache before any adds to it
    _extract(trainer, classifier, missing[trainer.global_rank :: trainer.world_size], cache)
    trainer.strategy.barrier("after extraction")
    cache.refresh()
    # Nodes with disks of their own do not see what the others wrote, and compute it themselves.
    _extract(trainer, classifier, [by_key[key] for key in cache.missing(by_key)], cache)


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
    """Compute on one thread within the block, if `when` is true."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if when else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def extract_features(
    backbone: SpeechBackbone,
    clips: Sequence[KeyedClip],
    statistic: Statistic,
    cache: TensorCache,
    *,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> None:
    """Compute what `cache` lacks of these clips, a shard at a time.

    An interrupted run keeps what was finished; a killed one loses a minute's work at most.

    Args:
        backbone: Backbone on the device to compute on.
        clips: The clips wanted.
        statistic: Statistic of their layers to keep.
        cache: Cache to write to.
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
            num_bytes = sum(tensor.nbytes for entry in pending.values() for tensor in entry.values())
            if num_bytes > SHARD_BYTES or time.monotonic() - written_at_s > SHARD_S:
                cache.write(pending)
                pending, written_at_s = {}, time.monotonic()
            done += sum(num_clips[keyed.key] for keyed in batch)
            on_progress(done)
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
