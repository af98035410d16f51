"""Panels beside those over time: sums over it, and the decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from wavshap_lightning.viz.estimates import Estimates
from wavshap_lightning.viz.hearing import hz_to_mel
from wavshap_lightning.viz.page import ticks_between, without_axes
from wavshap_lightning.viz.shapes import Places, boxes, colours_of
from wavshap_lightning.viz.theme import INK, QUIET, RULE, SMALL_PT
from wavshap_lightning.viz.words import LABEL_WIDTH, LABELLED, PREDICTED, TARGET, literal, number

MOST_CLASSES = 10
NAMES_AT, BARS_END, SIGN_WIDTH = 0.15, 0.87, 0.028
"""Shares of the width; the last is what one letter takes, generously."""


def plot_bands(axes: Axes, bands: Estimates, edges_hz: Sequence[float]) -> None:
    """A bar a band with its 95 % interval, beside a spectrogram and on its axis."""
    edges_mel = hz_to_mel(np.asarray(edges_hz))
    _plot_sideways(axes, bands, edges_mel[:-1], edges_mel[1:])
    axes.set_ylim(edges_mel[0], edges_mel[-1])
    axes.set_title("Sum of each band")


def plot_layers(axes: Axes, layers: Estimates) -> None:
    """A bar a layer with its 95 % interval, beside the map of layers and on its axis."""
    places = np.arange(len(layers.values), dtype=np.float64)
    _plot_sideways(axes, layers, places - 0.43, places + 0.43)
    axes.set_ylim(-0.5, len(places) - 0.5)
    axes.set_title("Sum of each layer")


def plot_layers_upright(axes: Axes, layers: Estimates, *, name_layers: bool) -> None:
    """A bar a layer, upright.

    Args:
        axes: Where.
        layers: Their sums.
        name_layers: Whether to write the layers' numbers below.
    """
    places = np.arange(len(layers.values), dtype=np.float64)
    foot = np.zeros_like(layers.values)
    axes.add_collection(boxes(places - 0.4, places + 0.4, foot, layers.values, colours_of(layers)))
    if layers.half_widths is not None:
        axes.vlines(places, layers.low, layers.high, color=INK, linewidth=0.8)
    axes.axhline(0, color=RULE, linewidth=0.8)
    axes.spines["bottom"].set_visible(False)
    every = -(-len(places) // 13)
    axes.set_xticks(places[::every], [f"{place:.0f}" if name_layers else "" for place in places[::every]])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(places) - 0.4)


def _plot_sideways(axes: Axes, shown: Estimates, lows: Places, highs: Places) -> None:
    middles, gaps = (lows + highs) / 2, 0.07 * (highs - lows)
    start = np.zeros_like(shown.values)
    axes.add_collection(boxes(start, shown.values, lows + gaps, highs - gaps, colours_of(shown)))
    if shown.half_widths is not None:
        axes.hlines(middles, shown.low, shown.high, color=INK, linewidth=0.8, zorder=3)
    axes.axvline(0, color=RULE, linewidth=0.8, zorder=1)
    low, high = min(0.0, float(shown.low.min())), max(0.0, float(shown.high.max()))
    room = 0.04 * (high - low) or 1.0
    axes.set_xlim(low - room, high + room)
    ticks = ticks_between(low - room, high + room, 5)
    axes.set_xticks(ticks, [number(tick) for tick in ticks])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def plot_classes(
    axes: Axes, probabilities: Mapping[str, float], *, target: str | None, prediction: str, label: str | None
) -> None:
    """The probability of each class; signs mark target, prediction and label.

    Args:
        axes: Where.
        probabilities: By class, in their order; of many, the most probable are shown.
        target: The class explained; None if all are.
        prediction: The class with the largest.
        label: What the clip was annotated as, if that is known.
    """
    marks = {TARGET: target, PREDICTED: prediction, LABELLED: label}
    shown = _classes_shown(probabilities, {name for name in marks.values() if name is not None})
    bars_at = NAMES_AT + SIGN_WIDTH * max(len(literal(name, LABEL_WIDTH)) for name in shown)
    for place, name in enumerate(shown):
        signs = "".join(sign for sign, marked in marks.items() if marked == name)
        weight = "bold" if name == prediction else "normal"
        axes.text(NAMES_AT - 0.015, place, signs, ha="right", va="center", fontsize=SMALL_PT)
        axes.text(NAMES_AT, place, literal(name, LABEL_WIDTH), va="center", fontsize=SMALL_PT, weight=weight)
        axes.text(1, place, f"{probabilities[name]:.2f}", ha="right", va="center", fontsize=SMALL_PT)
    widths = np.array([probabilities[name] for name in shown]) * (BARS_END - bars_at)
    colours = [INK if name == prediction else "#9a9a9a" for name in shown]
    axes.barh(range(len(shown)), widths, 0.62, left=bars_at, color=colours)
    axes.vlines(bars_at, -0.5, len(shown) - 0.5, color=RULE, linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    without_axes(axes)
    more = len(probabilities) - len(shown)
    axes.set_title("Probability of each class" + (f" ({more} more)" if more else ""))


def _classes_shown(probabilities: Mapping[str, float], always: set[str]) -> list[str]:
    """The most probable and those that are marked, in their order."""
    ranked = sorted(probabilities, key=lambda name: (name not in always, -probabilities[name]))
    kept = set(ranked[:MOST_CLASSES])
    return [name for name in probabilities if name in kept]


def plot_shares(axes: Axes, shares: Mapping[str, float]) -> None:
    """How much of the attribution lies in speech, in pauses and at the clip's edges."""
    for place, (name, share) in enumerate(shares.items()):
        axes.text(0, place, name, va="center", fontsize=SMALL_PT)
        axes.text(1, place, f"{100 * share:.0f} %", ha="right", va="center", fontsize=SMALL_PT)
    axes.barh(
        range(len(shares)), [0.58 * share for share in shares.values()], 0.5, left=0.26, color="#9a9a9a"
    )
    axes.vlines(0.26, -0.5, len(shares) - 0.5, color=RULE, linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    without_axes(axes)
    axes.set_title("Share of the magnitude in")


def plot_text(axes: Axes, lines: Sequence[str], *, size_pt: float = SMALL_PT, color: str = QUIET) -> None:
    """Lines of text from the top left."""
    axes.text(
        0, 1, "\n".join(lines), va="top", fontsize=size_pt, color=color, linespacing=1.45,
        transform=axes.transAxes,
    )  # fmt: skip
    without_axes(axes)
