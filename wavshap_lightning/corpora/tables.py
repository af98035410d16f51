"""Tables on disk: rows of CSV and JSON Lines, each with the line it stands on, and their writing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavshap_lightning.errors import CorpusError
from wavshap_lightning.files import write_atomically


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Args:
        line: The line it starts on, counted from 1.
        cells: What stands in each column.
    """

    line: int
    cells: dict[str, Any]


def read_csv(path: Path, *, required: Sequence[str]) -> list[Row]:
    """Every row of a comma-separated table with a header, as text.

    White space around a name or a cell is no part of it: `a.wav, angry` says what `a.wav,angry` says.

    Raises:
        CorpusError: If the file is missing, not UTF-8 or empty, a required column is missing, or a row
            has more or fewer cells than the header.
    """
    lines = _csv_lines(path)
    header = [name.strip() for name in next(lines, (0, []))[1]]
    missing = [name for name in required if name not in header]
    if missing or len(set(header)) < len(header):
        raise CorpusError(
            f"table={path}: missing columns={missing}; found columns={header}. The first line must name "
            "every column once, separated by commas"
        )
    return _refuse_empty(path, [_csv_row(path, header, line, cells) for line, cells in lines if cells])


def read_json_lines(path: Path) -> list[Row]:
    """Every row of a table that has one JSON object per line; blank lines are skipped.

    Raises:
        CorpusError: If the file is missing, not UTF-8 or empty, or a line is not a JSON object.
    """
    lines = enumerate(_read_text(path).split("\n"), start=1)
    return _refuse_empty(path, [_json_row(path, line, text) for line, text in lines if text.strip()])


def write_table(path: Path, text: str) -> None:
    """Write a whole UTF-8 file or nothing: readers see the old file until the new one is complete.

    Raises:
        CorpusError: If it cannot be written.
    """
    try:
        write_atomically(path, text.encode())
    except (OSError, UnicodeEncodeError) as error:
        raise CorpusError(f"table={path} cannot be written: {error}") from error


def format_csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A comma-separated table with a header, as text."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    if any("\r" in cell for row in rows for cell in row):
        # The writer quotes a bare carriage return only where everything is quoted.
        writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([columns, *rows])
    return buffer.getvalue()


def _csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row and the line it starts on; a quoted cell may span lines."""
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    start = 1
    try:
        for cells in reader:
            yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise CorpusError(f"table={path} line={start}: not a row of a CSV file ({error})") from error


def _csv_row(path: Path, header: Sequence[str], line: int, cells: Sequence[str]) -> Row:
    if len(cells) != len(header):
        raise CorpusError(
            f"table={path} line={line}: cells={len(cells)} but the header names {len(header)} columns; put "
            "text that contains commas in double quotes"
        )
    return Row(line, dict(zip(header, (cell.strip() for cell in cells), strict=True)))


def _json_row(path: Path, line: int, text: str) -> Row:
    try:
        cells = json.loads(text)
    except ValueError as error:
        raise CorpusError(f"table={path} line={line}: not JSON ({error})") from error
    if not isinstance(cells, dict):
        raise CorpusError(f"table={path} line={line}: {text.strip()!r} must be a JSON object like {{...}}")
    return Row(line, cells)


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise CorpusError(f"table={path}: there is no such file") from None
    except OSError as error:
        raise CorpusError(f"table={path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"table={path} is not UTF-8 ({error}); save it as UTF-8") from error


def _refuse_empty(path: Path, rows: list[Row]) -> list[Row]:
    if not rows:
        raise CorpusError(f"table={path} holds no row; give it one per clip")
    return rows
