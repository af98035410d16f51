"""Any folder of recordings: one folder per class, or labels and speakers read from the paths."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NoReturn

from wavshap_lightning.audio.io import AUDIO_SUFFIXES
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Layout:
    """What a corpus looks like on disk and where to get it; every complaint about its root says so.

    Args:
        corpus: Name of the corpus.
        expected: A typical path below the root.
        homepage: Where the corpus can be had; empty for anyone's own recordings.
    """

    corpus: str
    expected: str
    homepage: str

    def checked_folder(self, root: Path | str) -> Path:
        """The root as a path.

        Raises:
            CorpusError: If it does not exist or is not a folder.
        """
        folder = Path(root).expanduser()
        if not folder.exists():
            raise self.complaint(root, "there is no such folder")
        if not folder.is_dir():
            raise self.complaint(root, "this is a file, and a folder is needed")
        return folder

    def complaint(self, root: Path | str, reason: str) -> CorpusError:
        """What is wrong with the root, what was expected below it, and how to get the corpus."""
        source = f"; get the corpus from {self.homepage}" if self.homepage else ""
        return CorpusError(
            f"root={str(root)!r} of corpus={self.corpus!r}: {reason}. Expected files such as "
            f"ROOT/{self.expected}{source}"
        )


def find_files(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """Every wanted file below a folder, sorted by path; hidden files and folders are skipped.

    Links to folders are followed, each folder once, and never back to a folder above. A folder that does
    not exist has no files.

    Raises:
        CorpusError: If a folder cannot be read.
    """
    if not folder.exists():
        return []
    found: list[Path] = []
    real = Path(os.path.realpath(folder))
    seen = {str(place) for place in (real, *real.parents)}
    for here, subfolders, names in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        subfolders[:] = [name for name in sorted(subfolders) if _is_new(Path(here, name), seen)]
        found += [Path(here, name) for name in names if _is_visible(name) and wanted(Path(name))]
    return sorted(found)


def find_audio(folder: Path) -> list[Path]:
    """Every audio file below a folder, sorted by path; hidden files and folders are skipped."""
    return find_files(folder, is_audio)


def is_audio(path: Path) -> bool:
    """Whether a file is audio by its suffix."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def entries_of(folder: Path) -> list[Path]:
    """What lies right below a folder, sorted by name, whatever it is; what is hidden is skipped.

    Raises:
        CorpusError: If the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if _is_visible(path.name))
    except OSError as error:
        _refuse_unreadable(error)


def audio_by_stem(folder: Path) -> dict[str, Path]:
    """Every audio file below a folder under its name without suffix; the first by path where two agree."""
    return {path.stem: path for path in reversed(find_audio(folder))}


def check_unique(clips: Sequence[Clip]) -> None:
    """Refuse a recording that lies twice below the root, as in archives that hold the corpus twice.

    Raises:
        CorpusError: If two clips have one speaker, one file name and one span.
    """
    first: dict[tuple[str, str], Clip] = {}
    for clip in clips:
        earlier = first.setdefault((clip.speaker, clip.name), clip)
        if earlier is not clip:
            raise CorpusError(
                f"corpus={clip.corpus!r}: {earlier.path} and {clip.path} are the same recording twice; point "
                "root at the folder that holds one copy"
            )


def listed(items: Iterable[object], *, limit: int = 5, separator: str = ", ") -> str:
    """The first few items, and how many more there are.

    >>> listed(range(7))
    '0, 1, 2, 3, 4 and 2 more'
    """
    words = [str(item) for item in items]
    more = f" and {len(words) - limit} more" if len(words) > limit else ""
    return separator.join(words[:limit]) + more


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _is_new(folder: Path, seen: set[str]) -> bool:
    real = os.path.realpath(folder)
    if real in seen or not _is_visible(folder.name):
        return False
    seen.add(real)
    return True


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise CorpusError(
        f"folder={error.filename!r} cannot be read ({error.strerror}); check its permissions"
    ) from error


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
