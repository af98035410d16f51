"""Marks that run through all panels over time, and the key that explains colours and marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnchoredOffsetbox, DrawingArea, HPacker, TextArea
from matplotlib.patches import Rectangle

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.explainer.explanation import FrameRank
from wavshap_lightning.viz.page import without_axes
from wavshap_lightning.viz.shapes import boxes
from wavshap_lightning.viz.theme import (
    FOR,
    FOR_PALE,
    INK,
    MARK,
    MARK_EDGE,
    PAPER,
    QUIET,
    SIGNED,
    SMALL_PT,
    UNRESOLVED,
)
from wavshap_lightning.viz.words import LABEL_WIDTH, literal

MARK_GID, EVIDENCE_GID = "strongest frame", "evidence"
DIGIT_PX = 7
"""Room a digit needs, generously."""

LINE_PX, BRACKET_PX, GRADIENT_PX = 14, 8, 90


def mark_frames(axes: Sequence[Axes], frames: Sequence[FrameRank]) -> None:
    """Mark frames by the span each one hears, in all panels; their ranks stand in the topmost.

    The mark lies behind everything; where frames that overlap are marked, it is one.
    """
    for one in axes:
        for frame in frames:
            span = one.axvspan(frame.start_s, frame.end_s, color=MARK, linewidth=0, zorder=0.5)
            span.set_gid(MARK_GID)
        for start_s, end_s in united([(frame.start_s, frame.end_s) for frame in frames]):
            for edge_s in (start_s, end_s):
                one.axvline(edge_s, color=MARK_EDGE, linewidth=0.9, zorder=4.5)
    if axes and frames:
        _make_room(axes[0], above_px=LINE_PX)
        _write_ranks(axes[0], frames)


def united(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans that touch, as one.

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


def _write_ranks(axes: Axes, frames: Sequence[FrameRank]) -> None:
    """Neighbours share a line of text, so that no two overlap."""
    width_px = axes.get_window_extent().width
    low_s, high_s = axes.get_xlim()
    digit_s = DIGIT_PX * (high_s - low_s) / width_px
    groups: list[list[tuple[float, int]]] = []
    for center_s, rank in sorted(((f.start_s + f.end_s) / 2, rank) for rank, f in enumerate(frames, 1)):
        room_s = digit_s * (1 + (len(groups[-1]) if groups else 0))
        if groups and center_s - float(np.mean([c for c, _ in groups[-1]])) < room_s:
            groups[-1].append((center_s, rank))
        else:
            groups.append([(center_s, rank)])
    for group in groups:
        words = "\N{THIN SPACE}".join(str(rank) for rank in sorted(rank for _, rank in group))
        axes.text(
            float(np.mean([center_s for center_s, _ in group])), 0.995, words, ha="center", va="top",
            fontsize=SMALL_PT, weight="bold", transform=axes.get_xaxis_transform(), zorder=6,
        )  # fmt: skip


def mark_evidence(axes: Sequence[Axes], spans: Sequence[Span]) -> None:
    """A bracket at the foot of the topmost panel over what is known to carry the label, and lines down."""
    for one in axes:
        for edge_s in [edge_s for span in spans for edge_s in (span.start_s, span.end_s)]:
            one.axvline(edge_s, color=INK, linewidth=0.8, linestyle=(0, (2, 3)), zorder=5).set_gid(
                EVIDENCE_GID
            )
    if axes and spans:
        _make_room(axes[0], below_px=BRACKET_PX + LINE_PX)
        for span in spans:
            _draw_bracket(axes[0], span)


def _draw_bracket(axes: Axes, span: Span) -> None:
    height_px, transform = axes.get_window_extent().height, axes.get_xaxis_transform()
    low, high = 2 / height_px, BRACKET_PX / height_px
    ends_s = [span.start_s, span.start_s, span.end_s, span.end_s]
    axes.plot(
        ends_s,
        [high, low, low, high],
        color=INK,
        linewidth=1.4,
        transform=transform,
        gid=EVIDENCE_GID,
        zorder=5,
    )
    axes.text(
        (span.start_s + span.end_s) / 2, high, literal(span.kind or "evidence", LABEL_WIDTH), ha="center",
        va="bottom", fontsize=SMALL_PT, transform=transform, zorder=6,
        bbox={"facecolor": PAPER, "alpha": 0.8, "linewidth": 0, "pad": 0.5},
    )  # fmt: skip


def _make_room(axes: Axes, *, above_px: int = 0, below_px: int = 0) -> None:
    """Widen the vertical axis so that nothing that is drawn lies in the first or last pixels."""
    bottom, top = axes.get_ylim()
    height_px = axes.get_window_extent().height
    pixel = (top - bottom) / (height_px - above_px - below_px)
    axes.set_ylim(bottom - below_px * pixel, top + above_px * pixel)


@dataclass(frozen=True)
class KeyEntries:
    """What there is to explain.

    Args:
        target: What speaks for and against it.
        intervals: Whether intervals are drawn.
        unresolved: Whether something may be unresolved: whether there are intervals at all.
        marks: What the marked frames are; empty if none are.
    """

    target: str
    intervals: bool
    unresolved: bool
    marks: str


def plot_key(axes: Axes, entries: KeyEntries) -> None:
    """The key: signed colours, grey, interval and marks, on one line."""
    groups: list[list[Artist]] = [[_words("against"), _gradient(), _words(f"for {entries.target}")]]
    if entries.intervals:
        groups.append([_bar(), _words("95 % interval")])
    if entries.unresolved:
        groups.append([_swatch(UNRESOLVED), _words("interval contains 0")])
    if entries.marks:
        groups.append([_swatch(MARK, edge=MARK_EDGE), _words(entries.marks)])
    packs: list[Artist] = [HPacker(children=group, align="center", pad=0, sep=5) for group in groups]
    packed = HPacker(children=packs, align="center", pad=0, sep=20)
    axes.add_artist(
        AnchoredOffsetbox(
            "center left", child=packed, pad=0, borderpad=0, frameon=False,
            bbox_to_anchor=(0, 0.5), bbox_transform=axes.transAxes,
        )
    )  # fmt: skip
    without_axes(axes)


def _words(text: str) -> TextArea:
    return TextArea(text, textprops={"fontsize": SMALL_PT, "color": QUIET})


def _swatch(color: str, edge: str = "none") -> DrawingArea:
    area = DrawingArea(14, 9)
    area.add_artist(Rectangle((0, 0), 14, 9, facecolor=color, edgecolor=edge, linewidth=0.8))
    return area


def _bar() -> DrawingArea:
    """A bar with its interval, as among the frames."""
    area = DrawingArea(14, 12)
    area.add_artist(Rectangle((0, 0), 14, 9, facecolor=FOR_PALE, linewidth=0))
    area.add_artist(Rectangle((0, 6), 14, 6, facecolor=FOR, linewidth=0))
    area.add_artist(Line2D([0, 14], [9, 9], color=INK, linewidth=0.9))
    return area


def _gradient() -> DrawingArea:
    area = DrawingArea(GRADIENT_PX, 9)
    left = np.arange(GRADIENT_PX, dtype=np.float64)
    colours = [to_hex(color) for color in SIGNED(np.linspace(0, 1, GRADIENT_PX))]
    area.add_artist(boxes(left, left + 1.0, np.zeros_like(left), np.full_like(left, 9.0), colours))
    return area
