"""Means with 95 % intervals, by the bootstrap over clips or over the speakers they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats

from wavshap_lightning.errors import SettingError

NUM_RESAMPLES = 10_000
LEVEL = 0.95
FEWEST_SPEAKERS = 5
"""Fewer speakers do not show how much speakers differ."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval.

    Args:
        value: The estimate; NaN without clips.
        low: Lower end of the interval; NaN if there is only one unit to resample.
        high: Upper end of the interval; NaN in the same case.
        num_clips: Number of clips behind the estimate.
        resampled: Kind of units that were resampled, clips or speakers.
        num_resampled: Number of these units.
    """

    value: float
    low: float
    high: float
    num_clips: int
    resampled: Literal["clips", "speakers", "folds"]
    num_resampled: int

    def __str__(self) -> str:
        return f"{self.value:.3f}" + (f" [{self.low:.3f}, {self.high:.3f}]" if self.low <= self.high else "")


def bootstrap_mean(
    values: ArrayLike, speakers: Sequence[str] = (), *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Estimate:
    """Mean over clips of a number that is finite, with its 95 % interval.

    Clips of one speaker are not independent, so speakers are resampled, each with all of their clips (the
    cluster bootstrap; Davison and Hinkley 1997, section 3.8), if the speaker of every clip is known and at
    least five speakers have a value. Otherwise clips are resampled.

    The ends of the interval are percentiles of the resampled means (Efron and Tibshirani 1993, chapter 13),
    widened: with few units, resampled means scatter too little by a factor of `sqrt((n - 1) / n)`, and the
    normal distribution is too narrow, so the percentiles are those of `Phi(-t sqrt(n / (n - 1)))`, with
    Student's `t` of `n - 1` degrees (Hesterberg 2015, the expanded percentile interval).

    Args:
        values: One number per clip; NaN if it is not known.
        speakers: The speaker of each clip; empty, or with empty names, where they are not known.
        seed: Of the resamples. Equal seeds draw the same resamples for every metric of the same clips, so
            that differences are paired.
        num_resamples: Number of resamples.

    Raises:
        SettingError: If there are not as many speakers as clips.

    >>> bootstrap_mean([1.0, 2.0, float("nan")]).num_clips
    2
    """
    column = np.asarray(values, dtype=float)
    if len(speakers) not in (0, len(column)):
        raise SettingError(f"speakers: there are {len(speakers)}, of {len(column)} clips; give one for each")
    known = np.isfinite(column)
    counted = known if known.any() else np.ones_like(known)
    voices = {speaker for speaker, counts in zip(speakers, counted, strict=False) if counts}
    by_speaker = all(speakers) and len(voices) >= FEWEST_SPEAKERS
    resampled: Literal["clips", "speakers"] = "speakers" if by_speaker else "clips"
    if not known.any():
        return Estimate(np.nan, np.nan, np.nan, 0, resampled, 0)
    units = speakers if by_speaker else range(len(column))
    places = {unit: place for place, unit in enumerate(dict.fromkeys(units))}
    owner = np.array([places[unit] for unit in units])[known]
    # Drawn among all units, also those without a value, so that all metrics share the resamples.
    drawn = _draw_counts(len(places), num_resamples, seed)
    sums = drawn @ np.bincount(owner, weights=column[known], minlength=len(places))
    sizes = drawn @ np.bincount(owner, minlength=len(places)).astype(float)
    num_resampled = len(np.unique(owner))
    tail = (1 - LEVEL) / 2
    if num_resampled > 1:
        widened = stats.t.ppf(tail, num_resampled - 1) * np.sqrt(num_resampled / (num_resampled - 1))
        tail = float(stats.norm.cdf(widened))
    low, high = np.quantile(sums[sizes > 0] / sizes[sizes > 0], [tail, 1 - tail]).tolist()
    return Estimate(float(column[known].mean()), low, high, len(owner), resampled, num_resampled)


@lru_cache(maxsize=4)
def _draw_counts(num_units: int, num_resamples: int, seed: int) -> Float[np.ndarray, "resamples units"]:
    """How often each resample has each unit; kept, since all metrics of some clips take the same."""
    chance = np.full(num_units, 1 / num_units)
    return np.random.default_rng(seed).multinomial(num_units, chance, size=num_resamples).astype(float)
