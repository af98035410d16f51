"""Alignment files: who said what when, as TextGrid, CTM or CSV, in whatever words their writers use."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from praatio import textgrid
from praatio.data_classes.textgrid_tier import TextgridTier
from praatio.utilities.constants import INTERVAL_TIER
from praatio.utilities.errors import PraatioException

from wavshap_lightning.errors import AudioError

SUFFIXES = (".TextGrid", ".ctm", ".csv", ".tsv")
WORD_TIERS = ("words", "word")
COMMENT = ";;"

TEXT_COLUMNS = ("text", "word", "label", "token", "name", "segment", "phone")
START_COLUMNS = ("start_s", "start", "start_time", "begin", "onset", "from", "xmin", "tmin")
END_COLUMNS = ("end_s", "end", "end_time", "stop", "offset", "to", "xmax", "tmax")
DURATION_COLUMNS = ("duration_s", "duration", "dur")

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error, PraatioException)
"""What readers raise of files that are something else."""


class Labelled(NamedTuple):
    """A row of an alignment as it stands in the file.

    Args:
        text: What is said.
        start_s: Where it begins, in seconds.
        end_s: Where it ends.
    """

    text: str
    start_s: float
    end_s: float


def read_rows(path: Path, tier: str, recording: str) -> list[Labelled]:
    """The rows of an alignment, unchecked.

    Args:
        path: A file with one of `SUFFIXES`.
        tier: Of a TextGrid.
        recording: Of a CTM.

    Raises:
        AudioError: If the file cannot be read, or there is no such tier or recording.
    """
    suffix = path.suffix.lower()
    if suffix not in map(str.lower, SUFFIXES):
        raise AudioError(f"segments={path}: suffix={path.suffix!r} must be one of {', '.join(SUFFIXES)}")
    try:
        match suffix:
            case ".textgrid":
                return _read_textgrid(path, tier)
            case ".ctm":
                return _read_ctm(path, recording)
            case _:
                return _read_table(path)
    except UNREADABLE as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise AudioError(
            f"segments={path} cannot be read as {suffix[1:]} ({reason}); export it again"
        ) from error


def _read_textgrid(path: Path, tier: str) -> list[Labelled]:
    path.read_bytes()  # the library names no reason where a file is missing
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="silence")
    found: Mapping[str, TextgridTier] = {name: grid.getTier(name) for name in grid.tierNames}
    chosen = found[_chosen_tier(path, found, tier)]
    return [Labelled(entry.label, float(entry.start), float(entry.end)) for entry in chosen.entries]


def _chosen_tier(path: Path, found: Mapping[str, TextgridTier], asked: str) -> str:
    intervals = [name for name, tier in found.items() if tier.tierType == INTERVAL_TIER]
    if not intervals or (asked and asked not in intervals):
        raise AudioError(
            f"segments={path}: tier={asked!r} is no tier of intervals there; it has "
            f"{', '.join(map(repr, intervals)) or 'none'}"
        )
    return asked or next((name for name in intervals if name.strip().lower() in WORD_TIERS), intervals[0])


def _read_ctm(path: Path, recording: str) -> list[Labelled]:
    """Lines of `recording channel start duration word`, in seconds; what follows is left out."""
    rows = [
        line.split() for line in _text(path).splitlines() if line.strip() and not line.startswith(COMMENT)
    ]
    short = next((row for row in rows if len(row) < 5), None)
    if short is not None:
        raise ValueError(f"the line {' '.join(short)!r} must be: recording channel start duration word")
    recordings = sorted({row[0] for row in rows})
    if len(recordings) > 1 and recording not in recordings:
        raise AudioError(
            f"segments={path} holds {len(recordings)} recordings and none named {recording!r}; found "
            f"{', '.join(recordings[:5])}"
        )
    wanted = recording if len(recordings) > 1 else None
    return [
        Labelled(word, float(start), float(start) + float(duration))
        for name, _, start, duration, word, *_ in rows
        if wanted in (None, name)
    ]


def _read_table(path: Path) -> list[Labelled]:
    text = _text(path)
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    names = {name.strip().lower(): name for name in (rows[0] if rows else {}) if name}
    start, end = _column(names, START_COLUMNS), _column(names, END_COLUMNS)
    duration, words = _column(names, DURATION_COLUMNS), _column(names, TEXT_COLUMNS)
    if start is None or (end is None and duration is None) or words is None:
        raise ValueError(f"columns={list(names)} must hold text, start_s and end_s")
    return [
        Labelled(
            (row[words] or "").strip(),
            float(row[start]),
            float(row[end]) if end is not None else float(row[start]) + float(row[str(duration)]),
        )
        for row in rows
    ]


def _column(found: Mapping[str, str], known: Sequence[str]) -> str | None:
    return next((found[name] for name in known if name in found), None)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8-sig")
