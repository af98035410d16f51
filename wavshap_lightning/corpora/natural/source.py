"""The recordings that cues are planted in: which, whose, in which part, and which label each is to get."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from wavshap_lightning.audio.io import hash_audio_file
from wavshap_lightning.corpora.catalogue import load_corpus
from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.corpora.made import part_of
from wavshap_lightning.corpora.splits import stable_hash
from wavshap_lightning.errors import AudioError, CorpusError

FEWEST_SPEAKERS = 3


@dataclass(frozen=True, slots=True)
class Source:
    """Recordings of real speech.

    Args:
        clips: The recordings; what they are labelled says nothing about what is planted.
        sha256: Hash of what is known of them and of every file, to know them again.
    """

    clips: tuple[Clip, ...]
    sha256: str


def open_source(
    name: str,
    root: Path | str,
    *,
    options: Mapping[str, Any],
    labels: Sequence[str] | None = None,
    clips_per_speaker: int | None = None,
    seed: int = 0,
) -> Source:
    """The recordings of a corpus that cues are to be planted in.

    Args:
        name: Of the corpus, as in `CORPORA`.
        root: Where it lies.
        options: Of the corpus.
        labels: Which of its classes; all if None.
        clips_per_speaker: At most so many of each speaker, drawn; all if None.
        seed: Decides which.

    Raises:
        CorpusError: If the corpus is not there, one of the classes is not in it, or it has too few speakers.
        SettingError: If an option does not fit.
    """
    clips = _select(load_corpus(name, root, **dict(options)), name, labels)
    check_speakers(clips, f"source={name!r}")
    if clips_per_speaker is not None:
        clips = _draw(clips, clips_per_speaker, seed)
    return Source(tuple(clips), _hash(clips))


def check_speakers(clips: Sequence[Clip], what: str) -> None:
    """Raise CorpusError unless every clip has a speaker and there are three or more."""
    unknown = [clip for clip in clips if not clip.speaker]
    if unknown:
        raise CorpusError(
            f"{what}: {len(unknown)} of {len(clips)} recordings have no speaker, the first is "
            f"path={unknown[0].path}. Parts must not share speakers: name them, in a manifest's column "
            "speaker or by source_options with a speaker_pattern"
        )
    speakers = sorted({clip.speaker for clip in clips})
    if len(speakers) < FEWEST_SPEAKERS:
        raise CorpusError(
            f"{what}: speakers={speakers} must be at least {FEWEST_SPEAKERS}, one to train, one to validate "
            "and one to test; add recordings of others"
        )


def part_of_speaker(clips: Sequence[Clip], seed: int) -> dict[str, str]:
    """The part of each speaker: the corpus's own where it keeps speakers apart, else drawn by seed."""
    own = {clip.speaker: clip.split for clip in clips}
    if all(own[clip.speaker] == clip.split for clip in clips) and set(own.values()) == set(SPLITS):
        return {speaker: str(part) for speaker, part in own.items()}
    drawn = sorted(own, key=lambda speaker: (stable_hash(seed, "part", speaker), speaker))
    return {speaker: part_of(index, len(drawn)) for index, speaker in enumerate(drawn)}


def draw_labels(clips: Sequence[Clip], labels: Sequence[str], seed: int) -> list[str]:
    """A label to plant for each clip, which neither the speaker nor the clip's own label says anything about.

    Permuted blocks (Pocock 1983, chapter 5), speaker by speaker, clips of one label after another: every
    label comes equally often with every speaker, give or take one, and with every label of the
    recordings, give or take what is left of blocks.
    """
    drawn = [""] * len(clips)
    for speaker in sorted({clip.speaker for clip in clips}):
        generator = np.random.default_rng(stable_hash(seed, "labels", speaker))
        own = [index for index, clip in enumerate(clips) if clip.speaker == speaker]
        shuffled = sorted(generator.permutation(own).tolist(), key=lambda index: clips[index].label)
        for place, index in enumerate(shuffled):
            if place % len(labels) == 0:
                block = generator.permutation(len(labels))
            drawn[index] = labels[block[place % len(labels)]]
    return drawn


def _select(clips: Sequence[Clip], name: str, labels: Sequence[str] | None) -> list[Clip]:
    if labels is None:
        return list(clips)
    found = Counter(clip.label for clip in clips)
    missing = [label for label in labels if label not in found]
    if missing or not labels:
        raise CorpusError(
            f"source_labels={list(labels)} must name classes of source={name!r}: missing={missing}, found "
            f"{', '.join(sorted(found))}; leave it out for all"
        )
    return [clip for clip in clips if clip.label in labels]


def _draw(clips: Sequence[Clip], clips_per_speaker: int, seed: int) -> list[Clip]:
    """As many of each speaker, in the order given; which, does not depend on the other speakers."""
    rank = [stable_hash(seed, "choice", clip.speaker, clip.label, *clip.key) for clip in clips]
    chosen: set[int] = set()
    for speaker in {clip.speaker for clip in clips}:
        own = [index for index, clip in enumerate(clips) if clip.speaker == speaker]
        chosen.update(sorted(own, key=lambda index: (rank[index], index))[:clips_per_speaker])
    return [clip for index, clip in enumerate(clips) if index in chosen]


def _hash(clips: Sequence[Clip]) -> str:
    hashes, of_file = sha256(), {}
    for clip in clips:
        path = clip.path.absolute()
        if path not in of_file:
            of_file[path] = _hash_file(path)
        known = [str(path), clip.label, clip.speaker, clip.split, clip.start_s, clip.end_s, clip.text]
        hashes.update(json.dumps([*known, of_file[path]]).encode())
    return hashes.hexdigest()


def _hash_file(path: Path) -> str | None:
    try:
        return hash_audio_file(path)
    except AudioError:  # it is left out and said to be so when it is read
        return None
