"""The small files of a run, as JSON and CSV; each appears whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing, making its folder.

    The bytes go to disk beside the place and are then renamed: a reader, and whoever comes after a crash,
    meets the old file or the new one. Threads and processes that write the same file do not disturb
    each other; the last one stays.

    Raises:
        OSError: If the file cannot be written; what was there before is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid4().hex}.unfinished")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def from_here(path: Path | str) -> Path:
    """The path relative to the current folder, if it lies below it."""
    path, here = Path(path), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that people can read, making its folder."""
    # A name on disk may be no text: it is written as \udcff, which JSON reads back.
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode(errors="backslashreplace"))


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV file whose first row names the columns, making its folder."""
    write_atomically(path, format_csv(rows).encode(errors="backslashreplace"))


def format_csv(rows: Iterable[Iterable[Any]]) -> str:
    """Text of a CSV file whose first row names the columns."""
    table = [list(row) for row in rows]
    text = io.StringIO(newline="")
    # Before Python 3.13 a bare carriage return is quoted only where everything is.
    has_return = any("\r" in str(cell) for row in table for cell in row)
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL)
    writer.writerows(table)
    return text.getvalue()


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of plain JSON types, independent of the order of keys.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
