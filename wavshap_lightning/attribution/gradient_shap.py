"""GradientSHAP, or expected gradients: the mean of integrated gradients over many baselines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from wavshap_lightning.attribution.baselines import (
    BaselineDistribution,
    Baselines,
    BaselineSet,
    take,
)
from wavshap_lightning.attribution.estimation.designs import (
    DeclaredPaths,
    Design,
    Placement,
    along_path,
    like_input,
)
from wavshap_lightning.attribution.estimation.estimate import FIRST_DRAWS, Stopping, estimate
from wavshap_lightning.attribution.estimation.moments import BlockMoments, PairMoments
from wavshap_lightning.attribution.estimation.problem import Problem
from wavshap_lightning.attribution.estimation.sampling import (
    LATTICE_PARTS,
    AlphaStrata,
    BaselineLattice,
    Points,
    SobolNet,
    seeded,
)
from wavshap_lightning.attribution.record import Attribution

LATTICE_BASELINES = 4
"""From so many on, the shifts of a lattice are many enough for its error to be stated more closely."""


def gradient_shap(
    problem: Problem,
    baselines: Baselines,
    *,
    generator: torch.Generator | int,
    stopping: Stopping | None = None,
) -> Attribution:
    """Contribution of each element of the input, against a set or a distribution of baselines.

    `phi_i = E_{b, alpha} [(x_i - b_i) d_i f(b + alpha (x - b))]`, `sum phi = f(x) - E_b f(b)`,
    with alpha uniform in [0, 1]. Sources: Lundberg and Lee (2017), the GradientExplainer of SHAP; Erion et
    al. (2021), expected gradients. Where we depart: alphas and baselines are not independent but spread
    evenly (a lattice over a declared set, strata for a distribution); what is missing to completeness is
    distributed over the units, and reported as it was before; the error of every unit is stated.

    Four draws for each baseline of a declared set, or a multiple of that, serve best. With a single
    baseline, integrated gradients are as good and cheaper.

    Args:
        problem: What is explained.
        baselines: A declared set or a distribution; the record says which.
        generator: A generator, from which a seed is drawn, or that seed.
        stopping: When to stop; after 64 draws if None.

    Raises:
        AttributionError: If problem and baselines do not fit together, a number on the way is not finite, or
            the baselines of a distribution come to an end.

    Warns:
        UserWarning: If the input does not influence a target, or a tolerance was not reached: the record then
            names the units that are not resolved.

    >>> from wavshap_lightning.attribution.estimation.problem import open_problem
    >>> from wavshap_lightning.attribution.targets import Target
    >>> weights = torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.0, 3.0]])
    >>> baselines = BaselineSet(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    >>> with open_problem(lambda x: x @ weights, torch.ones(3), Target("logit", (0,))) as problem:
    ...     found = gradient_shap(problem, baselines, generator=0)
    >>> found.views["elements"].values
    tensor([[0.5000, 1.0000, 0.0000]], dtype=torch.float64)
    """
    seed, own = seeded(generator)
    stopping = stopping or Stopping(num_draws=FIRST_DRAWS)
    if isinstance(baselines, BaselineSet):
        design = declared_spread(problem, baselines, own, stopping.first_draws)
    else:
        design = fresh_strata(problem, baselines, own)
    return estimate(problem, design, stopping, method="gradient_shap", seed=seed)


def declared_spread(
    problem: Problem, baselines: BaselineSet, generator: torch.Generator, first_draws: int
) -> Design:
    """Draws spread evenly over alpha and the baselines of a declared set.

    A lattice where every baseline gets the same multiple of four draws at first; otherwise a Sobol net, which
    serves any number. They come in four blocks at first, then as many again in two, so that the blocks can be
    compared.

    Args:
        problem: What is explained.
        baselines: The declared set.
        generator: Source of shifts or scrambling.
        first_draws: Number of draws of the first call of `extend`.
    """
    on_lattice = first_draws % (LATTICE_PARTS * len(baselines)) == 0
    sampler = (BaselineLattice if on_lattice else SobolNet)(len(baselines), generator)
    closely = on_lattice and len(baselines) >= LATTICE_BASELINES
    paths, num_blocks = DeclaredPaths(problem, baselines), iter([4])

    def extend(count: int) -> list[Points]:
        drawn = sampler.draw(count)
        drawn = replace(drawn, weights=drawn.weights * count)  # twice as many draws weigh twice as much
        blocks = next(num_blocks, 2)
        edges = [count * block // blocks for block in range(blocks + 1)]
        return [drawn[slice(*pair)] for pair in pairwise(edges) if pair[0] < pair[1]]

    return Design(
        extend,
        paths.place,
        lambda view: BlockMoments(smooth=view.smooth_variance, lattice=closely),
        baselines,
        paths.after,
    )


def fresh_strata(problem: Problem, baselines: BaselineDistribution, generator: torch.Generator) -> Design:
    """Strata of alpha, each draw with a baseline of its own, the next of a distribution's stream.

    Args:
        problem: What is explained.
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
