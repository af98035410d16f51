"""Figures of a scorecard, a panel for each metric, and of a stress test, one for each degradation."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from math import ceil, isfinite, nan
from operator import itemgetter
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wavshap_lightning.errors import SettingError
from wavshap_lightning.viz import theme
from wavshap_lightning.viz.panels import SMALL, set_ticks
from wavshap_lightning.viz.theme import literal, number

TableRow = Mapping[str, str | float | int]

COLUMNS, ROW_PX, AROUND_PX, HEAD_PX, NOTE_WIDTH = 3, 19, 64, 120, 190
ARROWS = {"higher": "higher is better \N{RIGHTWARDS ARROW}", "lower": "\N{LEFTWARDS ARROW} lower is better"}
STRIPE = "#f6f6f6"
FULL = "Full: better than every control, clip by clip, with an interval that excludes 0; hollow: not."


def plot_scorecard(
    rows: Sequence[TableRow],
    *,
    controls: Sequence[str],
    titles: Mapping[str, str],
    plain: Collection[str] = (),
    title: str = "Scorecard",
    note: str = "",
) -> Figure:
    """Figure of the means of all methods with their intervals.

    A dot is full where the paired difference from every control excludes 0 in the right direction, and hollow
    where it does not. Controls are gray, with a dotted line at their mean. For metrics on which controls say
    nothing, since they come out the same whatever is changed, methods have strokes instead of dots, and there
    is a line at 0.

    Args:
        rows: The tidy table with a row for each method and metric: `method`, `metric`, `better`, `mean`,
            `low`, `high`, `clips`, `resampled`, `units`, and `minus_CONTROL_low`, `minus_CONTROL_high`.
        controls: Names of the model-agnostic methods.
        titles: A few words on each metric; metrics that are not named are left out.
        plain: Metrics on which controls say nothing.
        title: Title of the figure.
        note: A sentence on what was resampled.

    Raises:
        SettingError: If there is no value to draw.
    """
    shown = {name: _known(rows, name, () if name not in plain else controls) for name in titles}
    shown = {name: known for name, known in shown.items() if known}
    if not shown:
        raise SettingError(f"rows: none of the metrics {', '.join(titles) or '(none)'} has a value to draw")
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    most_clips = max(int(row["clips"]) for row in rows)
    columns = min(COLUMNS, len(shown))
    lines = ceil(len(shown) / columns)
    height = HEAD_PX + lines * (AROUND_PX + ROW_PX * len(methods))
    with theme.theme():
        figure = Figure(figsize=(theme.WIDTH_PX / theme.DPI, height / theme.DPI), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        for axes, (name, known) in zip(panels, shown.items(), strict=False):
            _plot_metric(axes, known, methods, controls, strokes=name in plain)
            count = max(int(row["clips"]) for row in known)
            fewer = f" ({count} clips)" if count < most_clips else ""
            axes.set_title(f"{titles[name]}\n{ARROWS[str(known[0]['better'])]}{fewer}", linespacing=1.3)
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        left = {"x": 0.01, "ha": "left"}
        figure.suptitle(literal(title, 90), **left, fontsize=theme.TITLE_PT, weight="bold")
        words = _notes(rows, note, strokes=any(name in plain for name in shown))
        figure.supxlabel(words, **left, **SMALL, linespacing=1.4)
        # Laid out once, here, in our style: whoever shows the figure later may have another.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _known(rows: Sequence[TableRow], metric: str, left_out: Collection[str]) -> list[TableRow]:
    """Rows of one metric that have a value."""
    found = [row for row in rows if row["metric"] == metric and row["method"] not in left_out]
    return [row for row in found if all(isfinite(float(row[name])) for name in ("mean", "low", "high"))]


def _plot_metric(
    axes: Axes, rows: Sequence[TableRow], methods: Sequence[str], controls: Sequence[str], *, strokes: bool
) -> None:
    """One metric: its name is its Axes' label."""
    axes.set_label(str(rows[0]["metric"]))
    for row in rows:
        place, is_control = methods.index(str(row["method"])), row["method"] in controls
        mean, low, high = (float(row[name]) for name in ("mean", "low", "high"))
        color = theme.QUIET if is_control else theme.INK
        face = theme.UNRESOLVED if is_control else theme.INK if _beats(row, controls) else theme.PAPER
        axes.hlines(place, low, high, color=color, linewidth=1.6, zorder=2)
        dot: dict[str, Any] = {"s": 30, "facecolors": face, "edgecolors": color, "linewidths": 1.3}
        stroke: dict[str, Any] = {"s": 70, "marker": "|", "color": color, "linewidths": 1.6}
        axes.scatter(mean, place, zorder=3, **(stroke if strokes else dot))
        if is_control:
            axes.axvline(mean, color=theme.RULE, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
    axes.margins(x=0.06)
    low, high = axes.get_xlim()
    if strokes or low < 0 < high:
        axes.axvline(0, color=theme.RULE, linewidth=0.8, zorder=0.5)
    set_ticks(axes.xaxis, 5)
    _name_methods(axes, methods, controls)


def _name_methods(axes: Axes, methods: Sequence[str], controls: Sequence[str]) -> None:
    """A row for each method, every second one on gray; only the first column has names."""
    axes.set_ylim(len(methods) - 0.5, -0.5)
    for place in range(1, len(methods), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=STRIPE, linewidth=0, zorder=0)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(methods)), [literal(method, 22) for method in methods])
    for tick, method in zip(axes.get_yticklabels(), methods, strict=False):
        tick.set_color(theme.QUIET if method in controls else theme.INK)


def _notes(rows: Sequence[TableRow], note: str, *, strokes: bool) -> str:
    """Notes on reading the figure and on what was resampled."""
    most = max(rows, key=lambda row: int(row["clips"]))
    resampled = "them" if most["resampled"] == "clips" else f"their {most['units']} {most['resampled']}"
    sentences = [
        f"Mean over clips ({most['clips']}) and 95 % interval of the paired bootstrap over {resampled}.",
        f"{FULL} Gray: model-agnostic controls, with a dotted line at their mean.",
        "A classifier may well use more than the evidence; no single metric decides.",
        "Strokes: a property of each method by itself, with a line at 0, which is chance." if strokes else "",
        f"{literal(note[:1].upper() + note[1:], 400)}." if note else "",
    ]
    return "\n".join(line for one in sentences for line in textwrap.wrap(one, NOTE_WIDTH))


def _beats(row: TableRow, controls: Sequence[str]) -> bool:
    """True if the method is better than every control it can be compared with, or there is none."""
    side, sign = ("low", 1) if row["better"] == "higher" else ("high", -1)
    ends = [sign * float(row[f"minus_{control}_{side}"]) for control in controls]
    return all(end > 0 for end in ends if isfinite(end))


# Stress tests

STRESS_COLUMNS, STRESS_ROW_PX, STRESS_HEAD_PX = 5, 180, 70
STRESS_NOTE = """Black: {}, with its 95 % interval over {}. Dashed: of the clean clips. Circles: correlation
of maps with those of the clean clips{}. Levels from mild to severe, tempo from slow to fast."""


def plot_stress(result: Mapping[str, Any], score: str) -> Figure:
    """Figure of a stress test: score, its interval, and agreement of maps at every level of each kind.

    Args:
        result: The content of `stress.json`.
        score: Title of the score.
    """
    clean, *rows = result["ladder"]
    panels = {kind: [*own] for kind, own in groupby(rows, itemgetter("kind"))}
    left = [{**one, "level": 100 * one["kept"], "unit": "% of clips"} for one in result["abstention"][::2]]
    panels |= {"most certain": left} if left else {}
    lines, chance = ceil(len(panels) / STRESS_COLUMNS), result["draws_correlation"]
    keys = ("value", "low", "high") if result["score"] else ("kept", "kept_low", "kept_high")
    with theme.theme():
        size = theme.WIDTH_PX / theme.DPI, (STRESS_HEAD_PX + lines * STRESS_ROW_PX) / theme.DPI
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(lines, STRESS_COLUMNS, squeeze=False, sharey=True).ravel()
        for axes, (kind, own) in zip(grid, panels.items(), strict=False):
            _plot_levels(axes, own, clean[keys[0]], f"{kind} ({own[0]['unit']})", [*keys, "map_correlation"])
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        heading = f"Stress test: {score} of {result['clips']} clips"
        figure.suptitle(heading, x=0.01, ha="left", fontsize=theme.TITLE_PT, weight="bold")
        of_draws = "" if chance is None else f" (of other draws {chance:.2f})"
        figure.supxlabel(STRESS_NOTE.format(score, result["resampled"], of_draws), x=0.01, ha="left", **SMALL)
        figure.draw_without_rendering()  # in our style
        figure.set_layout_engine("none")
    return figure


def _plot_levels(axes: Axes, rows: Sequence[Any], clean: float, title: str, keys: Sequence[str]) -> None:
    """One kind, its levels evenly spaced."""
    columns = ([nan if (x := row.get(key)) is None else x for row in rows] for key in keys)
    places, (values, low, high, maps) = range(len(rows)), columns
    dots: dict[str, Any] = {"marker": "o", "markersize": 3.5}
    axes.axhline(clean, color=theme.RULE, linestyle=(0, (4, 3)), zorder=0)
    axes.fill_between(places, low, high, color=theme.UNRESOLVED, linewidth=0, alpha=0.7)
    axes.plot(places, maps, color=theme.MEDIUM, linewidth=0.8, markerfacecolor=theme.PAPER, **dots)
    axes.plot(places, values, color=theme.INK, linewidth=1.8, **dots)
    axes.set_yticks((0.0, 0.5, 1.0), ("0", "0.5", "1"))
    axes.set_xticks(places, [number(row["level"]) for row in rows])
    axes.set(xlim=(-0.3, len(rows) - 0.7), ylim=(min(0.0, axes.get_ylim()[0]), 1.0), title=title)
