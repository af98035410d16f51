"""Small files: text and tables as people save them, and JSON and CSV that appear whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

DELIMITERS = ",;\t|"


def default_cache_directory() -> Path:
    """`$WAVSHAP_CACHE`, else `$XDG_CACHE_HOME/wavshap-lightning`, else `~/.cache/wavshap-lightning`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("WAVSHAP_CACHE") or Path(home, "wavshap-lightning"))


def read_text(path: Path) -> str:
    """Text of a file in UTF-8, or in UTF-16 with a byte order mark, as spreadsheets and Praat save it.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is in neither, holds zero bytes, or is a pointer of Git LFS.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 ({error}); save it as plain text in UTF-8") from error
    if text.startswith("version https://git-lfs"):
        raise ValueError("is only a pointer of Git LFS; run `git lfs pull` there")
    if "\0" in text:
        raise ValueError(
            "holds zero bytes, as damaged files do and UTF-16 without its mark; save it as UTF-8"
        )
    return text


def parse_csv(text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of delimited text, the header first, each with the line on which it starts, counted from 1.

    The delimiter is the one of `DELIMITERS` that the header has most; with semicolons, numbers may have
    decimal commas. White space around a cell is ignored. Blank rows, a spreadsheet's line `sep=;` and empty
    cells to the right of the header are skipped; cells left out at the end of a row are empty.

    Raises:
        ValueError: If a row is malformed or has more cells than the header.
    """
    text = re.sub(r'\A"?sep=[^\r\n]*', "", text)
    header = next((line for line in text.splitlines() if line.strip(f' "{DELIMITERS}')), "")
    delimiter = max(DELIMITERS, key=re.sub('"[^"]*"', "", header).count)
    source = io.StringIO(text, newline="")
    reader = csv.reader(source, delimiter=delimiter, skipinitialspace=True, strict=True)
    width, start = 0, 1  # a quoted cell may span lines
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if delimiter == ";":
                cells = [re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", cell) for cell in cells]
            if any(cells):
                width = width or max(number for number, cell in enumerate(cells, start=1) if cell)
                if any(cells[width:]):
                    what = f"cells={len(cells)} but the header names {width} columns"
                    raise ValueError(f"line={start}: {what}; put text with commas in double quotes")
                yield start, cells[:width] + [""] * (width - len(cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"line={start}: not a row of a CSV file ({error})") from error


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
