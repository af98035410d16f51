"""An explanation as plain numbers, for JSON and tables."""

from __future__ import annotations

from typing import Any

from wavshap_lightning.attribution.outcome import ViewEstimate
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.explainer.grids import TimeGrid


def plain_view(view: ViewEstimate, target: int) -> dict[str, list[float] | None]:
    """Attributions and standard errors of one target."""
    stderr = None if view.stderr is None else view.stderr[target].tolist()
    return {"attribution": view.values[target].tolist(), "stderr": stderr}


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


def _of(values: tuple[float, ...] | None, target: int) -> float | None:
    return None if values is None else values[target]
