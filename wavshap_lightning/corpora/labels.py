"""Labels: one name for each emotion, ways to rename, merge, drop and select them, and stratified subsets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from wavshap_lightning.corpora.clip import Clip, normalized
from wavshap_lightning.errors import CorpusError, SettingError

OTHER = "other"
NO_AGREEMENT = "no-agreement"
UNLABELED = "unlabeled"

NoAgreement = Literal["drop", "soft", "other"]

EMOTIONS: Mapping[str, tuple[str, ...]] = {
    "neutral": ("neu", "neutral state"),
    "calm": (),
    "happy": ("hap", "happiness", "joy"),
    "sad": ("sadness",),
    "angry": ("ang", "anger"),
    "fearful": ("fea", "fear"),
    "disgust": ("dis",),
    "surprised": ("sur", "surprise", "ps"),
    "bored": (),
    "contempt": (),
    "excited": ("exc", "excitement"),
    "frustrated": ("fru", "frustration"),
    "anxious": (),
    "apologetic": (),
    "assertive": (),
    "concerned": (),
    "encouraging": (),
    OTHER: ("oth",),
    NO_AGREEMENT: ("xxx",),
}
"""Names that every corpus here uses, in the order in which classes are listed, and other names for each."""


_EMOTION_OF = {name: emotion for emotion, others in EMOTIONS.items() for name in (emotion, *others)}


def emotion_by_name(*names: str) -> dict[str, str]:
    """The emotion for each label name of a corpus.

    >>> emotion_by_name("anger", "calm")
    {'anger': 'angry', 'calm': 'calm'}
    """
    return {name: _EMOTION_OF[name] for name in names}


def count_votes(words: Iterable[str]) -> tuple[tuple[str, float], ...]:
    """Votes of annotators who wrote a word each: emotions by their names here, other words as they are.

    >>> count_votes(["Neutral state", "Happiness", "happy ", "Other-Amused", "Annoyed", ""])
    (('annoyed', 1.0), ('happy', 2.0), ('neutral', 1.0), ('other', 1.0))
    """
    plain = [normalized(word).lower() for word in words]
    names = (OTHER if word.startswith(OTHER) else _EMOTION_OF.get(word, word) for word in plain if word)
    return tuple((name, float(count)) for name, count in sorted(Counter(names).items()))


def majority_label(votes: Iterable[tuple[str, float]]) -> str:
    """The label with most votes; `NO_AGREEMENT` if several have as many, `UNLABELED` without any vote.

    >>> majority_label([("sad", 3.0), ("angry", 2.0)]), majority_label([("sad", 1.0), ("angry", 1.0)])
    ('sad', 'no-agreement')
    """
    counts = {label: count for label, count in votes if count > 0.0}
    first = [label for label, count in counts.items() if count == max(counts.values())]
    return UNLABELED if not first else first[0] if len(first) == 1 else NO_AGREEMENT


def emotions_among(label_of_code: Mapping[str, str]) -> dict[str, str | None]:
    """The label map that keeps the labels of a corpus, except those that name no emotion."""
    return {label: None if label in {OTHER, NO_AGREEMENT} else label for label in label_of_code.values()}


def agreed_label_map(
    label_map: Mapping[Any, str | int | None] | None, labels: Iterable[str], no_agreement: NoAgreement
) -> dict[Any, str | int | None]:
    """The label map that says too what becomes of clips on whose label the annotators did not agree.

    Args:
        label_map: New name of each label, or None to leave its clips out; None as a whole keeps labels.
        labels: The labels that occur.
        no_agreement: `drop` leaves these clips out, unless the map names them; `soft` keeps them, with their
            votes and without a class; with `other` they join the class "other".

    >>> agreed_label_map({"other": None, "no-agreement": None}, (), "other")
    {'other': 'other', 'no-agreement': 'other'}
    """
    new_names = {label: label for label in labels} | {NO_AGREEMENT: None} if label_map is None else label_map
    kept = {"drop": (), "soft": (NO_AGREEMENT,), "other": (OTHER, NO_AGREEMENT)}[no_agreement]
    joined = new_names.get(OTHER) or OTHER
    return {**new_names, **{label: joined if no_agreement == "other" else label for label in kept}}


def apply_label_map(clips: Sequence[Clip], label_map: Mapping[Any, str | int | None]) -> list[Clip]:
    """Rename and drop labels, and rename those of votes, keeping the order of the clips.

    Votes for labels with one new name are added up; those for labels that are left out keep their name.

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

    def renamed(votes: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
        counts: dict[str, float] = {}
        for label, count in votes:
            name = label if new_names.get(label) is None else str(new_names[label])
            counts[name] = counts.get(name, 0.0) + count
        return tuple(counts.items())

    kept = ((clip, new_names[clip.label]) for clip in clips)
    return [replace(clip, label=str(new), votes=renamed(clip.votes)) for clip, new in kept if new is not None]


def select_labels(
    clips: Sequence[Clip],
    labels: Sequence[str | int],
    *,
    option: str = "labels",
    must_occur: bool = True,
    besides: Iterable[str] = (),
) -> list[Clip]:
    """The clips of the given classes, in the order given.

    Args:
        clips: Labeled clips.
        labels: The classes to keep.
        option: Name of the user's option, for the error message.
        must_occur: Whether every class needs a clip.
        besides: Labels that are no classes, and are kept where they occur.

    Raises:
        CorpusError: If `labels` is empty or repeats a class, or a class that needs a clip has none.
    """
    names = [normalized(str(label)) for label in labels]
    found = Counter(clip.label for clip in clips)
    missing = [name for name in names if must_occur and name not in found]
    if missing or not names or len(set(names)) < len(names):
        occurring = f"of those that occur; missing={missing}, found {_described(found)}"
        raise CorpusError(f"{option}={names} must name each wanted class once, {occurring}")
    wanted = frozenset((*names, *besides))
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
