"""Filling the feature cache together: each rank computes its share, then all have everything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import lightning as L  # noqa: N812
import torch

from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.training.cache import TensorCache
from wavshap_lightning.training.features import KeyedClip, extract_features
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
