"""Protocols: those in common use for named corpora, and those that any corpus can ask for by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.folds import (
    balanced_speaker_folds,
    leave_one_speaker_out,
    official_split,
    random_clip_folds,
    speaker_folds,
    two_speaker_folds,
)
from wavshap_lightning.corpora.splits import Protocol
from wavshap_lightning.errors import CorpusError

DEFAULT_FOLDS = 5

RAVDESS_6_FOLDS = speaker_folds(
    "ravdess-6-folds",
    "ravdess",
    [
        ["01", "11", "20", "21"],
        ["04", "10", "12", "14"],
        ["08", "09", "19", "23"],
        ["03", "05", "07", "24"],
        ["02", "15", "16", "18"],
        ["06", "13", "17", "22"],
    ],
)

IEMOCAP_5_SESSIONS = speaker_folds(
    "iemocap-5-sessions",
    "iemocap",
    [[f"Ses0{session}F", f"Ses0{session}M"] for session in range(1, 6)],
)

# Two speakers of Mandarin and two of English each, so that the same folds serve either language.
ESD_5_FOLDS = speaker_folds(
    "esd-5-folds",
    "esd",
    [[f"{first + offset:04d}" for offset in (0, 1, 10, 11)] for first in range(1, 10, 2)],
)


def default_protocol(clips: Sequence[Clip]) -> Protocol:
    """The most careful protocol that the clips allow.

    The official split where every clip has one, else folds by speaker where every clip has one.

    Raises:
        CorpusError: If some clips have neither.
    """
    if clips and all(clip.split for clip in clips):
        return official_split(clips)
    unknown = sum(not clip.speaker for clip in clips)
    if unknown or not clips:
        raise CorpusError(
            f"{unknown} of {len(clips)} clips have no speaker, so nobody can tell whether a split keeps "
            "speakers apart. Name the speakers (a manifest's column speaker, or speaker_pattern), or "
            'choose protocol="random-clips" and accept scores that are too high'
        )
    num_speakers = len({clip.speaker for clip in clips})
    if num_speakers == 2:
        return two_speaker_folds(clips)
    return balanced_speaker_folds(clips, num_folds=min(DEFAULT_FOLDS, num_speakers), seed=0)


PROTOCOLS: Mapping[str, Callable[[Sequence[Clip], int, int], Protocol]] = {
    "official": lambda clips, _folds, _seed: official_split(clips),
    "balanced-speakers": lambda clips, folds, seed: balanced_speaker_folds(clips, num_folds=folds, seed=seed),
    "leave-one-speaker-out": lambda clips, _folds, _seed: leave_one_speaker_out(clips),
    "two-speakers": lambda clips, _folds, seed: two_speaker_folds(clips, seed=seed),
    "random-clips": lambda clips, folds, seed: random_clip_folds(clips, num_folds=folds, seed=seed),
}


def build_protocol(
    name: str, clips: Sequence[Clip], *, num_folds: int = DEFAULT_FOLDS, seed: int = 0
) -> Protocol:
    """The protocol that a configuration asks for by name, made for these clips.

    Args:
        name: One of `PROTOCOLS`, whatever the corpus.
        clips: The clips to divide.
        num_folds: Where the protocol leaves it open.
        seed: Where the protocol draws.

    Raises:
        CorpusError: If the name is unknown or the clips do not allow the protocol.
    """
    if name not in PROTOCOLS:
        raise CorpusError(f"protocol={name!r} must be one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name](clips, num_folds, seed)
