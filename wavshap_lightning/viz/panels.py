"""Panels over time: each draws one thing on the Axes it is given.

Positions in time come from the explanation's grids.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import Normalize

from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.viz.estimates import Estimates, cell_edges_s
from wavshap_lightning.viz.hearing import Samples, hz_to_mel
from wavshap_lightning.viz.page import ticks_between
from wavshap_lightning.viz.shapes import boxes, colours_of
from wavshap_lightning.viz.theme import (
    AGAINST,
    AGAINST_PALE,
    FOR,
    FOR_PALE,
    INK,
    LEVEL,
    QUIET,
    RULE,
    SIGNED,
    SIGNED_OVER_GREY,
    SMALL_PT,
    UNRESOLVED,
    UNRESOLVED_PALE,
)
from wavshap_lightning.viz.words import MINUS, number

ENVELOPE_POINTS = 1400
HEADROOM = 1.06
LINE_PT, MOST_FRAMES_APART = 0.9, 250
"""Of the line over frames, which thins out where there are more of them than can be told apart."""

MOST_RULED = 16
"""Epochs that have a line between them, and a number each."""

STRIP, STRIP_GAP = 0.09, 0.02
"""Shares of the panel's height."""

TICKS_HZ = (0.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16_000.0)


def plot_waveform(axes: Axes, waveform: Samples, sample_rate: int) -> None:
    """The waveform's envelope: least and greatest sample of every pixel or so, scaled to the loudest."""
    size = max(1, len(waveform) // ENVELOPE_POINTS)
    starts = np.arange(0, len(waveform), size)
    least, greatest = np.minimum.reduceat(waveform, starts), np.maximum.reduceat(waveform, starts)
    peak = float(np.abs(waveform).max()) or 1.0
    axes.fill_between(starts / sample_rate, least, greatest, color="#5f5f5f", linewidth=0.5)
    axes.set_ylim(-HEADROOM * peak, HEADROOM * peak)
    axes.set_yticks([-peak, 0, peak], [f"{MINUS}{peak:.2g}", "0", f"{peak:.2g}"])
    axes.spines["left"].set_bounds(-peak, peak)
    axes.set_title("Waveform")


def plot_spectrogram(axes: Axes, levels_db: Float[np.ndarray, "mels columns"], times: TimeGrid) -> QuadMesh:
    """A log-mel spectrogram in grey, loud is dark; the vertical axis is even in mel and labelled in Hz."""
    top_mel = float(hz_to_mel(np.array([times.sample_rate / 2.0]))[0])
    edges_mel = np.linspace(0, top_mel, len(levels_db) + 1)
    mesh = axes.pcolormesh(cell_edges_s(times), edges_mel, levels_db, cmap=LEVEL, zorder=1, rasterized=True)
    ticks_hz = np.array([tick for tick in TICKS_HZ if tick <= times.sample_rate / 2])
    axes.set_yticks(hz_to_mel(ticks_hz), [number(tick / 1000) for tick in ticks_hz])
    axes.set_ylim(0, top_mel)
    axes.set_title("Mel spectrogram (kHz)")
    return mesh


def plot_bands_over_time(
    axes: Axes, bands: Estimates, times: TimeGrid, edges_hz: Sequence[float], norm: Normalize
) -> QuadMesh:
    """Attributions of bands and windows as colour over a spectrogram; where unresolved, its grey is left."""
    edges_mel = hz_to_mel(np.asarray(edges_hz))
    values = np.ma.masked_invalid(bands.resolved_values)
    return axes.pcolormesh(
        cell_edges_s(times), edges_mel, values, cmap=SIGNED_OVER_GREY, norm=norm, zorder=2, rasterized=True
    )


def plot_strip(axes: Axes, frames: Estimates, times: TimeGrid, norm: Normalize) -> QuadMesh:
    """Attributions of frames as a strip of colour below what a panel holds already; grey where unresolved."""
    low, high = axes.get_ylim()
    top = low - STRIP_GAP * (high - low)
    bottom = top - STRIP * (high - low)
    axes.set_ylim(bottom, high)
    return _plot_map(axes, frames.resolved_values[None], cell_edges_s(times), np.array([bottom, top]), norm)


def plot_frames(axes: Axes, frames: Estimates, times: TimeGrid) -> PolyCollection:
    """A pale bar a frame, and around its end the 95 % interval in full colour: the narrower, the surer.

    Orange speaks for the target, blue against it; grey is unresolved.
    """
    edges_s = cell_edges_s(times)
    pale = colours_of(frames, FOR_PALE, AGAINST_PALE, UNRESOLVED_PALE)
    full = colours_of(frames, FOR, AGAINST, UNRESOLVED)
    bars = boxes(edges_s[:-1], edges_s[1:], np.zeros_like(frames.values), frames.values, pale)
    axes.add_collection(bars)
    axes.add_collection(boxes(edges_s[:-1], edges_s[1:], frames.low, frames.high, full, zorder=3.0))
    thin = min(LINE_PT, LINE_PT * MOST_FRAMES_APART / times.count)
    axes.stairs(frames.values, edges_s, baseline=None, color=INK, linewidth=thin, zorder=4)
    axes.axhline(0, color=RULE, linewidth=0.8, zorder=1)
    set_signed_limits(axes, [frames])
    return bars


def set_signed_limits(axes: Axes, shown: Sequence[Estimates], most_ticks: int = 5) -> None:
    """A vertical axis that holds all of these with their intervals, and 0."""
    low = min(0.0, *(float(one.low.min()) for one in shown))
    high = max(0.0, *(float(one.high.max()) for one in shown))
    room = 0.06 * (high - low) or 1.0
    axes.set_ylim(low - room, high + room)
    ticks = ticks_between(low - room, high + room, most_ticks)
    axes.set_yticks(ticks, [number(tick) for tick in ticks])


def plot_layers_over_time(axes: Axes, layers: Estimates, times: TimeGrid, norm: Normalize) -> QuadMesh:
    """Attributions of layers and frames, the first layer at the foot; grey where unresolved."""
    count = len(layers.values)
    mesh = _plot_map(axes, layers.resolved_values, cell_edges_s(times), np.arange(count + 1) - 0.5, norm)
    _draw_layer_ticks(axes, count)
    axes.set_title("Attribution of each layer and frame (layer 0: what enters the transformer)")
    return mesh


def plot_epochs_over_time(
    axes: Axes, epochs: Sequence[Estimates], names: Sequence[str], times: TimeGrid, norm: Normalize
) -> QuadMesh:
    """Attributions of frames, a row an epoch, the first on top; grey where unresolved."""
    count = len(epochs)
    values = np.stack([epoch.resolved_values for epoch in epochs])
    mesh = _plot_map(axes, values, cell_edges_s(times), np.arange(count + 1) - 0.5, norm)
    axes.hlines(
        np.arange(1, count) - 0.5,
        *axes.get_xlim(),
        color="white",
        linewidth=1.2 if count <= MOST_RULED else 0,
        zorder=3,
    )
    every = -(-count // MOST_RULED)
    axes.set_yticks(range(0, count, every), names[::every])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(count - 0.5, -0.5)
    return mesh


def _draw_layer_ticks(axes: Axes, count: int) -> None:
    every = 1 if count <= 7 else 2 if count <= 14 else 4
    axes.set_yticks(range(0, count, every), [str(layer) for layer in range(0, count, every)])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.5, count - 0.5)


def state_scale(axes: Axes, norm: Normalize) -> None:
    """Say at the top right of a map where its colour is full."""
    title = axes.set_title(f"full colour: ±{norm.vmax:.2g}", loc="right", fontsize=SMALL_PT)
    title.set_color(QUIET)


def _plot_map(
    axes: Axes,
    values: Float[np.ndarray, "rows columns"],
    edges_s: Float[np.ndarray, " column_edges"],
    edges: Float[np.ndarray, " row_edges"],
    norm: Normalize,
) -> QuadMesh:
    masked = np.ma.masked_invalid(values)
    axes.spines["left"].set_visible(False)
    return axes.pcolormesh(edges_s, edges, masked, cmap=SIGNED, norm=norm, zorder=2, rasterized=True)
