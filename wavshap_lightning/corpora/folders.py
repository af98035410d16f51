"""Folders of recordings: files below a root, and corpora labeled by folders or patterns of file names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from wavshap_lightning.audio.io import AUDIO_SUFFIXES
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Layout:
    """Typical layout and source of a corpus, for reading it and for saying what is wrong with a root.

    Args:
        corpus: Name of the corpus.
        example: A typical path below the root.
        homepage: Where the corpus can be had; empty for anyone's own recordings.
    """

    corpus: str
    example: str
    homepage: str

    def checked_folder(self, root: Path | str) -> Path:
        """The root as a path.

        Raises:
            CorpusError: If it does not exist or is not a folder.
        """
        folder = Path(root).expanduser()
        if not folder.is_dir():
            reason = "this is a file, not a folder" if folder.exists() else "there is no such folder"
            raise self.error(root, reason)
        return folder

    def error(self, root: Path | str, reason: str) -> CorpusError:
        """An error with a reason, what was expected below the root, and how to get the corpus."""
        source = f"; get the corpus from {self.homepage}" if self.homepage else ""
        expected = f"Expected files such as ROOT/{self.example}{source}"
        return CorpusError(f"root={str(root)!r} of corpus={self.corpus!r}: {reason}. {expected}")

    def find_tables(self, root: Path | str, names: Collection[str]) -> dict[str, Path]:
        """The files of these names somewhere below the root, by name.

        Raises:
            CorpusError: If there is no such file, one occurs twice, or the root is not a folder.
        """
        found = [path for path in find_files(self.checked_folder(root)) if path.name in names]
        if not found:
            raise self.error(root, f"none of {list(names)} is below it")
        tables = {name: path for name in names for path in found if path.name == name}
        if len(tables) < len(found):
            raise self.error(root, f"tables are there twice ({listed(found)}); point root at one copy")
        return tables

    def recorded_clips(
        self,
        root: Path | str,
        table: str,
        turns: Sequence[tuple[str, Clip]],
        labels: Mapping[str, str],
        audio: Mapping[str, Path],
    ) -> list[Clip]:
        """Turns of a table, each with its recording and its label.

        Args:
            root: The root, for messages.
            table: Name of the table, for messages.
            turns: Name of each turn, and its clip with a label of the corpus and any path.
            labels: Emotion of each label of the corpus.
            audio: Recordings by the names of the turns.

        Raises:
            CorpusError: If a label is unknown, or a turn has no recording.
        """
        unknown = sorted({turn.label for _, turn in turns} - labels.keys())
        if unknown:
            raise self.error(root, f"labels={unknown} of {table} must be among {sorted(labels)}")
        silent = [name for name, _ in turns if name not in audio]
        if silent:
            what = f"{len(silent)} of {len(turns)} turns of {table} have no recording ({listed(silent)})"
            raise self.error(root, what)
        return [replace(turn, path=audio[name], label=labels[turn.label]) for name, turn in turns]

    def check_files(
        self, root: Path | str, paths: Sequence[Path], strangers: Sequence[Path], clips: Sequence[Clip]
    ) -> None:
        """Raise CorpusError unless all audio files are of the corpus, some are clips, and none is twice.

        Args:
            root: The root, for the message.
            paths: Audio files below it.
            strangers: Those with names that the corpus does not use.
            clips: Clips made from the others. Archives that hold the corpus twice give two with one
                speaker, file name and span.
        """
        if strangers:
            what = f"{len(strangers)} of {len(paths)} audio files have names that the corpus does not use"
            raise self.error(root, f"{what} ({listed(strangers)}); move them elsewhere")
        if not clips:
            raise self.error(root, f"none of its {len(paths)} audio files is a clip that is asked for")
        first: dict[tuple[str, str], Clip] = {}
        for clip in clips:
            earlier = first.setdefault((clip.speaker, clip.name), clip)
            if earlier is not clip:
                copies = f"{earlier.path} and {clip.path} are the same recording twice"
                raise self.error(root, f"{copies}; point root at the folder that holds one copy")


FOLDERS = Layout("folders", "happy/anna_01.wav (one folder per class)", homepage="")
FLAT = Layout("flat", "anna_happy_01.wav (the label in the file name)", homepage="")


def find_files(folder: Path) -> list[Path]:
    """Every file below a folder, sorted by path; hidden files and folders are skipped.

    Links to folders are followed, each folder once, and never back to a folder above. A folder that does
    not exist has no files.

    Raises:
        CorpusError: If a folder cannot be read.
    """
    if not folder.exists():
        return []
    found: list[Path] = []
    # The folders above count as seen, or a link back to one would be walked for ever.
    seen = {folder.resolve(), *folder.resolve().parents}
    for here, subfolders, names in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        subfolders[:] = [name for name in sorted(subfolders) if _is_new(Path(here, name), seen)]
        found += [Path(here, name) for name in names if _is_visible(name)]
    return sorted(found)


def find_audio(folder: Path) -> list[Path]:
    """Every audio file below a folder, sorted by path; hidden files and folders are skipped."""
    return [path for path in find_files(folder) if is_audio(path)]


def is_audio(path: Path) -> bool:
    """True for the name of an audio file, by its suffix."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def audio_by_stem(folder: Path) -> dict[str, Path]:
    """Every audio file below a folder under its name without suffix; the first by path where two agree."""
    return {path.stem: path for path in reversed(find_audio(folder))}


def listed(items: Iterable[object], *, limit: int = 5, separator: str = ", ") -> str:
    """The first few items, and how many more there are.

    >>> listed(range(7))
    '0, 1, 2, 3, 4 and 2 more'
    """
    words = [str(item) for item in items]
    more = f" and {len(words) - limit} more" if len(words) > limit else ""
    return separator.join(words[:limit]) + more


def _is_visible(name: str) -> bool:
    # Archives made on a Mac hold a second tree of resource files with the names of the recordings.
    return not name.startswith(".") and name != "__MACOSX"


def _is_new(folder: Path, seen: set[Path]) -> bool:
    real = folder.resolve()
    if real in seen or not _is_visible(folder.name):
        return False
    seen.add(real)
    return True


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise CorpusError(
        f"folder={error.filename!r} cannot be read ({error.strerror}); check its permissions"
    ) from error


# Corpora without a table


def load_folders(root: Path | str, *, speaker_pattern: str | None = None) -> list[Clip]:
    """One folder per class: the label is the name of the folder right below the root.

    Args:
        root: The folder that holds the classes' folders.
        speaker_pattern: Regular expression with a group `speaker`, searched for in the path below the
            root (`happy/anna_01.wav`); it may have a group `text` too. Speakers are unknown if it is None.

    Returns:
        The clips sorted by path, from audio files of any depth.

    Raises:
        CorpusError: If the root is missing, an audio file lies outside the classes' folders, a class's
            folder holds none, or a pattern is not valid or does not match a file.
    """
    base = FOLDERS.checked_folder(root)
    _, folders, loose = next(os.walk(base, onerror=_refuse_unreadable))
    strays = [name for name in sorted(loose) if _is_visible(name) and is_audio(Path(name))]
    if strays:
        raise FOLDERS.error(root, f"{len(strays)} audio files lie in no class's folder ({listed(strays)})")
    files = {label: find_files(base / label) for label in sorted(folders) if _is_visible(label)}
    paths = _audio_among([path for group in files.values() for path in group], root, FOLDERS)
    silent = {label: _counted(group) for label, group in files.items() if not any(map(is_audio, group))}
    if silent:  # the class would vanish without a word
        found = listed(f"{label!r} holds {what}" for label, what in silent.items())
        what = f"{len(silent)} of {len(files)} classes' folders hold no audio that can be read ({found})"
        raise FOLDERS.error(root, f"{what}; convert the files to wav or flac, or move the folders elsewhere")
    names = [path.relative_to(base).as_posix() for path in paths]
    speakers = _read_names("speaker_pattern", speaker_pattern, names, ("speaker", "text"))
    groups = [{"label": name.split("/")[0], **its} for name, its in zip(names, speakers, strict=True)]
    return _clips(FOLDERS.corpus, paths, groups)


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
    paths = _audio_among(find_files(base), root, FLAT)
    names = [path.relative_to(base).as_posix() for path in paths]
    speakers = _read_names("speaker_pattern", speaker_pattern, names, ("speaker", "text"))
    wanted = [group for group in ("label", "speaker", "text") if group not in speakers[0]]
    labels = _read_names("label_pattern", label_pattern, [path.name for path in paths], wanted)
    groups = [{**label, **speaker} for label, speaker in zip(labels, speakers, strict=True)]
    return _clips(FLAT.corpus, paths, groups)


def _clips(corpus: str, paths: Sequence[Path], groups: Sequence[Mapping[str, str]]) -> list[Clip]:
    return [
        Clip(path, its["label"], its.get("speaker", ""), corpus, text=its.get("text"))
        for path, its in zip(paths, groups, strict=True)
    ]


def _read_names(
    option: str, pattern: str | None, names: Sequence[str], groups: Sequence[str]
) -> list[dict[str, str]]:
    """In each name, the match of each of these groups that a pattern has; the first group is required.

    Raises:
        CorpusError: If the pattern is not valid, or finds nothing in a name.
    """
    if pattern is None:
        return [{}] * len(names)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise CorpusError(f"{option}={pattern!r} is not a regular expression: {error}") from error
    if groups[0] not in expression.groupindex:
        raise CorpusError(f"{option}={pattern!r} has no group {groups[0]!r}; write it (?P<{groups[0]}>...)")
    groups = [group for group in groups if group in expression.groupindex]
    matches = [expression.search(name) for name in names]
    found = [{group: (match[group] or "").strip() if match else "" for group in groups} for match in matches]
    for group in groups:
        unmatched = [name for name, its in zip(names, found, strict=True) if not its[group]]
        if unmatched:
            what = f"no {group} in {len(unmatched)} of {len(names)} names ({listed(unmatched)})"
            raise CorpusError(f"{option}={pattern!r} finds {what}; widen it, or move these files elsewhere")
    return found


def _audio_among(files: Sequence[Path], root: Path | str, layout: Layout) -> list[Path]:
    paths = [path for path in files if is_audio(path)]
    if not paths:
        raise layout.error(root, f"there is no audio file below it, only {_counted(files)}")
    return paths


def _counted(files: Sequence[Path]) -> str:
    """Number of files of each kind.

    >>> _counted([Path("a.m4a"), Path("b.M4A"), Path("notes")])
    '2 .m4a, 1 without suffix'
    """
    kinds = Counter(path.suffix.lower() or "without suffix" for path in files)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "no file at all"
