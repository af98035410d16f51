"""Streaming sums from which means, standard errors and corrections follow; none grows with the draws.

All take the terms of a view, `(draws, targets, *units)`, and each draw's total over the whole input,
`(draws, targets)`. Sums are kept in float64 and relative to the first draw, so that nearly equal terms
do not lose their differences. With `y` the terms and `s` the totals, every kind gives

- `v`: the variance of the mean if the draws were independent,
- `beta = k cov(y, s) / var(s) + (1 - k) a v / sum v`: the share of each unit in the completeness gap, where
  `a` is the view's own share `cov(sum y, s) / var(s)`, 1 for a view that keeps the total. The covariance is
  the best linear guess; `v` steadies it while draws are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

PAIR_SHRINKAGE = 32

Terms = Float[Tensor, "draws targets *units"]
Totals = Float64[Tensor, "draws targets"]
Weights = Float64[Tensor, " draws"]


@dataclass(frozen=True)
class Summary:
    """What the draws so far say about the units of a view.

    Args:
        mean: Weighted mean of the terms: the attributions before the correction.
        stderr: Standard error of the mean; None where there is no chance in it.
        degrees_of_freedom: Of Student's t for intervals.
        gap_share: What part of the completeness gap each unit is given back.
    """

    mean: Float64[Tensor, "targets *units"]
    stderr: Float64[Tensor, "targets *units"] | None
    degrees_of_freedom: float
    gap_share: Float64[Tensor, "targets *units"] | None


@runtime_checkable
class Moments(Protocol):
    """Takes terms as they come and can be asked at any time."""

    def open_block(self) -> None:
        """Say that the next terms begin a new block of draws."""
        ...

    def add(self, terms: Terms, totals: Totals, weights: Weights) -> None:
        """Take in some draws."""
        ...

    def summarise(self) -> Summary:
        """State what is known so far."""
        ...


class WeightedSum:
    """A quadrature: the weighted sum and nothing else."""

    def __init__(self) -> None:
        self._sum = torch.zeros(())

    def open_block(self) -> None:
        """Blocks make no difference here."""

    def add(self, terms: Terms, totals: Totals, weights: Weights) -> None:  # noqa: ARG002
        """Take in some draws."""
        self._sum = self._sum + torch.tensordot(weights, terms.double(), 1)

    def summarise(self) -> Summary:
        """The sum, without an error."""
        return Summary(self._sum, None, float("inf"), None)


class PairMoments:
    """For draws that come in pairs of neighbouring strata: the error follows from how pairs differ.

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
        """Begin a new batch: a draw left over has no neighbour."""
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
        self._add_differences(terms[:even:2] - terms[1:even:2], totals[:even:2] - totals[1:even:2])

    def _add_differences(self, terms: Terms, totals: Totals) -> None:
        self._num_pairs += len(terms)
        self._squares = self._squares + terms.square().sum(0)
        self._products = self._products + (terms * broadcast(totals, terms)).sum(0)
        self._total_squares = self._total_squares + totals.square().sum(0)

    def summarise(self) -> Summary:
        """Mean, error and correction."""
        mean = self._sum / self._count + (0.0 if self._first is None else self._first)
        if not self._num_pairs:
            return Summary(mean, torch.full_like(mean, torch.inf), 1.0, torch.zeros_like(mean))
        variance = self._squares / (2 * self._num_pairs * self._count)
        certainty = self._count / (self._count + PAIR_SHRINKAGE)
        share = gap_share(self._products, self._total_squares, variance, certainty)
        return Summary(mean, variance.sqrt(), float(self._num_pairs), share)


def broadcast(per_target: Tensor, like: Tensor) -> Tensor:
    """One number a target, shaped to go with `like`, whose first axes it shares."""
    return per_target.reshape(*per_target.shape, *(1,) * (like.ndim - per_target.ndim))


def unit_sum(values: Float64[Tensor, "targets *units"]) -> Float64[Tensor, " targets"]:
    """Sum over all units."""
    return values.flatten(1).sum(1) if values.ndim > 1 else values


def gap_share(covariance: Tensor, total_variance: Tensor, variance: Tensor, certainty: float) -> Tensor:
    """`beta` as above, with `certainty` for `k`; nothing where the draws do not vary at all."""
    by_covariance = covariance / broadcast(total_variance, covariance)
    by_variance = (
        variance / broadcast(unit_sum(variance), variance) * broadcast(unit_sum(by_covariance), variance)
    )
    return (certainty * by_covariance + (1 - certainty) * by_variance).nan_to_num(0.0, 0.0, 0.0)
