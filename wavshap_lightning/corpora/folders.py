"""Any folder of recordings: one folder per class, or labels and speakers read from the paths."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.files import Layout, entries_of, find_files, is_audio, listed
from wavshap_lightning.errors import CorpusError

FOLDERS = Layout("folders", "happy/anna_01.wav (one folder per class)", homepage="")
FLAT = Layout("flat", "anna_happy_01.wav (the label in the file name)", homepage="")


def load_folders(root: Path | str, *, speaker_pattern: str | None = None) -> list[Clip]:
    """One folder per class: the label is the name of the folder right below the root.

    Args:
        root: The folder that holds the classes' folders.
        speaker_pattern: Regular expression with a group `speaker`, searched for in the path below the
            root (`happy/anna_01.wav`); it may have a group `text` too. Nobody knows the speakers if it is
            None.

    Returns:
        The clips sorted by path, from audio files of any depth.

    Raises:
        CorpusError: If the root is missing, an audio file lies outside the classes' folders, a class's
            folder holds none, or a pattern is not valid or does not match a file.
    """
    base = FOLDERS.checked_folder(root)
    entries = entries_of(base)
    strays = [path for path in entries if path.is_file() and is_audio(path)]
    if strays:
        raise FOLDERS.complaint(
            root, f"{len(strays)} audio files lie in no class's folder ({listed(strays)})"
        )
    classes = {path.name: find_files(path, _any) for path in entries if path.is_dir()}
    paths = _audio_among(list(chain.from_iterable(classes.values())), root, FOLDERS)
    _check_classes(root, classes)
    names = _relative(paths, base)
    labels = [name.split("/")[0] for name in names]
    readers = [_reader("speaker", speaker_pattern, names)] if speaker_pattern is not None else []
    return _clips(FOLDERS.corpus, paths, labels, readers)


def load_flat(root: Path | str, *, label_pattern: str, speaker_pattern: str | None = None) -> list[Clip]:
    r"""Any folder, searched at every depth: the label is read from the file name.

    Args:
        root: The folder that holds the recordings.
        label_pattern: Regular expression with a group `label`, searched for in the file name; it may
            have groups `speaker` and `text` too. For `anna_happy_01.wav`:
            `(?P<speaker>[a-z]+)_(?P<label>[a-z]+)_`.
        speaker_pattern: Regular expression with a group `speaker`, perhaps also `text`, searched for in
            the path below the root; it takes precedence.

    Returns:
        The clips sorted by path.

    Raises:
        CorpusError: If the root is missing, there is no audio file, or a pattern is not valid or does not
            match a file.
    """
    base = FLAT.checked_folder(root)
    paths = _audio_among(find_files(base, _any), root, FLAT)
    reader = _reader("label", label_pattern, [path.name for path in paths])
    readers = [reader]
    if speaker_pattern is not None:
        readers.insert(0, _reader("speaker", speaker_pattern, _relative(paths, base)))
    return _clips(FLAT.corpus, paths, reader.read("label"), readers)


@dataclass(frozen=True, slots=True)
class _Reader:
    """A pattern, the option that gave it, and the names in which it is searched for."""

    option: str
    pattern: re.Pattern[str]
    names: Sequence[str]

    def read(self, group: str) -> list[str]:
        """What a group of the pattern matches in each name; every name must have it."""
        matches = (self.pattern.search(name) for name in self.names)
        found = [(match[group] or "").strip() if match else "" for match in matches]
        unmatched = [name for name, value in zip(self.names, found, strict=True) if not value]
        if unmatched:
            raise CorpusError(
                f"{self.option}={self.pattern.pattern!r} finds no {group} in {len(unmatched)} of "
                f"{len(self.names)} names ({listed(unmatched)}); widen it, or move these files elsewhere"
            )
        return found


def _reader(group: str, pattern: str, names: Sequence[str]) -> _Reader:
    """A reader of the option that is named after the group that its pattern must have."""
    option = f"{group}_pattern"
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise CorpusError(f"{option}={pattern!r} is not a regular expression: {error}") from error
    if group not in expression.groupindex:
        raise CorpusError(
            f"{option}={pattern!r} has no group {group!r}; write (?P<{group}>...) around the part that is "
            f"the {group}"
        )
    return _Reader(option, expression, names)


def _any(_path: Path) -> bool:
    return True


def _audio_among(files: Sequence[Path], root: Path | str, layout: Layout) -> list[Path]:
    paths = [path for path in files if is_audio(path)]
    if not paths:
        raise layout.complaint(root, f"there is no audio file below it, only {_counted(files)}")
    return paths


def _check_classes(root: Path | str, classes: Mapping[str, Sequence[Path]]) -> None:
    """Refuse a class that would vanish, because nothing in its folder can be read."""
    silent = {label: _counted(files) for label, files in classes.items() if not any(map(is_audio, files))}
    if silent:
        found = listed(f"{label!r} holds {what}" for label, what in silent.items())
        raise FOLDERS.complaint(
            root,
            f"{len(silent)} of {len(classes)} classes' folders hold no audio that can be read ({found}); "
            "convert the files to wav or flac, or move these folders elsewhere",
        )


def _counted(files: Sequence[Path]) -> str:
    """How many files there are of each kind.

    >>> _counted([Path("a.m4a"), Path("b.M4A"), Path("notes")])
    '2 .m4a, 1 without suffix'
    """
    kinds = Counter(path.suffix.lower() or "without suffix" for path in files)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "no file at all"


def _relative(paths: Sequence[Path], base: Path) -> list[str]:
    return [path.relative_to(base).as_posix() for path in paths]


def _clips(
    corpus: str, paths: Sequence[Path], labels: Sequence[str], readers: Sequence[_Reader]
) -> list[Clip]:
    speakers, texts = _first_read("speaker", paths, readers), _first_read("text", paths, readers)
    return [
        Clip(path, label, speaker=speaker, corpus=corpus, text=text or None)
        for path, label, speaker, text in zip(paths, labels, speakers, texts, strict=True)
    ]


def _first_read(group: str, paths: Sequence[Path], readers: Sequence[_Reader]) -> list[str]:
    """What the first reader that has the group finds; nothing where none has it."""
    able = (reader for reader in readers if group in reader.pattern.groupindex)
    reader = next(able, None)
    return [""] * len(paths) if reader is None else reader.read(group)
