"""A saved clip's numbers as estimates: what a page draws and talks about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.explainer.time_grid import STFT, TimeGrid
from wavshap_lightning.viz.estimates import Estimates

Seconds = Float[np.ndarray, " units"]


@dataclass(frozen=True)
class Moments:
    """Attributions over time.

    Args:
        shown: One a unit; of maps, a row a band or layer.
        start_s: Where what each unit hears begins, in seconds.
        end_s: Where that ends.
        together: How many neighbours were added up to one unit.
    """

    shown: Estimates
    start_s: Seconds
    end_s: Seconds
    together: int = 1

    @property
    def center_s(self) -> Seconds:
        """Where each unit is centred."""
        return (self.start_s + self.end_s) / 2

    @property
    def edges_s(self) -> Float[np.ndarray, " edges"]:
        """Where to draw them: units may overlap in what they hear, drawn they do not."""
        centers = self.center_s
        half = (centers[1] - centers[0]) / 2 if len(centers) > 1 else (self.end_s[0] - self.start_s[0]) / 2
        return np.append(centers - half, centers[-1] + half)


def frames_of(saved: SavedClip, path: str) -> Moments | None:
    """The frames of a path, `"frames"` or `"waveform"`; None if it was not taken."""
    held = saved.numbers.get(path)
    if held is None:
        return None
    return Moments(listed(held), np.array(held["start_s"]), np.array(held["end_s"]))


def when(saved: SavedClip) -> Moments | None:
    """The frames that say when: those of the path at frames, else of the waveform's; None without either."""
    frames = frames_of(saved, "frames")
    return frames_of(saved, "waveform") if frames is None else frames


def map_of(saved: SavedClip, name: str) -> Estimates | None:
    """One of the arrays with its intervals, where it has any; None if it is not there.

    Args:
        saved: Of which clip.
        name: `"band_frame"`, `"layer_frame"` or `"layer_neuron"`.
    """
    if name not in saved.arrays:
        return None
    half_widths = saved.arrays.get(f"{name}_half_width")
    values = saved.arrays[name].astype(np.float64)
    return Estimates(values, None if half_widths is None else half_widths.astype(np.float64))


def bands_over_time(saved: SavedClip) -> Moments | None:
    """Bands by windows of the waveform; None if its path was not taken."""
    shown = map_of(saved, "band_frame")
    if shown is None:
        return None
    times = spectral_times(shown.values.shape[1], saved.numbers["sample_rate"])
    return Moments(shown, times.start_s(), times.end_s())


def layers_over_time(saved: SavedClip) -> Moments | None:
    """Layers by frames; None if that path was not taken, or nothing says where its frames lie."""
    shown, frames = map_of(saved, "layer_frame"), frames_of(saved, "frames")
    if shown is None:
        return None
    if frames is None:
        return _spread(shown, saved.numbers["duration_s"])
    return Moments(shown, frames.start_s, frames.end_s)


def _spread(shown: Estimates, duration_s: float) -> Moments:
    """Evenly over the clip: as near as can be told without the frames' times."""
    edges = np.linspace(0.0, duration_s, shown.values.shape[1] + 1)
    return Moments(shown, edges[:-1], edges[1:])


def spectral_times(count: int, sample_rate: int) -> TimeGrid:
    """Where the columns of `band_frame` and of the spectrogram lie."""
    return TimeGrid(count, STFT.hop, STFT.window, STFT.hop - STFT.window, sample_rate)


def listed(held: Mapping[str, Any]) -> Estimates:
    """The attributions of units with one axis; an unknown interval is infinite.

    >>> listed({"attribution": [1.0, 2.0], "half_width": [0.5, None]}).unresolved
    array([False,  True])
    """
    half = held.get("half_width")
    known = None if half is None else np.array([np.inf if one is None else one for one in half])
    return Estimates(np.array(held["attribution"], dtype=np.float64), known)


def band_edges_hz(saved: SavedClip) -> Float[np.ndarray, " edges"]:
    """Edges of the bands, in hertz."""
    bands = saved.numbers["bands"]
    return np.array([*bands["low_hz"], bands["high_hz"][-1]], dtype=np.float64)


def coarsened(moments: Moments, most: int) -> Moments:
    """Neighbours added up until there are at most this many units, so that long clips can be drawn.

    The half-widths are added up too, which is an upper bound of that of the sum.

    >>> found = coarsened(Moments(Estimates(np.arange(4.0)), np.arange(4.0), np.arange(1.0, 5.0)), 2)
    >>> found.shown.values, found.end_s, found.together
    (array([1., 5.]), array([2., 4.]), 2)
    """
    together = -(-len(moments.start_s) // most)
    if together == 1:
        return moments
    starts = np.arange(0, len(moments.start_s), together)
    ends = np.append(starts[1:], len(moments.start_s)) - 1
    half = moments.shown.half_widths
    shown = Estimates(_added(moments.shown.values, starts), None if half is None else _added(half, starts))
    return Moments(shown, moments.start_s[starts], moments.end_s[ends], together)


def _added(
    values: Float[np.ndarray, "*rows units"], starts: Int[np.ndarray, " coarser"]
) -> Float[np.ndarray, "*rows coarser"]:
    return np.add.reduceat(values, starts, axis=-1)
