"""Alignment files: who said what when, as TextGrid, CTM or CSV, in whatever words their writers use."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from itertools import pairwise
from math import inf
from operator import attrgetter
from pathlib import Path

from praatio import textgrid
from praatio.utilities.constants import INTERVAL_TIER
from praatio.utilities.errors import PraatioException

from wavshap_lightning.audio.segments import Segment
from wavshap_lightning.errors import AudioError, first_line

SUFFIXES = (".TextGrid", ".ctm", ".csv", ".tsv")
WORD_TIERS = ("words", "word")
COMMENT = ";;"

COLUMNS = {
    "text": ("text", "word", "label", "token", "name", "segment", "phone"),
    "start_s": ("start_s", "start", "start_time", "begin", "onset", "from", "xmin", "tmin"),
    "end_s": ("end_s", "end", "end_time", "stop", "offset", "to", "xmax", "tmax"),
    "duration_s": ("duration_s", "duration", "dur"),
}
"""Names of the columns of a table, the first of them that is there before the others."""

OVERLAP_SLACK_S = 0.02
"""Ends are rounded; more than this is two people at a time, or a mistake."""

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error, PraatioException)
"""What readers raise of files that are something else."""


def read_segments(path: str | Path, *, tier: str = "", recording: str = "") -> list[Segment]:
    """The words of an alignment, in order and apart from one another; those without text are left out.

    Ends that overlap the next beginning by rounding are cut.

    Args:
        path: A TextGrid (long or short), a CTM, or a CSV with columns such as `text,start_s,end_s`.
        tier: Of a TextGrid; that named words or word, else the first of intervals, if empty.
        recording: Of a CTM that holds several.

    Raises:
        AudioError: If the file cannot be read, a time is out of order, words overlap, or there is none.
    """
    path = Path(path).expanduser()
    rows = [row for row in _read_rows(path, tier, recording) if row.text]
    if not rows:
        raise AudioError(f"segments={path} holds no word; export it again, or leave it out")
    for row in rows:
        if not 0 <= row.start_s < row.end_s < inf:  # true of NaN as well
            raise AudioError(f"segments={path}: {_place(row)} must begin at 0 or later and end after that")
    rows.sort(key=attrgetter("start_s"))
    for before, after in pairwise(rows):
        if before.end_s > after.start_s + OVERLAP_SLACK_S or before.start_s == after.start_s:
            both = f"{_place(before)} and {_place(after)}"
            raise AudioError(f"segments={path}: {both} overlap; give one speaker's words")
    apart = [replace(row, end_s=min(row.end_s, after.start_s)) for row, after in pairwise(rows)]
    return [*apart, rows[-1]]


def _place(row: Segment) -> str:
    return f"{row.text!r} ({row.start_s:g}-{row.end_s:g} s)"


def _read_rows(path: Path, tier: str, recording: str) -> list[Segment]:
    """Rows of an alignment file, unchanged."""
    suffix = path.suffix.lower()
    if suffix not in map(str.lower, SUFFIXES):
        raise AudioError(f"segments={path}: suffix={path.suffix!r} must be one of {', '.join(SUFFIXES)}")
    try:
        if suffix == ".textgrid":
            return _read_textgrid(path, tier)
        text = path.read_bytes().decode("utf-8-sig")
        return _read_ctm(path, text, recording) if suffix == ".ctm" else _read_table(text)
    except UNREADABLE as error:
        reason = f"cannot be read as {suffix[1:]} ({first_line(error)})"
        raise AudioError(f"segments={path} {reason}; export it again") from error


def _read_textgrid(path: Path, tier: str) -> list[Segment]:
    path.read_bytes()  # the library names no reason where a file is missing
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="silence")
    intervals = [name for name in grid.tierNames if grid.getTier(name).tierType == INTERVAL_TIER]
    if not intervals or tier not in ("", *intervals):
        there = ", ".join(map(repr, intervals)) or "none"
        raise AudioError(f"segments={path}: tier={tier!r} is not an interval tier; the file has {there}")
    of_words = [name for name in intervals if name.strip().lower() in WORD_TIERS]
    chosen = grid.getTier(tier or [*of_words, *intervals][0])
    return [Segment(entry.label.strip(), float(entry.start), float(entry.end)) for entry in chosen.entries]


def _read_ctm(path: Path, text: str, recording: str) -> list[Segment]:
    """Lines of `recording channel start duration word`, in seconds; what follows is left out."""
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith(COMMENT)]
    short = next((row for row in rows if len(row) < 5), None)
    if short is not None:
        raise ValueError(f"the line {' '.join(short)!r} must be: recording channel start duration word")
    recordings = sorted({row[0] for row in rows})
    if len(recordings) > 1 and recording not in recordings:
        found = f"{len(recordings)} recordings and none named {recording!r}"
        raise AudioError(f"segments={path} holds {found}; found {', '.join(recordings[:5])}")
    return [
        Segment(word, float(start), float(start) + float(duration))
        for name, _, start, duration, word, *_ in rows
        if name == recording or len(recordings) == 1
    ]


def _read_table(text: str) -> list[Segment]:
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    given = {name.strip().lower(): name for name in table.fieldnames or ()}
    column = {field: given[name] for field, names in COLUMNS.items() for name in names[::-1] if name in given}
    if not ({"text", "start_s"} <= column.keys() and column.keys() & {"end_s", "duration_s"}):
        raise ValueError(f"columns={list(given)} must hold text, start_s and end_s")
    segments = []
    for row in table:
        cells = {field: row[name] for field, name in column.items()}
        start_s = float(cells["start_s"])
        end_s = float(cells["end_s"]) if "end_s" in cells else start_s + float(cells["duration_s"])
        segments.append(Segment((cells["text"] or "").strip(), start_s, end_s))
    return segments
