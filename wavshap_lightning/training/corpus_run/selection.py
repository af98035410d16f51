"""Which clips of a corpus are explained: a part of the split that the model was trained on, or all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wavshap_lightning.corpora.catalogue import corpus_named
from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.corpora.labels import draw_stratified
from wavshap_lightning.corpora.splits import Protocol
from wavshap_lightning.errors import SettingError
from wavshap_lightning.training.data.preparation import CorpusSettings, list_clips

PARTS = (*SPLITS, "all")
NOT_OF_A_PROTOCOL = ("fold", "clips", "digest")
"""What a classifier stores beside its protocol."""


@dataclass(frozen=True)
class Wanted:
    """Which clips are wanted.

    Args:
        name: Of the corpus.
        root: Where it lies; PlantedSpeech is made where it is None.
        options: Of the corpus.
        part: One of `PARTS`.
        fold: Of the protocol; that of the model, else the first, if None.
        limit: At most so many, drawn class by class; all if None.
        seed: Decides which.
    """

    name: str
    root: str | None
    options: Mapping[str, Any]
    part: str = "test"
    fold: int | None = None
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Chosen:
    """The clips that are explained.

    Args:
        clips: All of the corpus.
        positions: Of those that are explained, in the order of the corpus.
        words: What they are.
        warning: What is to be known of them; empty for nothing.
    """

    clips: tuple[Clip, ...]
    positions: tuple[int, ...]
    words: str
    warning: str = ""


def choose_clips(wanted: Wanted, trained: Mapping[str, Any], cache_directory: Path) -> Chosen:
    """List a corpus and choose some of its clips.

    Args:
        wanted: Which.
        trained: The protocol that the model was trained under (`TrainingProvenance.protocol`). It decides
            what trained and what tests where it is of the same corpus; else the corpus's own does.
        cache_directory: Where PlantedSpeech is made.

    Raises:
        SettingError: If there is no such part, nothing is in it, the limit is below 1, or there is no root.
        CorpusError: If the corpus is not there, or the protocol does not fit it.
    """
    _check(wanted)
    settings = CorpusSettings(wanted.name, wanted.root, dict(wanted.options), seed=wanted.seed)
    clips = list_clips(settings, cache_directory)
    if wanted.part == "all":
        return _limited(wanted, clips, clips, f"all clips of {wanted.name}")
    own = bool(trained) and {clip.corpus for clip in clips} == {trained["corpus"]}
    protocol = _stored(trained) if own else corpus_named(wanted.name).protocol(clips)
    fold = wanted.fold if wanted.fold is not None else int(trained.get("fold", 0)) if own else 0
    split = protocol.split(clips, fold)
    found = dict(split.items())[wanted.part]
    if not found:
        raise SettingError(
            f"split={wanted.part!r}: no clip of {wanted.name} is in it under protocol={protocol.name!r}; use "
            f"one of {', '.join(part for part in PARTS if part != wanted.part)}"
        )
    words = f"the {wanted.part} clips of {wanted.name} ({protocol.name}, {protocol.folds[fold].name})"
    warning = _strangers(trained, protocol, split.digest) if own and fold == trained.get("fold") else ""
    return _limited(wanted, clips, found, words, warning)


def _check(wanted: Wanted) -> None:
    if wanted.part not in PARTS:
        raise SettingError(f"split={wanted.part!r} must be one of {', '.join(PARTS)}")
    if wanted.limit is not None and wanted.limit < 1:
        raise SettingError(f"limit={wanted.limit} must be at least 1; leave it out for all clips")
    if wanted.root is None and corpus_named(wanted.name).name != "planted":
        raise SettingError(f"root=None: say where corpus={wanted.name!r} lies, with --root DIR")


def _stored(trained: Mapping[str, Any]) -> Protocol:
    return Protocol.from_dict({key: value for key, value in trained.items() if key not in NOT_OF_A_PROTOCOL})


def _strangers(trained: Mapping[str, Any], protocol: Protocol, digest: str) -> str:
    """Speakers are known by name; what is divided clip by clip may be divided otherwise than it was."""
    if protocol.unit == "speaker" or trained.get("digest") in (None, digest):
        return ""
    return (
        f"These clips are not divided as those that the model was trained on were ({protocol.name}): it may "
        "have been trained on some of them. Give the root and the options of the training."
    )


def _limited(
    wanted: Wanted, clips: Sequence[Clip], chosen: Sequence[Clip], words: str, warning: str = ""
) -> Chosen:
    if wanted.limit is not None and wanted.limit < len(chosen):
        words = f"{wanted.limit} of {words}"
        num_labels = len({clip.label for clip in chosen})
        generator = np.random.default_rng(wanted.seed)
        chosen = draw_stratified(chosen, max(wanted.limit, num_labels), generator)[: wanted.limit]
    place = {_where(clip): position for position, clip in enumerate(clips)}
    positions = tuple(sorted({place[_where(clip)] for clip in chosen}))  # what is listed twice counts once
    return Chosen(tuple(clips), positions, words, warning)


def _where(clip: Clip) -> tuple[Path, float | None, float | None]:
    return clip.path, clip.start_s, clip.end_s
