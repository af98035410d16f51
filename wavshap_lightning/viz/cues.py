"""An explanation in acoustic cues as it is shown: a row for each term of its sum, and their panel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from scipy.special import expit

from wavshap_lightning.audio.voice import CUES, UNITS
from wavshap_lightning.viz import theme
from wavshap_lightning.viz.panels import FULL, set_ticks
from wavshap_lightning.viz.theme import number

ROW_PX = 19
NAMES_SHARE, DIFFERENCES_AT, VALUES_SHARE = 0.36, 0.14, 0.2
"""Shares of the panel's width: for names and differences, where differences begin, and for the values."""

CUE_SOUNDS = ("resynthesis", *CUES, "all_cues")
"""Sounds by name: nothing moved, each cue alone at the reference, all of them."""

WITH = {"neutral": "neutral", "speaker": "the speaker's mean", "corpus": "the mean", "flat": "flat"}
"""Words before a cue that is moved to the reference, by its kind."""

SMALL = 0.095
"""Smaller numbers, such as effects on values, have one digit instead of two decimals."""


class CueRow(NamedTuple):
    """One term of the sum.

    Args:
        name: The cue, or another term, in words.
        difference: Physical difference of the clip from the reference; empty for other terms.
        value: Its part of the difference of scores.
        half_width: Half-width of the 95 % interval; None for terms without one.
        alone: Drop of the score if this cue alone is moved to the reference; None for other terms.
        sign: 1 for the target, -1 against it, 0 where unresolved.
        sound: Name of the sound that goes with it; empty without one.
        heard: Words about that sound.
    """

    name: str
    difference: str
    value: float
    half_width: float | None = None
    alone: float | None = None
    sign: int = 0
    sound: str = ""
    heard: str = ""

    @property
    def words(self) -> str:
        """The value with its interval."""
        reach = "" if self.half_width is None else f" ± {signed(self.half_width)[1:]}"
        return f"{signed(self.value)}{reach}"


def cue_rows(cues: Mapping[str, Any]) -> list[CueRow]:
    """Rows of an explanation in cues: the cues, the resynthesis, the remainder if there is one.

    Args:
        cues: Plain JSON types, as in a clip's JSON file.
    """
    resynthesized, rows = cues["score"] - cues["resynthesis"], []
    with_cue = WITH.get(cues["reference_kind"], "the reference's")
    for one in cues["cues"]:
        name, sign = one["cue"].replace("_", " "), int(np.sign(one["value"])) * one["resolved"]
        after = _score(cues, resynthesized - one["leave_one_out"])
        heard = f"with {with_cue} {name}: {after}"
        measured = one["value"], one["half_width"], one["leave_one_out"]
        difference = UNITS[one["cue"]].format(one["difference"]).replace("-", theme.MINUS)
        rows.append(CueRow(name, difference, *measured, sign, one["cue"], heard))
    heard = f"resynthesized: {_score(cues, resynthesized)}"
    rows.append(CueRow("resynthesis", "", cues["resynthesis"], sound="resynthesis", heard=heard))
    return rows if cues["remainder"] is None else [*rows, CueRow("remainder", "", cues["remainder"])]


def _score(cues: Mapping[str, Any], score: float) -> str:
    """A score in words, as a probability where it can be one."""
    if cues["score_kind"] == "log_odds" and cues["target"] in cues["labels"]:  # no margin
        return f"{cues['target']} {expit(score):.2f}"
    return f"score {number(score)}"


def sum_in_words(cues: Mapping[str, Any]) -> str:
    """The difference that the rows sum to, and the two scores that it leads from and to."""
    score, other = cues["score"], cues["reference_score"]
    way = f"from {signed(other)} ({cues['reference']}) to {signed(score)} (the clip)"
    return f"{signed(score - other)}, {way}"


def signed(value: float) -> str:
    """A number with its sign and two decimals, or one digit if it is small."""
    return f"{value:{'+.2f' if abs(value) >= SMALL else '+.1g'}}".replace("-", theme.MINUS)


def floor_of(cues: Mapping[str, Any]) -> float:
    """Magnitude below which no cue is ranked: the widest half-width."""
    return max((one["half_width"] for one in cues["cues"]), default=0.0)


def plot_cues(axes: Axes, cues: Mapping[str, Any], title: str) -> None:
    """Draw a bar for each term to the right or left of 0, with its difference and its interval.

    Args:
        axes: Axes to draw on.
        cues: The explanation in cues.
        title: Title of the panel.
    """
    rows, floor = cue_rows(cues), floor_of(cues)
    values, reach = np.array([[row.value, row.half_width or 0.0] for row in rows]).T
    colors = [FULL[row.sign] if row.alone is not None else theme.MEDIUM for row in rows]
    places = np.arange(len(rows))
    axes.axvspan(-floor, floor, color=theme.UNRESOLVED, alpha=0.45, linewidth=0, zorder=0)
    axes.axvline(0, color=theme.RULE, linewidth=0.8)
    axes.barh(places, values, 0.62, color=colors)
    axes.hlines(places, values - reach, values + reach, theme.INK, linewidth=0.9)
    low, high = min(-floor, (values - reach).min()), max(floor, (values + reach).max())
    width = (high - low) / (1 - NAMES_SHARE - VALUES_SHARE)
    axes.set(xlim=(low - NAMES_SHARE * width, high + VALUES_SHARE * width), ylim=(len(rows) - 0.5, -0.5))
    axes.set(yticks=[], title=title)
    set_ticks(axes.xaxis, 12)
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= high])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_bounds(low, high)
    word: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "size": theme.SMALL_PT}
    for place, row in enumerate(rows):
        axes.text(0, place, row.name, **word)
        axes.text(DIFFERENCES_AT, place, row.difference, color=theme.QUIET, **word)
        axes.text(1, place, row.words, ha="right", **word)
