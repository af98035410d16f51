"""Designs: the draws that are taken, where they lie, and how their error is computed.

Points lie on the paths from baselines to the input, with weights that sum to one. Every sampler can go on:
further points fill the gaps that the earlier ones left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wavshap_lightning.attribution.baselines import BaselineDistribution, Baselines, BaselineSet, take
from wavshap_lightning.attribution.estimation.moments import BlockMoments, Lattice, PairMoments, WeightedSum
from wavshap_lightning.attribution.estimation.problem import Inputs, Positions, Problem, first_not_finite
from wavshap_lightning.attribution.views.frames import View
from wavshap_lightning.errors import AttributionError

SEED_RANGE = 2**63 - 1
LATTICE_PARTS = 4
SCRAMBLED_BITS = 16
SOBOL_BITS = 30

Moments = WeightedSum | PairMoments | BlockMoments


@dataclass(frozen=True)
class Points:
    """Alphas, weights and baselines of some draws.

    Args:
        alphas: Position of each draw on its path, 0 at the baseline and 1 at the input.
        weights: Weight of each draw; they sum to one over the points drawn together.
        baselines: Index of each draw's baseline in the fixed set; None where every draw takes a fresh one.
    """

    alphas: Float[Tensor, " draws"]
    weights: Float[Tensor, " draws"]
    baselines: Int[Tensor, " draws"] | None = None

    def __len__(self) -> int:
        return len(self.alphas)

    def __getitem__(self, part: slice) -> Points:
        chosen = None if self.baselines is None else self.baselines[part]
        return Points(self.alphas[part], self.weights[part], chosen)


def seeded(generator: torch.Generator | int) -> tuple[int, torch.Generator]:
    """A seed and a new generator with that seed.

    Args:
        generator: A seed, or a generator from which one is drawn (this advances the generator).

    Raises:
        AttributionError: If the seed is negative, too large or not an integer.
    """
    if isinstance(generator, torch.Generator):
        generator = int(torch.randint(SEED_RANGE, (), generator=generator, device=generator.device))
    if not isinstance(generator, int) or not 0 <= generator <= SEED_RANGE:
        raise AttributionError(f"generator={generator!r} must be a torch.Generator or a seed, 0 to 2^63 - 1")
    return generator, torch.Generator().manual_seed(generator)


class SobolNet:
    """A scrambled Sobol sequence over (alpha, index of a baseline in a fixed set).

    The first `2^k` points are a net: each of `2^k` equal intervals of alpha holds one, every baseline gets
    its share but for less than two draws, and pairs of both are spread as evenly. Each single point is
    uniform, so any number of points is unbiased.

    Source: the direction numbers are torch's (Joe and Kuo 2008), scrambled as in Owen (1995), Randomly
    permuted (t,m,s)-nets. torch's own scrambling is linear (Matousek 1998): it gives the same error, but on
    smooth scores the halves of a net then say little about the error, and intervals made from them cover
    78-90 % where Owen's cover 97 %.

    Args:
        num_baselines: Number of baselines in the fixed set.
        generator: Source of the scrambling.
    """

    lattice = None

    def __init__(self, num_baselines: int, generator: torch.Generator) -> None:
        self._num_baselines = num_baselines
        self._generator = generator
        self._sequence = torch.quasirandom.SobolEngine(2)  # type: ignore[no-untyped-call]
        self._flips = torch.randint(0, 2, (2, 2 << SCRAMBLED_BITS), generator=generator)

    def draw(self, count: int) -> Points:
        """Next `count` points of the sequence."""
        coordinates = self._sequence.draw(count, dtype=torch.float64)
        alphas, places = (self._scramble(coordinates[:, axis], axis) for axis in (0, 1))
        baselines = (places * self._num_baselines).long().clamp(max=self._num_baselines - 1)
        return Points(alphas, torch.full_like(alphas, 1 / count), baselines)

    def _scramble(self, places: Float[Tensor, " draws"], axis: int) -> Float[Tensor, " draws"]:
        """Flip each binary digit by a random bit that belongs to those before it; the last are random."""
        digits = (places * 2**SOBOL_BITS).long() >> (SOBOL_BITS - SCRAMBLED_BITS)
        scrambled = torch.zeros_like(digits)
        for position in range(SCRAMBLED_BITS):
            before = digits >> (SCRAMBLED_BITS - position)
            own = (digits >> (SCRAMBLED_BITS - 1 - position)) & 1
            scrambled = 2 * scrambled + (own ^ self._flips[axis][(1 << position) + before])
        below = torch.rand(len(digits), generator=self._generator, dtype=torch.float64)
        return (scrambled + below) / 2**SCRAMBLED_BITS


class BaselineLattice:
    """Evenly spaced points on the path from each baseline of a fixed set, each path shifted at random.

    Every baseline has the same multiple of four draws, or some have four more; which is random. All weigh the
    same. With `m` draws, baseline `b` has `t = (k + u_b) / m mod 1`, `k = 0 .. m - 1`, and takes them
    at `alpha = t^2 (3 - 2 t)` with weight `d alpha / d t = 6 t (1 - t)`, divided by these weights' mean. The
    weight brings the integrand to 0 at both ends, so that its periodic extension is continuous, and evenly
    spaced points sum it with an error that falls with the square of their distance. The shifts are spread
    evenly over the baselines with as many draws, so that the component that all paths share is integrated as
    finely as on a single path.

    Sources: random shifts of lattices, Cranley and Patterson (1976); the transformation, Korobov (1963). The
    spread of the shifts over baselines is new here. Without the division the rule would be unbiased; with it
    constants are exact, and weights change by 7 % at most.

    Args:
        num_baselines: Number of baselines in the fixed set.
        generator: Source of the shifts.
        first_draws: Number of draws of the first call of `draw`: a multiple of four, and at least four for
            each baseline.
    """

    def __init__(self, num_baselines: int, generator: torch.Generator, first_draws: int) -> None:
        order = torch.randperm(num_baselines, generator=generator)
        within = torch.rand(num_baselines, generator=generator, dtype=torch.float64)
        quarter, num_larger = divmod(first_draws // LATTICE_PARTS, num_baselines)
        larger = order < num_larger
        self._first_draws = first_draws
        self._first_each = LATTICE_PARTS * (quarter + larger.long())
        self._ranks = order - num_larger * ~larger
        self._shifts = (self._ranks + within) / torch.where(larger, num_larger, num_baselines - num_larger)
        self._begun = False
        angles = torch.pi / 2 * (self._ranks - self._shifts)
        groups = [members.nonzero()[:, 0] for members in (larger, ~larger) if members.any()]
        self.lattice = Lattice(torch.polar(torch.ones_like(angles), angles), groups)

    def draw(self, count: int) -> Points:
        """First draws; or as many more as there are, between these.

        They come in four parts, with a quarter of each baseline's draws in each part, and each part spread
        evenly over the path.
        """
        times = count // self._first_draws
        num_each = self._first_each * times
        step = torch.arange(int(num_each.max()))[:, None]
        halfway = 1 / (2 * num_each) if self._begun else 0.0  # the points then are a lattice twice as fine
        self._begun = True
        places = (step / num_each + self._shifts / self._first_each + halfway) % 1
        weights = 6 * places * (1 - places) * (step < num_each)
        weights = weights / weights.sum(0) / len(num_each)
        part = torch.where(step < num_each, (step + times * self._ranks) % LATTICE_PARTS, LATTICE_PARTS)
        order = torch.cat([(part == which).flatten().nonzero()[:, 0] for which in (0, 2, 1, 3)])
        baselines = torch.arange(len(num_each)).expand_as(places)
        alphas = places.square() * (3 - 2 * places)
        return Points(*(values.flatten()[order] for values in (alphas, weights, baselines)))


class AlphaStrata:
    """One alpha in each of equally wide strata, neighboring strata in pairs, all in random order.

    Asked for as many again, it puts one into the half of each stratum that is still empty. Stopped
    early, it leaves a random set of strata, so that any number of points is unbiased.

    Args:
        generator: Source of positions and order.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._alphas = torch.empty(0, dtype=torch.float64)

    def draw(self, count: int) -> Points:
        """First `count` points, or all that exist already if these are more."""
        inside = torch.rand(count, generator=self._generator, dtype=torch.float64)
        if len(self._alphas):
            halves = (2 * count * self._alphas).long()
            alphas = (halves.bitwise_xor(1) + inside) / (2 * count)
        else:
            alphas = (torch.arange(count, dtype=torch.float64) + inside) / count
        self._alphas = torch.cat([self._alphas, alphas]).sort().values
        firsts = 2 * torch.randperm(count // 2, generator=self._generator)
        swapped = torch.randint(0, 2, (count // 2,), generator=self._generator)
        pairs = torch.stack([firsts + swapped, firsts + 1 - swapped], 1).flatten()
        # The last of an odd number has no neighbor
        order = torch.cat([pairs, torch.arange(2 * (count // 2), count)])
        return Points(alphas[order], torch.full_like(alphas, 1 / count))


class Placement(NamedTuple):
    """Positions and directions of some draws.

    Args:
        positions: Points at which gradients are taken: after the score's linear first step, if it has one.
        directions: Factors of the gradients, before that step.
        directions_after: The directions after that step.
        fresh: The baselines of these draws after that step, where each took its own.
    """

    positions: Positions
    directions: Inputs
    directions_after: Positions
    fresh: Positions | None = None

    def rows(self, part: slice) -> Placement:
        """A part of the draws."""
        return Placement._make(None if values is None else values[part] for values in self)


@dataclass(frozen=True)
class Design:
    """A plan of draws that can be extended.

    Args:
        extend: Returns the next draws, in blocks, given their number.
        place: Returns the positions of some draws; called once for each draw, in order.
        moments: Makes the accumulator for the terms of a view.
        baselines: Baselines at which the paths begin; None for methods without paths.
        declared: The baselines of a fixed set after the score's linear first step; None without such a
            set.
    """

    extend: Callable[[int], list[Points]]
    place: Callable[[Points], Placement]
    moments: Callable[[View], Moments]
    baselines: Baselines | None = None
    declared: Float[Tensor, "baselines *path"] | None = None


def declared_paths(
    problem: Problem,
    baselines: BaselineSet,
    extend: Callable[[int], list[Points]],
    moments: Callable[[View], Moments],
) -> Design:
    """Draws on straight paths from a fixed set, which goes through the score's linear first step once.

    Args:
        problem: Score, input and target.
        baselines: The fixed set.
        extend: Returns the next draws, with their baselines given by index.
        moments: Makes the accumulator for the terms of a view.
    """
    declared = like_input(baselines.values, problem.input, baselines.name)
    declared_after = problem.after_step(declared)

    def place(points: Points) -> Placement:
        assert points.baselines is not None  # noqa: S101 - draws of a set have them; tells the type checker
        values = _rows(declared, points.baselines)
        after = values if problem.step is None else _rows(declared_after, points.baselines)
        return along_path(problem, values, after, points)

    return Design(extend, place, moments, baselines, declared_after)


def _rows(values: Tensor, chosen: Int[Tensor, " draws"]) -> Tensor:
    # a single row is not copied: of a large input that would take long
    return values[int(chosen) :][:1] if len(chosen) == 1 else values[chosen.to(values.device)]


def along_path(problem: Problem, baselines: Inputs, after: Positions, points: Points) -> Placement:
    """`A b + alpha A (x - b)`, `x - b` and `A (x - b)`, with `A` the score's linear first step.

    Args:
        problem: Score, input and target.
        baselines: Baseline of each draw.
        after: The baselines after the step.
        points: The draws.
    """
    directions = problem.input - baselines
    directions_after = directions if problem.step is None else problem.input_after - after
    alphas = points.alphas.to(after).reshape(-1, *(1,) * (after.ndim - 1))
    return Placement(after + alphas * directions_after, directions, directions_after)


def like_input(values: Tensor, input: Tensor, name: str, start: int = 0) -> Inputs:
    """Baselines on the input's device and in its precision.

    Args:
        values: The baselines.
        input: The input.
        name: Their family, for a message.
        start: The number of the first draw, for a message.

    Raises:
        AttributionError: If their shape is not that of the input, or one is not finite.
    """
    if values.shape[1:] != input.shape:
        raise AttributionError(
            f"baselines={name!r} have shape {tuple(values.shape[1:])}, the input has {tuple(input.shape)}; "
            "they must agree: fit recordings to the clip's length, and take both through the same stages"
        )
    bad = first_not_finite(values)
    if bad is not None:
        raise AttributionError(f"baselines={name!r}: draw={start + bad} is not finite; check how it is drawn")
    return values.detach().to(input)


def declared_spread(
    problem: Problem, baselines: BaselineSet, generator: torch.Generator, first_draws: int
) -> Design:
    """Draws spread evenly over alpha and the baselines of a fixed set.

    A lattice for a multiple of four draws, at least four for each baseline; otherwise a Sobol net, which
    serves any number. They come in four blocks at first, then as many again in two, so that the blocks can be
    compared.

    Args:
        problem: Score, input and target.
        baselines: The fixed set.
        generator: Source of shifts or scrambling.
        first_draws: Number of draws of the first call of `extend`.
    """
    count = len(baselines)
    on_lattice = first_draws % LATTICE_PARTS == 0 and first_draws >= LATTICE_PARTS * count
    sampler = BaselineLattice(count, generator, first_draws) if on_lattice else SobolNet(count, generator)
    num_blocks = iter([4])

    def extend(count: int) -> list[Points]:
        drawn = sampler.draw(count)
        drawn = replace(drawn, weights=drawn.weights * count)  # twice as many draws weigh twice as much
        blocks = next(num_blocks, 2)
        edges = [count * block // blocks for block in range(blocks + 1)]
        return [drawn[slice(*pair)] for pair in pairwise(edges) if pair[0] < pair[1]]

    def moments(view: View) -> BlockMoments:
        return BlockMoments(smooth=view.smooth_variance, lattice=sampler.lattice)

    return declared_paths(problem, baselines, extend, moments)


def fresh_strata(problem: Problem, baselines: BaselineDistribution, generator: torch.Generator) -> Design:
    """Strata of alpha, each draw with its own baseline, the next of a distribution's stream.

    Args:
        problem: Score, input and target.
        baselines: The distribution.
        generator: Source of alphas and baselines.
    """
    strata = AlphaStrata(generator)
    stream: Iterator[Tensor] = baselines.stream(generator)
    num_placed = 0

    def place(points: Points) -> Placement:
        nonlocal num_placed
        drawn = baselines.encoded(take(stream, len(points), baselines.name))
        fresh = like_input(drawn, problem.input, baselines.name, num_placed)
        num_placed += len(points)
        after = problem.after_step(fresh)
        return along_path(problem, fresh, after, points)._replace(fresh=after)

    return Design(lambda count: [strata.draw(count)], place, lambda _: PairMoments(), baselines)
