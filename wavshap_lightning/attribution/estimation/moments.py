"""Streaming sums from which means, standard errors and corrections follow; none grows with the draws.

All take rows, `(draws, targets, units + 1)`: the terms of a view and, as one more unit, each draw's total
over the whole input. Sums are kept in float64 and relative to the first draw, so that nearly equal terms do
not lose their differences. With `y` the terms and `s` the totals, every kind gives

- `v`: the variance of the mean if the draws were independent,
- `beta = k cov(y, s) / var(s) + (1 - k) a v / sum v`: the share of each unit in the completeness gap, where
  `a` is the view's own share `cov(sum y, s) / var(s)`, 1 for a view that keeps the total. The covariance is
  the best linear guess; `v` steadies it while draws are few.

The gap is known, so the total is the control variate of every unit: `beta` times the gap is subtracted from
the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Complex128, Float64, Int
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

from wavshap_lightning.attribution.record import ViewEstimate

# Numbers of draws at which covariance and variance weigh the same in `beta`, for pairs and for blocks
PAIR_SHRINKAGE, SHRINKAGE = 32, 64
# Chosen by simulation, so that intervals of evenly spread draws cover what they state
DEGREES_OF_FREEDOM = 8.0
SMOOTHED_NEIGHBORS = 5
NUM_HARMONICS = 16
# Factors by which the next doubling of the draws is expected to lower the variance: of a net at most; of a
# lattice where gradients jump along the path, and where they do not
NET_GAIN, ROUGH_GAIN, SMOOTH_GAIN = 2.0, 2.0, 16.0
# Two halves, and the halves of each: what one doubling gains can then be compared with the next
MAX_BLOCKS = 4

Rows = Float64[Tensor, "draws targets units_and_total"]
Sums = Float64[Tensor, "targets units_and_total"]
Units = Float64[Tensor, "targets units"]
Weights = Float64[Tensor, " draws"]
Gap = Float64[Tensor, " targets"] | None
Owners = Int[Tensor, " draws"] | None


class WeightedSum:
    """Sums of a quadrature: weighted, without an error and without a correction."""

    def __init__(self) -> None:
        self.mean = torch.zeros(())

    def open_block(self) -> None:
        """Begin a new block of draws, which makes no difference here."""

    def add(self, rows: Rows, weights: Weights, baselines: Owners = None) -> None:  # noqa: ARG002 - not apart
        """Add some draws to the sums."""
        self.mean = self.mean + torch.tensordot(weights, rows, 1)

    def estimate(self, gap: Gap, shape: torch.Size) -> ViewEstimate:  # noqa: ARG002 - it is exact
        """The sum of each unit, in the shape of the view."""
        return ViewEstimate(self.mean[:, :-1].reshape(shape).cpu(), None)


class PairMoments:
    """Sums of draws that come in pairs of neighboring strata: the error follows from how pairs differ.

    `v = sum (y1 - y2)^2 / (n_paired n)`, `stderr = sqrt(v)`, Student's t with as many degrees as there are
    pairs; covariances likewise from differences. Source: the collapsed strata of survey sampling (Cochran
    1977, section 5A.12), which err on the safe side by what the two strata's means differ.
    """

    def __init__(self) -> None:
        self._count = self._num_pairs = 0
        self._waiting: Tensor | None = None
        self._first = self._sum = self._squares = self._products = torch.zeros(())

    def open_block(self) -> None:
        """Begin a new block of draws: one left over from the last has no neighbor."""
        self._waiting = None

    def add(self, rows: Rows, weights: Weights, baselines: Owners = None) -> None:  # noqa: ARG002 - all are alike
        """Add some draws to the sums."""
        self._first = self._first if self._count else rows[0]
        self._count += len(rows)
        self._sum = self._sum + (rows - self._first).sum(0)
        rows = rows if self._waiting is None else torch.cat([self._waiting, rows])
        even = 2 * (len(rows) // 2)
        self._waiting = rows[even:]
        differences = rows[:even:2] - rows[1:even:2]
        self._num_pairs += len(differences)
        self._squares = self._squares + differences.square().sum(0)
        self._products = self._products + (differences * differences[..., -1:]).sum(0)

    @property
    def mean(self) -> Sums:
        """Mean of the terms and, last, of the totals."""
        return self._sum / self._count + self._first

    def estimate(self, gap: Gap, shape: torch.Size) -> ViewEstimate:
        """Mean with its error, corrected by each unit's share of the gap where there is one."""
        if not self._num_pairs:
            return _view(self.mean, torch.full_like(self.mean, torch.inf), 1.0, shape)
        variance = self._squares / (2 * self._num_pairs * self._count)
        share = gap_share(self._products, variance, self._count / (self._count + PAIR_SHRINKAGE))
        return _view(_corrected(self.mean, share, gap), variance.sqrt(), float(self._num_pairs), shape)


class Lattice(NamedTuple):
    """Evenly spaced draws on the path from each baseline.

    Args:
        phases: `exp(i pi / 2 (r - u))` of each baseline, whose first point lies at `u` steps, and whose parts
            begin `r` steps before it.
        groups: Baselines with as many draws each, over which the shifts `u` are spread evenly.
        length: Number of steps over which they are spread.
    """

    phases: Complex128[Tensor, " baselines"]
    groups: Sequence[Int[Tensor, " members"]]
    length: int = 1


@dataclass(frozen=True)
class Block:
    """Weighted sums over some draws that came one after another, each baseline apart or all together.

    Args:
        count: Number of draws.
        weights: Sum of their weights.
        sums: Weighted sum of their terms and totals.
    """

    count: int = 0
    weights: Float64[Tensor, " baselines"] = field(default_factory=lambda: torch.zeros(()))
    sums: Float64[Tensor, "baselines targets units_and_total"] = field(
        default_factory=lambda: torch.zeros(())
    )

    @property
    def mean(self) -> Sums:
        """Mean of their terms and totals."""
        return self.sums.sum(0) / self.weights.sum()

    def __add__(self, other: Block) -> Block:
        return Block(self.count + other.count, self.weights + other.weights, self.sums + other.sums)


class BlockMoments:
    """Sums of draws that are spread evenly: the error follows from how far their parts disagree.

    `v` is `sum w^2 (y - mean)^2 / (sum w)^2` for weights `w`, times `n / (n - 1)`; covariances likewise. `V`
    says how large the error is, and `v` how units share it:
    `stderr^2 = (v sum V / sum v + smooth(V)) / 2`, Student's t with 8 degrees of freedom, where `smooth` is a
    mean over 5 neighbors, if neighbors resemble one another.

    **Lattice.** With `u` the shift of baseline `b` in steps, the error of its integral is
    `2 Re(c_m e^(2 pi i u))`, up to smaller terms, with `c_k` the Fourier coefficients of its integrand and
    `m` its number of draws. Of `B` baselines with shifts spread evenly, at random,

    `V_m = 2 / B (s^2 + l |C|^2)`,

    where `C` and `s^2` are mean and variance of `c_m` over baselines, and `l` is what the spread of shifts
    leaves of the component that they share: `1 - sinc(2^d j / B)^2` of harmonic `j` after `d` doublings,
    averaged over 16 harmonics of size `j^-log2(g)`. The parts give `c_k` at `k = m / 4`, with its phase, thus
    `V_k`, and at `m / 2` its square over all baselines, thus the ratio `r >= 1` of the squares at `m / 4` and
    `m / 2`. In the end squares fall 16 times with each doubling, or 4 times where gradients jump along the
    path: the next ratio is taken to be `g = r^2 / 16`, held to 4 .. 16, and `V = V_k / (r g)`. All this for
    the terms after the correction, `y - beta s`, if the gap is known. The error of a smooth score may be far
    below this.

    **Net.** With the halves' means `h1, h2` and the quarters' `q1 .. q4`, `s2 = (h1 - h2)^2 / 4` and
    `s4 = mean((q1 - q2)^2, (q3 - q4)^2) / 8` are the variances of the whole, were the halves, or the quarters
    of each half, independent. Their sums over units are `S2` and `S4`. What one doubling gains beyond
    independence, `S4 / S2`, is expected once more, as `r`, held to 1 .. 2: `V = (s2 + 2 s4 S2 / S4) / (3 r)`.
    Own recipes, both.

    Parts that are not quarters of one size (some numbers of draws, a stop by the clock) are compared as they
    are, `s2` alone and without `r`, which errs on the safe side.

    Args:
        smooth: Whether neighbors along the last axis resemble one another, so that their variances may be
            smoothed.
        lattice: The lattice that the draws are; None for a net.
    """

    def __init__(self, *, smooth: bool = False, lattice: Lattice | None = None) -> None:
        self._smooth = smooth
        self._lattice = lattice
        self._blocks: list[Block] = []
        self._first = self._squares = self._products = self._twice_weighted = torch.zeros(())
        self._weight_squares = 0.0

    def open_block(self) -> None:
        """Begin a block; four full blocks are first merged into two, so that there are at most four."""
        if len(self._blocks) == MAX_BLOCKS:
            first, second, third, fourth = self._blocks
            self._blocks = [first + second, third + fourth]
            if self._lattice is not None:  # steps are half as long
                phases, groups, length = self._lattice
                self._lattice = Lattice(phases.square(), groups, 2 * length)
        self._blocks.append(Block())

    def add(self, rows: Rows, weights: Weights, baselines: Owners = None) -> None:
        """Add some draws to the sums."""
        if not self._weight_squares:
            self._first = rows[0].clone()  # a view would hold the whole chunk
        rows = (rows - self._first) * weights[:, None, None]
        if self._lattice is None or baselines is None:
            weight, sums = weights.sum(0, keepdim=True), rows.sum(0, keepdim=True)
        else:
            count, baselines = len(self._lattice.phases), baselines.to(rows.device)
            weight = weights.new_zeros(count).index_add(0, baselines, weights)
            sums = rows.new_zeros(count, *rows.shape[1:]).index_add(0, baselines, rows)
        self._blocks[-1] += Block(len(rows), weight, sums)
        self._weight_squares += float(weights.square().sum())
        self._twice_weighted = self._twice_weighted + torch.tensordot(weights, rows, 1)
        self._squares = self._squares + rows.square().sum(0)
        self._products = self._products + (rows * rows[..., -1:]).sum(0)

    @property
    def mean(self) -> Sums:
        """Weighted mean of the terms and, last, of the totals."""
        return sum(self._blocks, Block()).mean + self._first

    def estimate(self, gap: Gap, shape: torch.Size) -> ViewEstimate:
        """Mean with its error, corrected by each unit's share of the gap where there is one."""
        blocks = [block for block in self._blocks if block.count]
        whole, squares = sum(blocks, Block()), self._weight_squares
        means = (self._twice_weighted / squares, whole.mean)
        of_totals = (means[0][:, -1:], means[1][:, -1:])
        scale = squares / float(whole.weights.sum()) ** 2 * whole.count / max(whole.count - 1, 1)
        variance = _scatter(self._squares / squares, means, means).clamp(min=0) * scale
        covariance = _scatter(self._products / squares, means, of_totals)
        share = gap_share(covariance, variance, whole.count / (whole.count + SHRINKAGE))
        if len(blocks) == 1:
            stderr = variance.sqrt() if whole.count > 1 else torch.full_like(variance, torch.inf)
        else:
            stderr = self._stderr(blocks, variance[:, :-1], share * (gap is not None), shape)
        return _view(_corrected(self.mean, share, gap), stderr, DEGREES_OF_FREEDOM, shape)

    def _stderr(self, blocks: list[Block], variance: Units, share: Sums, shape: torch.Size) -> Units:
        """Standard errors from `V`, shared out among the units in two ways."""
        are_quarters = len(blocks) == MAX_BLOCKS and len({block.count for block in blocks}) == 1
        if are_quarters and self._lattice is not None:
            local = self._of_lattice(self._lattice, blocks, share, shape)
        else:
            local = _disagreement(*_halves(blocks))
            local = _refined(blocks, local) if are_quarters else local
        kappa = (_sum(local) / _sum(variance)).nan_to_num(0.0, 0.0)
        return ((kappa * variance + self._smoothed(local, shape)) / 2).sqrt()

    def _of_lattice(self, lattice: Lattice, blocks: list[Block], share: Sums, shape: torch.Size) -> Units:
        """`V` of the class: the parts are in the order 0, 2, 1, 3 along the path."""
        whole, parts = sum(blocks, Block()), []
        mean = whole.sums / whole.weights[:, None, None]
        for block in blocks:
            apart = (block.sums - block.weights[:, None, None] * mean) / whole.weights[:, None, None]
            parts.append((apart - share * apart[..., -1:])[..., :-1])
        quarter = (parts[0] - parts[1]) - 1j * (parts[2] - parts[3])
        quarter = quarter * lattice.phases.to(quarter.device)[:, None, None]
        of_quarters = self._smoothed(quarter.abs().square().sum(0), shape)
        of_halves = self._smoothed(2 * (parts[0] + parts[1]).square().sum(0), shape)
        # The halves of a single baseline may agree by chance
        most = torch.inf if len(quarter) > 1 else SMOOTH_GAIN
        ratio = (of_quarters / of_halves).nan_to_num(1.0, most).clamp(1.0, most)
        next_ratio = (ratio.square() / SMOOTH_GAIN).clamp(ROUGH_GAIN, SMOOTH_GAIN)
        harmonics = torch.arange(1.0, NUM_HARMONICS + 1, device=ratio.device)[:, None, None]
        sizes = harmonics ** -next_ratio.log2()
        variance = torch.zeros(())
        for members in lattice.groups:
            found, count = quarter[members], len(members)
            shared = found.mean(0)
            spread = (found - shared).abs().square().sum(0) / max(count - 1, 1)
            uneven = 1 - torch.sinc(harmonics * lattice.length / count).square()
            left = (sizes * uneven).sum(0) / sizes.sum(0)
            variance = variance + 2 * count / len(quarter) ** 2 * (spread + left * shared.abs().square())
        return variance / (ratio * next_ratio)

    def _smoothed(self, units: Units, shape: torch.Size) -> Units:
        if not self._smooth or len(shape) == 1:  # a single unit has no neighbors
            return units
        half = SMOOTHED_NEIGHBORS // 2
        padded = pad(units.reshape(1, -1, shape[-1]), (half, half), mode="replicate")
        return avg_pool1d(padded, SMOOTHED_NEIGHBORS, 1).reshape(units.shape)


def _corrected(mean: Sums, share: Sums, gap: Gap) -> Sums:
    return mean if gap is None else mean - share * gap[:, None]


def _view(mean: Sums, stderr: Tensor, degrees_of_freedom: float, shape: torch.Size) -> ViewEstimate:
    """The units of a view in its shape, without the total, on the CPU as all results are."""
    num_units = mean.shape[1] - 1
    values, errors = (numbers[:, :num_units].reshape(shape).cpu() for numbers in (mean, stderr))
    return ViewEstimate(values, errors, degrees_of_freedom)


def gap_share(covariance: Sums, variance: Sums, certainty: float) -> Sums:
    """`beta` of the module's formula; 0 where the draws do not vary at all.

    Args:
        covariance: `cov(y, s)`, and `var(s)` as the last.
        variance: `v`, and that of the total as the last.
        certainty: `k`.
    """
    by_covariance = covariance / covariance[:, -1:]
    by_variance = variance / _sum(variance[:, :-1]) * _sum(by_covariance[:, :-1])
    return (certainty * by_covariance + (1 - certainty) * by_variance).nan_to_num(0.0, 0.0, 0.0)


def _sum(units: Units) -> Float64[Tensor, "targets 1"]:
    return units.sum(1, keepdim=True)


def _scatter(products: Sums, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Sums:
    """Mean of `(y - mean y) (s - mean s)` under squared weights, from that of `y s`.

    Args:
        products: Mean of `y s` under squared weights.
        one: Mean of `y` under squared weights, and its mean.
        other: The same of `s`.
    """
    return products - one[0] * other[0] + (one[0] - one[1]) * (other[0] - other[1])


def _disagreement(one: Block, other: Block) -> Units:
    """Variance of the mean of both together if they were independent."""
    share = one.count * other.count / (one.count + other.count) ** 2
    return (one.mean - other.mean)[:, :-1].square() * share


def _halves(blocks: list[Block]) -> tuple[Block, Block]:
    """Blocks cut in two where the sides are most nearly of one size."""
    counts = list(accumulate(block.count for block in blocks))
    cut = min(range(1, len(blocks)), key=lambda place: abs(2 * counts[place - 1] - counts[-1]))
    return sum(blocks[:cut], Block()), sum(blocks[cut:], Block())


def _refined(blocks: list[Block], of_halves: Units) -> Units:
    """`V` of a net, from all three differences between parts."""
    first, second, third, fourth = blocks
    of_quarters = (_disagreement(first, second) + _disagreement(third, fourth)) / 4
    gain = (_sum(of_quarters) / _sum(of_halves)).nan_to_num(1.0, 1.0)
    rescaled = (of_quarters / gain).nan_to_num(0.0, 0.0)
    return (of_halves + 2 * rescaled) / 3 / gain.clamp(1.0, NET_GAIN)
