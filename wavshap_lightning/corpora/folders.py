"""Folders of recordings: files below a root, and corpora labeled by folders or patterns of file names."""

from __future__ import annotations

import filecmp
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NoReturn
from unicodedata import normalize

from wavshap_lightning.audio.io import AUDIO_SUFFIXES, USUAL_SUFFIXES
from wavshap_lightning.corpora.clip import SPLIT_NAMES, Clip, splits_named
from wavshap_lightning.corpora.labels import EMOTIONS
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
        """The files of these names somewhere below the root, by name; of equal copies the first.

        Raises:
            CorpusError: If there is no such file, one occurs twice and differs, or the root is not a folder.
        """
        found = [path for path in find_files(self.checked_folder(root)) if path.name in names]
        if not found:
            raise self.error(root, f"none of {list(names)} is below it")
        copies = self.find_copies(root, [(path.name, path) for path in found])
        return {name: path for name in names for path in found if path.name == name and path not in copies}

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

    def find_copies(
        self, root: Path | str, files: Iterable[tuple[Hashable, Path]], *, may_differ: bool = False
    ) -> set[Path]:
        """The files that repeat an earlier one byte for byte, to be left out with a warning.

        Args:
            root: The root.
            files: Each file after its key: files of one key are copies, those nearest to the root the first.
            may_differ: Files of one key may also be different files.

        Raises:
            CorpusError: If two files of one key differ and may not.
        """
        kept: defaultdict[Hashable, list[Path]] = defaultdict(list)
        pairs: list[tuple[Path, Path]] = []
        for key, path in sorted(files, key=lambda file: len(file[1].parts)):
            originals = [one for one in kept[key] if not may_differ or _is_copy(one, path)]
            pairs += [(one, path) for one in originals[:1]]
            kept[key] += [] if originals else [path]
        trees = dict.fromkeys("in {} and in {}".format(*_trees(*pair)) for pair in pairs)
        where = listed(trees, separator="; ")
        if differing := [f"{one} and {other}" for one, other in pairs if not _is_copy(one, other)]:
            what = f"{len(differing)} of {len(pairs)} files that are there twice differ ({listed(differing)})"
            raise self.error(root, f"{what}, {where}; set root to one copy, or move it elsewhere")
        if pairs:
            what = f"{len(pairs)} files are there twice with the same content, {where}"
            warnings.warn(f"corpus={self.corpus}: {what}; the second copy is left out", stacklevel=2)
        return {copy for _, copy in pairs}


FOLDERS = Layout("folders", "happy/anna_01.wav or train/happy/anna_01.wav (one folder a class)", homepage="")
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
    """Every audio file below a folder, sorted by path; hidden files and folders are skipped.

    A film or a rarer format beside a file of the same name in a usual format (`a.mp4`, `a.wav`) is skipped.
    """
    return _audio_among(find_files(folder))


def _audio_among(files: Sequence[Path]) -> list[Path]:
    paths = [path for path in files if is_audio(path)]
    usual = {path.with_suffix("") for path in paths if path.suffix.lower() in USUAL_SUFFIXES}
    return [p for p in paths if p.suffix.lower() in USUAL_SUFFIXES or p.with_suffix("") not in usual]


def is_audio(path: Path) -> bool:
    """True for the name of an audio file, by its suffix; also for its placeholder in iCloud."""
    return Path(path.name.removesuffix(".icloud")).suffix.lower() in AUDIO_SUFFIXES


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
    # Archives made on a Mac hold a second tree of resource files with the names of the recordings. In place
    # of a recording that is only in iCloud lies the hidden `.name.wav.icloud`, which must not go unnoticed.
    return (not name.startswith(".") or name.endswith(".icloud")) and name != "__MACOSX"


def _is_new(folder: Path, seen: set[Path]) -> bool:
    real = folder.resolve()
    if real in seen or not _is_visible(folder.name):
        return False
    seen.add(real)
    return True


def _trees(one: Path, other: Path) -> tuple[Path, Path]:
    """The folders below which two files have the same path."""
    one, other = one.parent, other.parent
    while one.name == other.name and one not in other.parents and other not in one.parents:
        one, other = one.parent, other.parent
    return one, other


def _is_copy(one: Path, other: Path) -> bool:
    with suppress(OSError):  # told when the file is read
        return filecmp.cmp(one, other, shallow=False)
    return False


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise CorpusError(
        f"folder={error.filename!r} cannot be read ({error.strerror}); check its permissions"
    ) from error


# Corpora without a table

_BESIDE = r"(?:(?:set|split|data|part|audio|wav|clip|file)s?|[\W\d_])*"
_SPLIT_NAME = re.compile(
    f"{_BESIDE}({'|'.join(' '.join(SPLIT_NAMES.values()).split())}){_BESIDE}", re.IGNORECASE
)


def load_folders(root: Path | str, *, speaker_pattern: str | None = None) -> list[Clip]:
    """One folder per class: the label is the name of the folder right below the root.

    Folders named after splits (`train`, `dev`, `test_set`, ...) above or below those of the classes give the
    official split instead.

    Args:
        root: The folder that holds the classes' folders, or those of the splits that hold them.
        speaker_pattern: Regular expression with a group `speaker`, searched for in the path below the
            root (`happy/anna_01.wav`); it may have a group `text` too. Speakers are unknown if it is None.

    Returns:
        The clips sorted by path, from audio files of any depth; byte-identical copies are left out with a
        warning.

    Raises:
        CorpusError: If the root is missing, an audio file lies outside the classes' folders, a class's
            folder holds none, only some files lie in a split's folder, the folders below those of the
            classes are named like classes, or a pattern is not valid or does not match a file.
    """
    base = FOLDERS.checked_folder(root)
    files = {home.relative_to(base).as_posix(): find_files(home) for home in _class_folders(base, root)}
    paths = _some_audio([path for group in files.values() for path in group], root, FOLDERS)
    silent = {label: _counted(group) for label, group in files.items() if not any(map(is_audio, group))}
    if silent:  # the class would vanish without a word
        found = listed(f"{label!r} holds {what}" for label, what in silent.items())
        what = f"{len(silent)} of {len(files)} classes' folders hold no audio that can be read ({found})"
        raise FOLDERS.error(root, f"{what}; convert the files to wav or flac, or move the folders elsewhere")
    names = [path.relative_to(base).as_posix() for path in paths]
    levels = [[part for part in name.split("/")[:-1] if not _SPLIT_NAME.fullmatch(part)] for name in names]
    _check_classes(root, levels)
    speakers = _read_names("speaker_pattern", speaker_pattern, names, ("speaker", "text"))
    groups = [{"label": found[0], **its} for found, its in zip(levels, speakers, strict=True)]
    return _clips(FOLDERS, root, paths, groups)


def _class_folders(folder: Path, root: Path | str) -> list[Path]:
    """The folders right below a folder, and below those of them that are named after splits."""
    _, folders, loose = next(os.walk(folder, onerror=_refuse_unreadable))
    strays = _audio_among([folder / name for name in sorted(loose) if _is_visible(name)])
    if strays:
        raise FOLDERS.error(root, f"{len(strays)} audio files lie in no class's folder ({listed(strays)})")
    found = [folder / name for name in sorted(folders) if _is_visible(name)]
    inner = [_class_folders(one, root) if _SPLIT_NAME.fullmatch(one.name) else [one] for one in found]
    return [*chain.from_iterable(inner)]


def _check_classes(root: Path | str, levels: Sequence[Sequence[str]]) -> None:
    """Refuse folders of speakers or archives that hold the classes' folders, taken for classes themselves."""
    labels = {found[0] for found in levels}
    below = Counter(found[-1] for found in {tuple(found[:2]) for found in levels} if found[0] != found[-1])
    classes = labels & below.keys()
    split_of = splits_named(labels)
    if not any(_is_emotion(one) for one in labels if not split_of[one]):  # else they may be finer classes
        classes |= {one for one, count in below.items() if _is_emotion(one) and count >= min(len(labels), 2)}
    if classes or all(split_of.values()):
        fault = (
            f"hold {listed(sorted(classes))}"
            if classes
            else "are named like splits: name these train, validation, test"
        )
        taken = f"{listed(sorted(labels))}, which would be the classes, {fault}"
        raise FOLDERS.error(root, f"the folders {taken}; set root to the folder of the classes, or move them")


def _is_emotion(folder: str) -> bool:
    names = {*EMOTIONS, *chain.from_iterable(EMOTIONS.values())}
    return not names.isdisjoint(re.findall("[a-z]+", folder.lower()))


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
        The clips sorted by path; with the official split if all lie in folders named after splits (`train`,
        `dev`, `test_set`, ...), and without byte-identical copies, of which a warning tells.

    Raises:
        CorpusError: If the root is missing, there is no audio file, only some files lie in a split's folder,
            or a pattern is not valid or does not match a file.
    """
    base = FLAT.checked_folder(root)
    paths = _some_audio(find_files(base), root, FLAT)
    names = [path.relative_to(base).as_posix() for path in paths]
    speakers = _read_names("speaker_pattern", speaker_pattern, names, ("speaker", "text"))
    wanted = [group for group in ("label", "speaker", "text") if group not in speakers[0]]
    labels = _read_names("label_pattern", label_pattern, [path.name for path in paths], wanted)
    groups = [{**label, **speaker} for label, speaker in zip(labels, speakers, strict=True)]
    return _clips(FLAT, root, paths, groups)


def _clips(
    layout: Layout, root: Path | str, paths: Sequence[Path], groups: Sequence[Mapping[str, str]]
) -> list[Clip]:
    clips = [
        Clip(path, its["label"], its.get("speaker", ""), layout.corpus, split, text=its.get("text"))
        for path, its, split in zip(paths, groups, _read_splits(layout, root, paths), strict=True)
    ]
    # Files of one name may differ: without a pattern they are those of different speakers.
    keyed = [((clip.label, clip.speaker, clip.split, clip.name), clip.path) for clip in clips]
    copies = layout.find_copies(root, keyed, may_differ=True)
    return [clip for clip in clips if clip.path not in copies]


def _read_splits(layout: Layout, root: Path | str, paths: Sequence[Path]) -> list[str | None]:
    """Split of each file, by its first folder below the root named after one; None if there are no two.

    Raises:
        CorpusError: If only some files lie in such folders.
    """
    depth = len(Path(root).expanduser().parts)
    named = [next(filter(None, map(_SPLIT_NAME.fullmatch, path.parts[depth:-1])), None) for path in paths]
    outside = [path for path, match in zip(paths, named, strict=True) if match is None]
    if outside and any(named):
        folders = listed(sorted({match[0] for match in named if match}))
        what = f"the folders {folders} are named after splits, and {len(outside)} of {len(paths)} audio files"
        raise layout.error(root, f"{what} lie in none ({listed(outside)}); move these, or rename the folders")
    words = [match[1] if match else "" for match in named]
    split_of = splits_named(words)
    is_divided = len({*split_of.values()}) > 1  # a training set alone is no division
    return [split_of[word] if is_divided else None for word in words]


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
        expression = re.compile(normalize("NFC", pattern))
    except re.error as error:
        raise CorpusError(f"{option}={pattern!r} is not a regular expression: {error}") from error
    if groups[0] not in expression.groupindex:
        raise CorpusError(f"{option}={pattern!r} has no group {groups[0]!r}; write it (?P<{groups[0]}>...)")
    groups = [group for group in groups if group in expression.groupindex]
    matches = [expression.search(normalize("NFC", name)) for name in names]
    found = [{group: (match[group] or "").strip() if match else "" for group in groups} for match in matches]
    for group in groups:
        unmatched = [name for name, its in zip(names, found, strict=True) if not its[group]]
        if unmatched:
            what = f"no {group} in {len(unmatched)} of {len(names)} names ({listed(unmatched)})"
            raise CorpusError(f"{option}={pattern!r} finds {what}; widen it, or move these files elsewhere")
    return found


def _some_audio(files: Sequence[Path], root: Path | str, layout: Layout) -> list[Path]:
    paths = _audio_among(files)
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
