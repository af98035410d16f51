"""The scorecard: methods by metrics, with paired intervals over clips and a verdict in words.

Nothing here explains or measures; values of each clip come in, comparisons go out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.metrics import METRICS, Metric
from wavshap_lightning.evaluation.resampling import FEWEST_SPEAKERS, Kind, Units, interval, units_of
from wavshap_lightning.files import write_atomically

Values = Mapping[str, Mapping[str, Sequence[float]]]
"""By method, by metric: one number a clip, in the same order everywhere; NaN where there is none."""

NUM_RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean over clips with its 95 % interval.

    Args:
        mean: The mean; NaN without clips.
        low: Where the interval begins.
        high: Where it ends.
        num_clips: Over how many.
        num_units: How many units that were resampled they come from.
        resampled: What these are: the clips themselves, or their speakers.
    """

    mean: float
    low: float
    high: float
    num_clips: int
    num_units: int
    resampled: Kind

    @property
    def sign(self) -> int:
        """1 if the interval lies above 0, -1 if below, 0 if it contains it or there is none."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True)
class Scorecard:
    """What became of a comparison.

    Args:
        metrics: Those for which there is any value, in order.
        methods: The methods, controls last.
        controls: Which of them know nothing of the model.
        estimates: By method and metric.
        differences: By method, other method and metric: the first minus the second, clip by clip.
        num_clips: Of how many clips.
        units: What was resampled, but for metrics known of too few speakers.
    """

    metrics: tuple[Metric, ...]
    methods: tuple[str, ...]
    controls: tuple[str, ...]
    estimates: Mapping[tuple[str, str], Estimate]
    differences: Mapping[tuple[str, str, str], Estimate]
    num_clips: int
    units: Units

    @property
    def compared(self) -> tuple[str, ...]:
        """The methods without the controls."""
        return tuple(name for name in self.methods if name not in self.controls)

    @property
    def note(self) -> str:
        """What is to be known of the resampling, in words for people; empty where nothing is."""
        found = [*self.estimates.values(), *self.differences.values()]
        if all(one.resampled == self.units.kind for one in found if one.num_clips):
            return self.units.note
        return (
            f"metrics known of fewer than {FEWEST_SPEAKERS} speakers are resampled by clips, so their "
            "intervals may be too narrow"
        )


def compare(
    values: Values,
    *,
    controls: Sequence[str] = (),
    metrics: Sequence[Metric] = METRICS,
    speakers: Sequence[str] = (),
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Scorecard:
    """Compare methods by the bootstrap over clips or speakers, the same resamples for all.

    Differences are taken clip by clip, so they are paired. Where it is known who speaks, speakers are
    resampled, each with all of the clips, since clips of one speaker are not independent; where fewer than
    five of them have a value clips are, and the estimate says so. See [`interval`][] for the intervals. There
    is no correction for how many comparisons are made. A clip counts where both values are known.

    Args:
        values: What was measured.
        controls: Which methods know nothing of the model.
        metrics: Which metrics, in order; those without any value are left out.
        speakers: Who speaks in each clip; leave it out, or some of them empty, where nobody knows.
        seed: Of the resamples.
        num_resamples: How many.

    Raises:
        SettingError: If there is no method, a control is missing, or methods have different numbers of clips,
            or there are not as many speakers.
    """
    num_clips = _check(values, controls)
    units = units_of(num_clips, speakers)
    possible = {of.kind: of for of in (units_of(num_clips), units)}
    counts = {kind: of.resample(seed, num_resamples) for kind, of in possible.items()}
    known = [metric for metric in metrics if any(_any_known(of.get(metric.name)) for of in values.values())]
    methods = (*(name for name in values if name not in controls), *controls)
    columns = {
        (method, metric.name): np.array(values[method].get(metric.name, [np.nan] * num_clips), dtype=float)
        for method in methods
        for metric in known
    }
    return Scorecard(
        tuple(known),
        methods,
        tuple(controls),
        {key: _estimate(column, units, counts) for key, column in columns.items()},
        {
            (one, other, metric.name): _estimate(
                columns[one, metric.name] - columns[other, metric.name], units, counts
            )
            for one in methods
            for other in methods
            for metric in known
            if one != other
        },
        num_clips,
        units,
    )


def table(card: Scorecard) -> list[dict[str, str | float | int]]:
    """One row a method and metric: mean, interval, clips, and the paired difference from each control."""
    rows: list[dict[str, str | float | int]] = []
    for method in card.methods:
        for metric in card.metrics:
            found = card.estimates[method, metric.name]
            row: dict[str, str | float | int] = {
                "method": method, "metric": metric.name, "better": metric.better, "mean": found.mean,
                "low": found.low, "high": found.high, "clips": found.num_clips,
                "resampled": found.resampled, "units": found.num_units,
            }  # fmt: skip
            for control in card.controls:
                over = card.differences.get((method, control, metric.name))
                names = (f"minus_{control}", f"minus_{control}_low", f"minus_{control}_high")
                numbers = (np.nan,) * 3 if over is None else (over.mean, over.low, over.high)
                row |= dict(zip(names, numbers, strict=True))
            rows.append(row)
    return rows


def save_table(card: Scorecard, path: Path) -> None:
    """Write the table as CSV, whole or not at all; what is not known is left empty.

    Raises:
        OSError: If the disk refuses.
    """
    rows = table(card)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in rows)  # noqa: PLR0124 - NaN is not itself
    write_atomically(path, text.getvalue().encode())


def _check(values: Values, controls: Sequence[str]) -> int:
    if not values:
        raise SettingError("values={}: there is nothing to compare; measure at least one method")
    missing = [name for name in controls if name not in values]
    if missing:
        raise SettingError(f"controls={missing} were not measured; there are {', '.join(values)}")
    counts = {len(column) for of in values.values() for column in of.values()}
    if len(counts) != 1 or 0 in counts:
        raise SettingError(
            f"values: methods have {sorted(counts)} clips; give one number a clip, the same clips everywhere"
        )
    return counts.pop()


def _any_known(column: Sequence[float] | None) -> bool:
    return column is not None and bool(np.isfinite(np.asarray(column, dtype=float)).any())


def _estimate(
    column: Float[np.ndarray, " clips"],
    units: Units,
    counts: Mapping[Kind, Float[np.ndarray, "resamples units"]],
) -> Estimate:
    """Over the clips whose value is known; infinite ones are not."""
    known = np.isfinite(column)
    if not known.any():
        return Estimate(np.nan, np.nan, np.nan, 0, 0, units.kind)
    among = units.among(known)
    owner = np.array(among.owner)[known]
    low, high = interval(column[known], owner, counts[among.kind])
    mean = float(column[known].mean())
    return Estimate(mean, low, high, len(owner), len(np.unique(owner)), among.kind)
