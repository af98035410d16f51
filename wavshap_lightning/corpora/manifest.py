"""Manifests: clips as a table, one row per clip, in CSV or JSON Lines.

`path` and `label` are required; the other columns are the other fields of a clip. Relative paths start at
the manifest's folder. In CSV, `evidence` and `votes` are JSON inside their cells. White space around a
path, a name or a text is no part of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from wavshap_lightning.corpora.cells import COLUMNS, NESTED, REQUIRED, TIMES, cells_to_clip, clip_to_cells
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.files import listed
from wavshap_lightning.corpora.tables import Row, format_csv, read_csv, read_json_lines, write_table
from wavshap_lightning.errors import CorpusError

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
    return format_csv(columns, [[_cell(row.get(name, "")) for name in columns] for row in rows])


def _cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _format_json_lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
