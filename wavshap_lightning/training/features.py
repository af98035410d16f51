"""Running the frozen backbone once over many clips and keeping what a head needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.statistics import LayerStatistics, Statistic, summarise_layers
from wavshap_lightning.training.cache import TensorCache
from wavshap_lightning.training.dataset import pad_waveforms, read_waveform

FORMAT_VERSION = 1
SHARD_BYTES = 32 * 2**20
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
        "reader": f"librosa {version('librosa')}",
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

    What is finished stays, whatever happens next: a killed run goes on where it was.

    Args:
        backbone: On the device to compute on.
        clips: The clips wanted.
        statistic: What to keep of their layers.
        cache: Where to put it.
        on_progress: Called with the number of clips done so far.

    Raises:
        AudioError: If a clip cannot be read.
        CacheError: If the cache cannot be written.
    """
    by_key = {keyed.key: keyed for keyed in clips}
    todo = sorted((by_key[key] for key in cache.missing(by_key)), key=lambda keyed: -keyed.duration_s)
    device = next(backbone.parameters()).device
    limit_s = CPU_BATCH_S if device.type == "cpu" else GPU_BATCH_S
    pending: dict[str, LayerStatistics] = {}
    done = len(by_key) - len(todo)
    for batch, waveforms in _prefetched(list(_batches(todo, limit_s)), backbone.sample_rate):
        pending |= zip(
            (keyed.key for keyed in batch), _statistics(backbone, waveforms, statistic), strict=True
        )
        if _num_bytes(pending) > SHARD_BYTES:
            cache.write(pending)
            pending = {}
        done += len(batch)
        on_progress(done)
    cache.write(pending)


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
        for batch, following in zip(batches, [*batches[1:], []], strict=True):
            futures, waiting = waiting, submit(following)
            yield batch, [future.result() for future in futures]


@torch.no_grad()
def _statistics(
    backbone: SpeechBackbone, waveforms: Sequence[Tensor], statistic: Statistic
) -> list[LayerStatistics]:
    """The statistics of each clip; a batch that does not fit into memory is halved."""
    try:
        return _batch_statistics(backbone, waveforms, statistic)
    except torch.OutOfMemoryError:
        if len(waveforms) == 1:
            raise
        torch.cuda.empty_cache()
        half = len(waveforms) // 2
        parts = waveforms[:half], waveforms[half:]
        return [entry for part in parts for entry in _statistics(backbone, part, statistic)]


def _batch_statistics(
    backbone: SpeechBackbone, waveforms: Sequence[Tensor], statistic: Statistic
) -> list[LayerStatistics]:
    device = next(backbone.parameters()).device
    padded, lengths = (tensor.to(device) for tensor in pad_waveforms(waveforms))
    num_frames = backbone.num_frames(lengths)
    batch = summarise_layers(backbone(padded, lengths), num_frames, statistic)
    if statistic == "frames":
        layers = batch["layers"].cpu()
        return [{"layers": layers[i, :, :n].clone()} for i, n in enumerate(num_frames.tolist())]
    return [{name: values[i].cpu() for name, values in batch.items()} for i in range(len(waveforms))]


def _num_bytes(entries: dict[str, LayerStatistics]) -> int:
    return sum(tensor.nbytes for entry in entries.values() for tensor in entry.values())
