"""Panels of the figures: each function draws one thing onto the Axes it is given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.viz import theme
from wavshap_lightning.viz.clip_view import Units
from wavshap_lightning.viz.sound import Samples, cell_edges_s, envelope, hz_to_mel
from wavshap_lightning.viz.theme import literal, number, percent

FULL = {1: theme.FOR, -1: theme.AGAINST, 0: theme.UNRESOLVED}
PALE = {1: theme.FOR_PALE, -1: theme.AGAINST_PALE, 0: theme.UNRESOLVED_PALE}

ENVELOPE_COLUMNS = 1400
LINE_PT, MOST_APART = 0.9, 250
"""Width of the line over frames, which gets thinner where there are more frames than can be told apart."""

MOST_LAYERS_NAMED = 7
MOST_NAMED = 16
"""Rows of a map that all have a name; of more rows, only some have one."""

THICKEST_BAR = 0.2
"""Share of a panel's height, for bars of models with few layers."""

TICKS_HZ = (0.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16_000.0)
MARK_GID, EVIDENCE_GID = "strongest frame", "evidence"
LEAST_PLACES = 5
"""Bars or rows that a panel has room for, so that few of them are not thick."""

RANKS_SHARE, BRACKET_SHARE = 0.18, 0.3
"""Room for ranks above a panel and for brackets below it, as shares of its vertical axis."""

DIGIT_SHARE = 0.012
"""Width of a digit, generously, as a share of the axis of time."""


def plot_waveform(axes: Axes, waveform: Samples, sample_rate: int) -> None:
    """Draw the waveform's envelope: least and greatest sample of every pixel or so."""
    least, greatest, middles = envelope(waveform, ENVELOPE_COLUMNS)
    peak = float(np.abs(waveform).max()) or 1.0
    axes.fill_between(middles / sample_rate, least, greatest, color="#5f5f5f", linewidth=0.5)
    axes.set_ylim(-1.06 * peak, 1.06 * peak)
    axes.set_yticks([-peak, 0, peak], [number(float(f"{tick:.2g}")) for tick in (-peak, 0, peak)])
    axes.spines["left"].set_bounds(-peak, peak)
    axes.set_title("Waveform")


def plot_spectrogram(axes: Axes, levels_db: Float[np.ndarray, "mels columns"], times: TimeGrid) -> QuadMesh:
    """Draw a log-mel spectrogram in gray, loud is dark; the vertical axis is even in mel."""
    top_mel = float(hz_to_mel(np.array([times.sample_rate / 2.0]))[0])
    edges_mel = np.linspace(0, top_mel, len(levels_db) + 1)
    ticks_hz = np.array([tick for tick in TICKS_HZ if tick <= times.sample_rate / 2])
    axes.set_yticks(hz_to_mel(ticks_hz), [number(tick / 1000) for tick in ticks_hz])
    axes.set_ylim(0, top_mel)
    axes.set_title("Mel spectrogram (kHz)")
    return axes.pcolormesh(
        cell_edges_s(times), edges_mel, levels_db, cmap=theme.LEVEL, zorder=1, rasterized=True
    )


def plot_bands_over_time(
    axes: Axes, bands: Units, edges_hz: Float[np.ndarray, " edges"], norm: Normalize
) -> QuadMesh:
    """Draw attributions of bands as color over a spectrogram, whose gray is left where unresolved."""
    values, edges_mel = np.ma.masked_invalid(bands.resolved_values), hz_to_mel(edges_hz)
    state_scale(axes, norm)
    return axes.pcolormesh(
        bands.edges_s, edges_mel, values, cmap=theme.SIGNED_OVER_GRAY, norm=norm, zorder=2, rasterized=True
    )


def plot_frames(
    axes: Axes, frames: Units, scale: Sequence[Units] = (), most_ticks: int = 5
) -> PolyCollection:
    """Draw a pale bar for each frame, and around its end the 95 % interval in full color.

    Args:
        axes: Axes to draw on.
        frames: Attributions of frames; orange is for the target, blue against it, gray is unresolved.
        scale: All units that share the vertical axis; those drawn here if empty.
        most_ticks: Largest number of intervals between ticks.
    """
    edges_s, foot = frames.edges_s, np.zeros_like(frames.values)
    bars = _add_boxes(axes, edges_s, foot, frames.values, [PALE[sign] for sign in frames.signs.tolist()])
    _add_boxes(
        axes, edges_s, frames.low, frames.high, [FULL[sign] for sign in frames.signs.tolist()], zorder=3.0
    )
    thin = min(LINE_PT, LINE_PT * MOST_APART / len(frames.values))
    axes.stairs(frames.values, edges_s, baseline=None, color=theme.INK, linewidth=thin, zorder=4)
    axes.axhline(0, color=theme.RULE, linewidth=0.8, zorder=1)
    axes.set_ylim(*limits_of(scale or [frames]))
    set_ticks(axes.yaxis, most_ticks)
    return bars


def _add_boxes(
    axes: Axes,
    edges: Float[np.ndarray, " edges"],
    low: Float[np.ndarray, " boxes"],
    high: Float[np.ndarray, " boxes"],
    colors: Sequence[str],
    *,
    zorder: float = 2.0,
) -> PolyCollection:
    left, right = edges[:-1], edges[1:]
    corners = np.stack([left, low, left, high, right, high, right, low], 1).reshape(-1, 4, 2)
    boxes = PolyCollection(list(corners), facecolors=colors, edgecolors="none", zorder=zorder)
    axes.add_collection(boxes, autolim=False)
    return boxes


def limits_of(shown: Sequence[Units]) -> tuple[float, float]:
    """Ends of an axis that holds all of these with their intervals, and 0."""
    low = min(0.0, *(float(one.low.min()) for one in shown))
    high = max(0.0, *(float(one.high.max()) for one in shown))
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room


def set_ticks(axis: Axis, most: int) -> None:
    """Make ticks at round numbers within the axis' present limits, at most `most` steps apart."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    found = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high)
    ticks = [round(float(tick), 12) for tick in found if low - slack <= tick <= high + slack]
    axis.set_ticks(ticks, [number(tick) for tick in ticks])


def _number_layers(axis: Axis, count: int) -> None:
    every = -(-count // MOST_LAYERS_NAMED)
    axis.set_ticks(range(0, count, every), [str(layer) for layer in range(0, count, every)])


def plot_map(
    axes: Axes, rows: Float[np.ndarray, "rows units"], edges: Float[np.ndarray, " edges"], norm: Normalize
) -> QuadMesh:
    """Draw rows of attributions as color, the first row on top; NaN is gray."""
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0)
    mesh = axes.pcolormesh(
        edges,
        np.arange(len(rows) + 1) - 0.5,
        np.ma.masked_invalid(rows),
        cmap=theme.SIGNED,
        norm=norm,
        rasterized=True,
    )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    return mesh


def plot_layers_over_time(axes: Axes, layers: Units, norm: Normalize) -> QuadMesh:
    """Draw attributions of layers and frames, the first layer at the foot; gray where unresolved."""
    mesh = plot_map(axes, layers.resolved_values, layers.edges_s, norm)
    axes.invert_yaxis()
    _number_layers(axes.yaxis, len(layers.values))
    axes.set_title("Attribution of each layer and frame (layer 0: input of the transformer)")
    state_scale(axes, norm)
    return mesh


def plot_rows_over_time(axes: Axes, rows: Sequence[Units], names: Sequence[str], norm: Normalize) -> QuadMesh:
    """Draw attributions of frames, one row for each name, the first on top; gray where unresolved."""
    mesh = plot_map(axes, np.stack([row.resolved_values for row in rows]), rows[0].edges_s, norm)
    if len(rows) <= MOST_NAMED:
        axes.hlines(
            np.arange(1, len(rows)) - 0.5, *axes.get_xlim(), color=theme.PAPER, linewidth=1.2, zorder=3.0
        )
    every = -(-len(rows) // MOST_NAMED)
    axes.set_yticks(range(0, len(rows), every), names[::every])
    state_scale(axes, norm)
    return mesh


def plot_layers_of_rows(axes: Axes, rows: Sequence[Units], norm: Normalize) -> QuadMesh:
    """Draw sums of layers as color, one row for each explanation; gray where unresolved."""
    values = np.stack([row.resolved_values for row in rows])
    mesh = plot_map(axes, values, np.arange(values.shape[1] + 1) - 0.5, norm)
    axes.set_yticks([])
    _number_layers(axes.xaxis, values.shape[1])
    axes.tick_params(axis="x", length=0)
    axes.set_title(f"Layers, ±{norm.vmax:.2g}")
    return mesh


def state_scale(axes: Axes, norm: Normalize) -> None:
    """State at the top right of a map where its color is full."""
    axes.set_title(f"full color: ±{norm.vmax:.2g}", loc="right", fontsize=theme.SMALL_PT, color=theme.QUIET)


def plot_sums(axes: Axes, shown: Units, edges: Float[np.ndarray, " edges"], title: str) -> None:
    """Draw sums over time as bars to the right with 95 % intervals, beside a map and on its axis.

    Args:
        axes: Axes to draw on.
        shown: Sums of bands or layers, from the foot.
        edges: Edges of the bars on the vertical axis.
        title: Title of the panel.
    """
    middles = (edges[:-1] + edges[1:]) / 2
    heights = np.minimum(0.86 * np.diff(edges), THICKEST_BAR * (edges[-1] - edges[0]))
    axes.barh(middles, shown.values, heights, color=[FULL[sign] for sign in shown.signs.tolist()])
    if shown.half_widths is not None:
        axes.hlines(middles, shown.low, shown.high, color=theme.INK, linewidth=0.8, zorder=3.0)
    axes.axvline(0, color=theme.RULE, linewidth=0.8)
    axes.set_xlim(*limits_of([shown]))
    axes.set_ylim(edges[0], edges[-1])
    set_ticks(axes.xaxis, 5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_title(title)


def plot_layers(axes: Axes, layers: Units, scale: Sequence[Units], *, title: str, named: bool) -> None:
    """Draw the sum of each layer as an upright bar with its 95 % interval, beside a row of frames.

    Args:
        axes: Axes to draw on.
        layers: Sums of layers.
        scale: All units that share the vertical axis.
        title: Title of the panel.
        named: Whether to write the layers' numbers below.
    """
    places = np.arange(len(layers.values))
    axes.bar(places, layers.values, color=[FULL[sign] for sign in layers.signs.tolist()])
    if layers.half_widths is not None:
        axes.vlines(places, layers.low, layers.high, color=theme.INK, linewidth=0.8)
    axes.axhline(0, color=theme.RULE, linewidth=0.8)
    axes.set_xlim(-0.6, max(len(places), LEAST_PLACES) - 0.4)
    axes.set_ylim(*limits_of(scale))
    set_ticks(axes.yaxis, 3)
    _number_layers(axes.xaxis, len(places))
    axes.tick_params(axis="x", length=0, labelbottom=named)
    axes.spines["bottom"].set_visible(False)
    axes.set_title(title)
    total = f"all: {number(float(layers.values.sum()), signed=True)}"
    axes.set_title(total, loc="right", fontsize=theme.SMALL_PT, color=theme.QUIET)


def plot_proportions(axes: Axes, proportions: Mapping[str, float], title: str, bold: str = "") -> None:
    """Draw numbers from 0 to 1 as named bars to the right, the first on top.

    Args:
        axes: Axes to draw on.
        proportions: Number by name.
        title: Title of the panel.
        bold: Name that stands out; none does if empty.
    """
    colors = [theme.INK if name == bold else theme.MEDIUM for name in proportions]
    bars = axes.barh(range(len(proportions)), list(proportions.values()), 0.62, color=colors)
    axes.bar_label(
        bars, [percent(share) for share in proportions.values()], padding=4, fontsize=theme.SMALL_PT
    )
    axes.set_yticks(range(len(proportions)), list(proportions))
    for tick, name in zip(axes.get_yticklabels(), proportions, strict=True):
        tick.set(color=theme.INK, weight="bold" if name == bold else "normal")
    axes.tick_params(length=0)
    axes.set(xlim=(0, 1.25), ylim=(max(len(proportions), LEAST_PLACES) - 0.5, -0.5), xticks=[])
    axes.spines["left"].set_bounds(-0.5, len(proportions) - 0.5)
    axes.spines["bottom"].set_visible(False)
    axes.set_title(title)


def plot_dots(
    axes: Axes, values: Sequence[float], title: str, *, filled: Collection[int], limits: tuple[float, float]
) -> None:
    """Draw a dot for each row of a map beside it, the first row on top.

    Args:
        axes: Axes to draw on.
        values: One number for each row.
        title: Title of the panel.
        filled: Positions of the dots that are not hollow.
        limits: Ends of the horizontal axis.
    """
    places = np.arange(len(values))
    faces = [theme.INK if place in filled else theme.PAPER for place in places]
    axes.axvline(0, color=theme.RULE, linewidth=0.8)
    axes.hlines(places, 0, values, color=theme.RULE, linewidth=1.0)
    axes.scatter(values, places, s=26, c=faces, edgecolors=theme.INK, linewidths=1.0, zorder=2, clip_on=False)
    axes.set(xlim=limits, ylim=(len(places) - 0.5, -0.5), yticks=[])
    set_ticks(axes.xaxis, 2)
    axes.spines["left"].set_visible(False)
    axes.set_title(title)


def plot_lines_of_text(axes: Axes, lines: Sequence[str]) -> None:
    """Write lines of small text from the top left of an empty panel."""
    text = axes.annotate(
        "\n".join(lines), (0, 1), (0, -7), xycoords="axes fraction", textcoords="offset points", va="top",
        fontsize=theme.SMALL_PT, color=theme.QUIET, linespacing=1.45,
    )  # fmt: skip
    text.set_in_layout(False)
    axes.set_axis_off()


def mark_frames(panels: Sequence[Axes], spans_s: Sequence[tuple[float, float]]) -> None:
    """Mark spans behind everything in all panels; their ranks stand in the first panel.

    Args:
        panels: Axes that share the axis of time, from top to bottom.
        spans_s: Start and end of the strongest frames in seconds, the strongest first; overlapping spans are
            drawn as one.
    """
    for axes in panels:
        for span in spans_s:
            axes.axvspan(*span, color=theme.MARK, linewidth=0, zorder=0.5).set_gid(MARK_GID)
        for edge_s in (edge for span in united(spans_s) for edge in span):
            axes.axvline(edge_s, color=theme.MARK_EDGE, linewidth=0.9, zorder=4.5)
    if panels and spans_s:
        low, high = panels[0].get_ylim()
        panels[0].set_ylim(low, high + RANKS_SHARE * (high - low))
        _write_ranks(panels[0], spans_s)


def united(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans, with those that touch as one.

    >>> united([(3.0, 4.0), (0.0, 1.0), (0.5, 2.0)])
    [(0.0, 2.0), (3.0, 4.0)]
    """
    whole: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if whole and start <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((start, end))
    return whole


def _write_ranks(axes: Axes, spans_s: Sequence[tuple[float, float]]) -> None:
    """Write ranks over their spans; neighbors share a text, so that no two texts overlap."""
    digit_s = DIGIT_SHARE * float(np.diff(axes.get_xlim())[0])
    groups: list[list[tuple[float, int]]] = []
    for center_s, rank in sorted(((start + end) / 2, rank) for rank, (start, end) in enumerate(spans_s, 1)):
        room_s = digit_s * (1 + (len(groups[-1]) if groups else 0))
        if groups and center_s - float(np.mean([center for center, _ in groups[-1]])) < room_s:
            groups[-1].append((center_s, rank))
        else:
            groups.append([(center_s, rank)])
    for group in groups:
        words = "\N{THIN SPACE}".join(str(rank) for rank in sorted(rank for _, rank in group))
        place = (float(np.mean([center_s for center_s, _ in group])), 0.99)
        _write_inside(axes, *place, words, va="top", weight="bold")


def _write_inside(axes: Axes, x: float, y: float, words: str, **style: Any) -> None:  # noqa: ANN401 - of matplotlib's
    """Write a text at data coordinates along time and a share of the panel's height."""
    transform = axes.get_xaxis_transform()
    text = axes.text(
        x, y, words, ha="center", fontsize=theme.SMALL_PT, transform=transform, zorder=6, **style
    )
    text.set_in_layout(False)


def mark_evidence(panels: Sequence[Axes], spans: Sequence[Span]) -> None:
    """Draw a bracket in the first panel over each span known to carry the label, and dotted lines in all."""
    for axes in panels:
        for edge_s in (edge_s for span in spans for edge_s in (span.start_s, span.end_s)):
            line = axes.axvline(edge_s, color=theme.INK, linewidth=0.8, linestyle=(0, (2, 3)), zorder=5)
            line.set_gid(EVIDENCE_GID)
    if not (panels and spans):
        return
    axes = panels[0]
    low, high = axes.get_ylim()
    axes.set_ylim(low - BRACKET_SHARE * (high - low), high)
    for span in spans:
        ends_s = [span.start_s, span.start_s, span.end_s, span.end_s]
        transform = axes.get_xaxis_transform()
        axes.plot(
            ends_s,
            [0.07, 0.02, 0.02, 0.07],
            color=theme.INK,
            linewidth=1.4,
            transform=transform,
            gid=EVIDENCE_GID,
        )
        _write_inside(
            axes, (span.start_s + span.end_s) / 2, 0.07, literal(span.kind or "evidence"), va="bottom"
        )


def key_of(target: str, *, intervals: bool, unresolved: bool, marks: str) -> tuple[list[Any], list[str]]:
    """Handles and labels of a legend.

    Args:
        target: Name of what is explained.
        intervals: Whether bars with intervals are drawn.
        unresolved: Whether anything may be unresolved.
        marks: Words for the marked frames; empty if none are marked.
    """
    interval = (Patch(color=theme.FOR_PALE), Line2D([], [], color=theme.FOR, linewidth=2.5))
    entries: list[tuple[Any, str, bool]] = [
        (Patch(color=theme.FOR), f"for {target}", True),
        (Patch(color=theme.AGAINST), f"against {target}", True),
        (interval, "attribution with its 95 % interval", intervals),
        (Patch(color=theme.UNRESOLVED), "unresolved: the interval contains 0", unresolved),
        (Patch(facecolor=theme.MARK, edgecolor=theme.MARK_EDGE, linewidth=0.8), marks, bool(marks)),
    ]
    shown = [(handle, words) for handle, words, wanted in entries if wanted]
    return [handle for handle, _ in shown], [words for _, words in shown]
