"""An explanation as plain numbers, for JSON and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from wavshap_lightning.attribution.outcome import ViewEstimate
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.explainer.grids import TimeGrid

UNITS_WITH_ONE_AXIS = (
    ("waveform", "waveform", "frames"),
    ("waveform", "bands", "bands"),
    ("waveform", "segments", "segments"),
    ("frames", "frames", "frames"),
    ("frames", "segments", "segments"),
    ("layers", "layers", "layers"),
)
"""Path, name among plain numbers, view; of two with one name the later stands."""


def plain_view(view: ViewEstimate, target: int) -> dict[str, list[float] | list[float | None] | None]:
    """Attributions of one target, their standard errors, and half the widths of their 95 % intervals.

    An error of which nothing is known yet is None.
    """
    plain: dict[str, list[float] | list[float | None] | None]
    plain = {"attribution": view.values[target].tolist(), "stderr": None, "half_width": None}
    if view.stderr is not None:
        plain["stderr"] = [_known(error) for error in view.stderr[target].tolist()]
        plain["half_width"] = [_known(half) for half in view.half_width()[target].tolist()]
    return plain


def _known(error: float) -> float | None:
    return error if isfinite(error) else None


def plain_path(found: Attribution, target: int) -> dict[str, Any]:
    """How one path was taken and what it came to for one target."""
    return {
        "method": found.method,
        "estimand": found.estimand,
        "num_draws": found.num_draws,
        "seed": found.seed,
        "baseline_score": _of(found.mean_baseline_score, target),
        "attribution_sum": float(found.sums(next(iter(found.views)))[target]),
        "gap": _of(found.gap, target),
        "relative_gap": _of(found.relative_gap, target),
        "resolved": found.resolved,
        "draws_needed": found.draws_needed,
        "settings": dict(found.settings),
    }


def plain_times(times: TimeGrid) -> dict[str, list[float]]:
    """Beginnings and ends in seconds."""
    return {"start_s": times.start_s().tolist(), "end_s": times.end_s().tolist()}


def plain_units(
    attributions: Mapping[str, Attribution],
    target: int,
    times: Mapping[str, TimeGrid],
    band_edges_hz: Sequence[float],
    segments: Sequence[Sequence[float]],
) -> dict[str, Any]:
    """What has one axis; the maps, layers by frames and the like, are for arrays."""
    plain: dict[str, Any] = {}
    for path, name, view in UNITS_WITH_ONE_AXIS:
        if path in attributions and view in attributions[path].views:
            plain[name] = plain_view(attributions[path].views[view], target)
    for name in plain.keys() & {"frames", "waveform"}:
        plain[name] |= plain_times(times[name])
    if "bands" in plain:
        plain["bands"] |= {"low_hz": list(band_edges_hz[:-1]), "high_hz": list(band_edges_hz[1:])}
    if "segments" in plain:
        plain["segments"]["span_s"] = [*map(list, segments), None]
    return plain


def _of(values: tuple[float, ...] | None, target: int) -> float | None:
    return None if values is None else values[target]
