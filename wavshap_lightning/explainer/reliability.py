"""Reliability of the strongest units: those that certainly are, and how many stay with another seed.

An interval of every unit does not tell how far to trust their order. Two numbers do, from the attributions of
a view and their standard errors alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from scipy.special import stdtrit
from torch import Tensor

from wavshap_lightning.attribution.record import ViewEstimate

# The strongest are a tenth of the units, but three at least if that is not more than half of them.
STRONGEST_SHARE, LEAST_STRONGEST = 10, 3
ERROR_RATE = 0.05
NUM_RUNS = 1000
UNKNOWN = 1e150

Units = Float64[Tensor, " units"]


@dataclass(frozen=True)
class Reliability:
    """Trust in the `k` units of largest magnitude, as far as the random draws go.

    Args:
        k: Number of the strongest units.
        certain: Positions of the units that are among the `k` of largest true magnitude, in order. With
            probability 95 % or more all of them are, however the errors of units depend on each other.
        survival: Expected share of the `k` that is among the `k` strongest with another random seed.
    """

    k: int
    certain: Sequence[int]
    survival: float

    @property
    def certain_share(self) -> float:
        """Share of the strongest units that is certain."""
        return len(self.certain) / self.k

    def in_words(self, units: str) -> str:
        """Both numbers in words.

        Args:
            units: What the units are, in the plural.

        >>> Reliability(15, tuple(range(12)), 0.93).in_words("frames")
        '12 of the 15 strongest frames are certain; 93% survive another seed'
        """
        strongest = f"{len(self.certain)} of the {self.k} strongest {units} are certain"
        return f"{strongest}; {self.survival:.0%} survive another seed"


def measure_reliability(view: ViewEstimate, index: int, count: int | None = None) -> Reliability | None:
    """Reliability of one target's attributions in a view with one axis.

    None without standard errors, and for a single unit.

    Args:
        view: Attributions of the view.
        index: Index of the target.
        count: Number of units from the first on, such as the frames of the clip; all if None.
    """
    values = view.values[index, :count].abs()
    if view.stderr is None or len(values) < 2:
        return None
    stderr = view.stderr[index, :count]
    k = min(max(-(-len(values) // STRONGEST_SHARE), LEAST_STRONGEST), len(values) // 2)
    certain = certain_among(values, stderr, view.degrees_of_freedom, k)
    return Reliability(k, tuple(certain), survival(values, stderr, k))


def certain_among(magnitudes: Units, stderr: Units, degrees_of_freedom: float, k: int) -> list[int]:
    """Positions of the units that are among the `k` of largest true magnitude, simultaneously at 95 %.

    With `m` units and the quantile `t(p)` of Student's t, each has a lower and an upper limit,

    `lower = |phi| - t(1 - a / (m - k)) s`, `upper = |phi| + t(1 - a / k) s`, `a = 0.05 / 3`,

    and is certain if fewer than `k` others have an upper limit as high as its lower one. Should a unit be
    named that is not among the `k`, then one of these has its upper limit below the `k`-th true magnitude
    (one tail each of `k` errors), or a unit outside its lower limit above it (two tails each of `m - k`):
    `3 a` in all by Bonferroni's inequality, for errors that depend on each other in any way. Confidence sets
    for ranks: Mogstad, Romano, Shaikh and Wilhelm (2024), Inference for ranks, Review of Economic Studies 91;
    the limits at two levels are our own, narrower for upper ones, of which only `k` matter.

    Args:
        magnitudes: Absolute attributions.
        stderr: Their standard errors; infinite where nothing is known yet.
        degrees_of_freedom: Degrees of freedom of Student's t.
        k: Number of the strongest.
    """
    tail = ERROR_RATE / 3
    low, high = (
        float(stdtrit(degrees_of_freedom, 1 - tail / max(number, 1))) * stderr
        for number in (len(magnitudes) - k, k)
    )
    lower, upper = magnitudes - low, magnitudes + high
    rivals = len(upper) - torch.searchsorted(upper.sort().values, lower)  # itself among them
    return torch.nonzero(rivals <= k)[:, 0].tolist()


def survival(magnitudes: Units, stderr: Units, k: int) -> float:
    """Expected share of the `k` strongest units that is among the `k` strongest with another random seed.

    Given an estimate `phi` with standard error `s`, the truth is taken to be normal around it with variance
    `s^2`, and another estimate normal around the truth: `N(phi, 2 s^2)`, independent from unit to unit. The
    share is the mean over 1000 such estimates from a fixed seed, exact to 0.016 at worst.

    Args:
        magnitudes: Absolute attributions; signs make no difference.
        stderr: Their standard errors.
        k: Number of the strongest.
    """
    order = magnitudes.argsort(descending=True, stable=True)
    noise = torch.randn(NUM_RUNS, len(order), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = 2**0.5 * stderr[order].clamp(max=UNKNOWN)  # infinite ones would all be equal
    others = (magnitudes[order] + scale * noise).abs()
    return float((others[:, :k] >= others.topk(k).values[:, -1:]).double().mean())
