"""What each class is heard from, over its clips: mean shares of the magnitude, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from wavshap_lightning.explainer.files import SavedClip
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


Parts = Mapping[str, float] | None


@dataclass(frozen=True)
class ClipShares:
    """What a single clip adds to the summary of its target.

    Args:
        target: The class, or the margin.
        labels: All classes.
        parts: By kind, the share of each part; kinds that the clip lacks are missing.
        edges_hz: Of the bands; empty without them.
    """

    target: str
    labels: tuple[str, ...]
    parts: Mapping[str, Mapping[str, float]]
    edges_hz: tuple[float, ...]


def shares_of(saved: SavedClip) -> ClipShares:
    """The shares of one clip."""
    numbers = saved.numbers
    found = {kind: read(saved) for kind, read in PARTS.items()}
    edges = tuple(band_edges_hz(saved).tolist()) if "bands" in numbers else ()
    parts = {kind: shares for kind, shares in found.items() if shares is not None}
    return ClipShares(numbers["target"], tuple(numbers["labels"]), parts, edges)


def summarise(clips: Iterable[SavedClip]) -> list[HeardFrom]:
    """One summary a target, in the order of the labels and then of the clips."""
    return summarise_shares([shares_of(saved) for saved in clips])


def summarise_shares(clips: Sequence[ClipShares]) -> list[HeardFrom]:
    """The same from the clips' shares, which take little memory however many clips there are."""
    groups: dict[str, list[ClipShares]] = {label: [] for clip in clips for label in clip.labels}
    for clip in clips:
        groups.setdefault(clip.target, []).append(clip)
    return [_heard_from(target, group) for target, group in groups.items() if group]


def _heard_from(target: str, clips: Sequence[ClipShares]) -> HeardFrom:
    found = {kind: _over_clips(kind, clips) for kind in PARTS}
    edges = next((clip.edges_hz for clip in clips if clip.edges_hz), ())
    return HeardFrom(target, len(clips), {kind: one for kind, one in found.items() if one is not None}, edges)


def _over_clips(kind: str, clips: Sequence[ClipShares]) -> Shares | None:
    """Over the clips that are split as the first is."""
    found = [clip.parts[kind] for clip in clips if kind in clip.parts]
    alike = [[*shares.values()] for shares in found if shares.keys() == found[0].keys()]
    if not alike:
        return None
    rows = np.array(alike)
    mean, names = rows.mean(0), tuple(found[0])
    if len(rows) < ENOUGH_CLIPS:
        return Shares(kind, names, mean, None, None, len(rows))
    half = stdtrit(len(rows) - 1, 0.975) * rows.std(0, ddof=1) / np.sqrt(len(rows))
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
