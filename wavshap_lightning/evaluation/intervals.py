"""The bootstrap over clips, or over the speakers they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from wavshap_lightning.errors import SettingError

Kind = Literal["clips", "speakers"]

LEVEL = 0.95
FEWEST_SPEAKERS = 5
"""Fewer say nothing of how much speakers differ."""


@dataclass(frozen=True)
class Units:
    """Resampling units, each with all of its clips.

    Args:
        kind: Clips, or their speakers.
        owner: The unit each clip belongs to, from 0.
        note: What is to be known of it, in words for people; empty where nothing is.
    """

    kind: Kind
    owner: tuple[int, ...]
    note: str = ""

    @property
    def count(self) -> int:
        """How many there are."""
        return max(self.owner) + 1

    def among(self, known: Bool[np.ndarray, " clips"]) -> Units:
        """These, or the clips themselves where a value is known of fewer than five speakers.

        Args:
            known: Of which clips there is a value.

        >>> units_of(6, ["a", "b", "c", "a", "d", "e"]).among(np.arange(6) < 5).kind
        'clips'
        """
        if self.kind == "clips" or len(set(np.array(self.owner)[known])) >= FEWEST_SPEAKERS:
            return self
        return units_of(len(self.owner))

    def resample(self, seed: int, num_resamples: int) -> Float[np.ndarray, "resamples units"]:
        """How often each resample has each unit."""
        chance = np.full(self.count, 1 / self.count)
        drawn = np.random.default_rng(seed).multinomial(self.count, chance, size=num_resamples)
        return drawn.astype(float)


def units_of(num_clips: int, speakers: Sequence[str] = ()) -> Units:
    """Speakers, where it is known of every clip who speaks and there are five at least; else clips.

    Args:
        num_clips: How many clips.
        speakers: Who speaks in each; may be left out.

    Raises:
        SettingError: If there are not as many speakers as clips.

    >>> units_of(6, ["a", "b", "c", "a", "d", "e"]).owner
    (0, 1, 2, 0, 3, 4)
    >>> units_of(2, ["a", "b"]).note
    'speakers are only 2, too few to resample: clips count as independent, so intervals may be too narrow'
    """
    each_clip = tuple(range(num_clips))
    if speakers and len(speakers) != num_clips:
        raise SettingError(f"speakers: there are {len(speakers)}, of {num_clips} clips; give one for each")
    if not speakers or not all(speakers):
        return Units("clips", each_clip, "who speaks is not known of every clip: clips count as independent")
    names = list(dict.fromkeys(speakers))
    if len(names) < FEWEST_SPEAKERS:
        return Units(
            "clips",
            each_clip,
            f"speakers are only {len(names)}, too few to resample: clips count as independent, so intervals "
            "may be too narrow",
        )
    return Units("speakers", tuple(names.index(speaker) for speaker in speakers))


def interval(
    column: Float[np.ndarray, " clips"],
    owner: Int[np.ndarray, " clips"],
    counts: Float[np.ndarray, "resamples units"],
) -> tuple[float, float]:
    """The 95 % interval of the mean over clips, from resampled units.

    Percentiles of the resampled means (Efron and Tibshirani 1993, chapter 13), somewhat farther out: where
    few units are resampled, their means scatter too little by `sqrt((n - 1) / n)` and the normal law is too
    narrow, so the percentiles are those of `Phi(-t sqrt(n / (n - 1)))`, with Student's `t` of `n - 1`
    degrees (Hesterberg 2015, the expanded percentile interval). A unit that owns several clips comes with all
    of them (the cluster bootstrap; Davison and Hinkley 1997, section 3.8).

    Args:
        column: One number a clip, all of them finite.
        owner: Which unit each belongs to.
        counts: How often each resample has each unit.
    """
    sums = np.bincount(owner, weights=column, minlength=counts.shape[1])
    sizes = np.bincount(owner, minlength=counts.shape[1]).astype(float)
    held = counts @ sizes
    means = (counts @ sums)[held > 0] / held[held > 0]
    tail = _tail(int((sizes > 0).sum()))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _tail(count: int) -> float:
    """Share of the resampled means that lies below the interval."""
    if count < 2:
        return (1 - LEVEL) / 2
    farther = stats.t.ppf((1 + LEVEL) / 2, count - 1) * np.sqrt(count / (count - 1))
    return float(stats.norm.cdf(-farther))
