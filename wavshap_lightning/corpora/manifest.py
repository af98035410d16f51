"""Manifests: clips as a table, one row per clip, in CSV or JSON Lines.

`path` and `label` are required; the other columns are the other fields of a clip. Relative paths start at
the manifest's folder. In CSV, `evidence` and `votes` are JSON inside their cells. White space around a
path, a name or a text is no part of it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.errors import CorpusError
from wavshap_lightning.files import format_csv, write_atomically


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


REQUIRED = ("path", "label")
TIMES = ("start_s", "end_s")
NESTED = ("evidence", "votes")
COLUMNS = (*REQUIRED, "speaker", "split", *TIMES, "text", "dialogue", "corpus", *NESTED)


def clip_to_cells(clip: Clip, base: Path) -> dict[str, Any]:
    """The fields of a clip that are filled, in the order of `COLUMNS`.

    The path becomes relative to `base` where it lies below it, and absolute where it does not.

    >>> clip_to_cells(Clip(Path("set/a.wav"), "sad", evidence=(Span(0.5, 0.9, "tremor"),)), Path("set"))
    {'path': 'a.wav', 'label': 'sad', 'evidence': [{'start_s': 0.5, 'end_s': 0.9, 'kind': 'tremor'}]}
    """
    cells = {name: getattr(clip, name) for name in COLUMNS}
    cells["path"] = _portable(clip.path, base)
    cells["evidence"] = [
        {"start_s": span.start_s, "end_s": span.end_s, "kind": span.kind} for span in clip.evidence
    ]
    cells["votes"] = [[label, count] for label, count in clip.votes]
    return {name: value for name, value in cells.items() if value is not None and value not in ("", [])}


def cells_to_clip(cells: Mapping[str, Any], base: Path) -> Clip:
    """The clip that `clip_to_cells` described; cells that are missing or null are empty fields.

    White space around a text is no part of it: another class or speaker would hide behind it.

    Raises:
        CorpusError: If the path or the label is missing, or a cell is of the wrong kind or out of range.
    """
    missing = [name for name in REQUIRED if not _text(cells, name)]
    if missing:
        raise CorpusError(f"missing={missing}, found={sorted(cells)}; every clip needs a path and a label")
    return Clip(
        path=base / _text(cells, "path"),
        label=_text(cells, "label"),
        speaker=_text(cells, "speaker"),
        corpus=_text(cells, "corpus"),
        split=_text(cells, "split") or None,
        start_s=_seconds(cells, "start_s"),
        end_s=_seconds(cells, "end_s"),
        evidence=tuple(_span(item) for item in _items(cells, "evidence")),
        text=_text(cells, "text") or None,
        votes=tuple(_vote(item) for item in _items(cells, "votes")),
        dialogue=_text(cells, "dialogue") or None,
    )


def _portable(path: Path, base: Path) -> str:
    whole = path.absolute()
    return (whole.relative_to(base.absolute()) if whole.is_relative_to(base.absolute()) else whole).as_posix()


def _text(cells: Mapping[str, Any], name: str) -> str:
    value = cells.get(name)
    if value is not None and not isinstance(value, str):
        raise CorpusError(f"{name}={value!r} must be text; put it in double quotes")
    return (value or "").strip()


def _seconds(cells: Mapping[str, Any], name: str) -> float | None:
    value = cells.get(name)
    return None if value is None else _number(value, name)


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


SUFFIXES = (".csv", ".jsonl")
CELL_PARSERS: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(TIMES, float),
    **dict.fromkeys(NESTED, json.loads),
}


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
    rows = _read_csv(table) if _is_csv(table) else read_json_lines(table)
    _check_spelling(table, {name: None for row in rows for name in row.cells})
    clips = [_read_clip(table, row) for row in rows]
    places = [f"line {row.line}" for row in rows]
    _check_distinct(table, clips, places)
    if must_exist:
        _check_existing(table, clips, places)
    return clips


def load_manifest(root: Path | str) -> list[Clip]:
    """The clips of a manifest: the file itself, or the one in a folder that has `manifest.csv` or `.jsonl`.

    Raises:
        CorpusError: If there is nothing of that name, the folder holds neither or both, or the manifest
            does not hold together.
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
    rows = [clip_to_cells(clip, table.parent) for clip in clips]
    write_table(table, _format_csv(rows) if _is_csv(table) else _format_json_lines(rows))


def _is_csv(table: Path) -> bool:
    if table.suffix.lower() not in SUFFIXES:
        raise CorpusError(f"manifest={table}: suffix={table.suffix!r} must be one of {', '.join(SUFFIXES)}")
    return table.suffix.lower() == ".csv"


def _read_csv(table: Path) -> list[Row]:
    """Rows as JSON Lines hold them: empty cells left out, numbers and nested cells parsed."""
    return [
        Row(
            row.line, {name: _parsed(table, row.line, name, cell) for name, cell in row.cells.items() if cell}
        )
        for row in read_csv(table, required=REQUIRED)
    ]


def _parsed(table: Path, line: int, name: str, cell: str) -> object:
    try:
        return CELL_PARSERS.get(name, str)(cell)
    except ValueError as error:
        kind = "a number of seconds" if name in TIMES else "JSON"
        raise CorpusError(f"manifest={table} line={line}: {name}={cell!r} must be {kind}: {error}") from error


def _read_clip(table: Path, row: Row) -> Clip:
    try:
        return cells_to_clip(row.cells, table.parent)
    except CorpusError as error:
        raise CorpusError(f"manifest={table} line={row.line}: {error}") from error


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
    missing = [
        f"{place}: {clip.path}" for clip, place in zip(clips, places, strict=True) if not clip.path.is_file()
    ]
    if missing:
        raise CorpusError(
            f"manifest={table}: {len(missing)} of {len(clips)} audio files do not exist ({listed(missing)}); "
            f"relative paths start at {table.parent.absolute()}"
        )


def _format_csv(rows: Sequence[dict[str, Any]]) -> str:
    columns = [name for name in COLUMNS if any(name in row for row in rows)]
    return format_csv([columns, *([_cell(row.get(name, "")) for name in columns] for row in rows)])


def _cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _format_json_lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
