"""Manifests: clips as a table, one row per clip, in CSV or JSON Lines.

`path` and `label` are required; the other columns are the other fields of a clip. Relative paths start at
the manifest's folder. In CSV, `evidence`, `votes` and `values` are JSON inside their cells; columns named
after `DIMENSIONS` are values too. A table without any label needs votes or values: labels are then those of
most votes. White space around a path, a name or a text is no part of it. Tables as spreadsheets write them
are read too: with semicolons or tabs, in UTF-16, with rows and columns of empty cells.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from wavshap_lightning.corpora.clip import Clip, Span, normalized
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.corpora.labels import majority_label
from wavshap_lightning.errors import CorpusError
from wavshap_lightning.files import format_csv, parse_csv, read_text, write_atomically

SUFFIXES = (".csv", ".tsv", ".jsonl")
SAVED_SUFFIXES = (".csv", ".jsonl")
REQUIRED = ("path", "label")
DIMENSIONS = ("arousal", "valence", "dominance")
MEASURED = frozenset({"votes", "values", *DIMENSIONS})
"""Columns of a table that may do without labels."""

# How spreadsheets write errors and numbers too long for them, and programs an empty cell.
_NO_NAME = re.compile(r"#(N/A|NV|[A-Z0/]+[!?])|\d([.,]\d+)?E\+\d+|nan|NaN|<NA>|NULL")

Rows = dict[int, dict[str, Any]]
"""The cells of each row of a table by column, by the line on which the row starts, counted from 1."""

Listings = dict[Path, dict[str, list[str]]]
"""Names in each folder, by how they are written in normalized small letters."""


def read_manifest(path: Path | str, *, must_exist: bool = True) -> list[Clip]:
    """The clips of a manifest, in the order of its rows.

    Columns that a clip does not have are ignored, unless one looks like a misspelled column of a clip.

    Args:
        path: A `.csv` or `.tsv` file with a header, or a `.jsonl` file with one object per line.
        must_exist: Whether to refuse a manifest if audio files are missing.

    Raises:
        CorpusError: If the file is missing, empty or malformed, a column is missing or misspelled, a cell
            cannot be used, two rows are the same clip, or an audio file does not exist. The message names
            the line.
    """
    table = Path(path).expanduser()
    rows = read_table(table, required=REQUIRED, implied_by={"label": MEASURED})
    filled = {name for cells in rows.values() for name, cell in cells.items() if cell}
    _check_spelling(table, filled)
    required = ("path",) if "label" not in filled and filled & MEASURED else REQUIRED
    clips: dict[str, Clip] = {}
    listings: Listings = {}
    for line, cells in rows.items():
        try:
            clips[f"line {line}"] = to_clip(cells, table.parent, listings, required)
        except CorpusError as error:
            raise CorpusError(f"manifest={table} line={line}: {error}") from error
    check_distinct(table, clips)
    missing = {place: clip.path for place, clip in clips.items() if not os.path.isfile(clip.path)}  # noqa: PTH113 - of any length
    if missing and must_exist:
        shown = listed(f"{place}: {path}" for place, path in missing.items())
        found = f"{len(missing)} of {len(clips)} audio files do not exist ({shown})"
        base = f"{table.parent.absolute()}{_nearest(next(iter(missing.values())))}"
        raise CorpusError(f"manifest={table}: {found}; relative paths start at {base}")
    return list(clips.values())


def load_manifest(root: Path | str) -> list[Clip]:
    """The clips of a manifest: the file itself, or `manifest.csv`, `.tsv` or `.jsonl` in a folder.

    Raises:
        CorpusError: If there is nothing of that name, the folder holds none or several, or the manifest
            is inconsistent.
    """
    path = Path(root).expanduser()
    if not path.is_dir():
        return read_manifest(path)
    found = [file for suffix in SUFFIXES if (file := path / f"manifest{suffix}").is_file()]
    if len(found) != 1:
        names = "files named manifest.csv, .tsv or .jsonl"
        raise CorpusError(f"root={str(root)!r} holds {len(found)} {names}: it needs one")
    return read_manifest(found[0])


def save_manifest(path: Path | str, clips: Sequence[Clip]) -> None:
    """Write clips so that `read_manifest` gives them back equal.

    Paths below the manifest's folder become relative, so that the folder can be moved; others become
    absolute. An empty text or dialogue is stored like none. The file appears complete or not at all.

    Args:
        path: A `.csv` or `.jsonl` file; its folder is made.
        clips: At least one.

    Raises:
        CorpusError: If there is no clip, a clip is there twice, the file cannot be written, or a path is not
            UTF-8, which only JSON Lines can hold.
    """
    table = Path(path).expanduser()
    if not clips:
        raise CorpusError(f"manifest={table}: clips=[] is empty; there is nothing to save")
    check_distinct(table, {f"clip {index}": clip for index, clip in enumerate(clips)})
    rows = [_to_cells(clip, table.parent) for clip in clips]
    if _suffix(table, SAVED_SUFFIXES) == ".csv":
        columns = [name for name in COLUMNS if any(name in cells for cells in rows)]
        table_rows = [[_csv_cell(cells.get(name, "")) for name in columns] for cells in rows]
        text = format_csv([columns, *table_rows])
    else:
        text = "".join(json.dumps(cells, ensure_ascii=False) + "\n" for cells in rows)
        text = text.encode(errors="backslashreplace").decode()  # stray bytes of a path, as JSON writes them
    write_table(table, text)


# Tables


def read_table(
    path: Path, *, required: Sequence[str], implied_by: Mapping[str, Collection[str]] | None = None
) -> Rows:
    """Rows of a table: delimited cells with a header, or one JSON object per line. Delimited cells are text.

    Delimited cells are read by `parse_csv`; columns without a name are skipped. White space around a name or
    a cell is ignored: `a.wav, angry` equals `a.wav,angry`.

    Args:
        path: The table.
        required: Columns that delimited cells need.
        implied_by: For such a column, others of which any one can stand in for it.

    Raises:
        CorpusError: If the file is missing, neither UTF-8 nor UTF-16 with a byte order mark, malformed or
            empty, or a required column is missing.
    """
    try:
        is_json = path.exists() and _suffix(path) == ".jsonl"  # else the suffix does not matter
        text = read_text(path)
        rows = _json_rows(text) if is_json else _csv_rows(text, required, implied_by or {})
    except OSError as error:
        raise CorpusError(f"table={path} cannot be read from {Path.cwd()}: {error.strerror}") from error
    except ValueError as error:
        raise CorpusError(f"table={path} {error}") from error
    if not rows:
        raise CorpusError(f"table={path} has no rows; add one per clip")
    return rows


def _csv_rows(text: str, required: Sequence[str], implied_by: Mapping[str, Collection[str]]) -> Rows:
    rows = parse_csv(text)
    header = [normalized(name) for _, names in islice(rows, 1) for name in names]
    named = [name for name in header if name]
    missing = [name for name in required if {name, *implied_by.get(name, ())}.isdisjoint(named)]
    if missing or len(set(named)) < len(named):
        found = f"missing columns={missing}; found columns={header}"
        raise ValueError(f"{found}. The first line must name every column once, separated by commas")
    pairs = ((line, zip(header, cells, strict=True)) for line, cells in rows)
    return {line: {name: cell for name, cell in row if name} for line, row in pairs}


def _json_rows(text: str) -> Rows:
    rows: Rows = {}
    for line, content in enumerate(io.StringIO(text, newline=None), start=1):
        if not content.strip():
            continue
        try:
            cells = {**json.loads(content)}
        except (ValueError, TypeError, RecursionError) as error:
            way_out = "write one object per line, without brackets around or commas between them"
            raise ValueError(f"line={line}: not a JSON object ({error}); {way_out}") from error
        texts = {name: cell.strip() for name, cell in cells.items() if isinstance(cell, str)}
        rows[line] = {normalized(name): cell for name, cell in {**cells, **texts}.items()}
    return rows


def iterate_table(path: Path, *, required: Sequence[str]) -> Iterator[dict[str, str]]:
    """Delimited cells of one row after another, for tables with a row for each vote.

    Raises:
        CorpusError: If the file cannot be read, is malformed or lacks a required column.
    """
    try:
        rows = parse_csv(read_text(path))
        _, header = next(rows, (0, []))
        if missing := {*required} - {*header}:
            raise ValueError(f"lacks the columns {sorted(missing)}; fetch the release's own copy")  # noqa: TRY301
        for _, cells in rows:
            yield dict(zip(header, cells, strict=True))
    except (OSError, ValueError) as error:
        raise CorpusError(f"table={path} {error}") from error


def write_table(path: Path, text: str) -> None:
    """Write a whole UTF-8 file or nothing: readers see the old file until the new one is complete.

    Raises:
        CorpusError: If it cannot be written.
    """
    try:
        write_atomically(path, text.encode())
    except (OSError, UnicodeEncodeError) as error:
        way_out = "; rename what is not UTF-8, or save JSON Lines" if isinstance(error, UnicodeError) else ""
        raise CorpusError(f"table={path} cannot be written: {error}{way_out}") from error


def _suffix(table: Path, suffixes: Sequence[str] = SUFFIXES) -> str:
    if table.suffix.lower() not in suffixes:
        raise CorpusError(f"manifest={table}: suffix={table.suffix!r} must be one of {', '.join(suffixes)}")
    return table.suffix.lower()


def _check_spelling(table: Path, names: Collection[str]) -> None:
    for name in names:
        close = get_close_matches(name.lower(), COLUMNS, n=1, cutoff=0.8)
        if name not in COLUMNS and close and close[0] not in names:
            meant = f"did you mean {close[0]!r}? Rename or remove it"
            raise CorpusError(f"manifest={table}: column={name!r} is not a field of a clip; {meant}")


def check_distinct(table: Path, placed: Mapping[str, Clip]) -> None:
    """Raise CorpusError if two clips, each named by its place in a table, are the same span of a file."""
    first: dict[tuple[Path, float | None, float | None], str] = {}
    for place, clip in placed.items():
        earlier = first.setdefault((clip.path, clip.start_s, clip.end_s), place)
        if earlier != place:
            span = f"path={clip.path} start_s={clip.start_s} end_s={clip.end_s}"
            raise CorpusError(
                f"manifest={table}: {earlier} and {place} are the same clip, {span}; remove one"
            )


# A clip and its cells


def _list(cell: Any) -> list[Any]:  # noqa: ANN401 - any type of JSON
    """A list, which is text in CSV; the items of an object."""
    found = json.loads(cell) if isinstance(cell, str) else cell
    return list(found.items() if isinstance(found, dict) else found)


def _number(value: Any) -> float:  # noqa: ANN401 - any type of JSON
    if isinstance(value, bool):
        raise TypeError(f"{value} is not a number")  # `float` would make 1.0 of true
    return float(value)


def _text(value: Any) -> str:  # noqa: ANN401 - any type of JSON
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else str.strip(value)


def _name(value: Any) -> str:  # noqa: ANN401 - any type of JSON
    if _NO_NAME.fullmatch(name := _text(value)):
        raise ValueError(f"{name} names nothing")
    return name


def _span(start_s: object, end_s: object, kind: str = "") -> Span:
    return Span(_number(start_s), _number(end_s), _text(kind))


def _spans(cell: object) -> tuple[Span, ...]:
    return tuple(_span(**one) for one in _list(cell))


def _pairs(cell: object) -> tuple[tuple[str, float], ...]:
    return tuple((_text(name), _number(number)) for name, number in _list(cell))


NAME = (_name, "text, not an error, an empty value or a rounded number as programs write them; correct it")
SECONDS = (_number, "a number of seconds, with a decimal point")
SPANS = (_spans, 'a JSON list of objects like {"start_s": 0, "end_s": 1, "kind": "word"} and no other key')

COLUMNS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "path": NAME,
    "label": NAME,
    "speaker": NAME,
    "split": NAME,
    "start_s": SECONDS,
    "end_s": SECONDS,
    "text": (_text, "text; put it in double quotes"),
    "dialogue": NAME,
    "corpus": NAME,
    "evidence": SPANS,
    "votes": (_pairs, 'a JSON list of pairs like ["angry", 2], or an object like {"angry": 2}'),
    "values": (_pairs, 'a JSON list of pairs like ["arousal", 3.5], or an object like {"arousal": 3.5}'),
    **dict.fromkeys(DIMENSIONS, (_number, "a number, with a decimal point")),
}
"""Every column: how a cell is read, which is text in CSV and any type in JSON Lines, and what it must be."""


def to_clip(
    cells: Mapping[str, Any], base: Path, listings: Listings, required: Sequence[str] = REQUIRED
) -> Clip:
    """The clip that `_to_cells` described; cells that are missing, empty or null are empty fields."""
    given = {name: cells[name] for name in COLUMNS if cells.get(name) not in (None, "")}
    missing = [name for name in required if name not in given]
    if missing:
        raise CorpusError(f"missing={missing}, found={sorted(given)}; every clip needs a path and a label")
    fields: dict[str, Any] = {}
    for name, cell in given.items():
        read, kind = COLUMNS[name]
        try:
            fields[name] = read(cell)
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            raise CorpusError(f"{name}={cell!r} must be {kind}") from error
    plain = [(name, fields.pop(name)) for name in DIMENSIONS if name in fields]
    fields["values"] = (*fields.get("values", ()), *plain)
    fields.setdefault("label", majority_label(fields.get("votes", ())))
    name = str(fields.pop("path"))
    home = str(Path(name).expanduser()) if name.startswith("~/") else name
    spellings = (name, home, name.replace("\\", "/"), unquote(name.removeprefix("file://")))
    found = (find_file(base / spelling, listings) for spelling in dict.fromkeys(spellings))
    return Clip(path=next(filter(None, found), base / name), **fields)


def _to_cells(clip: Clip, base: Path) -> dict[str, Any]:
    """The fields of a clip that are filled, in JSON types and the order of `COLUMNS`."""
    path, base = clip.path.absolute(), base.absolute()
    cells = {name: getattr(clip, name) for name in COLUMNS if name not in DIMENSIONS}
    cells["path"] = (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()
    cells["evidence"] = [asdict(span) for span in clip.evidence]
    for pairs in ("votes", "values"):
        cells[pairs] = [list(pair) for pair in cells[pairs]]
    return {name: value for name, value in cells.items() if value is not None and value not in ("", [])}


def _csv_cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# Files that are written otherwise in a table than on the disk


def find_file(path: Path, listings: Listings) -> Path | None:
    """The file or folder at a path, or the one there that is meant.

    A name is meant if it is the only one of its folder that is equal after `normalized`, or else the only
    one that differs in letter case besides. Tables and disks disagree so after a move between Mac, Windows
    and Linux.

    Args:
        path: A path as somebody wrote it.
        listings: Names in folders, filled here; give the same one for many paths, so that each folder is
            listed once.

    Returns:
        A path that exists; None if there is none, or several could be meant.
    """
    if os.path.lexists(path) or path.parent == path:
        return path
    folder = find_file(path.parent, listings)
    if folder is None:
        return None
    if folder not in listings:
        listings[folder] = {}
        for name in _names_in(folder):
            listings[folder].setdefault(normalized(name).casefold(), []).append(name)
    alike = listings[folder].get(normalized(path.name).casefold(), [])
    meant = [name for name in alike if normalized(name) == normalized(path.name)] or alike
    return folder / meant[0] if len(meant) == 1 else None


def _names_in(folder: Path) -> list[str]:
    try:
        return [one.name for one in folder.iterdir()]
    except OSError:
        return []


def _nearest(path: Path) -> str:
    """A sentence with the name that is most like the missing part of a path, if one is alike."""
    path = next(one for one in (path, *path.parents) if one.parent.is_dir())
    names = {name.casefold(): name for name in sorted(_names_in(path.parent)) if name != path.name}
    close = get_close_matches(path.name.casefold(), names, n=1, cutoff=0.7)
    return f". There is no {path.name!r} in {path.parent}, but {names[close[0]]!r}" if close else ""
