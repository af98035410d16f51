"""Per-class attribution summary: mean shares of the attribution's magnitude over clips, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.report.plots import GRAY, PALE_GRAY, Plot, bands_layout, share_plot
from wavshap_lightning.viz.theme import number, percent

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
LEVELS = {2: ("low", "high"), 3: ("low", "middle", "high")}
"""Names of groups of clips by their value, by the number of groups."""

SMALL_BANDS_PX = 150


@dataclass(frozen=True)
class MeanShares:
    """Mean shares of the attribution's magnitude over clips.

    Args:
        names: Names of the parts.
        mean: Mean over clips; sums to one.
        low: Lower ends of the 95 % intervals over clips; None for fewer than five clips.
        high: Upper ends.
        num_clips: Number of clips with such shares.
    """

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
        shares: Mean shares by kind: `"bands"`, `"layers"`, `"places"` and `"thirds"`.
        edges_hz: Edges of the bands; empty without them.
    """

    target: str
    num_clips: int
    shares: Mapping[str, MeanShares]
    edges_hz: Sequence[float]


ClipShares = Mapping[str, Any]
"""Shares of one clip in plain JSON types: its `target`, all `labels`, `parts` (the share of each part by
kind; kinds that were not explained are missing), and `edges_hz` of the bands; if the target is a dimension,
its `values`, `predicted` and, if known, `annotated`."""


def clip_shares(view: ClipView) -> ClipShares:
    """Shares of one clip, which the summary of its target is made from."""
    parts: dict[str, Mapping[str, float]] = {}
    for kind in ("bands", "layers"):
        if (shown := view.units(kind)) is not None:
            parts[kind] = _shared(shown.names, shown.values)
    parts["places"] = view.numbers.get("shares") or {}
    if (frames := view.frames) is not None:
        third = np.clip(frames.times.center_s() * 3 / view.duration_s, 0, 2.5).astype(int)
        parts["thirds"] = _shared(THIRDS, np.bincount(third, np.abs(frames.values), minlength=3))
    known = {"predicted": view.outputs, "annotated": view.annotated} if view.task == "dimensions" else {}
    values = {kind: of[view.target] for kind, of in known.items() if view.target in of}
    return {
        "target": view.target,
        "labels": view.numbers["labels"],
        "parts": {kind: shares for kind, shares in parts.items() if shares},
        "edges_hz": view.band_edges_hz.tolist(),
        **({"values": values} if values else {}),
    }


def _shared(names: Sequence[str], values: Float[np.ndarray, " parts"]) -> dict[str, float]:
    """Share of each part in the total magnitude; empty if that is 0."""
    magnitude = np.abs(values)
    whole = float(magnitude.sum())
    return dict(zip(names, (magnitude / whole).tolist(), strict=True)) if whole else {}


def summarize(clips: Sequence[ClipShares]) -> list[ClassSummary]:
    """One summary for each target, in the order of the labels and then of the clips.

    That of a dimension is followed by those of the clips with low, middle and high values, a third each, if
    there are 15 clips or more. The values are those annotated if all of these clips have one.
    """
    groups: dict[str, list[ClipShares]] = {label: [] for clip in clips for label in clip["labels"]}
    for clip in clips:
        groups.setdefault(clip["target"], []).append(clip)
    groups = {name: part for target, group in groups.items() for name, part in _tertiles(target, group)}
    return [
        ClassSummary(
            target,
            len(group),
            {kind: mean for kind in KINDS if (mean := _over_clips(kind, group)) is not None},
            next((clip["edges_hz"] for clip in group if clip["edges_hz"]), ()),
        )
        for target, group in groups.items()
        if group
    ]


def _tertiles(target: str, clips: list[ClipShares]) -> Iterator[tuple[str, list[ClipShares]]]:
    """All clips of a target, and those of each third of its values, with the range in the name."""
    yield target, clips
    kind = "annotated" if all("annotated" in clip.get("values", ()) for clip in clips) else "predicted"
    if len(clips) < len(THIRDS) * ENOUGH_CLIPS or not all("values" in clip for clip in clips):
        return
    values = np.array([clip["values"][kind] for clip in clips])
    thirds = np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values)
    found = np.unique(thirds)  # two where a value is that of many clips
    for third, name in zip(found, LEVELS.get(len(found), ()), strict=False):
        here = values[thirds == third]
        ends = " to ".join(map(number, sorted({here.min(), here.max()})))
        group = [clip for clip, one in zip(clips, thirds, strict=True) if one == third]
        yield f"{target} {name} ({kind} {ends})", group


def _over_clips(kind: str, clips: Sequence[ClipShares]) -> MeanShares | None:
    """Mean over the clips that have the same parts as the first."""
    found = [clip["parts"][kind] for clip in clips if kind in clip["parts"]]
    rows = np.array([[*shares.values()] for shares in found if shares.keys() == found[0].keys()])
    if not len(rows):
        return None
    mean, names = rows.mean(0), tuple(found[0])
    if len(rows) < ENOUGH_CLIPS:
        return MeanShares(names, mean, None, None, len(rows))
    half = stdtrit(len(rows) - 1, 0.975) * rows.std(0, ddof=1) / np.sqrt(len(rows))
    return MeanShares(names, mean, np.maximum(mean - half, 0), np.minimum(mean + half, 1), len(rows))


def sentence(summary: ClassSummary, one: str = "class") -> str:
    """The part of each kind that most is attributed to, and whether there are too few clips for intervals.

    Args:
        summary: The summary of one class.
        one: Class, label or dimension.
    """
    parts = []
    for kind, shares in summary.shares.items():
        strongest = int(np.argmax(shares.mean))
        parts.append(f"{KINDS[kind][1].format(shares.names[strongest])} ({shares.words(strongest)})")
    found = f"Attributed most to: {', '.join(parts)}." if parts else "Nothing can be compared."
    few = f"Too few clips for intervals: these numbers describe the clips, not the {one}. "
    return found if summary.num_clips >= ENOUGH_CLIPS else few + found


def class_charts(summary: ClassSummary) -> dict[str, tuple[str, Plot]]:
    """Heading and plot of each kind of shares, by kind."""
    return {kind: (KINDS[kind][0], _plot(kind, summary)) for kind in summary.shares}


def _plot(kind: str, summary: ClassSummary) -> Plot:
    shares, upright = summary.shares[kind], kind == "bands"
    plot = share_plot(shares.names, shares.mean.tolist())
    (trace,) = plot["data"]
    if upright:
        trace |= {"orientation": "v", "x": trace["y"], "y": trace["x"], "text": None}
        vertical = {"rangemode": "tozero", "tickformat": ".0%", "nticks": 4}
        plot["layout"] = bands_layout(summary.edges_hz, vertical, SMALL_BANDS_PX)
    if shares.low is None or shares.high is None:
        trace["marker"] = {"color": PALE_GRAY}
        return plot
    trace["hovertext"] = [f"{name}: {shares.words(part)}" for part, name in enumerate(shares.names)]
    ends = {"array": (shares.high - shares.mean).tolist(), "arrayminus": (shares.mean - shares.low).tolist()}
    style = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 3, "color": GRAY}
    trace |= {"error_y" if upright else "error_x": ends | style, "text": None}
    return plot
