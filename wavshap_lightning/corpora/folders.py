"""Any folder of recordings: one folder per class, or labels and speakers read from the paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.files import Layout, find_audio, listed
from wavshap_lightning.errors import CorpusError

FOLDERS = Layout("folders", "happy/anna_01.wav (one folder per class)", homepage="")
FLAT = Layout("flat", "anna_happy_01.wav (the label in the file name)", homepage="")


def load_folders(root: Path | str, *, speaker_pattern: str | None = None) -> list[Clip]:
    """One folder per class: the label is the name of the folder right below the root.

    Args:
        root: The folder that holds the classes' folders.
        speaker_pattern: Regular expression with a group `speaker`, searched for in the path below the
            root (`happy/anna_01.wav`); nobody knows the speakers if it is None.

    Returns:
        The clips sorted by path, from audio files of any depth.

    Raises:
        CorpusError: If the root is missing, an audio file lies outside the classes' folders, there is
            none, or a pattern is not valid or does not match a file.
    """
    paths = _found(root, FOLDERS)
    base = FOLDERS.checked_folder(root)
    strays = [path for path in paths if path.parent == base]
    if strays:
        raise FOLDERS.complaint(
            root, f"{len(strays)} audio files lie in no class's folder ({listed(strays)})"
        )
    names = _relative(paths, base)
    labels = [name.split("/")[0] for name in names]
    speakers = _read_all(names, speaker_pattern, "speaker") if speaker_pattern else [""] * len(names)
    return _clips(paths, labels, speakers, FOLDERS.corpus)


def load_flat(root: Path | str, *, label_pattern: str, speaker_pattern: str | None = None) -> list[Clip]:
    r"""Any folder, searched at every depth: the label is read from the file name.

    Args:
        root: The folder that holds the recordings.
        label_pattern: Regular expression with a group `label`, searched for in the file name; it may
            have a group `speaker` too. For `anna_happy_01.wav`: `(?P<speaker>[a-z]+)_(?P<label>[a-z]+)_`.
        speaker_pattern: Regular expression with a group `speaker`, searched for in the path below the
            root; it takes precedence.

    Returns:
        The clips sorted by path.

    Raises:
        CorpusError: If the root is missing, there is no audio file, or a pattern is not valid or does not
            match a file.
    """
    paths = _found(root, FLAT)
    files = [path.name for path in paths]
    labels = _read_all(files, label_pattern, "label")
    speakers = [""] * len(paths)
    if speaker_pattern:
        speakers = _read_all(_relative(paths, FLAT.checked_folder(root)), speaker_pattern, "speaker")
    elif "speaker" in _compiled(label_pattern, "label").groupindex:
        speakers = _read_all(files, label_pattern, "speaker")
    return _clips(paths, labels, speakers, FLAT.corpus)


def _found(root: Path | str, layout: Layout) -> list[Path]:
    paths = find_audio(layout.checked_folder(root))
    if not paths:
        raise layout.complaint(root, "there is no audio file below it")
    return paths


def _relative(paths: Sequence[Path], base: Path) -> list[str]:
    return [path.relative_to(base).as_posix() for path in paths]


def _read_all(names: Sequence[str], pattern: str, group: str) -> list[str]:
    """What a group of the pattern matches in each name; every name must have it."""
    expression = _compiled(pattern, group)
    found = [match[group] if (match := expression.search(name)) else None for name in names]
    unmatched = [name for name, value in zip(names, found, strict=True) if not value]
    if unmatched:
        raise CorpusError(
            f"{group}_pattern={pattern!r} finds no {group} in {len(unmatched)} of {len(names)} names "
            f"({listed(unmatched)}); widen it, or move these files elsewhere"
        )
    return [value for value in found if value]


def _compiled(pattern: str, group: str) -> re.Pattern[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise CorpusError(f"{group}_pattern={pattern!r} is not a regular expression: {error}") from error
    if group not in expression.groupindex:
        raise CorpusError(
            f"{group}_pattern={pattern!r} has no group {group!r}; write (?P<{group}>...) around the "
            f"part that is the {group}"
        )
    return expression


def _clips(paths: Sequence[Path], labels: Sequence[str], speakers: Sequence[str], corpus: str) -> list[Clip]:
    return [
        Clip(path, label, speaker=speaker, corpus=corpus)
        for path, label, speaker in zip(paths, labels, speakers, strict=True)
    ]
