"""Panels of the figures: each function draws one thing onto the Axes it is given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import librosa
import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from wavshap_lightning.attribution.reliability import Agreement
from wavshap_lightning.audio.segments import PAUSE
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.viz import theme
from wavshap_lightning.viz.clip_view import COUNTS, PREDICTED, ClipView, Rows, Units
from wavshap_lightning.viz.sound import Samples, cell_edges_s, envelope, log_mel, mel_axis
from wavshap_lightning.viz.theme import literal, number, percent, signed_norm

FULL = {1: theme.FOR, -1: theme.AGAINST, 0: theme.UNRESOLVED}
PALE = {1: theme.FOR_PALE, -1: theme.AGAINST_PALE, 0: theme.UNRESOLVED_PALE}

SPOKEN: Any = {"ha": "center", "va": "center", "fontsize": theme.SMALL_PT, "clip_on": True}
QUIET: Any = {"color": theme.QUIET, "style": "italic"}
"""Texts of words, and of pauses and words whose times are uncertain."""

SMALL: Any = {"fontsize": theme.SMALL_PT, "color": theme.QUIET}

LINE_PT, MOST_APART = 0.9, 250
"""Width of the line over frames, which is thinner if there are more frames than the figure can resolve."""

MOST_LAYERS_NAMED, MOST_ROWS_NAMED = 7, 16
"""Layers, and rows of a map, that all have a name; of more, only some have one."""

THICKEST_BAR = 0.2
"""Share of a panel's height, for bars of models with few layers."""

MARK_GID, CERTAIN_GID, EVIDENCE_GID = "strongest frame", "certain", "evidence"
LEAST_PLACES = 5
"""Bars or rows that a panel has room for, so that few of them are not thick."""

DOT: Any = {"marker": "o", "markersize": 2.4, "linestyle": "", "color": theme.INK}
DOT_PT = 3.5
"""Mark of a unit that certainly is among the strongest, and its distance from the interval."""

RANKS_SHARE, BRACKET_SHARE = 0.18, 0.3
"""Room for ranks above a panel and for brackets below it, as shares of its vertical axis."""

DIGIT_SHARE, LETTER_SHARE = 0.012, 0.008
"""Width of a digit, generously, and of a letter of a word, as shares of the axis of time."""

WASH = 0.45
"""Saturation of the strongest color behind a text."""


def plot_waveform(axes: Axes, waveform: Samples, sample_rate: int) -> None:
    """Draw the waveform's envelope: least and greatest sample of every pixel or so."""
    peak = float(np.abs(waveform).max()) or 1.0
    axes.fill_between(*envelope(waveform, sample_rate), color="#5f5f5f", linewidth=0.5)
    axes.set(ylim=(-1.06 * peak, 1.06 * peak), title="Waveform")
    axes.set_yticks([-peak, 0, peak], [number(float(f"{tick:.2g}")) for tick in (-peak, 0, peak)])
    axes.spines["left"].set_bounds(-peak, peak)


def plot_spectrogram(axes: Axes, waveform: Samples, times: TimeGrid) -> None:
    """Draw a log-mel spectrogram in gray, loud is dark; the vertical axis is even in mel."""
    levels_db, (top_mel, ticks) = log_mel(waveform, times.sample_rate), mel_axis(times.sample_rate)
    edges_mel = np.linspace(0, top_mel, len(levels_db) + 1)
    axes.pcolormesh(cell_edges_s(times), edges_mel, levels_db, cmap=theme.LEVEL, zorder=1, rasterized=True)
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set(ylim=(0, top_mel), title="Mel spectrogram (kHz)")


def plot_colored_spectrogram(axes: Axes, view: ClipView, waveform: Samples, bands: Units) -> None:
    """Draw attributions of bands as color over the spectrogram, whose gray is left where unresolved."""
    plot_spectrogram(axes, waveform, view.times["stft"])
    values, edges_mel = np.ma.masked_invalid(bands.resolved_values), librosa.hz_to_mel(view.band_edges_hz)
    norm = signed_norm(bands.resolved_values, quantile=theme.FULL_COLOR)
    style: dict[str, Any] = {"cmap": theme.SIGNED_OVER_GRAY, "norm": norm, "zorder": 2, "rasterized": True}
    _state_scale(axes, axes.pcolormesh(cell_edges_s(bands.times), edges_mel, values, **style))
    axes.set_title(f"Mel spectrogram (kHz), colored by attribution to the {view.score_name(literal)}")


def plot_frames(axes: Axes, frames: Units, title: str, scale: Sequence[Units] = (), note: str = "") -> None:
    """Draw a pale bar for each frame, and around its end the 95 % interval in full color.

    Args:
        axes: Axes to draw on.
        frames: Attributions of frames; orange is for the target, blue against it, gray is unresolved.
        title: Title of the panel; bold if it is one of several.
        scale: Units of all panels that share the vertical axis; empty if it is the only one.
        note: Text at the top right.
    """
    values, edges_s = frames.values, cell_edges_s(frames.times)
    low, high = values - frames.reach, values + frames.reach
    for sign, color in FULL.items():
        here = frames.signs == sign
        axes.stairs(np.where(here, values, 0), edges_s, fill=True, color=PALE[sign])
        tops, feet = np.where(here, high, 0), np.where(here, low, 0)
        axes.stairs(tops, edges_s, baseline=feet, fill=True, color=color, zorder=3)
    thin = min(LINE_PT, LINE_PT * MOST_APART / len(values))
    axes.stairs(values, edges_s, baseline=None, color=theme.INK, linewidth=thin, zorder=4)
    axes.axhline(0, color=theme.RULE, linewidth=0.8, zorder=1)
    axes.set_ylim(*limits_of(scale or [frames]))
    _mark_certain(axes, frames, frames.times.center_s())
    set_ticks(axes.yaxis, 3 if scale else 5)
    axes.set_title(title, weight="bold" if scale else "normal")
    write_note(axes, note)


def plot_words(axes: Axes, view: ClipView) -> None:
    """Draw words, and phones below, as boxes colored by their attributions, with the texts that fit."""
    letter_s, notes, tiers = LETTER_SHARE * view.duration_s, [], view.tiers
    for row, (tier, shown) in enumerate(tiers.items()):
        norm = signed_norm(shown.values)
        colors = theme.SIGNED(0.5 + WASH * (norm(shown.values) - 0.5))
        colors[shown.unresolved] = to_rgba(theme.UNRESOLVED_PALE)
        held = view.numbers[tier]
        for place, (start_s, end_s) in enumerate(zip(held["start_s"][:-1], held["end_s"][:-1], strict=True)):
            axes.barh(row, end_s - start_s, 0.9, start_s, color=colors[place], edgecolor=theme.PAPER)
            text = shown.names[place]
            style = SPOKEN if text == held["text"][place] != PAUSE else {**SPOKEN, **QUIET}
            if len(text) * letter_s < end_s - start_s:
                axes.text((start_s + end_s) / 2, row, literal(text, 40), **style)
        notes.append(f"±{norm.vmax:.2g} a {tier[:-1]}")
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(len(tiers) - 0.5, -0.5), title=f"Attribution of each word  {view.doubts}")
    axes.set_yticks(range(len(tiers)), [*tiers])
    write_note(axes, f"full color: {', '.join(notes)}")


def plot_agreement(axes: Axes, found: Agreement, times: TimeGrid) -> None:
    """Draw the number of models that have each frame among their strongest."""
    axes.stairs(found.counts, cell_edges_s(times), fill=True, color=theme.MEDIUM)
    axes.set(ylim=(0, found.num_models), yticks=[0, found.num_models], title=COUNTS)


def _mark_certain(
    axes: Axes, shown: Units, centers: Shaped[np.ndarray, " units"], *, across: bool = False
) -> None:
    """Draw a dot beyond the interval of each unit that certainly is among the strongest.

    Args:
        axes: Axes with their final limits.
        shown: The units.
        centers: Position of each.
        across: Whether bars grow to the right instead of upwards.
    """
    sides = np.copysign(1, shown.values)
    for side in (-1, 1):
        if here := [place for place in shown.certain if sides[place] == side]:
            points, ends = centers[here], shown.values[here] + side * shown.reach[here]
            x, y = (side * DOT_PT, 0.0) if across else (0.0, side * DOT_PT)
            beyond = offset_copy(axes.transData, axes.get_figure(root=True), x, y, units="points")
            points, ends = (ends, points) if across else (points, ends)
            axes.plot(points, ends, transform=beyond, clip_on=False, zorder=5, gid=CERTAIN_GID, **DOT)


def limits_of(shown: Sequence[Units]) -> tuple[float, float]:
    """Limits of an axis that includes all units with their intervals, and 0."""
    low = min(0.0, *(float((one.values - one.reach).min()) for one in shown))
    high = max(0.0, *(float((one.values + one.reach).max()) for one in shown))
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room


def set_ticks(axis: Axis, most: int) -> None:
    """Set ticks at round numbers within the current limits of the axis, at most `most` intervals."""
    low, high = sorted(axis.get_view_interval())
    found = np.round(MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high), 12)
    ticks = found[(found >= low) & (found <= high)].tolist()
    axis.set_ticks(ticks, [*map(number, ticks)])


def write_note(axes: Axes, words: str) -> None:
    """Write small words at the top right of a panel."""
    axes.set_title(words, loc="right", **SMALL)


def _name_some(axis: Axis, names: Sequence[str], most: int) -> None:
    """Write names at 0, 1, 2, ...; of more than `most`, only every second, third, and so on."""
    every = -(-len(names) // most)
    axis.set_ticks(range(0, len(names), every), names[::every])


def _state_scale(axes: Axes, mesh: QuadMesh) -> None:
    """State at the top right of a map where its color is full."""
    write_note(axes, f"full color: ±{mesh.norm.vmax:.2g}")


def plot_map(axes: Axes, rows: Units, edges: Float[np.ndarray, " edges"]) -> QuadMesh:
    """Draw rows of attributions as color on one scale, the first row on top; gray where unresolved."""
    edges_y = np.arange(len(rows.values) + 1) - 0.5
    values, norm = np.ma.masked_invalid(rows.resolved_values), signed_norm(rows.values)
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(edges_y[-1], edges_y[0]), yticks=[])
    return axes.pcolormesh(edges, edges_y, values, cmap=theme.SIGNED, norm=norm, rasterized=True)


def plot_layers_over_time(axes: Axes, layers: Units) -> None:
    """Draw attributions of layers and frames, the first layer at the foot."""
    mesh = plot_map(axes, layers, cell_edges_s(layers.times))
    axes.invert_yaxis()
    _name_some(axes.yaxis, [*map(str, range(len(layers.values)))], MOST_LAYERS_NAMED)
    note = " (layer 0: input of the transformer)" if len(layers.values) > 1 else ""  # else it is the last
    axes.set_title(f"Attribution of each layer and frame{note}")
    _state_scale(axes, mesh)


def plot_rows_over_time(axes: Axes, rows: Units, title: str) -> None:
    """Draw attributions of frames, a row for each of several explanations, with their names."""
    mesh, count = plot_map(axes, rows, cell_edges_s(rows.times)), len(rows.values)
    if count <= MOST_ROWS_NAMED:
        between = np.arange(1, count) - 0.5
        axes.hlines(between, *axes.get_xlim(), color=theme.PAPER, linewidth=1.2, zorder=3.0)
    _name_some(axes.yaxis, rows.names, MOST_ROWS_NAMED)
    axes.set_title(title)
    _state_scale(axes, mesh)


def plot_layers_of_rows(axes: Axes, rows: Units) -> None:
    """Draw sums of layers, a row for each of several explanations."""
    count = rows.values.shape[1]
    mesh = plot_map(axes, rows, np.arange(count + 1) - 0.5)
    _name_some(axes.xaxis, [*map(str, range(count))], MOST_LAYERS_NAMED)
    axes.tick_params(axis="x", length=0)
    axes.set_title(f"Layers, ±{mesh.norm.vmax:.2g}")


def _full_colors(shown: Units) -> dict[str, Any]:
    """Colors of bars, and of lines over them for the intervals."""
    lines = {"ecolor": theme.INK, "error_kw": {"elinewidth": 0.8}}
    return {"color": [FULL[sign] for sign in shown.signs.tolist()], **lines}


def plot_sums(axes: Axes, shown: Units, edges: Float[np.ndarray, " edges"], title: str) -> None:
    """Draw sums over time as bars to the right with 95 % intervals, beside a map and on its axis.

    Args:
        axes: Axes to draw on.
        shown: Sums of bands or layers, from the foot.
        edges: Edges of the bars on the vertical axis.
        title: Title of the panel.
    """
    heights = np.minimum(0.86 * np.diff(edges), THICKEST_BAR * (edges[-1] - edges[0]))
    middles = (edges[:-1] + edges[1:]) / 2
    axes.barh(middles, shown.values, heights, xerr=shown.reach, **_full_colors(shown))
    axes.axvline(0, color=theme.RULE, linewidth=0.8)
    axes.set(xlim=limits_of([shown]), ylim=(edges[0], edges[-1]), yticks=[], title=title)
    _mark_certain(axes, shown, middles, across=True)
    set_ticks(axes.xaxis, 5)
    axes.spines["left"].set_visible(False)


def plot_layers(axes: Axes, layers: Units, scale: Sequence[Units], *, first: bool, last: bool) -> None:
    """Draw the sum of each layer as an upright bar with its 95 % interval, beside a row of frames.

    Args:
        axes: Axes to draw on.
        layers: Sums of layers.
        scale: All units that share the vertical axis.
        first: Whether this is the first of several rows, which has the title.
        last: Whether this is the last row, which has the layers' numbers.
    """
    count = len(layers.values)
    axes.bar(range(count), layers.values, yerr=layers.reach, **_full_colors(layers))
    axes.axhline(0, color=theme.RULE, linewidth=0.8)
    axes.set(xlim=(-0.6, max(count, LEAST_PLACES) - 0.4), ylim=limits_of(scale))
    _mark_certain(axes, layers, np.arange(count))
    set_ticks(axes.yaxis, 3)
    _name_some(axes.xaxis, [*map(str, range(count))], MOST_LAYERS_NAMED)
    axes.tick_params(axis="x", length=0, labelbottom=last)
    axes.spines["bottom"].set_visible(False)
    axes.set_title("Sum of each layer" if first else "")
    write_note(axes, f"all: {number(float(layers.values.sum()), signed=True)}")


def plot_proportions(axes: Axes, rows: Rows, title: str) -> None:
    """Draw numbers from 0 to 1 as bars to the right, and annotated ones as hollow bars below.

    Args:
        axes: Axes to draw on.
        rows: The numbers; the predicted class stands out.
        title: Title of the panel.
    """
    count, stand_out = len(rows.names), [PREDICTED in name for name in rows.names]
    colors = [theme.INK if one else theme.MEDIUM for one in stand_out]
    places, room = np.arange(count), max(count, LEAST_PLACES)
    height, shift = (0.34, 0.19) if rows.annotated else (0.62, 0.0)
    bars = axes.barh(places - shift, rows.values, height, color=colors)
    axes.bar_label(bars, [*map(percent, rows.values)], padding=4, fontsize=theme.SMALL_PT)
    if rows.annotated:
        style: Any = {"color": theme.PAPER, "edgecolor": theme.MEDIUM, "label": rows.annotators}
        axes.barh(places + shift, np.array(rows.annotated, float), height, **style)
        axes.legend(loc="lower right", fontsize=theme.SMALL_PT)
        room = count + 1
    axes.set_yticks(range(count), rows.names)
    for tick, one in zip(axes.get_yticklabels(), stand_out, strict=True):
        tick.set(color=theme.INK, weight="bold" if one else "normal")
    axes.tick_params(length=0)
    axes.set(xlim=(0, 1.25), ylim=(room - 0.5, -0.5), xticks=[], title=title)
    axes.spines["left"].set_bounds(-0.5, count - 0.5)
    axes.spines["bottom"].set_visible(False)


def plot_values(axes: Axes, rows: Rows, title: str) -> None:
    """Draw values as dots on an axis that is the scale, or includes 0, and annotated ones as diamonds.

    Args:
        axes: Axes to draw on.
        rows: The values.
        title: Title of the panel.
    """
    given, count = np.array(rows.annotated, float), len(rows.names)  # NaN where unknown
    ends = [*(rows.scale or [0.0]), *rows.values, *given[np.isfinite(given)]]
    low, high = min(ends), max(ends)
    room = 0.28 * (high - low) or 1.0
    plot_dots(axes, rows.values, title, (low - 0.2 * room, high + room))
    for place, value in enumerate(rows.values):
        beside: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": theme.SMALL_PT}
        axes.text(1, place, number(value), transform=axes.get_yaxis_transform(), **beside)
    if rows.annotated:
        axes.plot(given, range(count), "D", color=theme.INK, markersize=5, markerfacecolor=theme.PAPER)
        write_note(axes, f"{theme.DIAMOND} {rows.annotators}")
    if rows.scale is not None:
        axes.set_xticks(rows.scale, [*map(number, rows.scale)])
        axes.spines["bottom"].set_bounds(*rows.scale)
        axes.spines["bottom"].set_position(("data", count - 0.5))  # right below the rows
    axes.set_yticks(range(count), rows.names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max(count, LEAST_PLACES) - 0.5, -0.5)


def plot_dots(
    axes: Axes, values: Sequence[float], title: str, limits: tuple[float, float], hollow: Collection[int] = ()
) -> None:
    """Draw a dot for each row of the map on the left, the first row on top.

    Args:
        axes: Axes to draw on.
        values: One number for each row.
        title: Title of the panel.
        limits: Ends of the horizontal axis.
        hollow: Positions of the dots that are hollow.
    """
    places = np.arange(len(values))
    faces = [theme.PAPER if place in hollow else theme.INK for place in places]
    axes.axvline(0, color=theme.RULE, linewidth=0.8)
    axes.hlines(places, 0, values, color=theme.RULE, linewidth=1.0)
    axes.scatter(values, places, s=26, c=faces, edgecolors=theme.INK, linewidths=1.0, zorder=2, clip_on=False)
    axes.set(xlim=limits, ylim=(len(places) - 0.5, -0.5), yticks=[], title=title)
    set_ticks(axes.xaxis, 2)
    axes.spines["left"].set_visible(False)


def plot_reliability(axes: Axes, curves: Mapping[str, Sequence[Sequence[float | int]]], title: str) -> None:
    """Draw accuracy against confidence; below the diagonal, confidence is too high.

    Lines are errors, whose mean over clips is the calibration error; areas of disks are shares of the clips.

    Args:
        axes: Axes to draw on.
        curves: Rows of each reliability diagram by name: ends of the bin, mean confidence, accuracy and
            number of clips. The last one stands out.
        title: What the title begins with; the calibration errors follow.
    """
    axes.plot([0, 1], [0, 1], color=theme.RULE, linestyle=(0, (4, 3)))
    errors = []
    for color, (name, rows) in zip((theme.MEDIUM, theme.INK)[-len(curves) :], curves.items(), strict=True):
        *_, confidence, accuracy, num_clips = np.array(rows).T
        shares = num_clips / num_clips.sum()
        errors.append(f"{shares @ abs(accuracy - confidence):.3f} {name}")
        axes.vlines(confidence, confidence, accuracy, color=color, label=name)
        axes.scatter(confidence, accuracy, 12 + 900 * shares, color=color, zorder=2, clip_on=False)
    if len(curves) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(0.03, 0.97))
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=f"{title}: ECE {', '.join(errors)}")
    axes.set(xlabel="Confidence (probability of the prediction)", ylabel="Accuracy")


def plot_lines_of_text(axes: Axes, lines: Sequence[str]) -> None:
    """Write lines of small text from the top left of an empty panel."""
    text = axes.text(0, 1, "\n".join(lines), va="top", transform=axes.transAxes, linespacing=1.45, **SMALL)
    text.set_in_layout(False)
    axes.set_axis_off()


def mark_frames(panels: Sequence[Axes], spans_s: Sequence[tuple[float, float]]) -> None:
    """Mark spans in the background of all panels, with their ranks in the first panel.

    Args:
        panels: Axes that share the axis of time, from top to bottom.
        spans_s: Start and end of the strongest frames in seconds, the strongest first; overlapping spans are
            drawn as one.
    """
    for axes in panels:
        for span in spans_s:
            axes.axvspan(*span, color=theme.MARK, linewidth=0, zorder=0.5, gid=MARK_GID)
        edges_s = [edge for span in united(spans_s) for edge in span]
        _draw_upright_lines(axes, edges_s, color=theme.MARK_EDGE, linewidth=0.9, zorder=4.5)
    if panels and spans_s:
        low, high = panels[0].get_ylim()
        panels[0].set_ylim(low, high + RANKS_SHARE * (high - low))
        _write_ranks(panels[0], spans_s)


def mark_evidence(panels: Sequence[Axes], spans: Sequence[Span]) -> None:
    """Draw a bracket in the first panel over each span known to decide the label, and dotted lines in all."""
    edges_s = [edge for span in spans for edge in (span.start_s, span.end_s)]
    style: dict[str, Any] = {"color": theme.INK, "gid": EVIDENCE_GID}
    for axes in panels:
        _draw_upright_lines(axes, edges_s, linewidth=0.8, linestyle=(0, (2, 3)), zorder=5, **style)
    if not (panels and spans):
        return
    axes = panels[0]
    low, high = axes.get_ylim()
    axes.set_ylim(low - BRACKET_SHARE * (high - low), high)
    bracket: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "linewidth": 1.4, **style}
    for span in spans:
        start_s, end_s = span.start_s, span.end_s
        axes.plot([start_s, start_s, end_s, end_s], [0.07, 0.02, 0.02, 0.07], **bracket)
        words = literal((span.kind or "evidence").replace("+", " + "), 24)
        _write_inside(axes, (start_s + end_s) / 2, 0.07, words, va="bottom")


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
        if groups and center_s - np.mean(groups[-1], axis=0)[0] < digit_s * (1 + len(groups[-1])):
            groups[-1].append((center_s, rank))
        else:
            groups.append([(center_s, rank)])
    for group in groups:
        words = "\N{THIN SPACE}".join(map(str, sorted(rank for _, rank in group)))
        _write_inside(axes, np.mean(group, axis=0)[0], 0.99, words, va="top", weight="bold")


def _draw_upright_lines(axes: Axes, at_s: Sequence[float], **style: Any) -> None:  # noqa: ANN401 - of matplotlib's
    axes.vlines(at_s, 0, 1, transform=axes.get_xaxis_transform(), **style)


def _write_inside(axes: Axes, x: float, y: float, words: str, **style: Any) -> None:  # noqa: ANN401 - of matplotlib's
    """Write a text at data coordinates along time and a share of the panel's height."""
    style |= {"ha": "center", "fontsize": theme.SMALL_PT, "zorder": 6}
    axes.text(x, y, words, transform=axes.get_xaxis_transform(), **style).set_in_layout(False)
