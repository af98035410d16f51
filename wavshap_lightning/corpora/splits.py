"""Splits: training, validation and test clips of each fold of a protocol that has a name and a hash."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.errors import CorpusError

UNITS = ("speaker", "split", "clip")

# Where only two speakers exist, this share of the training speaker's texts is for validation.
SHARED_VALIDATION_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Split:
    """Training, validation and test clips of one fold, none of them in two."""

    train: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    test: tuple[Clip, ...]

    def items(self) -> Iterator[tuple[str, tuple[Clip, ...]]]:
        """Name and clips of each split, in the order train, validation, test."""
        for name in SPLITS:
            yield name, getattr(self, name)

    @property
    def digest(self) -> str:
        """SHA-256 of the membership of clips, in hexadecimal: equal digests, equal splits.

        A clip counts by its corpus, the last two parts of its path and its span, so that neither their
        order nor the folder above matters.
        """
        members = sorted([name, *clip.key] for name, clips in self.items() for clip in clips)
        return sha256(json.dumps(members).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Fold:
    """Assignment of groups (speakers, official splits or buckets of clips) to splits.

    Args:
        name: Name in tables and folders.
        train: Groups to train on.
        validation: Groups to choose the checkpoint by; none where nothing is to be chosen.
        test: Groups to evaluate on.
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def items(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Name and groups of each split, in the order train, validation, test."""
        for name in SPLITS:
            yield name, getattr(self, name)


@dataclass(frozen=True, slots=True)
class Protocol:
    """Rule by which a corpus is split: named, hashed and stored with every checkpoint and report.

    Args:
        name: For example `"ravdess-6-folds"`.
        corpus: The corpus it was made for.
        folds: At least one fold.
        unit: Kind of group: a `"speaker"`, an official `"split"`, or a bucket of single `"clip"`s.
        shared_validation: Whether validation is a share of the training speakers' texts, because there
            are too few speakers for a split of its own. Each fold then names the same groups twice.
        seed: Decides the buckets of clips, and the validation texts where validation is shared.

    Raises:
        CorpusError: If there is no fold or the unit is unknown.
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

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of every field, in hexadecimal: equal hashes, equal rules.

        The rule divides equal clips equally. Where it follows the clips themselves (by their official
        `split`, or one by one) other clips under the same rule are another split: see `Split.digest`.
        """
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return sha256(canonical.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Every field in plain JSON types; `from_dict` turns it back."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples become lists
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Protocol:
        """The protocol that `to_dict` described.

        Args:
            fields: Its fields; a `"hash"` among them is compared with the protocol's own.

        Raises:
            CorpusError: If a field is missing or unknown, or the hash differs.
        """
        plain = {key: value for key, value in fields.items() if key != "hash"}
        try:
            folds = tuple(
                Fold(str(fold["name"]), **{name: tuple(map(str, fold[name])) for name in SPLITS})
                for fold in plain.pop("folds")
            )
            protocol = cls(folds=folds, **plain)
        except (KeyError, TypeError, AttributeError) as error:
            raise CorpusError(
                f"protocol={dict(fields)}: not a stored protocol ({error!r}); expected what to_dict writes"
            ) from error
        if fields.get("hash", protocol.hash) != protocol.hash:
            raise CorpusError(
                f"protocol={protocol.name!r}: hash={fields['hash']!r} was stored but its fields hash to "
                f"{protocol.hash!r}; it was edited by hand, so make it again or remove the hash"
            )
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

    def split(self, clips: Sequence[Clip], fold: int) -> Split:
        """The clips of one fold, each split in the order given.

        Args:
            clips: Clips whose groups the fold knows; the fold may know more groups than the clips have.
            fold: Index of the fold, from 0.

        Raises:
            CorpusError: If the fold is out of range or has a group in two splits, a clip belongs to no
                group of the fold, or a split with groups ends up empty.
        """
        if not 0 <= fold < len(self.folds):
            raise CorpusError(f"fold={fold} must lie in 0..{len(self.folds) - 1} for protocol={self.name!r}")
        chosen = self.folds[fold]
        where = f"fold={chosen.name!r} of protocol={self.name!r}"
        self._check_groups(chosen, where)
        split_of = {group: name for name, groups in chosen.items() for group in groups}
        groups = [self._group_of(clip, num_groups=len(split_of)) for clip in clips]
        strangers = [clip.path for clip, group in zip(clips, groups, strict=True) if group not in split_of]
        if strangers:
            raise CorpusError(
                f"{where}: {len(strangers)} of {len(clips)} clips have {self.unit}s="
                f"{sorted(set(groups) - set(split_of))} it does not know, the first is path={strangers[0]}; "
                f"it knows {sorted(split_of)}. Leave these clips out, or choose a protocol made for them"
            )
        members: dict[str, list[Clip]] = {name: [] for name in SPLITS}
        validation_texts = self._validation_texts(chosen, clips)
        for clip, group in zip(clips, groups, strict=True):
            name = split_of[group]
            if self.shared_validation and name == "validation" and clip.text not in validation_texts:
                name = "train"
            members[name].append(clip)
        for name, wanted in chosen.items():
            if wanted and not members[name]:
                raise CorpusError(
                    f"{where}: {name} is empty, since no clip belongs to its {self.unit}s={list(wanted)}; "
                    "use more clips or another protocol"
                )
        return Split(**{name: tuple(found) for name, found in members.items()})

    def _check_groups(self, fold: Fold, where: str) -> None:
        validation = () if self.shared_validation else fold.validation
        counts = Counter(fold.train + validation + fold.test)
        repeated = sorted(group for group, count in counts.items() if count > 1)
        if repeated:
            raise CorpusError(
                f"{where}: {self.unit}s={repeated} appear more than once; leave each in one split only"
            )
        if self.shared_validation and set(fold.train) != set(fold.validation):
            raise CorpusError(
                f"{where}: shared_validation=True needs the same speakers in train={list(fold.train)} and "
                f"validation={list(fold.validation)}"
            )

    def _group_of(self, clip: Clip, *, num_groups: int) -> str:
        if self.unit == "speaker":
            return clip.speaker
        if self.unit == "split":
            return clip.split or ""
        return f"bucket-{stable_hash(self.seed, *clip.key) % num_groups}"

    def _validation_texts(self, fold: Fold, clips: Sequence[Clip]) -> frozenset[str | None]:
        if not self.shared_validation:
            return frozenset()
        texts = {clip.text for clip in clips if clip.speaker in fold.train}
        if None in texts or len(texts) == 1:
            fault = "some clips have text=None" if None in texts else f"every clip has text={texts.pop()!r}"
            raise CorpusError(
                f"protocol={self.name!r}: shared_validation=True chooses validation clips by what is said, "
                f"but {fault}, and two texts at least are needed. Give every clip its text (a manifest's "
                "column text, or a group (?P<text>...) in the pattern that reads the names), add a third "
                'speaker, or choose protocol="random-clips" and accept scores that are too high'
            )
        ranked = sorted(texts, key=lambda text: stable_hash(self.seed, str(text)))
        return frozenset(ranked[: max(1, round(SHARED_VALIDATION_SHARE * len(ranked)))])


def stable_hash(seed: int, *words: str) -> int:
    """A pseudo-random number of 64 bits, the same in every process and on every machine.

    >>> stable_hash(0, "ann") == stable_hash(0, "ann"), stable_hash(0, "ann") == stable_hash(1, "ann")
    (True, False)
    """
    return int.from_bytes(sha256(json.dumps([seed, *words]).encode()).digest()[:8], "big")
