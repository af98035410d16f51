"""Protocols: folds by speaker or clip, official splits, and the folds in common use for named corpora."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.corpora.splits import Fold, Protocol, stable_hash
from wavshap_lightning.errors import CorpusError

DEFAULT_FOLDS = 5
RANDOM_CLIPS = 'protocol="random-clips" and accept scores that are too high'


def speaker_folds(name: str, corpus: str, groups_of_speakers: Sequence[Sequence[str]]) -> Protocol:
    """Folds over groups of speakers: fold k tests on group k, validates on the next and trains on the rest.

    Args:
        name: Name of the protocol.
        corpus: Name of the corpus.
        groups_of_speakers: At least three groups.

    Raises:
        CorpusError: If there are fewer than three groups, one is empty, or a speaker is in two.

    >>> speaker_folds("demo", "toy", [["ann"], ["bob", "cat"], ["dan"]]).folds[2]
    Fold(name='fold-2', train=('bob', 'cat'), validation=('ann',), test=('dan',))
    """
    groups = [tuple(group) for group in groups_of_speakers]
    counts = Counter(chain.from_iterable(groups))
    repeated = sorted(speaker for speaker, count in counts.items() if count > 1)
    if len(groups) < 3 or not all(groups) or repeated:
        raise CorpusError(
            f"protocol={name!r}: groups_of_speakers={groups} must be at least three groups, none empty, "
            f"no speaker in two of them (repeated={repeated}); use fewer folds or more speakers"
        )
    return Protocol(name, corpus, _cyclic_folds(groups))


def balanced_speaker_folds(
    clips: Sequence[Clip], *, num_folds: int = DEFAULT_FOLDS, seed: int = 0, name: str | None = None
) -> Protocol:
    """Speaker folds with nearly equal numbers of clips.

    The speakers with most clips are placed first, each into the group that has the fewest clips so
    far; the seed decides between equals. The order of the clips does not matter.

    Args:
        clips: The clips to divide.
        num_folds: At least 3, at most the number of speakers.
        seed: Random seed.
        name: Name of the protocol; from corpus and number of folds if None.

    Raises:
        CorpusError: If a clip has no speaker, or there are fewer speakers than folds or than three.
    """
    counts, corpus = _count_speakers(clips, at_least=3), _corpus_of(clips)
    if not 3 <= num_folds <= len(counts):
        raise CorpusError(
            f"num_folds={num_folds} must be at least 3 and at most the number of speakers, {len(counts)}, of "
            f"corpus={corpus!r}; change it, or choose another protocol"
        )
    groups: list[list[str]] = [[] for _ in range(num_folds)]
    sizes = [0] * num_folds
    for speaker in sorted(counts, key=lambda who: (-counts[who], stable_hash(seed, who), who)):
        lightest = min(range(num_folds), key=lambda index: (sizes[index], len(groups[index])))
        groups[lightest].append(speaker)
        sizes[lightest] += counts[speaker]
    return speaker_folds(
        name or f"{corpus}-{num_folds}-balanced-folds", corpus, [sorted(group) for group in groups]
    )


def leave_one_speaker_out(clips: Sequence[Clip]) -> Protocol:
    """One fold per speaker, who is tested; the next speaker validates.

    Raises:
        CorpusError: If a clip has no speaker or there are fewer than three speakers.
    """
    speakers, corpus = sorted(_count_speakers(clips, at_least=3)), _corpus_of(clips)
    return speaker_folds(f"{corpus}-leave-one-speaker-out", corpus, [[who] for who in speakers])


def two_speaker_folds(clips: Sequence[Clip], *, seed: int = 0) -> Protocol:
    """Two folds for a corpus of two speakers: train on one, test on the other, validate on held-out texts.

    Args:
        clips: The clips to divide.
        seed: Decides the texts.

    Raises:
        CorpusError: If a clip has no speaker, there are not exactly two, or their texts cannot be held out.
    """
    speakers, corpus = sorted(_count_speakers(clips, at_least=2)), _corpus_of(clips)
    if len(speakers) != 2:
        raise CorpusError(f"corpus={corpus!r}: speakers={speakers} must be exactly two; use speaker folds")
    folds = tuple(
        Fold(f"test-{test}", (train,), (train,), (test,)) for train, test in (speakers, speakers[::-1])
    )
    protocol = Protocol(f"{corpus}-2-speakers", corpus, folds, shared_validation=True, seed=seed)
    for index in range(len(folds)):
        protocol.split(clips, index)  # so that unsuitable texts are refused here, not in fold 1
    return protocol


def official_split(clips: Sequence[Clip]) -> Protocol:
    """The one fold that the corpus itself gives: each clip's own `split`.

    Raises:
        CorpusError: If a clip has no split.
    """
    corpus = _corpus_of(clips)
    homeless = [clip.path for clip in clips if not clip.split]
    if homeless:
        raise CorpusError(
            f"corpus={corpus!r}: {len(homeless)} of {len(clips)} clips have no split, the first is "
            f"path={homeless[0]}; give each one of {', '.join(SPLITS)}, or use folds by speaker"
        )
    train, validation, test = ((name,) for name in SPLITS)
    return Protocol(f"{corpus}-official", corpus, (Fold("official", train, validation, test),), unit="split")


def random_clip_folds(clips: Sequence[Clip], *, num_folds: int = DEFAULT_FOLDS, seed: int = 0) -> Protocol:
    """Folds over single clips, for corpora whose speakers are unknown. Scores come out too high.

    A clip's bucket is a hash of the seed, its corpus, the last two parts of its path and its span: it
    depends neither on the other clips nor on where the corpus is kept.

    Args:
        clips: The clips to divide.
        num_folds: At least 3.
        seed: Random seed.

    Raises:
        CorpusError: If there are fewer than three folds.
    """
    if num_folds < 3:
        raise CorpusError(f"num_folds={num_folds} must be at least 3: one tests, one validates, one trains")
    corpus, buckets = _corpus_of(clips), [(f"bucket-{index}",) for index in range(num_folds)]
    name = f"{corpus}-{num_folds}-random-folds-not-speaker-independent"
    return Protocol(name, corpus, _cyclic_folds(buckets), unit="clip", seed=seed)


def default_protocol(clips: Sequence[Clip]) -> Protocol:
    """The most careful protocol that the clips allow.

    The official split where every clip has one, else folds by speaker where every clip has one.

    Raises:
        CorpusError: If some clips have neither.
    """
    if clips and all(clip.split for clip in clips):
        return official_split(clips)
    num_speakers = len(_count_speakers(clips, at_least=1))
    if num_speakers == 2:
        return two_speaker_folds(clips)
    return balanced_speaker_folds(clips, num_folds=min(DEFAULT_FOLDS, num_speakers))


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
        num_folds: Number of folds where the protocol leaves it open.
        seed: Random seed where the protocol draws.

    Raises:
        CorpusError: If the name is unknown or the clips do not allow the protocol.
    """
    if name not in PROTOCOLS:
        raise CorpusError(f"protocol={name!r} must be one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name](clips, num_folds, seed)


def _cyclic_folds(groups: Sequence[tuple[str, ...]]) -> tuple[Fold, ...]:
    folds: list[Fold] = []
    for index, group in enumerate(groups):
        following = (index + 1) % len(groups)
        rest = (other for place, other in enumerate(groups) if place not in {index, following})
        folds.append(Fold(f"fold-{index}", tuple(chain.from_iterable(rest)), groups[following], group))
    return tuple(folds)


def _count_speakers(clips: Sequence[Clip], *, at_least: int) -> Counter[str]:
    unknown = [clip.path for clip in clips if not clip.speaker]
    if unknown:
        raise CorpusError(
            f"{len(unknown)} of {len(clips)} clips have no speaker, the first is path={unknown[0]}, so "
            "splits may share speakers unnoticed. Name every clip's speaker (a manifest's column speaker, or "
            f"speaker_pattern), or choose {RANDOM_CLIPS}"
        )
    counts = Counter(clip.speaker for clip in clips)
    if len(counts) < at_least:
        two = 'protocol="two-speakers" or ' if len(counts) == 2 else ""
        raise CorpusError(
            f"corpus={_corpus_of(clips)!r}: speakers={sorted(counts)} are {len(counts)}, and this split by "
            f"speaker needs at least {at_least}; add speakers, or choose {two}{RANDOM_CLIPS}"
        )
    return counts


def _corpus_of(clips: Sequence[Clip]) -> str:
    return "+".join(sorted({clip.corpus for clip in clips if clip.corpus})) or "unnamed"


# In common use

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
