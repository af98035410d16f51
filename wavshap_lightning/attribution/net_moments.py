"""Streaming sums for a Sobol net over a declared set of baselines."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

from wavshap_lightning.attribution.moments import (
    Summary,
    Terms,
    Totals,
    Weights,
    broadcast,
    gap_share,
    unit_sum,
)

DEGREES_OF_FREEDOM = 8.0
SHRINKAGE = 64
MAX_DOUBLING_GAIN = 4.0
SMOOTHED_NEIGHBOURS = 5
MAX_BLOCKS = 4


@dataclass(frozen=True)
class Block:
    """Some draws that came one after another.

    Args:
        count: How many.
        sums: Sum of their terms.
        totals: Sum of their totals.
    """

    count: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(()))
    totals: Tensor = field(default_factory=lambda: torch.zeros(()))

    @property
    def mean(self) -> Float64[Tensor, "targets *units"]:
        """Mean of their terms."""
        return self.sums / self.count

    def __add__(self, other: Block) -> Block:
        return Block(self.count + other.count, self.sums + other.sums, self.totals + other.totals)


class NetMoments:
    """The error of a net follows from how far its parts disagree.

    With the halves' means `h1, h2` and the quarters' `q1 .. q4`, `s2 = (h1 - h2)^2 / 4` and
    `s4 = mean((q1 - q2)^2, (q3 - q4)^2) / 8` are the variances of the whole, were the halves, or the quarters
    of each half, independent. Their sums over units are `S2` and `S4`; `kappa = S2 / sum v` is what the net
    gains over independent draws, as far as its halves show. Its error falls faster than that of
    independent parts: what one doubling gains beyond independence, `r = S4 / S2` held to 1 .. 4, is credited
    once more. Then

    `stderr^2 = (kappa v + smooth((s2 + 2 s4 S2 / S4) / 3)) / (2 r)`, Student's t with 8 degrees of freedom,

    where `smooth` is a mean over 5 neighbours, if neighbours resemble one another. Own recipe. Simulated on
    small networks with 1 to 100 baselines and 16 to 1024 draws its 95 % intervals cover 93-98 %; without
    `r` 98-100 %, at up to twice the width. Single units may lie further outside than Student's t says, where
    the net serves them worse than the rest.

    Parts that are not quarters of one size (some numbers of draws, a stop by the clock) are compared as they
    are, `s2` alone and without `r`, which errs on the safe side.

    Args:
        neighbours: Whether neighbours along the last axis resemble one another.
    """

    def __init__(self, *, neighbours: bool = False) -> None:
        self._neighbours = neighbours
        self._blocks: list[Block] = []
        self._first: tuple[Tensor, Tensor] | None = None
        self._squares = self._products = self._total_squares = torch.zeros(())

    def open_block(self) -> None:
        """Begin a block; four that are full become two, so that there are never more than four."""
        if len(self._blocks) == MAX_BLOCKS:
            first, second, third, fourth = self._blocks
            self._blocks = [first + second, third + fourth]
        self._blocks.append(Block())

    def add(self, terms: Terms, totals: Totals, weights: Weights) -> None:  # noqa: ARG002
        """Take in some draws."""
        terms = terms.double()
        self._first = (terms[0], totals[0]) if self._first is None else self._first
        terms, totals = terms - self._first[0], totals - self._first[1]
        self._blocks[-1] += Block(len(terms), terms.sum(0), totals.sum(0))
        self._squares = self._squares + terms.square().sum(0)
        self._products = self._products + (terms * broadcast(totals, terms)).sum(0)
        self._total_squares = self._total_squares + totals.square().sum(0)

    def summarise(self) -> Summary:
        """Mean, error and correction."""
        blocks = [block for block in self._blocks if block.count]
        whole = sum(blocks, Block())
        count, mean, mean_total = whole.count, whole.mean, whole.totals / whole.count
        variance = (self._squares / count - mean.square()).clamp(min=0) / max(count - 1, 1)
        covariance = self._products / count - mean * broadcast(mean_total, mean)
        total_variance = self._total_squares / count - mean_total.square()
        share = gap_share(covariance, total_variance, variance, count / (count + SHRINKAGE))
        first = 0.0 if self._first is None else self._first[0]
        return Summary(mean + first, self._stderr(blocks, variance), DEGREES_OF_FREEDOM, share)

    def _stderr(self, blocks: list[Block], variance: Tensor) -> Float64[Tensor, "targets *units"]:
        if len(blocks) == 1:
            return variance.sqrt() if blocks[0].count > 1 else torch.full_like(variance, torch.inf)
        local = _disagreement(*_halves(blocks))
        kappa = (unit_sum(local) / unit_sum(variance)).nan_to_num(0.0, 0.0)
        gain = torch.ones_like(kappa)
        if len(blocks) == MAX_BLOCKS and len({block.count for block in blocks}) == 1:
            local, gain = _refined(blocks, local)
        local = _smooth(local) if self._neighbours else local
        return ((broadcast(kappa, variance) * variance + local) / (2 * broadcast(gain, variance))).sqrt()


def _disagreement(one: Block, other: Block) -> Float64[Tensor, "targets *units"]:
    """Variance of the mean of both together, were they independent."""
    share = one.count * other.count / (one.count + other.count) ** 2
    return (one.mean - other.mean).square() * share


def _halves(blocks: list[Block]) -> tuple[Block, Block]:
    """Cut where the two sides are most nearly of one size."""
    counts = list(accumulate(block.count for block in blocks))
    cut = min(range(1, len(blocks)), key=lambda place: abs(2 * counts[place - 1] - counts[-1]))
    return sum(blocks[:cut], Block()), sum(blocks[cut:], Block())


def _refined(blocks: list[Block], of_halves: Tensor) -> tuple[Tensor, Float64[Tensor, " targets"]]:
    """All three differences between parts as one, scaled to the halves'; and what the doubling gained."""
    first, second, third, fourth = blocks
    of_quarters = (_disagreement(first, second) + _disagreement(third, fourth)) / 4
    gain = (unit_sum(of_quarters) / unit_sum(of_halves)).nan_to_num(1.0, 1.0)
    rescaled = (of_quarters / broadcast(gain, of_quarters)).nan_to_num(0.0, 0.0)
    return (of_halves + 2 * rescaled) / 3, gain.clamp(1.0, MAX_DOUBLING_GAIN)


def _smooth(values: Float64[Tensor, "targets *units"]) -> Float64[Tensor, "targets *units"]:
    if values.ndim < 2:
        return values  # a single unit has no neighbours
    rows = values.reshape(1, -1, values.shape[-1])
    half = SMOOTHED_NEIGHBOURS // 2
    padded = pad(rows, (half, half), mode="replicate")
    return avg_pool1d(padded, SMOOTHED_NEIGHBOURS, 1).reshape(values.shape)
