"""A scorecard in words: what each method beats, and what it cannot be told apart from."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.intervals import FEWEST_SPEAKERS, Kind, Units, interval, units_of
from wavshap_lightning.files import write_atomically

Group = Literal[
    "localisation", "faithfulness", "counterfactuals", "masked sound", "sanity", "stability", "estimate"
]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        name: Its column.
        title: What it is, in a few words.
        group: What it is about.
        higher_is_better: Which way.
        decides: Whether the verdict on its group rests on it. All that decide must agree.
    """

    name: str
    title: str
    group: Group
    higher_is_better: bool = True
    decides: bool = False

    @property
    def better(self) -> str:
        """The direction in a word."""
        return "higher" if self.higher_is_better else "lower"


LOWER = {"higher_is_better": False}
METRICS: tuple[Metric, ...] = (
    Metric("auc", "Evidence found: AUC of signed attributions", "localisation", decides=True),
    Metric("absolute_auc", "Evidence found: AUC of magnitudes", "localisation"),
    Metric("mass", "Positive attribution inside the evidence", "localisation"),
    Metric("pointing", "Largest attribution inside the evidence", "localisation"),
    Metric("iou", "Overlap of largest attributions and evidence", "localisation"),
    Metric("comprehensiveness_noise", "Comprehensiveness, filled with noise", "faithfulness", decides=True),
    Metric("comprehensiveness_mean", "Comprehensiveness, filled with the mean", "faithfulness", decides=True),
    Metric("sufficiency_noise", "Sufficiency, filled with noise", "faithfulness", **LOWER, decides=True),
    Metric("sufficiency_mean", "Sufficiency, filled with the mean", "faithfulness", **LOWER, decides=True),
    Metric("deletion", "Area under deletion", "faithfulness", **LOWER),
    Metric("insertion", "Area under insertion", "faithfulness"),
    Metric("abpc", "Area between perturbation curves", "faithfulness"),
    Metric("infidelity", "Normalised infidelity", "faithfulness", **LOWER),
    Metric("consistency_pitch", "Sizes of changes: pitch of spans raised", "counterfactuals", decides=True),
    Metric("consistency_tempo", "Sizes of changes: spans slower", "counterfactuals", decides=True),
    Metric("consistency_level", "Sizes of changes: spans softer", "counterfactuals", decides=True),
    Metric("consistency_tilt", "Sizes of changes: spans duller", "counterfactuals", decides=True),
    Metric("increase", "Masked sound: average increase (AI)", "masked sound"),
    Metric("drop", "Masked sound: average drop (AD)", "masked sound", **LOWER),
    Metric("gain", "Masked sound: average gain (AG)", "masked sound"),
    Metric("removal_drop", "Masked sound: faithfulness (FF)", "masked sound"),
    Metric("fidelity", "Masked sound: input fidelity (Fid-In)", "masked sound"),
    Metric("head_redrawn", "Likeness with the head drawn anew", "sanity", **LOWER),
    Metric("all_redrawn", "Likeness with every parameter drawn anew", "sanity", **LOWER),
    Metric("other_class", "Rank correlation with another class's map", "sanity", **LOWER),
    Metric("other_seeds", "Agreement with heads of other seeds", "sanity"),
    Metric("sensitivity_30", "Sensitivity to noise at 30 dB", "stability", **LOWER),
    Metric("sensitivity_40", "Sensitivity to noise at 40 dB", "stability", **LOWER),
    Metric("gap", "Completeness gap", "estimate", **LOWER),
    Metric("reliability", "Reliability of the estimate", "estimate"),
    Metric("seconds", "Seconds a clip", "estimate", **LOWER),
)

SANITY = frozenset(metric.name for metric in METRICS if metric.group == "sanity")
"""On what maps depend is asked of each method by itself: a control comes out the same whatever is changed."""


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
    """Result of a comparison of methods.

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
        """Note on the resampling; empty if there is none."""
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


Outcome = Literal["beats", "falls behind", "is not distinguishable from", "wins some and loses some against"]

FEWEST_CLIPS = 10
"""With fewer the intervals are too narrow to conclude anything, on a card as on one metric of it."""

RESOLVED = 0.9
"""Reliability from which on a map is called resolved: nine tenths of its scatter is not chance."""

ALIKE = 0.1
"""Likeness above which maps do not depend enough on what was drawn anew, held against the interval."""

SAME_MAP = 0.5
"""Rank correlation above which maps of two classes are much the same."""


def verdict(card: Scorecard, method: str) -> str:
    """Conclusions about one method.

    First whether its maps are resolved, and whether they depend on what was learned and on the class, which
    is no matter of being better than others; then, for each group of metrics that decides anything, what it
    beats: better, with an interval of the paired difference that excludes 0, by one deciding metric at least
    and worse by none.

    Args:
        card: The comparison.
        method: One of its methods.
    """
    if card.num_clips < FEWEST_CLIPS:
        return f"no verdict: {card.num_clips} clips are too few, take {FEWEST_CLIPS} at least"
    parts = [_resolution(card, method), *_sanity(card, method)] if method in card.compared else []
    others = [name for name in (*card.controls, *card.compared) if name != method]
    for group in get_args(Group):
        outcomes = {other: _outcome(card, method, other, group) for other in others}
        said = [
            f"{words} {_listed(name for name, found in outcomes.items() if found == words)}"
            for words in get_args(Outcome)
            if words in outcomes.values()
        ]
        if said:
            parts.append(f"on {group} it {', '.join(said)}")
    return "; ".join(parts)


def verdicts(card: Scorecard) -> dict[str, str]:
    """The verdict on each method that is no control."""
    return {method: verdict(card, method) for method in card.compared}


def _outcome(card: Scorecard, one: str, other: str, group: str) -> Outcome | None:
    """None where nothing decides that both have, on clips enough."""
    signs: list[int] = []
    for metric in card.metrics:
        difference = card.differences[one, other, metric.name]
        if metric.group == group and metric.decides and difference.num_clips >= FEWEST_CLIPS:
            signs.append(difference.sign if metric.higher_is_better else -difference.sign)
    return _sum_up(signs) if signs else None


def _sum_up(signs: Sequence[int]) -> Outcome:
    match (1 in signs, -1 in signs):
        case (True, False):
            return "beats"
        case (False, True):
            return "falls behind"
        case (True, True):
            return "wins some and loses some against"
        case _:
            return "is not distinguishable from"


def _resolution(card: Scorecard, method: str) -> str:
    found = card.estimates.get((method, "reliability"))
    if found is None or not found.num_clips:
        return "without an error of its own"
    if found.low >= RESOLVED:
        return "resolved"
    return f"not resolved (reliability {found.mean:.2f})"


def _sanity(card: Scorecard, method: str) -> list[str]:
    """Conclusions on the dependence of maps, where enough clips were measured."""
    redrawn, other = (card.estimates.get((method, name)) for name in ("all_redrawn", "other_class"))
    words = []
    if redrawn is not None and redrawn.num_clips >= FEWEST_CLIPS:
        alike = f"(likeness with every parameter drawn anew {redrawn.mean:.2f})"
        if redrawn.low > ALIKE:
            words.append(f"does not depend enough on what was learned {alike}")
        elif redrawn.high <= ALIKE:
            words.append(f"depends on what was learned {alike}")
        else:
            words.append(f"may not depend enough on what was learned {alike}")
    if other is not None and other.num_clips >= FEWEST_CLIPS and other.low > SAME_MAP:
        words.append(f"shows much the same for another class (rank correlation {other.mean:.2f})")
    return words


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
