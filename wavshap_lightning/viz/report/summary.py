"""Per-class attribution summary: mean shares of the attribution's magnitude over clips, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.report.charts import (
    GRAY,
    Plot,
    band_names,
    bands_layout,
    rgba,
    share_bars,
    shares_plot,
)
from wavshap_lightning.viz.theme import percent

ENOUGH_CLIPS = 5
"""Fewer clips do not show how clips differ, so that there is no interval."""

KINDS = {
    "bands": ("Bands (kHz)", "band {}"),
    "layers": ("Layers", "{}"),
    "places": ("Speech, pauses, edges", "{}"),
    "thirds": ("Position in the clip", "{} of the clip"),
}
"""Heading and phrase of each kind of shares."""

THIRDS = ("start", "middle", "end")
SMALL_BANDS_PX = 150


@dataclass(frozen=True)
class MeanShares:
    """Mean shares of the attribution's magnitude over clips.

    Args:
        kind: `"bands"`, `"layers"`, `"places"` or `"thirds"`.
        names: Names of the parts.
        mean: Mean over clips; sums to one.
        low: Lower ends of the 95 % intervals over clips; None for fewer than five clips.
        high: Upper ends.
        num_clips: Number of clips with such shares.
    """

    kind: str
    names: tuple[str, ...]
    mean: Float[np.ndarray, " parts"]
    low: Float[np.ndarray, " parts"] | None
    high: Float[np.ndarray, " parts"] | None
    num_clips: int

    def words(self, part: int) -> str:
        """Mean share of one part with its interval."""
        if self.low is None or self.high is None:
            return percent(self.mean[part])
        return f"{percent(self.mean[part])}, {percent(self.low[part])} to {percent(self.high[part])}"


@dataclass(frozen=True)
class ClassSummary:
    """Attribution summary of one class.

    Args:
        target: The class, or a margin between two.
        num_clips: Number of clips explained for it.
        shares: Mean shares by kind.
        edges_hz: Edges of the bands; empty without them.
    """

    target: str
    num_clips: int
    shares: Mapping[str, MeanShares]
    edges_hz: tuple[float, ...]


@dataclass(frozen=True)
class ClipShares:
    """Shares of a single clip, which the summary of its target is made from.

    Args:
        target: The class, or a margin between two.
        labels: All classes.
        parts: Share of each part by kind; kinds that were not explained are missing.
        edges_hz: Edges of the bands; empty without them.
    """

    target: str
    labels: tuple[str, ...]
    parts: Mapping[str, Mapping[str, float]]
    edges_hz: tuple[float, ...]


def clip_shares(view: ClipView) -> ClipShares:
    """Shares of one clip."""
    bands, layers, frames = view.units("bands"), view.units("layers"), view.frames
    parts: dict[str, Mapping[str, float]] = {}
    if bands is not None:
        parts["bands"] = _shared(band_names(view.band_edges_hz), bands.values)
    if layers is not None:
        names = [f"layer {layer}" for layer in range(len(layers.values))]
        parts["layers"] = _shared(names, layers.values)
    parts["places"] = view.numbers.get("shares") or {}
    if frames is not None:
        third = np.clip(frames.grid.center_s() * 3 / view.duration_s, 0, 2.5).astype(int)
        parts["thirds"] = _shared(THIRDS, np.bincount(third, np.abs(frames.values), minlength=3))
    edges_hz = () if bands is None else tuple(view.band_edges_hz.tolist())
    known = {kind: shares for kind, shares in parts.items() if shares}
    return ClipShares(view.target, tuple(view.numbers["labels"]), known, edges_hz)


def _shared(names: Sequence[str], values: Float[np.ndarray, " parts"]) -> dict[str, float]:
    """Share of each part in the whole magnitude; empty if there is none."""
    magnitude = np.abs(values)
    whole = float(magnitude.sum())
    return dict(zip(names, (magnitude / whole).tolist(), strict=True)) if whole else {}


def summarize(clips: Sequence[ClipShares]) -> list[ClassSummary]:
    """One summary for each target, in the order of the labels and then of the clips."""
    groups: dict[str, list[ClipShares]] = {label: [] for clip in clips for label in clip.labels}
    for clip in clips:
        groups.setdefault(clip.target, []).append(clip)
    summaries = []
    for target, group in groups.items():
        found = {kind: _over_clips(kind, group) for kind in KINDS}
        edges_hz = next((clip.edges_hz for clip in group if clip.edges_hz), ())
        shares = {kind: one for kind, one in found.items() if one is not None}
        summaries += [ClassSummary(target, len(group), shares, edges_hz)] if group else []
    return summaries


def _over_clips(kind: str, clips: Sequence[ClipShares]) -> MeanShares | None:
    """Mean over the clips that have the same parts as the first."""
    found = [clip.parts[kind] for clip in clips if kind in clip.parts]
    rows = np.array([[*shares.values()] for shares in found if shares.keys() == found[0].keys()])
    if not len(rows):
        return None
    mean, names = rows.mean(0), tuple(found[0])
    if len(rows) < ENOUGH_CLIPS:
        return MeanShares(kind, names, mean, None, None, len(rows))
    half = stdtrit(len(rows) - 1, 0.975) * rows.std(0, ddof=1) / np.sqrt(len(rows))
    return MeanShares(kind, names, mean, np.maximum(mean - half, 0), np.minimum(mean + half, 1), len(rows))


def sentence(summary: ClassSummary) -> str:
    """The part of each kind that most is attributed to, and whether there are too few clips for intervals."""
    parts = []
    for kind, shares in summary.shares.items():
        strongest = int(np.argmax(shares.mean))
        parts.append(f"{KINDS[kind][1].format(shares.names[strongest])} ({shares.words(strongest)})")
    words = (
        f"Attributed most to: {', '.join(parts)}." if parts else "Nothing was explained that can be compared."
    )
    few = "Too few clips for intervals: these numbers describe the clips, not the class. "
    return words if summary.num_clips >= ENOUGH_CLIPS else few + words


def summary_charts(summary: ClassSummary) -> dict[str, tuple[str, Plot]]:
    """Heading and plot of each kind of shares, by kind."""
    return {
        kind: (KINDS[kind][0], _plot(shares, summary.edges_hz)) for kind, shares in summary.shares.items()
    }


def _plot(shares: MeanShares, edges_hz: Sequence[float]) -> Plot:
    upright = shares.kind == "bands"
    if upright:
        vertical = {"rangemode": "tozero", "tickformat": ".0%", "nticks": 4}
        trace: Plot = share_bars(shares.names, shares.mean.tolist()) | {"y": shares.mean.tolist()}
        plot: Plot = {"data": [trace], "layout": bands_layout(edges_hz, vertical, SMALL_BANDS_PX)}
    else:
        plot = shares_plot(shares.names, shares.mean.tolist())
        trace = plot["data"][0]
    if shares.low is None or shares.high is None:
        trace["marker"] = {"color": rgba(GRAY, 0.35)}
        return plot
    trace["hovertext"] = [f"{name}: {shares.words(part)}" for part, name in enumerate(shares.names)]
    ends = {"array": (shares.high - shares.mean).tolist(), "arrayminus": (shares.mean - shares.low).tolist()}
    style = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 3, "color": rgba(GRAY, 1.0)}
    trace |= {"error_y" if upright else "error_x": ends | style, "text": None}
    return plot
