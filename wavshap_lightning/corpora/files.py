"""Files of a corpus: finding them below a folder, and saying what was expected where they are not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
