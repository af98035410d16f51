"""Gradients at the input, for comparison: they have no baseline and claim no completeness."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.estimation.designs import Design, Placement, Points, seeded
from wavshap_lightning.attribution.estimation.estimate import FIRST_DRAWS, Stopping, estimate
from wavshap_lightning.attribution.estimation.moments import PairMoments, WeightedSum
from wavshap_lightning.attribution.estimation.problem import Problem
from wavshap_lightning.attribution.record import Attribution

RELATIVE_NOISE = 0.15
"""Standard deviation of the noise around the input, as a share of the input's range."""


def saliency(problem: Problem) -> Attribution:
    """Compute the signed gradient at the input.

    Source: Simonyan, Vedaldi and Zisserman (2014), who take absolute values; we keep the sign.

    Args:
        problem: Score, input and target.
    """
    design = _around_input(problem, torch.ones_like(problem.input))
    return estimate(problem, design, Stopping(num_draws=1), method="saliency")


def input_x_gradient(problem: Problem) -> Attribution:
    """Compute the gradient at the input times the input, which is exact for a linear score without offset.

    Source: Shrikumar et al. (2016).

    Args:
        problem: Score, input and target.
    """
    design = _around_input(problem, problem.input)
    return estimate(problem, design, Stopping(num_draws=1), method="input_x_gradient")


def smooth_grad(
    problem: Problem, *, generator: torch.Generator | int, stopping: Stopping | None = None
) -> Attribution:
    """Compute the mean gradient at inputs with added Gaussian noise.

    The standard deviation of the noise is 15 % of the input's range. Source: Smilkov et al. (2017).

    Args:
        problem: Score, input and target.
        generator: A seed, or a generator from which one is drawn.
        stopping: Stopping rule; 64 draws if None.
    """
    seed, own = seeded(generator)
    noise_std = float(problem.input.max() - problem.input.min()) * RELATIVE_NOISE

    def noise() -> Float[Tensor, " *input"]:
        drawn = torch.randn(problem.input.shape, generator=own, dtype=torch.float32)
        return noise_std * drawn.to(problem.input)

    design = _around_input(problem, torch.ones_like(problem.input), noise)
    stopping, settings = stopping or Stopping(num_draws=FIRST_DRAWS), {"relative_noise": RELATIVE_NOISE}
    return estimate(problem, design, stopping, method="smooth_grad", seed=seed, settings=settings)


def _around_input(
    problem: Problem, direction: Float[Tensor, " *input"], noise: Callable[[], Tensor] | None = None
) -> Design:
    """Draws at the input itself or, with noise, in a cloud around it."""

    def extend(count: int) -> list[Points]:
        ones = torch.ones(count, dtype=torch.float64)
        return [Points(ones, ones / count)]

    def place(points: Points) -> Placement:
        inputs = [problem.input if noise is None else problem.input + noise() for _ in points.alphas]
        positions = problem.after_step(torch.stack(inputs))
        directions = direction.expand(len(points), *direction.shape)
        return Placement(positions, directions, problem.after_step(direction[None]).expand_as(positions))

    return Design(extend, place, lambda _: WeightedSum() if noise is None else PairMoments())
