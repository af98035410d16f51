"""A page: rows of panels one below the other, in pixels, so that nothing moves with the text in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wavshap_lightning.viz.theme import DPI
from wavshap_lightning.viz.words import number

WIDTH, LEFT, MAIN, BETWEEN, SIDE = 1100, 64, 730, 26, 250
TOP, BOTTOM = 14, 10


@dataclass(frozen=True)
class Row:
    """Panels beside one another.

    Args:
        name: Of the main panel, whose horizontal axis is time; of the only one if it spans the page.
        height_px: How high.
        above_px: Room above it, for its title.
        sides: Names of the panels to its right.
        kind: Over time; text beside panels; or text from margin to margin.
        side_height_px: Of the panels to its right, which begin where it begins; its own if None.
    """

    name: str
    height_px: int
    above_px: int = 27
    sides: tuple[str, ...] = ()
    kind: Literal["time", "text", "page"] = "time"
    side_height_px: int | None = None


@dataclass(frozen=True)
class Page:
    """A figure and its panels by name.

    Args:
        figure: The figure; it belongs to no window, and needs no closing.
        panels: Its Axes.
        timed: Names of those that share the axis of time, from top to bottom.
    """

    figure: Figure
    panels: Mapping[str, Axes]
    timed: tuple[str, ...]

    @property
    def over_time(self) -> list[Axes]:
        """Those that share the axis of time."""
        return [self.panels[name] for name in self.timed]


def build_page(rows: Sequence[Row], duration_s: float) -> Page:
    """An empty page.

    Args:
        rows: From top to bottom.
        duration_s: Where the axis of time ends.
    """
    height = TOP + BOTTOM + sum(row.above_px + row.height_px for row in rows)
    figure = Figure(figsize=(WIDTH / DPI, height / DPI))
    panels: dict[str, Axes] = {}
    timed: list[str] = []
    bottom = height - TOP
    for row in rows:
        bottom -= row.above_px + row.height_px
        share = panels[timed[0]] if timed and row.kind == "time" else None
        width = MAIN + BETWEEN + SIDE if row.kind == "page" else MAIN
        panels[row.name] = _place(figure, row.name, (LEFT, bottom, width, row.height_px), share)
        if row.kind == "time":
            timed.append(row.name)
        else:
            without_axes(panels[row.name])
        panels |= _place_sides(figure, row, bottom)
    _draw_time_axis([panels[name] for name in timed], duration_s)
    return Page(figure, panels, tuple(timed))


def _place_sides(figure: Figure, row: Row, bottom: int) -> dict[str, Axes]:
    if not row.sides:
        return {}
    width = (SIDE - BETWEEN * (len(row.sides) - 1)) // len(row.sides)
    lefts = [LEFT + MAIN + BETWEEN + place * (width + BETWEEN) for place in range(len(row.sides))]
    height = row.side_height_px or row.height_px
    return {
        name: _place(figure, name, (left, bottom + row.height_px - height, width, height))
        for name, left in zip(row.sides, lefts, strict=True)
    }


def _place(figure: Figure, name: str, box: tuple[int, int, int, int], share: Axes | None = None) -> Axes:
    """Axes at left, bottom, width and height in pixels."""
    width, height = figure.get_size_inches() * DPI
    left, bottom, wide, high = box
    place = (left / width, bottom / height, wide / width, high / height)
    return figure.add_axes(place, label=name, sharex=share)


def _draw_time_axis(axes: Sequence[Axes], duration_s: float) -> None:
    """Seconds below the lowest, ticks everywhere."""
    if not axes:
        return
    axes[0].set_xlim(0, duration_s)
    ticks = ticks_between(0.0, duration_s, 10)
    axes[0].set_xticks(ticks, [number(tick) for tick in ticks])
    for one in axes[:-1]:
        one.tick_params(axis="x", labelbottom=False, length=0)
        one.spines["bottom"].set_visible(False)
    axes[-1].xaxis.get_major_ticks(len(ticks))  # made here, not when the figure is shown in another style
    axes[-1].set_xlabel("time (s)", loc="right", labelpad=1)


def ticks_between(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to `high`.

    >>> ticks_between(0.0, 1.05, 3)
    [0.0, 0.5, 1.0]
    """
    values = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high)
    slack = 1e-9 * (high - low)
    return [float(np.round(tick, 12)) for tick in values if low - slack <= tick <= high + slack]


def without_axes(axes: Axes) -> None:
    """Leave nothing of a panel but what is drawn on it."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_axis_off()
