"""Manifests: clips as a table, one row per clip, in CSV or JSON Lines.

`path` and `label` are required; the other columns are the other fields of a clip. Relative paths start at
the manifest's folder. In CSV, `evidence` and `votes` are JSON inside their cells. White space around a
path, a name or a text is no part of it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.errors import CorpusError
from wavshap_lightning.files import format_csv, write_atomically

SUFFIXES = (".csv", ".jsonl")
REQUIRED = ("path", "label")

Rows = dict[int, dict[str, Any]]
"""The cells of each row of a table by column, by the line on which the row starts, counted from 1."""


def read_manifest(path: Path | str, *, must_exist: bool = True) -> list[Clip]:
    """The clips of a manifest, in the order of its rows.

    Columns that a clip does not have are ignored, unless one looks like a misspelled column of a clip.

    Args:
        path: A `.csv` file with a header, or a `.jsonl` file with one object per line.
        must_exist: Whether to refuse a manifest if audio files are missing.

    Raises:
        CorpusError: If the file is missing, empty or malformed, a column is missing or misspelled, a cell
            cannot be used, two rows are the same clip, or an audio file does not exist. The message names
            the line.
    """
    table = Path(path).expanduser()
    rows = read_table(table, required=REQUIRED)
    _check_spelling(table, {name for cells in rows.values() for name, cell in cells.items() if cell})
    clips: dict[str, Clip] = {}
    for line, cells in rows.items():
        try:
            clips[f"line {line}"] = _to_clip(cells, table.parent)
        except CorpusError as error:
            raise CorpusError(f"manifest={table} line={line}: {error}") from error
    check_distinct(table, clips)
    missing = [f"{place}: {clip.path}" for place, clip in clips.items() if not clip.path.is_file()]
    if missing and must_exist:
        raise CorpusError(
            f"manifest={table}: {len(missing)} of {len(clips)} audio files do not exist ({listed(missing)}); "
            f"relative paths start at {table.parent.absolute()}"
        )
    return list(clips.values())


def load_manifest(root: Path | str) -> list[Clip]:
    """The clips of a manifest: the file itself, or the one in a folder that has `manifest.csv` or `.jsonl`.

    Raises:
        CorpusError: If there is nothing of that name, the folder holds neither or both, or the manifest
            is inconsistent.
    """
    path = Path(root).expanduser()
    if not path.is_dir():
        return read_manifest(path)
    found = [file for suffix in SUFFIXES if (file := path / f"manifest{suffix}").is_file()]
    if len(found) != 1:
        raise CorpusError(
            f"root={str(root)!r} holds {len(found)} files named manifest.csv or manifest.jsonl: it needs one"
        )
    return read_manifest(found[0])


def save_manifest(path: Path | str, clips: Sequence[Clip]) -> None:
    """Write clips so that `read_manifest` gives them back equal.

    Paths below the manifest's folder become relative, so that the folder can be moved; others become
    absolute. An empty text or dialogue is stored like none, and white space around a text is lost. The
    file appears complete or not at all.

    Args:
        path: A `.csv` or `.jsonl` file; its folder is made.
        clips: At least one.

    Raises:
        CorpusError: If there is no clip, a clip is there twice, or the file cannot be written.
    """
    table = Path(path).expanduser()
    if not clips:
        raise CorpusError(f"manifest={table}: clips=[] is empty; there is nothing to save")
    check_distinct(table, {f"clip {index}": clip for index, clip in enumerate(clips)})
    rows = [_to_cells(clip, table.parent) for clip in clips]
    if _suffix(table) == ".csv":
        columns = [name for name in COLUMNS if any(name in cells for cells in rows)]
        table_rows = [[_csv_cell(cells.get(name, "")) for name in columns] for cells in rows]
        text = format_csv([columns, *table_rows])
    else:
        text = "".join(json.dumps(cells, ensure_ascii=False) + "\n" for cells in rows)
    write_table(table, text)


# Tables


def read_table(path: Path, *, required: Sequence[str]) -> Rows:
    """Rows of a table: comma-separated with a header, or one JSON object per line. CSV cells are text.

    White space around a name or a cell is ignored: `a.wav, angry` equals `a.wav,angry`. Blank lines
    are skipped.

    Raises:
        CorpusError: If the file is missing, not UTF-8, malformed or empty, or a required column is missing.
    """
    try:
        content = path.read_bytes()
        is_csv = _suffix(path) == ".csv"
        text = content.decode("utf-8-sig")  # spreadsheets begin a file with a byte order mark
    except OSError as error:
        raise CorpusError(f"table={path} cannot be read from {Path.cwd()}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"table={path} is not UTF-8 ({error}); save it as UTF-8") from error
    rows = _csv_rows(path, text, required) if is_csv else _json_rows(path, text)
    if not rows:
        raise CorpusError(f"table={path} has no rows; add one per clip")
    return rows


def _csv_rows(path: Path, text: str, required: Sequence[str]) -> Rows:
    lines = [(line, cells) for line, cells in _csv_lines(path, text) if cells]
    header = lines[0][1] if lines else []
    missing = [name for name in required if name not in header]
    if missing or len(set(header)) < len(header):
        raise CorpusError(
            f"table={path}: missing columns={missing}; found columns={header}. The first line must name "
            "every column once, separated by commas"
        )
    for line, cells in lines:
        if len(cells) != len(header):
            what = f"cells={len(cells)} but the header names {len(header)} columns"
            raise CorpusError(f"table={path} line={line}: {what}; put text with commas in double quotes")
    return {line: dict(zip(header, cells, strict=True)) for line, cells in lines[1:]}


def _csv_lines(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1  # a quoted cell may span lines
    try:
        for cells in reader:
            yield start, [cell.strip() for cell in cells]
            start = reader.line_num + 1
    except csv.Error as error:
        raise CorpusError(f"table={path} line={start}: not a row of a CSV file ({error})") from error


def _json_rows(path: Path, text: str) -> Rows:
    rows: Rows = {}
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            cells = {**json.loads(content)}
        except (ValueError, TypeError) as error:
            raise CorpusError(f"table={path} line={line}: not a JSON object ({error})") from error
        rows[line] = {name: cell.strip() if isinstance(cell, str) else cell for name, cell in cells.items()}
    return rows


def write_table(path: Path, text: str) -> None:
    """Write a whole UTF-8 file or nothing: readers see the old file until the new one is complete.

    Raises:
        CorpusError: If it cannot be written.
    """
    try:
        write_atomically(path, text.encode())
    except (OSError, UnicodeEncodeError) as error:
        raise CorpusError(f"table={path} cannot be written: {error}") from error


def _suffix(table: Path) -> str:
    if table.suffix.lower() not in SUFFIXES:
        raise CorpusError(f"manifest={table}: suffix={table.suffix!r} must be one of {', '.join(SUFFIXES)}")
    return table.suffix.lower()


def _check_spelling(table: Path, names: Collection[str]) -> None:
    for name in names:
        close = get_close_matches(name.lower(), COLUMNS, n=1, cutoff=0.8)
        if name not in COLUMNS and close and close[0] not in names:
            raise CorpusError(
                f"manifest={table}: column={name!r} is not a field of a clip; did you mean {close[0]!r}? "
                "Rename or remove it"
            )


def check_distinct(table: Path, placed: Mapping[str, Clip]) -> None:
    """Raise CorpusError if two clips, each named by its place in a table, are the same span of a file."""
    first: dict[tuple[Path, float | None, float | None], str] = {}
    for place, clip in placed.items():
        earlier = first.setdefault((clip.path, clip.start_s, clip.end_s), place)
        if earlier != place:
            raise CorpusError(
                f"manifest={table}: {earlier} and {place} are the same clip, path={clip.path} "
                f"start_s={clip.start_s} end_s={clip.end_s}; remove one"
            )


# A clip and its cells


def _list(cell: Any) -> list[Any]:  # noqa: ANN401 - any type of JSON
    """A list, which is text in CSV."""
    return list(json.loads(cell) if isinstance(cell, str) else cell)


def _number(value: Any) -> float:  # noqa: ANN401 - any type of JSON
    if isinstance(value, bool):
        raise TypeError(f"{value} is not a number")  # `float` would make 1.0 of true
    return float(value)


def _span(start_s: object, end_s: object, kind: str = "") -> Span:
    return Span(_number(start_s), _number(end_s), str.strip(kind))


def _spans(cell: object) -> tuple[Span, ...]:
    return tuple(_span(**one) for one in _list(cell))


def _votes(cell: object) -> tuple[tuple[str, float], ...]:
    return tuple((str.strip(label), _number(count)) for label, count in _list(cell))


TEXT = (str.strip, "text; put it in double quotes")
SECONDS = (_number, "a number of seconds")
SPANS = (
    _spans,
    'a JSON list of objects like {"start_s": 0.5, "end_s": 0.9, "kind": "word"} and no other key',
)

COLUMNS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "path": TEXT,
    "label": TEXT,
    "speaker": TEXT,
    "split": TEXT,
    "start_s": SECONDS,
    "end_s": SECONDS,
    "text": TEXT,
    "dialogue": TEXT,
    "corpus": TEXT,
    "evidence": SPANS,
    "votes": (_votes, 'a JSON list of pairs like ["angry", 2]'),
}
"""Every column: how a cell is read, which is text in CSV and any type in JSON Lines, and what it must be."""


def _to_clip(cells: Mapping[str, Any], base: Path) -> Clip:
    """The clip that `_to_cells` described; cells that are missing, empty or null are empty fields."""
    given = {name: cells[name] for name in COLUMNS if cells.get(name) not in (None, "")}
    missing = [name for name in REQUIRED if name not in given]
    if missing:
        raise CorpusError(f"missing={missing}, found={sorted(given)}; every clip needs a path and a label")
    fields = {}
    for name, cell in given.items():
        read, kind = COLUMNS[name]
        try:
            fields[name] = read(cell)
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise CorpusError(f"{name}={cell!r} must be {kind}") from error
    return Clip(**{**fields, "path": base / fields["path"]})


def _to_cells(clip: Clip, base: Path) -> dict[str, Any]:
    """The fields of a clip that are filled, in JSON types and the order of `COLUMNS`."""
    path, base = clip.path.absolute(), base.absolute()
    cells = {name: getattr(clip, name) for name in COLUMNS}
    cells["path"] = (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()
    cells["evidence"] = [asdict(span) for span in clip.evidence]
    cells["votes"] = [list(vote) for vote in clip.votes]
    return {name: value for name, value in cells.items() if value is not None and value not in ("", [])}


def _csv_cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
