"""Reliability of the strongest units: with other draws of one model, and with other models.

An interval of every unit does not tell how far to trust their order. Two numbers do, from the attributions of
a view and their standard errors alone: the units that certainly are among the strongest, and how many stay
with another random seed. The agreement of several models, such as heads trained with other seeds or on other
folds, tells what depends on the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Float64
from scipy.special import stdtrit
from torch import Tensor

from wavshap_lightning.attribution.record import ViewEstimate

# The strongest are a tenth of the units, but three at least if that is not more than half of them.
STRONGEST_SHARE, LEAST_STRONGEST = 10, 3
ERROR_RATE = 0.05
NUM_RUNS = 1000
LEAST_ERROR, UNKNOWN = 1e-150, 1e150

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


@dataclass(frozen=True)
class Agreement:
    """Agreement of several models about the `k` frames of largest magnitude.

    Args:
        num_models: Number of models.
        k: Number of the strongest frames of each.
        shared: Share of a model's `k` that is among the `k` of another, mean over all pairs. Maps that have
            nothing to do with each other share `k / frames` on average.
        rank_correlation: Spearman's correlation of the signed attributions, mean over all pairs; None if a
            map is constant.
        survival: Share that one model would share with itself under another random seed, mean over the
            models; None for methods without standard errors. All models have the same draws, so that noise
            alone makes them share this or more: what they share less is a difference of the models.
        counts: Number of models, for each frame, that have it among their `k`.
    """

    num_models: int
    k: int
    shared: float
    rank_correlation: float | None
    survival: float | None
    counts: Sequence[int]

    def in_words(self) -> str:
        """All but the counts in words.

        >>> Agreement(2, 3, 2 / 3, 0.5, 0.96, [2, 1, 0, 2, 0, 1]).in_words()
        '2 models share 67% of their 3 strongest frames (two seeds of one: 96%); rank correlation +0.50'
        """
        alone = "" if self.survival is None else f" (two seeds of one: {self.survival:.0%})"
        ranks = "unknown" if self.rank_correlation is None else f"{self.rank_correlation:+.2f}"
        shared = f"{self.num_models} models share {self.shared:.0%} of their {self.k} strongest frames"
        return f"{shared}{alone}; rank correlation {ranks}"


def measure_agreement(maps: Float64[Tensor, "models frames"], survivals: Sequence[float]) -> Agreement:
    """Agreement of several models' attributions of the same frames.

    Args:
        maps: Attributions of two frames or more by two models or more.
        survivals: Survival of the strongest frames of each model; empty for methods without standard errors.
    """
    k, pairs = num_strongest(maps.shape[1]), torch.ones(len(maps), len(maps)).triu(1).bool()
    order = maps.abs().argsort(dim=1, descending=True, stable=True)
    held = torch.zeros_like(maps).scatter(1, order[:, :k], 1.0)
    ranks = torch.stack([(one[:, None] - one).sign().sum(1) for one in maps])  # equal values share theirs
    shared, rho = (float(one[pairs].mean()) for one in (held @ held.T, torch.corrcoef(ranks)))
    survival, counts = sum(survivals) / len(survivals) if survivals else None, held.sum(0).int().tolist()
    return Agreement(len(maps), k, shared / k, rho if isfinite(rho) else None, survival, counts)


def num_strongest(count: int) -> int:
    """Number of units of `count` that are the strongest: a tenth, but three at least, and half at most."""
    return min(max(-(-count // STRONGEST_SHARE), LEAST_STRONGEST), count // 2)


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
    k = num_strongest(len(values))
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

    The truth behind an estimate `phi` with standard error `s` is taken to be `N(b phi, b s^2)`, and another
    estimate normal around it: `N(b phi, (1 + b) s^2)`, independent from unit to unit. The factor
    `b = max(0, 1 - 1 / mean((phi / s)^2))` (empirical Bayes; Efron and Morris 1973) takes into account that
    the strongest of a noisy map owe their rank to noise in part: without it the share of a map of noise alone
    would be given as a third. The share is the mean over 1000 such estimates from a fixed seed, exact to
    0.016 at worst.

    Args:
        magnitudes: Absolute attributions; signs make no difference.
        stderr: Their standard errors.
        k: Number of the strongest.
    """
    order = magnitudes.argsort(descending=True, stable=True)
    noise = torch.randn(NUM_RUNS, len(order), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale, found = (
        stderr[order].clamp(LEAST_ERROR, UNKNOWN),
        magnitudes[order],
    )  # infinite ones would be equal
    kept = (1.0 - 1.0 / (found / scale).square().mean()).clamp(min=0.0)
    others = (kept * found + (1.0 + kept).sqrt() * scale * noise).abs()
    return float((others[:, :k] >= others.topk(k).values[:, -1:]).double().mean())
