"""Attributions as a figure needs them: values, intervals, and what is resolved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.time_grid import TimeGrid


@dataclass(frozen=True)
class Estimates:
    """Attributions of some units to one target.

    Args:
        values: One a unit.
        half_widths: Half the widths of their 95 % intervals; None for methods without.
    """

    values: Float[np.ndarray, "*units"]
    half_widths: Float[np.ndarray, "*units"] | None = None

    @property
    def unresolved(self) -> Bool[np.ndarray, "*units"]:
        """Where the interval contains 0; nowhere without intervals."""
        if self.half_widths is None:
            return np.zeros(self.values.shape, dtype=bool)
        return np.abs(self.values) <= self.half_widths

    @property
    def low(self) -> Float[np.ndarray, "*units"]:
        """Lower ends of the intervals; the values where these have no end, as after a single draw."""
        return self.values - self._room

    @property
    def high(self) -> Float[np.ndarray, "*units"]:
        """Upper ends."""
        return self.values + self._room

    @property
    def _room(self) -> Float[np.ndarray, "*units"]:
        if self.half_widths is None:
            return np.zeros_like(self.values)
        return np.where(np.isfinite(self.half_widths), self.half_widths, 0.0)

    @property
    def resolved_values(self) -> Float[np.ndarray, "*units"]:
        """The values, NaN where unresolved."""
        return np.where(self.unresolved, np.nan, self.values)


def estimates_of(explanation: Explanation, path: str, view: str, target: str | None = None) -> Estimates:
    """One view of an explanation.

    Args:
        explanation: Which.
        path: As in [`Explanation.values`][], like `view` and `target`.
        view: See there.
        target: See there.

    Raises:
        AttributionError: As there.
    """
    half_widths = explanation.half_widths(path, view, target)
    return Estimates(
        explanation.values(path, view, target).double().cpu().numpy(),
        None if half_widths is None else half_widths.double().cpu().numpy(),
    )


def has_view(explanation: Explanation, path: str, view: str) -> bool:
    """Whether the explanation has it."""
    return path in explanation.attributions and view in explanation.attributions[path].views


def cell_edges_s(times: TimeGrid) -> Float[np.ndarray, " edges"]:
    """Where to draw units: each from half a hop before its centre to half a hop after, in seconds.

    Frames may overlap in what they hear; drawn, they do not.

    >>> cell_edges_s(TimeGrid(2, 320, 400, 0, 16_000)).round(4).tolist()
    [0.0025, 0.0225, 0.0425]
    """
    hop_s = times.hop_samples / times.sample_rate
    centers_s = times.center_s()
    return np.append(centers_s - hop_s / 2, centers_s[-1] + hop_s / 2)
