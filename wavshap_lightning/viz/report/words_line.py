"""Words or segments of a clip as a line, coloured by what they say for the target and against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.viz.estimates import Estimates
from wavshap_lightning.viz.report.plotting import signs_of
from wavshap_lightning.viz.report.reading import listed
from wavshap_lightning.viz.words import TO, number

SIGNS = {1: "for", -1: "against", 0: "unresolved"}


@dataclass(frozen=True)
class Word:
    """A segment of the line.

    Args:
        text: What is said in it, or its times; `elsewhere` for what lies in none.
        sign: `"for"`, `"against"` or `"unresolved"`.
        strength: Of the colour, from 0 to 100.
        amount: Its attribution, as written.
        title: Times, attribution and interval in words.
        start_s: Where it begins; None for elsewhere.
    """

    text: str
    sign: str
    strength: int
    amount: str
    title: str
    start_s: float | None


def words_of(saved: SavedClip) -> list[Word]:
    """The line; empty without segments."""
    segments = saved.numbers.get("segments") or []
    if not segments:
        return []
    columns = {name: [row[name] for row in segments] for name in ("attribution", "half_width")}
    without = all(half is None for half in columns["half_width"])
    shown = listed({**columns, "half_width": None if without else columns["half_width"]})
    strengths = np.abs(shown.values) / (np.abs(shown.values).max() or 1.0)
    signs = signs_of(shown).tolist()
    return [
        Word(
            row["text"] or _times(row),
            SIGNS[signs[place]],
            round(100 * float(strengths[place])),
            number(row["attribution"], signed=True),
            _title(row, shown, place),
            None if row["start_s"] is None else float(row["start_s"]),
        )
        for place, row in enumerate(segments)
    ]


def _times(row: Mapping[str, Any]) -> str:
    return "elsewhere" if row["start_s"] is None else f"{row['start_s']:.2f}{TO}{row['end_s']:.2f} s"


def _title(row: Mapping[str, Any], shown: Estimates, place: int) -> str:
    said = f"{_times(row)}: {number(row['attribution'], signed=True)}"
    if row["half_width"] is None:
        return f"{said}, no interval known"
    low, high = number(shown.low[place], signed=True), number(shown.high[place], signed=True)
    unresolved = ", not resolved" if shown.unresolved[place] else ""
    return f"{said}, 95 % interval {low} to {high}{unresolved}"
