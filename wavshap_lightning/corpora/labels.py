"""Labels: one name for each emotion, ways to rename, merge, drop and select them, and stratified subsets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from wavshap_lightning.corpora.clip import Clip, normalized
from wavshap_lightning.errors import CorpusError, SettingError

OTHER = "other"
NO_AGREEMENT = "no-agreement"
UNLABELED = "unlabeled"

EMOTIONS: Mapping[str, tuple[str, ...]] = {
    "neutral": ("neu",),
    "calm": (),
    "happy": ("hap", "joy"),
    "sad": ("sadness",),
    "angry": ("ang", "anger"),
    "fearful": ("fea", "fear"),
    "disgust": ("dis",),
    "surprised": ("sur", "surprise", "ps"),
    "bored": (),
    "contempt": (),
    "excited": ("exc",),
    "frustrated": ("fru",),
    "anxious": (),
    "apologetic": (),
    "assertive": (),
    "concerned": (),
    "encouraging": (),
    OTHER: ("oth",),
    NO_AGREEMENT: ("xxx",),
}
"""Names that every corpus here uses, in the order in which classes are listed, and other names for each."""


def emotion_by_name(*names: str) -> dict[str, str]:
    """The emotion for each label name of a corpus.

    >>> emotion_by_name("anger", "calm")
    {'anger': 'angry', 'calm': 'calm'}
    """
    known = {name: emotion for emotion, others in EMOTIONS.items() for name in (emotion, *others)}
    return {name: known[name] for name in names}


def majority_label(votes: Iterable[tuple[str, float]]) -> str:
    """The label with most votes; `NO_AGREEMENT` if several have as many, `UNLABELED` without any vote.

    >>> majority_label([("sad", 3), ("angry", 2)]), majority_label([("sad", 1), ("angry", 1)])
    ('sad', 'no-agreement')
    """
    counts = {label: count for label, count in votes if count > 0.0}
    first = [label for label, count in counts.items() if count == max(counts.values())]
    return UNLABELED if not first else first[0] if len(first) == 1 else NO_AGREEMENT


def emotions_among(label_of_code: Mapping[str, str]) -> dict[str, str | None]:
    """The label map that keeps the labels of a corpus, except those that name no emotion."""
    return {label: None if label in {OTHER, NO_AGREEMENT} else label for label in label_of_code.values()}


def apply_label_map(clips: Sequence[Clip], label_map: Mapping[Any, str | int | None]) -> list[Clip]:
    """Rename and drop labels, keeping the order of the clips.

    Args:
        clips: Labeled clips.
        label_map: New name of every label that occurs. None leaves its clips out on purpose; two labels
            with one new name become one class. Labels may be written as numbers.

    Raises:
        CorpusError: If a label occurs that the map lacks.

    >>> from pathlib import Path
    >>> clips = [Clip(Path("a.wav"), "excited"), Clip(Path("b.wav"), "other")]
    >>> [clip.label for clip in apply_label_map(clips, {"excited": "happy", "other": None})]
    ['happy']
    """
    new_names = {normalized(str(label)): new for label, new in label_map.items()}
    found = Counter(clip.label for clip in clips)
    missing = sorted(found.keys() - new_names.keys())
    if missing:
        remedy = "map each to its new name, or to null to leave its clips out"
        raise CorpusError(f"label_map lacks labels={missing}; found {_described(found)}; {remedy}")
    renamed = ((clip, new_names[clip.label]) for clip in clips)
    return [replace(clip, label=str(label)) for clip, label in renamed if label is not None]


def select_labels(
    clips: Sequence[Clip], labels: Sequence[str | int], *, option: str = "labels", must_occur: bool = True
) -> list[Clip]:
    """The clips of the given classes, in the order given.

    Args:
        clips: Labeled clips.
        labels: The classes to keep.
        option: Name of the user's option, for the error message.
        must_occur: Whether every class needs a clip.

    Raises:
        CorpusError: If `labels` is empty or repeats a class, or a class that needs a clip has none.
    """
    names = [normalized(str(label)) for label in labels]
    found = Counter(clip.label for clip in clips)
    missing = [name for name in names if must_occur and name not in found]
    if missing or not names or len(set(names)) < len(names):
        occurring = f"of those that occur; missing={missing}, found {_described(found)}"
        raise CorpusError(f"{option}={names} must name each wanted class once, {occurring}")
    wanted = frozenset(names)
    return [clip for clip in clips if clip.label in wanted]


def ordered_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels: emotions in the order of `EMOTIONS`, then other names in alphabetical order.

    >>> ordered_labels(["tremor", "sad", "neutral", "sad"])
    ('neutral', 'sad', 'tremor')
    """
    rank = {label: index for index, label in enumerate(EMOTIONS)}
    return tuple(sorted(set(labels), key=lambda label: (rank.get(label, len(rank)), label)))


def _described(found: Counter[str]) -> str:
    return ", ".join(f"{label} ({count})" for label, count in sorted(found.items())) or "no clip at all"


def draw_stratified(clips: Sequence[Clip], num_clips: int, generator: np.random.Generator) -> list[Clip]:
    """A random subset of the clips, in the given order, with classes in proportion (see `allocate`).

    Args:
        clips: Labeled clips.
        num_clips: Size of the subset; all clips if there are fewer.
        generator: Source of randomness.

    Raises:
        SettingError: If `num_clips` is below the number of classes, or below one.
    """
    sizes = Counter(clip.label for clip in clips)
    if num_clips < max(1, len(sizes)):
        raise SettingError(
            f"max_samples={num_clips} must be at least 1, and at least the number of classes, {len(sizes)}"
        )
    if num_clips >= len(clips):
        return list(clips)
    chosen: set[int] = set()
    for label, quota in allocate(sizes, num_clips).items():
        members = [index for index, clip in enumerate(clips) if clip.label == label]
        chosen.update(generator.choice(members, size=quota, replace=False).tolist())
    return [clip for index, clip in enumerate(clips) if index in chosen]


def allocate(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Divide a total among classes: one each, the rest in proportion to size, by largest remainders.

    Args:
        sizes: Number of clips of each class, at least 1.
        total: Number of clips to take, from the number of classes to the sum of `sizes`.

    Returns:
        Number of clips to take from each class, in alphabetical order; they sum to `total`.

    >>> allocate({"happy": 90, "sad": 9, "neutral": 1}, 10)
    {'happy': 7, 'neutral': 1, 'sad': 2}
    """
    labels = sorted(sizes)
    free, spare = total - len(labels), sum(sizes.values()) - len(labels)
    shares = {label: divmod(free * (sizes[label] - 1), max(1, spare)) for label in labels}
    quotas = {label: 1 + whole for label, (whole, _) in shares.items()}
    leftover = total - sum(quotas.values())
    for label in sorted(labels, key=lambda name: (-shares[name][1], name))[:leftover]:
        quotas[label] += 1
    return quotas
