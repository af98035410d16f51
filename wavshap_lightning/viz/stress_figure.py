"""The figure of a stress test: a panel for each kind of degradation, the score against its level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import ceil, nan
from operator import itemgetter
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wavshap_lightning.viz import theme
from wavshap_lightning.viz.panels import SMALL
from wavshap_lightning.viz.theme import number

COLUMNS, ROW_PX, HEAD_PX = 5, 180, 70
NOTE = """Black: {}, with its 95 % interval over {}. Dashed: of the clean clips. Circles: correlation of maps
with those of the clean clips{}. Levels from mild to severe, tempo from slow to fast."""
Row = Mapping[str, Any]


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
    lines, chance = ceil(len(panels) / COLUMNS), result["draws_correlation"]
    with theme.theme():
        size = theme.WIDTH_PX / theme.DPI, (HEAD_PX + lines * ROW_PX) / theme.DPI
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(lines, COLUMNS, squeeze=False, sharey=True).ravel()
        for axes, (kind, own) in zip(grid, panels.items(), strict=False):
            _plot_levels(axes, own, clean, kind, "value" if result["score"] else "kept")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        heading = f"Stress test: {score} of {result['clips']} clips"
        figure.suptitle(heading, x=0.01, ha="left", fontsize=theme.TITLE_PT, weight="bold")
        of_draws = "" if chance is None else f" (of other draws {chance:.2f})"
        figure.supxlabel(NOTE.format(score, result["resampled"], of_draws), x=0.01, ha="left", **SMALL)
        figure.draw_without_rendering()  # in our style
        figure.set_layout_engine("none")
    return figure


def _plot_levels(axes: Axes, rows: Sequence[Row], clean: Row, kind: str, name: str) -> None:
    """One kind, its levels evenly spaced."""
    ends = ("low", "high") if name == "value" else ("kept_low", "kept_high")
    columns = (
        [nan if row.get(key) is None else row[key] for row in rows]
        for key in (name, *ends, "map_correlation")
    )
    places, (values, low, high, maps) = range(len(rows)), columns
    dots: dict[str, Any] = {"marker": "o", "markersize": 3.5}
    axes.axhline(clean[name], color=theme.RULE, linestyle=(0, (4, 3)), zorder=0)
    axes.fill_between(places, low, high, color=theme.UNRESOLVED, linewidth=0, alpha=0.7)
    axes.plot(places, maps, color=theme.MEDIUM, linewidth=0.8, markerfacecolor=theme.PAPER, **dots)
    axes.plot(places, values, color=theme.INK, linewidth=1.8, **dots)
    axes.set_yticks((0.0, 0.5, 1.0), ("0", "0.5", "1"))
    axes.set_xticks(places, [number(row["level"]) for row in rows])
    axes.set(
        xlim=(-0.3, len(rows) - 0.7),
        ylim=(min(0.0, axes.get_ylim()[0]), 1.0),
        title=f"{kind} ({rows[0]['unit']})",
    )
