"""Clips: recordings, or spans of them, with one label each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from unicodedata import category, normalize

from wavshap_lightning.errors import CorpusError

SPLITS = ("train", "validation", "test")

SPLIT_NAMES = {
    "train": "train training",
    "validation": "validation valid val dev devel development",
    "test": "test testing",
    "evaluation": "eval evaluation",
}
"""Names of each split. An evaluation set is the test set, or beside a test set the validation set."""

# Joiners shape the letters of cursive and Indic scripts and tie emoji together. Elsewhere they show nothing.
_JOINED = "\u0600-\u137f\u1780-\u1dff\u2600-\u27bf\ufe0f\U0001f000-\U0001faff"
_IDLE_JOINER = re.compile(f"(?<![{_JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINED}])")
_KEPT = frozenset("\t\n\v\f\r\u200c\u200d")
_STRAY_BYTE = re.compile("[\udc80-\udcff]")


def normalized(text: str) -> str:
    r"""Text in one of the many spellings that look alike: the gate for every name, label and text of a clip.

    Composed (NFC), without format characters such as byte order marks, soft hyphens and zero-width spaces,
    and with single plain spaces. Bytes of a file name that are not UTF-8 are read as Windows-1252.

    >>> normalized("Jo\u0308rg\u200b\u00a0 Ko\u00adch "), normalized("M\udcfcller")
    ('Jörg Koch', 'Müller')
    """
    if not text.isprintable():
        text = _STRAY_BYTE.sub(lambda one: bytes([ord(one[0]) & 0xFF]).decode("cp1252", "replace"), text)
        text = text.encode(errors="backslashreplace").decode()  # halves of surrogate pairs cannot be stored
        text = "".join(sign for sign in text if sign in _KEPT or category(sign) not in {"Cc", "Cf"})
        text = _IDLE_JOINER.sub("", text)
    return " ".join(normalize("NFC", text).split())


Scale = tuple[float, float]
"""Lowest and highest value of an emotional dimension."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time span in a recording.

    Args:
        start_s: Start, in seconds from the start of the clip.
        end_s: End; greater than `start_s`.
        kind: Kind of event (`"tremor"`, `"word"`, ...).

    Raises:
        CorpusError: If the times are not finite, negative or not in order.
    """

    start_s: float
    end_s: float
    kind: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", normalized(self.kind))
        _check_times(self.start_s, self.end_s)


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording, or a span of one, with one label.

    Names, labels and texts are `normalized`, so that those that look alike are equal. The path is kept as it
    is, or the file could not be opened.

    Args:
        path: The audio file.
        label: The annotated class, as named by the corpus until a label map renames it.
        speaker: Name of the speaker, unique within the corpus; empty if unknown.
        corpus: Name of the corpus it comes from.
        split: The corpus's official split (`train`, `validation`, `test`), where it has one.
        start_s: Start of the clip inside the file, in seconds; the file's start if None.
        end_s: End of the clip inside the file, in seconds; the file's end if None.
        evidence: Spans known to decide the label, in seconds from the start of the clip.
        text: Spoken text.
        votes: Votes of the annotators, as `(label, count)` pairs, each label once.
        dialogue: Name of the conversation the clip was cut from; clips of one dialogue stay in one split.
        values: Emotional dimensions on the scale of the corpus, as `(dimension, value)` pairs.

    Raises:
        CorpusError: If the label is empty, the times are out of order, the split is unknown, a count is not
            finite or negative, a value is not finite, or a label or dimension is there twice.
    """

    path: Path
    label: str
    speaker: str = ""
    corpus: str = ""
    split: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    evidence: tuple[Span, ...] = ()
    text: str | None = None
    votes: tuple[tuple[str, float], ...] = ()
    dialogue: str | None = None
    values: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("label", "speaker", "corpus", "split", "text", "dialogue"):
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, normalized(text))
        for name, least in (("votes", 0.0), ("values", -inf)):
            object.__setattr__(self, name, self._checked_pairs(name, least))
        if not self.label:
            raise CorpusError(f"path={self.path}: label={self.label!r} is empty; give every clip a label")
        if self.split is not None and self.split not in SPLITS:
            raise CorpusError(f"path={self.path}: split={self.split!r} must be one of {', '.join(SPLITS)}")
        if self.start_s is not None or self.end_s is not None:
            _check_times(self.start_s or 0.0, self.end_s)

    def _checked_pairs(self, field: str, least: float) -> tuple[tuple[str, float], ...]:
        pairs = tuple((normalized(name), number) for name, number in getattr(self, field))
        are_numbers = all(name and isfinite(number) and number >= least for name, number in pairs)
        if not are_numbers or len(dict(pairs)) < len(pairs):
            rule = f"must name each once, with a finite number{' of at least 0' if least == 0.0 else ''}"
            raise CorpusError(f"path={self.path}: {field}={pairs} {rule}")
        return pairs

    @property
    def name(self) -> str:
        """The file's stem, with the start time where the clip is a span of a longer file.

        >>> Clip(Path("a/03-01-05.wav"), "angry").name
        '03-01-05'
        >>> Clip(Path("a/session.wav"), "angry", start_s=12.5, end_s=14.0).name
        'session@12.500'
        """
        return self.path.stem if self.start_s is None else f"{self.path.stem}@{self.start_s:.3f}"

    @property
    def key(self) -> tuple[str, ...]:
        """Identity of the clip wherever the corpus is kept: corpus, last folder, file and times.

        >>> Clip(Path("/data/ann/01.wav"), "angry", corpus="toy").key
        ('toy', 'ann', '01.wav', 'None', 'None')
        """
        return (self.corpus, *self.path.parts[-2:], repr(self.start_s), repr(self.end_s))


def splits_named(names: Iterable[str]) -> dict[str, str | None]:
    """The split that each name tells by its last word of `SPLIT_NAMES`, None if it tells none.

    >>> splits_named(["cuts_train-clean-100", "test_dev93", "contest", "eval"]).values()
    dict_values(['train', 'validation', None, 'test'])
    """
    split_of = {word: split for split, words in SPLIT_NAMES.items() for word in words.split()}
    words = {name: re.findall("[a-z]+", name.lower()) for name in names}
    told = {name: next(filter(None, map(split_of.get, reversed(its))), None) for name, its in words.items()}
    found = {*told.values()}
    evaluation = "validation" if "test" in found and "validation" not in found else "test"
    return {name: evaluation if split == "evaluation" else split for name, split in told.items()}


def _check_times(start_s: float, end_s: float | None) -> None:
    if not (isfinite(start_s) and start_s >= 0.0):
        raise CorpusError(f"start_s={start_s!r} must be a finite time of at least 0 seconds")
    if end_s is not None and not (isfinite(end_s) and end_s > start_s):
        raise CorpusError(f"end_s={end_s!r} must be a finite time after start_s={start_s!r}")
