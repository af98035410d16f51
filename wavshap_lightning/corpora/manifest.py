"""Manifests: clips as a table, one row per clip, in CSV or JSON Lines.

`path` and `label` are required; the other columns are the other fields of a clip. Relative paths start at
the manifest's folder. In CSV, `evidence` and `votes` are JSON inside their cells. White space around a
path, a name or a text is no part of it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.errors import CorpusError
from wavshap_lightning.files import format_csv, write_atomically

SUFFIXES = (".csv", ".jsonl")
REQUIRED = ("path", "label")
TIMES = ("start_s", "end_s")
NESTED = ("evidence", "votes")
COLUMNS = (*REQUIRED, "speaker", "split", *TIMES, "text", "dialogue", "corpus", *NESTED)

Row = tuple[int, dict[str, Any]]
"""The line on which a row of a table starts, counted from 1, and its cells by column."""


def read_manifest(path: Path | str, *, must_exist: bool = True) -> list[Clip]:
    """The clips of a manifest, in the order of its rows.

    Columns that a clip does not have are ignored, unless one looks like a misspelt column of a clip.

    Args:
        path: A `.csv` file with a header, or a `.jsonl` file with one object per line.
        must_exist: Whether to refuse a manifest whose audio is not all there.

    Raises:
        CorpusError: If the file is missing, empty or malformed, a column is missing or misspelt, a cell
            cannot be used, two rows are the same clip, or an audio file does not exist. The message names
            the line.
    """
    table = Path(path).expanduser()
    if not table.exists():
        raise CorpusError(
            f"manifest={table}: there is no such file or folder; check the path, which starts at "
            f"{Path.cwd()} if it is relative"
        )
    is_csv = _is_csv(table)
    rows = read_csv(table, required=REQUIRED) if is_csv else read_json_lines(table)
    _check_spelling(table, dict.fromkeys(name for _, cells in rows for name, cell in cells.items() if cell))
    clips = []
    for line, cells in rows:
        try:
            clips.append(_to_clip(_parsed(cells) if is_csv else cells, table.parent))
        except CorpusError as error:
            raise CorpusError(f"manifest={table} line={line}: {error}") from error
    places = [f"line {line}" for line, _ in rows]
    _check_distinct(table, clips, places)
    if must_exist:
        _check_existing(table, clips, places)
    return clips


def load_manifest(root: Path | str) -> list[Clip]:
    """The clips of a manifest: the file itself, or the one in a folder that has `manifest.csv` or `.jsonl`.

    Raises:
        CorpusError: If there is nothing of that name, the folder holds neither or both, or the manifest
            is inconsistent.
    """
    path = Path(root).expanduser()
    if not path.is_dir():
        return read_manifest(path)
    found = [path / f"manifest{suffix}" for suffix in SUFFIXES if (path / f"manifest{suffix}").is_file()]
    if len(found) != 1:
        raise CorpusError(
            f"root={str(root)!r} holds {len(found)} files named manifest.csv or manifest.jsonl and must hold "
            "one; give the manifest itself"
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
    _check_distinct(table, clips, [f"clip {index}" for index in range(len(clips))])
    rows = [_to_cells(clip, table.parent) for clip in clips]
    if _is_csv(table):
        columns = [name for name in COLUMNS if any(name in cells for cells in rows)]
        text = format_csv(
            [columns, *([_csv_cell(cells.get(name, "")) for name in columns] for cells in rows)]
        )
    else:
        text = "".join(json.dumps(cells, ensure_ascii=False) + "\n" for cells in rows)
    write_table(table, text)


def read_csv(path: Path, *, required: Sequence[str]) -> list[Row]:
    """Every row of a comma-separated table with a header, as text.

    White space around a name or a cell is no part of it: `a.wav, angry` equals `a.wav,angry`.

    Raises:
        CorpusError: If the file is missing, not UTF-8 or empty, a required column is missing, or a row
            has more or fewer cells than the header.
    """
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    lines: list[tuple[int, list[str]]] = []
    start = 1  # a quoted cell may span lines
    try:
        for cells in reader:
            lines.append((start, [cell.strip() for cell in cells]))
            start = reader.line_num + 1
    except csv.Error as error:
        raise CorpusError(f"table={path} line={start}: not a row of a CSV file ({error})") from error
    header = lines[0][1] if lines else []
    missing = [name for name in required if name not in header]
    if missing or len(set(header)) < len(header):
        raise CorpusError(
            f"table={path}: missing columns={missing}; found columns={header}. The first line must name "
            "every column once, separated by commas"
        )
    for line, cells in lines[1:]:
        if cells and len(cells) != len(header):
            raise CorpusError(
                f"table={path} line={line}: cells={len(cells)} but the header names {len(header)} columns; "
                "put text that contains commas in double quotes"
            )
    return _refuse_empty(
        path, [(line, dict(zip(header, cells, strict=True))) for line, cells in lines[1:] if cells]
    )


def read_json_lines(path: Path) -> list[Row]:
    """Every row of a table that has one JSON object per line; blank lines are skipped.

    Raises:
        CorpusError: If the file is missing, not UTF-8 or empty, or a line is not a JSON object.
    """
    rows: list[Row] = []
    for line, text in enumerate(_read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            cells = json.loads(text)
        except ValueError as error:
            raise CorpusError(f"table={path} line={line}: not JSON ({error})") from error
        if not isinstance(cells, dict):
            raise CorpusError(
                f"table={path} line={line}: {text.strip()!r} must be a JSON object like {{...}}"
            )
        rows.append((line, cells))
    return _refuse_empty(path, rows)


def write_table(path: Path, text: str) -> None:
    """Write a whole UTF-8 file or nothing: readers see the old file until the new one is complete.

    Raises:
        CorpusError: If it cannot be written.
    """
    try:
        write_atomically(path, text.encode())
    except (OSError, UnicodeEncodeError) as error:
        raise CorpusError(f"table={path} cannot be written: {error}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # spreadsheets begin a file with a byte order mark
    except OSError as error:
        raise CorpusError(f"table={path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"table={path} is not UTF-8 ({error}); save it as UTF-8") from error


def _refuse_empty(path: Path, rows: list[Row]) -> list[Row]:
    if not rows:
        raise CorpusError(f"table={path} holds no row; give it one per clip")
    return rows


def _is_csv(table: Path) -> bool:
    if table.suffix.lower() not in SUFFIXES:
        raise CorpusError(f"manifest={table}: suffix={table.suffix!r} must be one of {', '.join(SUFFIXES)}")
    return table.suffix.lower() == ".csv"


def _check_spelling(table: Path, found: Iterable[str]) -> None:
    names = list(found)
    for name in names:
        close = get_close_matches(name.lower(), COLUMNS, n=1, cutoff=0.8)
        if name not in COLUMNS and close and close[0] not in names:
            raise CorpusError(
                f"manifest={table}: column={name!r} is not a field of a clip; did you mean {close[0]!r}? "
                "Rename or remove it"
            )


def _check_distinct(table: Path, clips: Sequence[Clip], places: Sequence[str]) -> None:
    first: dict[tuple[Path, float | None, float | None], str] = {}
    for clip, place in zip(clips, places, strict=True):
        earlier = first.setdefault((clip.path, clip.start_s, clip.end_s), place)
        if earlier != place:
            raise CorpusError(
                f"manifest={table}: {earlier} and {place} are the same clip, path={clip.path} "
                f"start_s={clip.start_s} end_s={clip.end_s}; remove one"
            )


def _check_existing(table: Path, clips: Sequence[Clip], places: Sequence[str]) -> None:
    pairs = zip(clips, places, strict=True)
    missing = [f"{place}: {clip.path}" for clip, place in pairs if not clip.path.is_file()]
    if missing:
        raise CorpusError(
            f"manifest={table}: {len(missing)} of {len(clips)} audio files do not exist ({listed(missing)}); "
            f"relative paths start at {table.parent.absolute()}"
        )


# A clip and its cells


def _to_cells(clip: Clip, base: Path) -> dict[str, Any]:
    """The fields of a clip that are filled, in JSON types and the order of `COLUMNS`."""
    path, base = clip.path.absolute(), base.absolute()
    cells = {name: getattr(clip, name) for name in COLUMNS}
    cells["path"] = (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()
    cells["evidence"] = [
        {"start_s": span.start_s, "end_s": span.end_s, "kind": span.kind} for span in clip.evidence
    ]
    cells["votes"] = [[label, count] for label, count in clip.votes]
    return {name: value for name, value in cells.items() if value is not None and value not in ("", [])}


def _csv_cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parsed(cells: Mapping[str, str]) -> dict[str, Any]:
    """Cells as JSON Lines hold them: empty ones left out, numbers and nested cells parsed."""
    parsed: dict[str, Any] = {}
    for name, cell in cells.items():
        parse = float if name in TIMES else json.loads if name in NESTED else str
        try:
            parsed |= {name: parse(cell)} if cell else {}
        except ValueError as error:
            kind = "a number of seconds" if name in TIMES else "JSON"
            raise CorpusError(f"{name}={cell!r} must be {kind}: {error}") from error
    return parsed


def _to_clip(cells: Mapping[str, Any], base: Path) -> Clip:
    """The clip that `_to_cells` described; cells that are missing or null are empty fields."""
    texts = {name: _text(cells, name) for name in COLUMNS if name not in TIMES + NESTED}
    missing = [name for name in REQUIRED if not texts[name]]
    if missing:
        raise CorpusError(f"missing={missing}, found={sorted(cells)}; every clip needs a path and a label")
    filled: dict[str, Any] = {name: text for name, text in texts.items() if text}
    filled |= {name: _number(cells[name], name) for name in TIMES if cells.get(name) is not None}
    return Clip(
        **filled | {"path": base / texts["path"]},
        evidence=tuple(_span(item) for item in _items(cells, "evidence")),
        votes=tuple(_vote(item) for item in _items(cells, "votes")),
    )


def _text(cells: Mapping[str, Any], name: str) -> str:
    value = cells.get(name)
    if value is not None and not isinstance(value, str):
        raise CorpusError(f"{name}={value!r} must be text; put it in double quotes")
    return (value or "").strip()


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CorpusError(f"{name}={value!r} must be a number")
    return float(value)


def _items(cells: Mapping[str, Any], name: str) -> list[Any]:
    value = cells.get(name) or []
    if not isinstance(value, list):
        raise CorpusError(f"{name}={value!r} must be a JSON list")
    return value


def _span(item: object) -> Span:
    if not isinstance(item, dict) or not set(TIMES) <= set(item) <= {*TIMES, "kind"}:
        raise CorpusError(
            f'evidence={item!r} must be a list of objects like {{"start_s": 0.5, "end_s": 0.9, "kind": ""}}'
        )
    return Span(_number(item["start_s"], "start_s"), _number(item["end_s"], "end_s"), _text(item, "kind"))


def _vote(item: object) -> tuple[str, float]:
    if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
        raise CorpusError(f'votes={item!r} must be a list of pairs like ["angry", 2]')
    return item[0].strip(), _number(item[1], "votes")
