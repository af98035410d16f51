"""What is known of each clip of a corpus: a small file a clip, which says that the clip is finished."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from wavshap_lightning.files import write_atomically
from wavshap_lightning.viz.report.summary import ClipShares

FOLDER = "records"
WRITTEN = ("clips", "sounds")
"""Folders of the files that records name."""


@dataclass(frozen=True)
class Record:
    """A clip that was explained, or failed.

    Args:
        key: Digest of all that the result depends on; empty for a clip that failed.
        row: Of the table.
        duration_s: How long the clip is; 0 if it failed.
        shares: What it adds to the summary of its target; None if it failed.
        files: SHA-256 of each of its files, by path below the folder of all output.
    """

    key: str
    row: Mapping[str, str]
    duration_s: float = 0.0
    shares: ClipShares | None = None
    files: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Records:
    """The records of a folder of output.

    Each is written atomically and after the files that it names. So a clip is finished where its record
    is whole, names files that are as they were written, and was made from what would be explained now.

    Args:
        folder: Of all output.
    """

    folder: Path

    def write(self, stem: str, record: Record) -> None:
        """Write a record.

        Raises:
            OSError: If the disk refuses.
        """
        fields = asdict(record)
        # Parts stand in the order in which they are shown, so keys are not sorted.
        text = json.dumps({**fields, "sha256": digest_of(fields)}, indent=1)
        write_atomically(self._path(stem), text.encode())

    def read(self, stem: str) -> Record | None:
        """A record; None where there is none, or it is damaged or of another format."""
        try:
            fields = json.loads(self._path(stem).read_bytes())
            stored = fields.pop("sha256")
            if stored != digest_of(fields):
                return None
            return _from_fields(fields)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def is_finished(self, stem: str, key: Callable[[], str]) -> bool:
        """Whether a clip was explained, from the same content in the same way, and its files are whole.

        Args:
            stem: Of the clip's files.
            key: What the key of its record must be; only asked for where all else is well.
        """
        record = self.read(stem)
        if record is None or not record.files:
            return False
        return all(self._is_whole(*one) for one in record.files.items()) and record.key == key()

    def digest_files(self, paths: Sequence[Path]) -> dict[str, str]:
        """What a record says of files below the folder."""
        return {path.relative_to(self.folder).as_posix(): _file_digest(path) for path in paths}

    def forget(self, stem: str) -> None:
        """Remove a record."""
        self._path(stem).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a process that was killed had begun to write."""
        for name in (".", FOLDER, *WRITTEN):
            for draft in (self.folder / name).glob(".*.unfinished"):
                draft.unlink(missing_ok=True)

    def _path(self, stem: str) -> Path:
        return self.folder / FOLDER / f"{stem}.json"

    def _is_whole(self, name: str, digest: str) -> bool:
        try:
            return _file_digest(self.folder / name) == digest
        except OSError:
            return False


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of plain JSON types, whatever the order of their names.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _from_fields(fields: dict[str, Any]) -> Record:
    shares = fields.pop("shares")
    if shares is not None:
        lists = {name: tuple(shares[name]) for name in ("labels", "edges_hz")}
        shares = ClipShares(**{**shares, **lists})
    return Record(shares=shares, **fields)
