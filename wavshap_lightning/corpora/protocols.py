"""Protocols: folds of a corpus by speaker, clip or official split, with a name and a hash."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import chain, permutations
from typing import Any

from wavshap_lightning.corpora.clip import SPLITS, Clip, normalized
from wavshap_lightning.errors import CorpusError

UNITS = ("speaker", "split", "clip")
DEFAULT_FOLDS = 5
RANDOM_CLIPS = 'protocol="random-clips" and accept scores that are too high'

# Where only two speakers exist, this share of the training speaker's texts is for validation.
SHARED_VALIDATION_SHARE = 0.1


Split = Mapping[str, tuple[Clip, ...]]
"""Clips of one fold by the name of their split (`train`, `validation`, `test`), no clip in two."""


def split_digest(split: Split) -> str:
    """SHA-256 of the membership of clips, in hexadecimal: equal digests, equal splits.

    A clip counts by its corpus, the last two parts of its path and its span, so that neither their
    order nor the folder above matters.
    """
    members = sorted([name, *clip.key] for name, clips in split.items() for clip in clips)
    return sha256(json.dumps(members).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Fold:
    """Assignment of groups (speakers, official splits or buckets of clips) to splits.

    Args:
        name: Name in tables and folders.
        train: Training groups.
        validation: Validation groups, which choose the checkpoint; empty to choose none.
        test: Test groups.
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Protocol:
    """Rule by which a corpus is split: named, hashed and stored with every checkpoint and report.

    Args:
        name: For example `"ravdess-6-folds"`.
        corpus: The corpus it was made for.
        folds: At least one fold.
        unit: Kind of group: a `"speaker"`, an official `"split"`, or a bucket of single `"clip"`s.
        shared_validation: Whether the validation set consists of some texts of the training speakers, because
            there are too few speakers. Each fold then has the same groups in `train` and `validation`.
        seed: Random seed of the buckets of clips, and of the texts of a shared validation set.

    Raises:
        CorpusError: If there is no fold, a group is in two splits of a fold, or the unit is unknown.
    """

    name: str
    corpus: str
    folds: tuple[Fold, ...]
    unit: str = "speaker"
    shared_validation: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise CorpusError(f"unit={self.unit!r} must be one of {', '.join(UNITS)}")
        if not self.folds:
            raise CorpusError(f"protocol={self.name!r}: folds=() is empty; give it at least one fold")
        for fold in self.folds:
            self._check_groups(fold)

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of all fields, in hexadecimal; equal hashes mean equal rules.

        An equal rule splits equal clips equally. If the rule depends on the clips (on their official `split`,
        or clip by clip), other clips give another split: see `split_digest`.
        """
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return sha256(canonical.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Every field in plain JSON types; `from_dict` turns it back."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples become lists
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Protocol:
        """Protocol from the fields of `to_dict`.

        Args:
            fields: Fields of the protocol; a `"hash"` among them is checked.

        Raises:
            CorpusError: If a field is missing or unknown, or the hash differs.
        """
        plain = {key: value for key, value in fields.items() if key != "hash"}
        try:
            folds = [
                Fold(str(fold["name"]), *(tuple(map(str, fold[name])) for name in SPLITS))
                for fold in plain.pop("folds")
            ]
            protocol = cls(folds=tuple(folds), **plain)
        except (KeyError, TypeError, AttributeError) as error:
            raise CorpusError(f"protocol={dict(fields)}: not a stored protocol ({error!r})") from error
        if fields.get("hash", protocol.hash) != protocol.hash:
            edited = "is not that of its fields, so that it was edited by hand; make it again"
            raise CorpusError(f"protocol={protocol.name!r}: hash={fields['hash']!r} {edited}")
        return protocol

    def without_validation(self) -> Protocol:
        """The same folds with the validation groups added to the training groups.

        >>> fold = Fold("fold-0", train=("cat",), validation=("bob",), test=("ann",))
        >>> Protocol("demo", "toy", (fold,)).without_validation().folds[0]
        Fold(name='fold-0', train=('cat', 'bob'), validation=(), test=('ann',))
        """
        folds = tuple(
            replace(fold, train=tuple(dict.fromkeys(fold.train + fold.validation)), validation=())
            for fold in self.folds
        )
        return replace(self, name=f"{self.name}-no-validation", folds=folds, shared_validation=False)

    def split(self, clips: Sequence[Clip], fold: int, *, needed: Collection[str] = SPLITS) -> Split:
        """The clips of one fold, each split in the order given.

        Args:
            clips: Clips whose groups the fold knows; the fold may know more groups than the clips have.
            fold: Index of the fold, from 0.
            needed: Splits that may not be empty where the fold has groups for them.

        Raises:
            CorpusError: If the fold is out of range, a clip belongs to no group of the fold, or a split
                that is needed ends up empty.
        """
        if not 0 <= fold < len(self.folds):
            raise CorpusError(f"fold={fold} must lie in 0..{len(self.folds) - 1} for protocol={self.name!r}")
        groups_of = asdict(self.folds[fold])  # older records have names that were not normalized
        chosen = Fold(groups_of["name"], *(tuple(map(normalized, groups_of[name])) for name in SPLITS))
        where = f"fold={chosen.name!r} of protocol={self.name!r}"
        split_of = {group: name for name in SPLITS for group in getattr(chosen, name)}
        groups = [self._group_of(clip, num_groups=len(split_of)) for clip in clips]
        strangers = [clip.path for clip, group in zip(clips, groups, strict=True) if group not in split_of]
        if strangers:
            others = f"{self.unit}s={sorted({*groups} - {*split_of})}, the first is path={strangers[0]}"
            found = f"{len(strangers)} of {len(clips)} clips have {others}, but it has {sorted(split_of)}"
            raise CorpusError(f"{where}: {found}; leave these clips out, or choose a protocol made for them")
        held_out = self._validation_texts(chosen, clips) if self.shared_validation else None
        split: dict[str, list[Clip]] = {name: [] for name in SPLITS}
        for clip, group in zip(clips, groups, strict=True):
            name = split_of[group]
            if name == "validation" and held_out is not None and clip.text not in held_out:
                name = "train"
            split[name].append(clip)
        for name, members in split.items():
            if name in needed and getattr(chosen, name) and not members:
                way_out = ", or validation=False to train without" if name == "validation" else ""
                reason = f"no clip belongs to its {self.unit}s={list(getattr(chosen, name))}"
                remedy = f"use more clips or another protocol{way_out}"
                raise CorpusError(f"{where}: {name} is empty, since {reason}; {remedy}")
        return {name: tuple(members) for name, members in split.items()}

    def _check_groups(self, fold: Fold) -> None:
        where = f"fold={fold.name!r} of protocol={self.name!r}"
        counts = Counter(fold.train + fold.test + (() if self.shared_validation else fold.validation))
        repeated = sorted(group for group, count in counts.items() if count > 1)
        if repeated:
            raise CorpusError(f"{where}: {self.unit}s={repeated} appear more than once; leave one of each")
        if self.shared_validation and set(fold.train) != set(fold.validation):
            raise CorpusError(f"{where}: shared_validation needs the same speakers in train and validation")

    def _group_of(self, clip: Clip, *, num_groups: int) -> str:
        if self.unit == "speaker":
            return clip.speaker
        if self.unit == "split":
            return clip.split or ""
        return f"bucket-{stable_hash(self.seed, *clip.key) % num_groups}"

    def _validation_texts(self, fold: Fold, clips: Sequence[Clip]) -> frozenset[str | None]:
        """Texts that are held out of the training speakers' clips for validation."""
        texts = {clip.text for clip in clips if clip.speaker in fold.train}
        if None in texts or len(texts) == 1:
            fault = "some clips have text=None" if None in texts else f"every clip has text={texts.pop()!r}"
            raise CorpusError(
                f"protocol={self.name!r}: shared_validation=True chooses validation clips by their text, "
                f"but {fault}, and at least two texts are needed. Give every clip its text (a manifest's "
                "column text, or a group (?P<text>...) in the pattern that reads the names), add a third "
                f"speaker, or choose {RANDOM_CLIPS}"
            )
        ranked = sorted(texts, key=lambda text: stable_hash(self.seed, str(text)))
        return frozenset(ranked[: max(1, round(SHARED_VALIDATION_SHARE * len(ranked)))])


def stable_hash(seed: int, *words: str) -> int:
    """A pseudo-random number of 64 bits, the same in every process and on every machine.

    >>> stable_hash(0, "ann") == stable_hash(0, "ann"), stable_hash(0, "ann") == stable_hash(1, "ann")
    (True, False)
    """
    return int.from_bytes(sha256(json.dumps([seed, *words]).encode()).digest()[:8], "big")


# Protocols of a kind, made for the clips at hand


def speaker_folds(name: str, corpus: str, speakers: Sequence[Sequence[str]]) -> Protocol:
    """Folds over groups of speakers: fold k tests on group k, validates on the next and trains on the rest.

    Args:
        name: Name of the protocol.
        corpus: Name of the corpus.
        speakers: At least three groups of speakers.

    Raises:
        CorpusError: If there are fewer than three groups, one is empty, or a speaker is in two.

    >>> speaker_folds("demo", "toy", [["ann"], ["bob", "cat"], ["dan"]]).folds[2]
    Fold(name='fold-2', train=('bob', 'cat'), validation=('ann',), test=('dan',))
    """
    groups = [tuple(group) for group in speakers]
    if len(groups) < 3 or not all(groups):
        raise CorpusError(f"protocol={name!r}: groups={groups} must be three groups or more, none empty")
    folds: list[Fold] = []
    for index, test in enumerate(groups):
        validation = groups[(index + 1) % len(groups)]
        train = chain.from_iterable(group for group in groups if group not in {test, validation})
        folds.append(Fold(f"fold-{index}", tuple(train), validation, test))
    return Protocol(name, corpus, tuple(folds))


def balanced_speaker_folds(
    clips: Sequence[Clip], *, num_folds: int = DEFAULT_FOLDS, seed: int = 0
) -> Protocol:
    """Speaker folds with nearly equal numbers of clips.

    The speakers with most clips are placed first, each into the group that has the fewest clips so
    far; the seed decides between equals. The order of the clips does not matter.

    Args:
        clips: The clips to divide.
        num_folds: At least 3, at most the number of speakers.
        seed: Random seed.

    Raises:
        CorpusError: If a clip has no speaker, or there are fewer speakers than folds or than three.
    """
    counts, corpus = _count_speakers(clips, at_least=3), _corpus_of(clips)
    if not 3 <= num_folds <= len(counts):
        most = f"at most the number of speakers, {len(counts)}, of corpus={corpus!r}"
        raise CorpusError(f"num_folds={num_folds} must be at least 3 and {most}; change it or the protocol")
    groups: list[list[str]] = [[] for _ in range(num_folds)]
    sizes = [0] * num_folds
    for speaker in sorted(counts, key=lambda who: (-counts[who], stable_hash(seed, who), who)):
        lightest = min(range(num_folds), key=lambda index: (sizes[index], len(groups[index])))
        groups[lightest].append(speaker)
        sizes[lightest] += counts[speaker]
    return speaker_folds(f"{corpus}-{num_folds}-balanced-folds", corpus, list(map(sorted, groups)))


def leave_one_speaker_out(clips: Sequence[Clip]) -> Protocol:
    """One fold per speaker, with this speaker for testing and the next one for validation.

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
    pairs = permutations(speakers)
    folds = tuple(Fold(f"test-{test}", (train,), (train,), (test,)) for train, test in pairs)
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
        found = f"{len(homeless)} of {len(clips)} clips have no split, the first is path={homeless[0]}"
        raise CorpusError(f"corpus={corpus!r}: {found}; give each one, or use folds by speaker")
    train, validation, test = ((name,) for name in SPLITS)
    return Protocol(f"{corpus}-official", corpus, (Fold("official", train, validation, test),), unit="split")


def challenge_split(name: str, clips: Sequence[Clip]) -> Protocol:
    """Training and development set of MSP-Podcast, as in the challenges that score a hidden test set.

    Odyssey 2024 (Goncalves et al. 2024) and Interspeech 2025 (Naini et al. 2025) rank predictions for a test
    set whose labels are not given out, so there is none to test on here.

    Args:
        name: Name of the protocol.
        clips: The clips of the corpus.

    Raises:
        CorpusError: If the corpus is another one, a clip has no split, or there are test clips.
    """
    corpus, official = _corpus_of(clips), official_split(clips)
    if corpus != "msp-podcast" or any(clip.split == "test" for clip in clips):
        needed = "msp-podcast without a test set: --data.options '{test_set: none}'"
        raise CorpusError(f"protocol={name!r}: corpus={corpus!r} with its test clips must be {needed}")
    return replace(official, name=name, folds=(replace(official.folds[0], test=()),))


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
    corpus, buckets = _corpus_of(clips), [[f"bucket-{index}"] for index in range(num_folds)]
    name = f"{corpus}-{num_folds}-random-folds-not-speaker-independent"
    return replace(speaker_folds(name, corpus, buckets), unit="clip", seed=seed)


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


PROTOCOLS: Mapping[str, Callable[[Sequence[Clip], int], Protocol]] = {
    "official": lambda clips, _seed: official_split(clips),
    "balanced-speakers": lambda clips, seed: balanced_speaker_folds(clips, seed=seed),
    "leave-one-speaker-out": lambda clips, _seed: leave_one_speaker_out(clips),
    "two-speakers": lambda clips, seed: two_speaker_folds(clips, seed=seed),
    "random-clips": lambda clips, seed: random_clip_folds(clips, seed=seed),
    "odyssey-2024": lambda clips, _seed: challenge_split("odyssey-2024", clips),
    "interspeech-2025": lambda clips, _seed: challenge_split("interspeech-2025", clips),
}


def build_protocol(name: str, clips: Sequence[Clip], *, seed: int = 0) -> Protocol:
    """A general protocol by name, built for the given clips.

    Args:
        name: One of `PROTOCOLS`, for any corpus.
        clips: The clips to split.
        seed: Random seed, for protocols that draw at random.

    Raises:
        CorpusError: If the name is unknown or the clips do not allow the protocol.
    """
    if name not in PROTOCOLS:
        raise CorpusError(f"protocol={name!r} must be one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name](clips, seed)


def _count_speakers(clips: Sequence[Clip], *, at_least: int) -> Counter[str]:
    unknown = [clip.path for clip in clips if not clip.speaker]
    if unknown:
        raise CorpusError(
            f"{len(unknown)} of {len(clips)} clips have no speaker, the first is path={unknown[0]}. Name all "
            f"speakers (a manifest's column speaker, or speaker_pattern), or choose {RANDOM_CLIPS}"
        )
    counts = Counter(clip.speaker for clip in clips)
    if len(counts) < at_least:
        two = 'protocol="two-speakers" or ' if len(counts) == 2 else ""
        needed = f"and this split by speaker needs at least {at_least}"
        found = f"corpus={_corpus_of(clips)!r}: speakers={sorted(counts)} are {len(counts)}"
        raise CorpusError(f"{found}, {needed}; add speakers, or choose {two}{RANDOM_CLIPS}")
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
