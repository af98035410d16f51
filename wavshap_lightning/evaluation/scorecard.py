"""The scorecard: means of all metrics with paired differences between methods, as a table and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.intervals import FEWEST_SPEAKERS, Estimate, bootstrap_mean
from wavshap_lightning.files import write_csv


@dataclass(frozen=True)
class Metric:
    """A metric of a scorecard.

    Args:
        name: Name of its column.
        title: Title in tables and figures.
        group: The property it measures.
        better: `"higher"` or `"lower"`.
        decides: Whether the verdict on its group depends on it.
    """

    name: str
    title: str
    group: str
    better: Literal["higher", "lower"] = "higher"
    decides: bool = False


METRICS: tuple[Metric, ...] = (
    Metric("auc", "Evidence found: AUC of signed attributions", "localization", decides=True),
    Metric("absolute_auc", "Evidence found: AUC of magnitudes", "localization"),
    Metric("mass", "Positive attribution inside the evidence", "localization"),
    Metric("pointing", "Largest attribution inside the evidence", "localization"),
    Metric("iou", "Overlap of largest attributions and evidence", "localization"),
    Metric("comprehensiveness_noise", "Comprehensiveness, filled with noise", "faithfulness", decides=True),
    Metric("comprehensiveness_mean", "Comprehensiveness, filled with the mean", "faithfulness", decides=True),
    Metric("sufficiency_noise", "Sufficiency, filled with noise", "faithfulness", "lower", decides=True),
    Metric("sufficiency_mean", "Sufficiency, filled with the mean", "faithfulness", "lower", decides=True),
    Metric("deletion", "Area under deletion", "faithfulness", "lower"),
    Metric("insertion", "Area under insertion", "faithfulness"),
    Metric("abpc", "Area between perturbation curves", "faithfulness"),
    Metric("infidelity", "Normalized infidelity", "faithfulness", "lower"),
    Metric("consistency_pitch", "Sizes of changes: pitch of spans raised", "counterfactuals", decides=True),
    Metric("consistency_tempo", "Sizes of changes: spans slower", "counterfactuals", decides=True),
    Metric("consistency_level", "Sizes of changes: spans softer", "counterfactuals", decides=True),
    Metric("consistency_tilt", "Sizes of changes: spans duller", "counterfactuals", decides=True),
    Metric("increase", "Masked sound: average increase (AI)", "masked sound"),
    Metric("drop", "Masked sound: average drop (AD)", "masked sound", "lower"),
    Metric("gain", "Masked sound: average gain (AG)", "masked sound"),
    Metric("removal_drop", "Masked sound: faithfulness (FF)", "masked sound"),
    Metric("fidelity", "Masked sound: input fidelity (Fid-In)", "masked sound"),
    Metric("head_redrawn", "Likeness with the head drawn anew", "sanity", "lower"),
    Metric("all_redrawn", "Likeness with every parameter drawn anew", "sanity", "lower"),
    Metric("other_class", "Rank correlation with another class's map", "sanity", "lower"),
    Metric("other_seeds", "Rank correlation with heads of other seeds", "sanity"),
    Metric("gap", "Completeness gap", "estimate", "lower"),
    Metric("intraclass_correlation", "Intraclass correlation of the estimate", "estimate"),
    Metric("seconds", "Seconds a clip", "estimate", "lower"),
)

SANITY = frozenset(metric.name for metric in METRICS if metric.group == "sanity")
"""Metrics of each method by itself: a control's map stays the same whatever is changed."""


@dataclass(frozen=True)
class Scorecard:
    """Comparison of methods by the bootstrap over clips or speakers, with the same resamples for all.

    Differences are paired by clip; clips without both values are left out. There is no correction for
    multiple comparisons. See [`bootstrap_mean`][] for the intervals.

    Args:
        values: One number per clip, by method and metric, in the same order everywhere; NaN if there is
            none. See [`measure`][wavshap_lightning.evaluation.measure.measure].
        controls: Methods that are independent of the model.
        speakers: The speaker of each clip; empty, or with empty names, where they are not known.

    Raises:
        SettingError: If there is no method, a control is missing, or methods have different numbers of clips.
    """

    values: Mapping[str, Mapping[str, Sequence[float]]]
    controls: Sequence[str] = ()
    speakers: Sequence[str] = ()

    def __post_init__(self) -> None:
        missing = [name for name in self.controls if name not in self.values]
        if missing:
            raise SettingError(f"controls={missing} were not measured; there are {', '.join(self.values)}")
        counts = {len(column) for of in self.values.values() for column in of.values()}
        if len(counts) != 1 or 0 in counts:
            raise SettingError(f"values: methods have {sorted(counts)} clips; give one number for each clip")

    @property
    def num_clips(self) -> int:
        """Number of clips."""
        return len(next(column for of in self.values.values() for column in of.values()))

    @property
    def compared(self) -> list[str]:
        """Names of the methods, without the controls."""
        return [name for name in self.values if name not in self.controls]

    def estimate(self, method: str, metric: str) -> Estimate:
        """Mean of a metric over clips."""
        return bootstrap_mean(self._column(method, metric), self.speakers)

    def difference(self, method: str, other: str, metric: str) -> Estimate:
        """Mean over clips of the method's value minus the other's."""
        return bootstrap_mean(self._column(method, metric) - self._column(other, metric), self.speakers)

    def _column(self, method: str, metric: str) -> Float[np.ndarray, " clips"]:
        return np.array(self.values[method].get(metric, [np.nan] * self.num_clips), dtype=float)

    @cached_property
    def rows(self) -> list[dict[str, str | float | int]]:
        """A row for each method and each metric with any value: mean, interval, differences from controls."""
        rows: list[dict[str, str | float | int]] = []
        measured = {name for of in self.values.values() for name in of if np.isfinite(of[name]).any()}
        known = [metric for metric in METRICS if metric.name in measured]
        for method, metric in product((*self.compared, *self.controls), known):
            found = self.estimate(method, metric.name)
            row: dict[str, str | float | int] = {
                "method": method, "metric": metric.name, "better": metric.better, "mean": found.value,
                "low": found.low, "high": found.high, "clips": found.num_clips,
                "resampled": found.resampled, "units": found.num_resampled,
            }  # fmt: skip
            for control in self.controls:
                over = self.difference(method, control, metric.name) if method != control else None
                numbers = (over.value, over.low, over.high) if over else (np.nan,) * 3
                names = (f"minus_{control}", f"minus_{control}_low", f"minus_{control}_high")
                row |= dict(zip(names, numbers, strict=True))
            rows.append(row)
        return rows

    @property
    def note(self) -> str:
        """Note on the resampling; empty where speakers are resampled for every metric."""
        count = len({*self.speakers})
        if not count or not all(self.speakers):
            return "who speaks is not known of every clip: clips count as independent"
        narrow = "so intervals may be too narrow"
        if count < FEWEST_SPEAKERS:
            return f"speakers are only {count}, too few to resample: clips count as independent, {narrow}"
        if any(row["resampled"] == "clips" and row["clips"] for row in self.rows):
            return f"metrics known of fewer than {FEWEST_SPEAKERS} speakers are resampled by clips, {narrow}"
        return ""


def save_table(card: Scorecard, path: Path) -> None:
    """Write the rows as CSV, whole or not at all; what is not known is left empty.

    Raises:
        OSError: If the file cannot be written.
    """
    cells = [["" if value != value else value for value in row.values()] for row in card.rows]  # noqa: PLR0124 - NaN
    write_csv(path, [list(card.rows[0]), *cells])


FEWEST_CLIPS = 10
"""With fewer the intervals are too narrow to conclude anything, on a card as on one metric of it."""

RESOLVED = 0.9
"""Intraclass correlation from which on a map is resolved: a tenth of its variance is Monte Carlo noise."""

ALIKE = 0.1
"""Likeness above which maps depend too little on the randomized parameters, compared with the interval."""

SAME_MAP = 0.5
"""Rank correlation above which maps of two classes are much the same."""

OUTCOMES = {
    (True, False): "beats",
    (False, True): "falls behind",
    (False, False): "is not distinguishable from",
    (True, True): "wins some and loses some against",
}
"""By whether it is better, and worse, by any deciding metric of a group."""


def verdict(card: Scorecard, method: str) -> str:
    """Conclusions about one method, as text.

    The text says whether the maps are resolved, and whether they depend on the trained parameters and on the
    class. Then, for each group of metrics, it lists the methods that this one beats: at least one deciding
    metric is better, with an interval of the paired difference that excludes 0, and none is worse.

    Args:
        card: The scorecard.
        method: Name of a method of the scorecard.
    """
    if card.num_clips < FEWEST_CLIPS:
        return f"no verdict: {card.num_clips} clips are too few, take {FEWEST_CLIPS} at least"
    parts = [_resolution(card, method), *_sanity(card, method)] if method in card.compared else []
    for group in dict.fromkeys(metric.group for metric in METRICS):
        beaten: dict[str, list[str]] = {words: [] for words in OUTCOMES.values()}
        for other in (*card.controls, *card.compared):
            signs = _signs(card, method, other, group)
            if other != method and signs:
                beaten[OUTCOMES[1 in signs, -1 in signs]].append(other)
        said = [f"{words} {', '.join(others)}" for words, others in beaten.items() if others]
        if said:
            parts.append(f"on {group} it {' and '.join(said)}")
    return "; ".join(parts)


def _signs(card: Scorecard, method: str, other: str, group: str) -> set[int]:
    """Signs of what decides and both have, on clips enough: 1 where the method is better, -1 where worse."""
    signs = set()
    for metric in METRICS:
        if metric.group == group and metric.decides:
            found = card.difference(method, other, metric.name)
            if found.num_clips >= FEWEST_CLIPS:
                sign = int(found.low > 0) - int(found.high < 0)
                signs.add(sign if metric.better == "higher" else -sign)
    return signs


def _resolution(card: Scorecard, method: str) -> str:
    found = card.estimate(method, "intraclass_correlation")
    if not found.num_clips:
        return "without a standard error"
    return "resolved" if found.low >= RESOLVED else f"not resolved (intraclass correlation {found.value:.2f})"


def _sanity(card: Scorecard, method: str) -> list[str]:
    """Conclusions on the dependence of maps, where enough clips were measured."""
    words = []
    redrawn, other = (card.estimate(method, name) for name in ("all_redrawn", "other_class"))
    if redrawn.num_clips >= FEWEST_CLIPS:
        degrees = ("depends", "may not depend enough", "does not depend enough")
        degree = degrees[(redrawn.high > ALIKE) + (redrawn.low > ALIKE)]
        alike = f"likeness with every parameter drawn anew {redrawn.value:.2f}"
        words.append(f"{degree} on what was learned ({alike})")
    if other.num_clips >= FEWEST_CLIPS and other.low > SAME_MAP:
        words.append(f"shows much the same for another class (rank correlation {other.value:.2f})")
    return words
