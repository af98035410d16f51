"""The page of a scorecard: a panel a metric, a row a method, a dot with its interval."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from math import ceil, isfinite

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wavshap_lightning.errors import SettingError
from wavshap_lightning.viz.page import without_axes
from wavshap_lightning.viz.theme import DPI, INK, PAPER, QUIET, RULE, SMALL_PT, TITLE_PT, UNRESOLVED, theme
from wavshap_lightning.viz.words import METHODS, literal

TableRow = Mapping[str, str | float | int]

WIDTH, NAMES, BETWEEN, MARGIN = 1100, 150, 26, 14
COLUMNS, ROW_PX, TITLE_PX, TICKS_PX, HEAD_PX, FOOT_PX = 3, 19, 40, 30, 44, 66
CHANCE: TableRow = {"mean": 0.0, "low": 0.0, "high": 0.0}
CONTROL_NAMES = {"random": "Random", "energy": "Energy", "edges": "Edges"}
STROKES = "Strokes: asked of each method by itself, with a line at 0, which is chance."
ARROWS = {"higher": "higher is better \N{RIGHTWARDS ARROW}", "lower": "\N{LEFTWARDS ARROW} lower is better"}


def plot_scorecard(
    rows: Sequence[TableRow],
    *,
    controls: Sequence[str],
    titles: Mapping[str, str],
    plain: Collection[str] = (),
    title: str = "Scorecard",
    note: str = "",
) -> Figure:
    """Means of all methods with their intervals; what no method of controls explains stands out.

    A dot is full where the paired difference from every control excludes 0 in the right direction, and hollow
    where it does not. Controls are grey, with a line where each ends up. Where controls can say nothing,
    since they come out the same whatever is changed, methods have a stroke for a dot, and chance has a line.

    Args:
        rows: The tidy table, a row a method and metric: `method`, `metric`, `better`, `mean`, `low`, `high`,
            `clips`, `resampled`, `units`, and `minus_CONTROL_low`, `minus_CONTROL_high`; in the order to be
            drawn in.
        controls: Which methods know nothing of the model.
        titles: What each metric is, in a few words; those not named are left out.
        plain: Metrics of which controls can say nothing; chance is 0.
        title: Of the page.
        note: A sentence on what was resampled, for the foot.

    Raises:
        SettingError: If nothing is left to draw.
    """
    shown = {name: _rows_of(name, rows, controls if name in plain else ()) for name in titles}
    shown = {name: of for name, of in shown.items() if any(_known(row) for row in of)}
    if not shown:
        raise SettingError(f"rows: none of the metrics {', '.join(titles) or '(none)'} has a value to draw")
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    with theme():
        figure, panels = _panels(len(shown), len(methods))
        for place, (axes, (name, of)) in enumerate(zip(panels, shown.items(), strict=True)):
            draw = _draw_plain if name in plain else partial(_draw, controls=controls)
            draw(axes, of, methods)
            axes.set_title(_title(titles[name], of, rows), loc="left", linespacing=1.3)
            _name_rows(axes, methods, controls, visible=place % COLUMNS == 0)
        _head_and_foot(figure, title, _intervals(rows), note, strokes=any(name in plain for name in shown))
    return figure


def _rows_of(metric: str, rows: Sequence[TableRow], without: Sequence[str]) -> list[TableRow]:
    return [row for row in rows if row["metric"] == metric and row["method"] not in without]


def _title(name: str, rows: Sequence[TableRow], all_rows: Sequence[TableRow]) -> str:
    """With the number of clips where it is not that of most metrics."""
    count, most = (max(int(row["clips"]) for row in some) for some in (rows, all_rows))
    fewer = f" ({count} clips)" if count < most else ""
    return f"{name}\n{ARROWS[str(rows[0]['better'])]}{fewer}"


def _panels(count: int, num_methods: int) -> tuple[Figure, list[Axes]]:
    columns = min(COLUMNS, count)
    high = ROW_PX * num_methods
    lines = ceil(count / columns)
    height = HEAD_PX + FOOT_PX + lines * (TITLE_PX + high + TICKS_PX)
    wide = (WIDTH - NAMES - MARGIN - BETWEEN * (COLUMNS - 1)) / COLUMNS
    figure = Figure(figsize=(WIDTH / DPI, height / DPI))
    panels = []
    for place in range(count):
        line, column = divmod(place, columns)
        left = NAMES + column * (wide + BETWEEN)
        bottom = height - HEAD_PX - (line + 1) * (TITLE_PX + high) - line * TICKS_PX
        box = (left / WIDTH, bottom / height, wide / WIDTH, high / height)
        panels.append(figure.add_axes(box, label=f"panel {place}"))
    return figure, panels


def _draw(axes: Axes, rows: Sequence[TableRow], methods: Sequence[str], controls: Sequence[str]) -> None:
    places = {method: place for place, method in enumerate(methods)}
    for row in filter(_known, rows):
        place, is_control = places[str(row["method"])], row["method"] in controls
        color = QUIET if is_control else INK
        mean, low, high = (float(row[name]) for name in ("mean", "low", "high"))
        axes.plot([low, high], [place, place], color=color, linewidth=1.6, solid_capstyle="butt", zorder=2)
        face = UNRESOLVED if is_control else INK if _stands_out(row, controls) else PAPER
        axes.scatter([mean], [place], s=30, facecolors=face, edgecolors=color, linewidths=1.3, zorder=3)
        if is_control:
            axes.axvline(mean, color=RULE, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
    _frame(axes, rows, len(methods))


def _draw_plain(axes: Axes, rows: Sequence[TableRow], methods: Sequence[str]) -> None:
    for row in filter(_known, rows):
        place, mean = methods.index(str(row["method"])), float(row["mean"])
        axes.plot([float(row["low"]), float(row["high"])], [place, place], color=INK, linewidth=1.6, zorder=2)
        axes.scatter([mean], [place], s=70, marker="|", color=INK, linewidths=1.6, zorder=3)
    _frame(axes, [*rows, CHANCE], len(methods))


def _frame(axes: Axes, rows: Sequence[TableRow], num_methods: int) -> None:
    ends = np.array([float(row[name]) for row in rows if _known(row) for name in ("low", "high")])
    low, high = float(ends.min()), float(ends.max())
    room = 0.06 * ((high - low) or abs(high) or 1.0)
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(num_methods - 0.5, -0.5)
    if low - room < 0 < high + room:
        axes.axvline(0, color=RULE, linewidth=0.8, zorder=0.5)
    axes.locator_params(axis="x", nbins=5)
    axes.spines["left"].set_visible(False)
    for place in range(1, num_methods, 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#f6f6f6", linewidth=0, zorder=0)


def _name_rows(axes: Axes, methods: Sequence[str], controls: Sequence[str], *, visible: bool) -> None:
    axes.set_yticks(range(len(methods)), [_name(method) if visible else "" for method in methods])
    axes.tick_params(axis="y", length=0)
    for label, method in zip(axes.get_yticklabels(), methods, strict=True):
        label.set_color(QUIET if method in controls else INK)


def _intervals(rows: Sequence[TableRow]) -> str:
    """Of how many clips the intervals are, and what was resampled for them."""
    most = max(rows, key=lambda row: int(row["clips"]))
    resampled = "them" if most["resampled"] == "clips" else f"their {most['units']} {most['resampled']}"
    return f"Mean over clips ({most['clips']}) and 95 % interval of the paired bootstrap over {resampled}."


def _head_and_foot(figure: Figure, title: str, intervals: str, note: str, *, strokes: bool) -> None:
    height = figure.get_size_inches()[1] * DPI
    left, wide = MARGIN / WIDTH, 1 - 2 * MARGIN / WIDTH
    head = figure.add_axes((left, 1 - HEAD_PX / height, wide, HEAD_PX / height))
    head.text(0, 0.62, literal(title, 90), fontsize=TITLE_PT, weight="bold", va="center")
    foot = figure.add_axes((left, 0, wide, FOOT_PX / height))
    foot.text(
        0, 0.5,
        f"{intervals} Full: better than every control, clip by clip, with an interval that excludes 0; "
        "hollow: not.\nGrey: controls that ask no model, with a dotted line where they end up. A classifier "
        "may well use more than the evidence; no single metric decides."
        + (f"\n{STROKES}" if strokes else "")
        + (f"\n{literal(note[0].upper() + note[1:], 160)}." if note else ""),
        fontsize=SMALL_PT, color=QUIET, va="center", linespacing=1.4,
    )  # fmt: skip
    for axes in (head, foot):
        without_axes(axes)


def _stands_out(row: TableRow, controls: Sequence[str]) -> bool:
    """Better than every control it can be compared with; also where there is none."""
    side = "low" if row["better"] == "higher" else "high"
    ends = [float(row[f"minus_{control}_{side}"]) for control in controls]
    known = [end if side == "low" else -end for end in ends if isfinite(end)]
    return all(end > 0 for end in known)


def _known(row: TableRow) -> bool:
    return all(isfinite(float(row[name])) for name in ("mean", "low", "high"))


def _name(method: str) -> str:
    return CONTROL_NAMES.get(method, METHODS.get(method, literal(method, 22)))
