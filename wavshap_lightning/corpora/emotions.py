"""Emotions: one name for each, and the explicit ways to rename, merge, drop and select labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import CorpusError

OTHER = "other"
NO_AGREEMENT = "no-agreement"

EMOTIONS = (
    "neutral",
    "calm",
    "happy",
    "sad",
    "angry",
    "fearful",
    "disgust",
    "surprised",
    "bored",
    "contempt",
    "excited",
    "frustrated",
    "anxious",
    "apologetic",
    "assertive",
    "concerned",
    "encouraging",
    OTHER,
    NO_AGREEMENT,
)
"""The names that every parser here uses, in the order in which classes are listed."""


def apply_label_map(clips: Sequence[Clip], label_map: Mapping[str, str | None]) -> list[Clip]:
    """The clips under the names of a label map, in the order given.

    Args:
        clips: Labelled clips.
        label_map: New name of every label that occurs. None leaves its clips out on purpose; two labels
            with one new name become one class.

    Raises:
        CorpusError: If a label occurs that the map lacks.

    >>> from pathlib import Path
    >>> clips = [Clip(Path("a.wav"), "excited"), Clip(Path("b.wav"), "other")]
    >>> [clip.label for clip in apply_label_map(clips, {"excited": "happy", "other": None})]
    ['happy']
    """
    found = Counter(clip.label for clip in clips)
    missing = sorted(set(found) - set(label_map))
    if missing:
        raise CorpusError(
            f"label_map lacks labels={missing}; found {_described(found)}. Map each to its new name, or to "
            "null to leave its clips out"
        )
    renamed = ((clip, label_map[clip.label]) for clip in clips)
    return [replace(clip, label=label) for clip, label in renamed if label is not None]


def select_labels(clips: Sequence[Clip], labels: Sequence[str]) -> list[Clip]:
    """The clips of the given classes, in the order given.

    Raises:
        CorpusError: If `labels` is empty or repeats a class, or a class has no clip.
    """
    found = Counter(clip.label for clip in clips)
    missing = [label for label in labels if label not in found]
    if missing or not labels or len(set(labels)) < len(labels):
        raise CorpusError(
            f"labels={list(labels)} must name each wanted class once, and each must occur: "
            f"missing={missing}, found {_described(found)}"
        )
    wanted = frozenset(labels)
    return [clip for clip in clips if clip.label in wanted]


def ordered_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Each label once: emotions in the order of `EMOTIONS`, then other names by alphabet.

    >>> ordered_labels(["tremor", "sad", "neutral", "sad"])
    ('neutral', 'sad', 'tremor')
    """
    rank = {label: index for index, label in enumerate(EMOTIONS)}
    return tuple(sorted(set(labels), key=lambda label: (rank.get(label, len(rank)), label)))


def _described(found: Counter[str]) -> str:
    return ", ".join(f"{label} ({count})" for label, count in sorted(found.items())) or "no clip at all"
