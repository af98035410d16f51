"""What each class is heard from, over its clips: mean shares of the magnitude, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from wavshap_lightning.explainer.saved import SavedClip
from wavshap_lightning.viz.report.plotting import band_names
from wavshap_lightning.viz.report.reading import band_edges_hz, listed, when

ENOUGH_CLIPS = 5
"""Fewer say too little of how clips differ for an interval."""

THIRDS = ("start", "middle", "end")


@dataclass(frozen=True)
class Shares:
    """Mean shares of the attribution's magnitude over clips.

    Args:
        kind: What is compared: `"bands"`, `"layers"`, `"places"` or `"thirds"`.
        names: What of it.
        mean: Over clips; they sum to one.
        low: Lower ends of the 95 % intervals over clips; None where there are too few.
        high: Upper ends.
        num_clips: How many have such shares.
    """

    kind: str
    names: tuple[str, ...]
    mean: Float[np.ndarray, " parts"]
    low: Float[np.ndarray, " parts"] | None
    high: Float[np.ndarray, " parts"] | None
    num_clips: int

    @property
    def strongest(self) -> int:
        """The part with the largest mean share."""
        return int(np.argmax(self.mean))


@dataclass(frozen=True)
class HeardFrom:
    """What a class is heard from.

    Args:
        target: The class, or the margin.
        num_clips: Over how many clips.
        shares: By kind.
        edges_hz: Of the bands; empty without them.
    """

    target: str
    num_clips: int
    shares: Mapping[str, Shares]
    edges_hz: tuple[float, ...]


def summarise(clips: Sequence[SavedClip]) -> list[HeardFrom]:
    """One summary a target, in the order of the labels and then of the clips."""
    groups: dict[str, list[SavedClip]] = {}
    for label in (name for saved in clips for name in saved.numbers["labels"]):
        groups.setdefault(label, [])
    for saved in clips:
        groups.setdefault(saved.numbers["target"], []).append(saved)
    return [_heard_from(target, group) for target, group in groups.items() if group]


def _heard_from(target: str, clips: Sequence[SavedClip]) -> HeardFrom:
    found = {kind: _over_clips(kind, read, clips) for kind, read in PARTS.items()}
    edges = next((tuple(band_edges_hz(one).tolist()) for one in clips if "bands" in one.numbers), ())
    return HeardFrom(target, len(clips), {kind: one for kind, one in found.items() if one is not None}, edges)


Parts = Mapping[str, float] | None


def _over_clips(kind: str, read: Callable[[SavedClip], Parts], clips: Sequence[SavedClip]) -> Shares | None:
    """Over the clips that are split as the first is."""
    found = [shares for saved in clips if (shares := read(saved)) is not None]
    alike = [[*shares.values()] for shares in found if shares.keys() == found[0].keys()]
    if not alike:
        return None
    rows = np.array(alike)
    mean, names = rows.mean(0), tuple(found[0])
    if len(rows) < ENOUGH_CLIPS:
        return Shares(kind, names, mean, None, None, len(rows))
    half = stats.t.ppf(0.975, len(rows) - 1) * rows.std(0, ddof=1) / np.sqrt(len(rows))
    return Shares(kind, names, mean, np.maximum(mean - half, 0), np.minimum(mean + half, 1), len(rows))


def _bands(saved: SavedClip) -> Parts:
    if "bands" not in saved.numbers:
        return None
    return _shared(band_names(band_edges_hz(saved)), listed(saved.numbers["bands"]).values)


def _layers(saved: SavedClip) -> Parts:
    if "layers" not in saved.numbers:
        return None
    values = listed(saved.numbers["layers"]).values
    return _shared([f"layer {layer}" for layer in range(len(values))], values)


def _places(saved: SavedClip) -> Parts:
    return saved.numbers.get("shares")


def _thirds(saved: SavedClip) -> Parts:
    found = when(saved)
    if found is None:
        return None
    third = np.clip(found.center_s * 3 / saved.numbers["duration_s"], 0, 2.5).astype(int)
    return _shared(THIRDS, np.bincount(third, np.abs(found.shown.values), minlength=3))


def _shared(names: Sequence[str], values: Float[np.ndarray, " parts"]) -> Parts:
    magnitude = np.abs(values)
    whole = float(magnitude.sum())
    return dict(zip(names, (magnitude / whole).tolist(), strict=True)) if whole else None


PARTS: Mapping[str, Callable[[SavedClip], Parts]] = {
    "bands": _bands,
    "layers": _layers,
    "places": _places,
    "thirds": _thirds,
}
