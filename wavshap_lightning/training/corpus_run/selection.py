"""Clips of a corpus that are explained: a split of the protocol that the model was trained under, or all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wavshap_lightning.corpora.catalogue import corpus_named
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.labels import draw_stratified
from wavshap_lightning.corpora.protocols import Protocol, split_digest
from wavshap_lightning.errors import SettingError
from wavshap_lightning.training.data.preparation import list_clips

SplitChoice = Literal["train", "validation", "test", "all"]
NOT_OF_A_PROTOCOL = ("fold", "clips", "digest")
"""Fields that a classifier stores beside its protocol."""


@dataclass(frozen=True)
class ClipSelection:
    """The clips to explain.

    Args:
        clips: All clips of the corpus, each once.
        positions: Indices into `clips` of those to explain, ascending.
        description: The selection in words, for titles and messages.
        warning: A warning for the user; empty if there is none.
    """

    clips: tuple[Clip, ...]
    positions: tuple[int, ...]
    description: str
    warning: str = ""


def select_clips(
    corpus: str,
    root: str | None,
    options: Mapping[str, Any],
    *,
    trained: Mapping[str, Any],
    cache_directory: Path,
    split: SplitChoice = "test",
    fold: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ClipSelection:
    """List a corpus and select some of its clips.

    Args:
        corpus: Name of the corpus in the catalogue.
        root: Folder or table of the corpus; PlantedSpeech is made in the cache if None.
        options: Further arguments of the corpus's loader.
        trained: Protocol record of the model. It decides training and test clips if it is of the same
            corpus; otherwise the corpus's own protocol does.
        cache_directory: Folder in which PlantedSpeech is made.
        split: `train`, `validation`, `test`, or `all`.
        fold: Fold of the protocol; if None, that of the model, else the first.
        limit: Largest number of clips, drawn class by class; no limit if None.
        seed: Random seed of that draw.

    Raises:
        SettingError: If the split is empty, the limit is below 1, or the root is missing.
        CorpusError: If the corpus is not there, or the protocol does not fit it.
    """
    if limit is not None and limit < 1:
        raise SettingError(f"limit={limit} must be at least 1; leave it out for all clips")
    clips = list_clips(corpus, root, options, cache_directory, seed=seed)
    chosen, description, warning = clips, f"all clips of {corpus}", ""
    if split != "all":
        is_own = bool(trained) and {clip.corpus for clip in clips} == {trained["corpus"]}
        protocol = _protocol_of(trained) if is_own else corpus_named(corpus).protocol(clips)
        model_fold = int(trained.get("fold", 0)) if is_own else None
        fold = fold if fold is not None else model_fold or 0
        found = protocol.split(clips, fold)
        chosen = list(found[split])
        if not chosen:
            others = ", ".join(name for name, members in found.items() if members)
            raise SettingError(
                f"split={split!r}: no clip of {corpus} is in it under protocol={protocol.name!r}; "
                f"use one of {others}, all"
            )
        description = f"the {split} clips of {corpus} ({protocol.name}, {protocol.folds[fold].name})"
        warning = _warn_if_other_clips(trained, protocol, split_digest(found)) if fold == model_fold else ""
    if limit is not None and limit < len(chosen):
        description = f"{limit} of {description}"
        num_labels = len({clip.label for clip in chosen})
        generator = np.random.default_rng(seed)
        chosen = draw_stratified(chosen, max(limit, num_labels), generator)[:limit]
    place = {_identity(clip): position for position, clip in enumerate(clips)}
    positions = tuple(sorted({place[_identity(clip)] for clip in chosen}))  # clips listed twice count once
    return ClipSelection(tuple(clips), positions, description, warning)


def _protocol_of(trained: Mapping[str, Any]) -> Protocol:
    return Protocol.from_dict({key: value for key, value in trained.items() if key not in NOT_OF_A_PROTOCOL})


def _warn_if_other_clips(trained: Mapping[str, Any], protocol: Protocol, digest: str) -> str:
    """A warning if clips of another division may have been trained on; speakers are known by name."""
    if protocol.unit == "speaker" or trained.get("digest") in (None, digest):
        return ""
    return (
        f"These clips are not divided as those that the model was trained on were ({protocol.name}): it may "
        "have been trained on some of them. Give the root and the options of the training."
    )


def _identity(clip: Clip) -> tuple[Path, float | None, float | None]:
    return clip.path, clip.start_s, clip.end_s
