"""Streaming sums from which means, standard errors and corrections follow; none grows with the draws.

All take the terms of a view, `(draws, targets, *units)`, and each draw's total over the whole input,
`(draws, targets)`. Sums are kept in float64 and relative to the first draw, so that nearly equal terms
do not lose their differences. With `y` the terms and `s` the totals, every kind gives

- `v`: the variance of the mean if the draws were independent,
- `beta = k cov(y, s) / var(s) + (1 - k) a v / sum v`: the share of each unit in the completeness gap, where
  `a` is the view's own share `cov(sum y, s) / var(s)`, 1 for a view that keeps the total. The covariance is
  the best linear guess; `v` steadies it while draws are few.

The gap is known, so the total is the control variate of every unit: `beta` times the gap is subtracted from
the mean.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from wavshap_lightning.attribution.record import ViewEstimate

PAIR_SHRINKAGE = 32

Terms = Float[Tensor, "draws targets *units"]
Totals = Float64[Tensor, "draws targets"]
Weights = Float64[Tensor, " draws"]
Gap = Float64[Tensor, " targets"] | None


class WeightedSum:
    """Sums of a quadrature: weighted, without an error and without a correction."""

    def __init__(self) -> None:
        self.mean = torch.zeros(())

    def open_block(self) -> None:
        """Begin a new block of draws, which makes no difference here."""

    def add(self, terms: Terms, totals: Totals, weights: Weights) -> None:  # noqa: ARG002
        """Take in some draws."""
        self.mean = self.mean + torch.tensordot(weights, terms.double(), 1)

    def estimate(self, gap: Gap) -> ViewEstimate:  # noqa: ARG002 - an exact rule is not corrected
        """The sum."""
        return ViewEstimate(self.mean, None)


class PairMoments:
    """Sums of draws that come in pairs of neighboring strata: the error follows from how pairs differ.

    `v = sum (y1 - y2)^2 / (n_paired n)`, `stderr = sqrt(v)`, Student's t with as many degrees as there are
    pairs; covariances likewise from differences. Source: the collapsed strata of survey sampling (Cochran
    1977, section 5A.12), which err on the safe side by what the two strata's means differ.
    """

    def __init__(self) -> None:
        self._count = 0
        self._num_pairs = 0
        self._first: Tensor | None = None
        self._waiting: tuple[Tensor, Tensor] | None = None
        self._sum = self._squares = self._products = self._total_squares = torch.zeros(())

    def open_block(self) -> None:
        """Begin a new block of draws: one left over from the last has no neighbor."""
        self._waiting = None

    def add(self, terms: Terms, totals: Totals, weights: Weights) -> None:  # noqa: ARG002
        """Take in some draws."""
        terms = terms.double()
        self._first = terms[0] if self._first is None else self._first
        self._count += len(terms)
        self._sum = self._sum + (terms - self._first).sum(0)
        if self._waiting is not None:
            terms, totals = (torch.cat(both) for both in zip(self._waiting, (terms, totals), strict=True))
        even = 2 * (len(terms) // 2)
        self._waiting = (terms[even:], totals[even:]) if even < len(terms) else None
        terms, totals = terms[:even:2] - terms[1:even:2], totals[:even:2] - totals[1:even:2]
        self._num_pairs += len(terms)
        self._squares = self._squares + terms.square().sum(0)
        self._products = self._products + (terms * broadcast(totals, terms)).sum(0)
        self._total_squares = self._total_squares + totals.square().sum(0)

    @property
    def mean(self) -> Float64[Tensor, "targets *units"]:
        """Mean of the terms."""
        return self._sum / self._count + (0.0 if self._first is None else self._first)

    def estimate(self, gap: Gap) -> ViewEstimate:
        """Mean with its error, corrected by each unit's share of the gap where there is one."""
        if not self._num_pairs:
            return ViewEstimate(self.mean, torch.full_like(self.mean, torch.inf), 1.0)
        variance = self._squares / (2 * self._num_pairs * self._count)
        certainty = self._count / (self._count + PAIR_SHRINKAGE)
        share = gap_share(self._products, self._total_squares, variance, certainty)
        return ViewEstimate(corrected(self.mean, share, gap), variance.sqrt(), float(self._num_pairs))


def broadcast(per_target: Tensor, like: Tensor) -> Tensor:
    """One number a target, shaped to go with `like`, whose first axes it shares."""
    return per_target.reshape(*per_target.shape, *(1,) * (like.ndim - per_target.ndim))


def unit_sum(values: Float64[Tensor, "targets *units"]) -> Float64[Tensor, " targets"]:
    """Sum over all units."""
    return values.flatten(1).sum(1) if values.ndim > 1 else values


def gap_share(covariance: Tensor, total_variance: Tensor, variance: Tensor, certainty: float) -> Tensor:
    """`beta` of the module's formula; 0 where the draws do not vary at all.

    Args:
        covariance: `cov(y, s)`.
        total_variance: `var(s)`.
        variance: `v`.
        certainty: `k`.
    """
    by_covariance = covariance / broadcast(total_variance, covariance)
    by_variance = (
        variance / broadcast(unit_sum(variance), variance) * broadcast(unit_sum(by_covariance), variance)
    )
    return (certainty * by_covariance + (1 - certainty) * by_variance).nan_to_num(0.0, 0.0, 0.0)


def corrected(mean: Tensor, share: Tensor, gap: Gap) -> Float64[Tensor, "targets *units"]:
    """Mean without each unit's share of the completeness gap."""
    return mean if gap is None else mean - share * broadcast(gap, mean)
