"""Gradients at the input, for comparison: they have no baseline and claim no completeness."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.estimation.designs import Design, Placement, Points, seeded
from wavshap_lightning.attribution.estimation.estimate import FIRST_DRAWS, Stopping, estimate
from wavshap_lightning.attribution.estimation.moments import PairMoments, WeightedSum
from wavshap_lightning.attribution.estimation.problem import Problem
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.errors import AttributionError


def saliency(problem: Problem) -> Attribution:
    """The gradient at the input, with its sign.

    Source: Simonyan, Vedaldi and Zisserman (2014), who take absolute values; we keep the sign.

    Args:
        problem: What is explained.
    """
    design = _around_input(problem, torch.ones_like(problem.input))
    return estimate(problem, design, Stopping(num_draws=1), method="saliency")


def input_x_gradient(problem: Problem) -> Attribution:
    """The gradient at the input times the input: exact for a linear score without an offset.

    Source: Shrikumar et al. (2016).

    Args:
        problem: What is explained.
    """
    design = _around_input(problem, problem.input)
    return estimate(problem, design, Stopping(num_draws=1), method="input_x_gradient")


def smooth_grad(
    problem: Problem,
    *,
    generator: torch.Generator | int,
    relative_noise: float = 0.15,
    stopping: Stopping | None = None,
) -> Attribution:
    """The mean gradient in a cloud of Gaussian noise around the input.

    Source: Smilkov et al. (2017), whose noise is likewise relative to the input's range.

    Args:
        problem: What is explained.
        generator: A generator, from which a seed is drawn, or that seed.
        relative_noise: Standard deviation of the noise, as a share of the input's range.
        stopping: When to stop; after 64 draws if None.

    Raises:
        AttributionError: If the noise is not positive.
    """
    if not relative_noise > 0:
        raise AttributionError(f"relative_noise={relative_noise} must be greater than 0; saliency has none")
    seed, own = seeded(generator)
    noise_std = float(problem.input.max() - problem.input.min()) * relative_noise
    return estimate(
        problem,
        _around_input(problem, torch.ones_like(problem.input), noise_std, own),
        stopping or Stopping(num_draws=FIRST_DRAWS),
        method="smooth_grad",
        seed=seed,
        settings={"relative_noise": relative_noise},
    )


def _around_input(
    problem: Problem,
    direction: Float[Tensor, " *input"],
    noise_std: float = 0.0,
    generator: torch.Generator | None = None,
) -> Design:
    """Draws at the input itself or, with a generator, in a cloud around it."""
    direction_after = problem.after_step(direction[None])[0]

    def extend(count: int) -> list[Points]:
        ones = torch.ones(count, dtype=torch.float64)
        return [Points(ones, ones / count)]

    def position() -> Float[Tensor, " *path"]:
        if generator is None:
            return problem.input_after
        drawn = torch.randn(problem.input.shape, generator=generator).to(problem.input)
        return problem.after_step((problem.input + noise_std * drawn)[None])[0]

    def place(points: Points) -> Placement:
        positions = torch.stack([position() for _ in range(len(points))])
        directions = direction.expand(len(points), *direction.shape)
        return Placement(positions, directions, direction_after.expand_as(positions))

    return Design(extend, place, lambda _: WeightedSum() if generator is None else PairMoments())
