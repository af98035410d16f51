"""Gradients at the input, to be compared with: they have no baseline and claim no completeness."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.estimation.designs import Design, Placement
from wavshap_lightning.attribution.estimation.method import Method, Options, Question, explain
from wavshap_lightning.attribution.estimation.moments import Moments, PairMoments, WeightedSum
from wavshap_lightning.attribution.estimation.problem import Problem, Score, image
from wavshap_lightning.attribution.estimation.sampling import Points, seeded
from wavshap_lightning.attribution.estimation.stopping import FIRST_DRAWS, Stopping
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import View
from wavshap_lightning.errors import AttributionError


def saliency(
    score: Score,
    input: Tensor,  # noqa: A002 - the word for it
    target: Target,
    *,
    options: Options | None = None,
) -> Attribution:
    """The gradient at the input, with its sign.

    Source: Simonyan, Vedaldi and Zisserman (2014), who take absolute values; we leave that to who looks at
        it.

    Args:
        score: As in [`gradient_shap`][wavshap_lightning.attribution.gradient_shap.gradient_shap], like the
            rest.
        input: See there.
        target: See there.
        options: See there.

    Raises:
        AttributionError: If anything does not fit together.
    """
    method = Method("saliency", Stopping(num_draws=1))
    question = Question(score, input, target, options or Options())
    return explain(method, _gradient_there, question)


def input_x_gradient(
    score: Score,
    input: Tensor,  # noqa: A002 - the word for it
    target: Target,
    *,
    options: Options | None = None,
) -> Attribution:
    """The gradient at the input times the input: exact for a linear score without an offset.

    Source: Shrikumar et al. (2016). Arguments and errors as in [`saliency`][].
    """
    method = Method("input_x_gradient", Stopping(num_draws=1))
    question = Question(score, input, target, options or Options())
    return explain(method, lambda problem: _AroundInput(problem, problem.input), question)


def smooth_grad(
    score: Score,
    input: Tensor,  # noqa: A002 - the word for it
    target: Target,
    *,
    generator: torch.Generator | int,
    relative_noise: float = 0.15,
    stopping: Stopping | None = None,
    options: Options | None = None,
) -> Attribution:
    """The mean gradient in a cloud of Gaussian noise around the input.

    Source: Smilkov et al. (2017), whose noise is likewise relative to the input's range.

    Args:
        score: As in [`saliency`][], like `input`, `target` and `options`.
        input: See there.
        target: See there.
        generator: A generator, from which a seed is drawn, or that seed.
        relative_noise: Standard deviation of the noise, as a share of the input's range.
        stopping: When to stop; after 64 draws if None.
        options: See there.

    Raises:
        AttributionError: If the noise is not positive, or anything does not fit together.
    """
    if not relative_noise > 0:
        raise AttributionError(f"relative_noise={relative_noise} must be greater than 0; saliency has none")
    seed, own = seeded(generator)
    method = Method(
        "smooth_grad",
        stopping or Stopping(num_draws=FIRST_DRAWS),
        seed=seed,
        settings={"relative_noise": relative_noise},
    )
    question = Question(score, input, target, options or Options())
    return explain(method, lambda problem: _in_a_cloud(problem, relative_noise, own), question)


def _gradient_there(problem: Problem) -> Design:
    return _AroundInput(problem, torch.ones_like(problem.input))


def _in_a_cloud(problem: Problem, relative_noise: float, generator: torch.Generator) -> Design:
    span = float(problem.input.max() - problem.input.min())
    return _AroundInput(problem, torch.ones_like(problem.input), span * relative_noise, generator)


class _AroundInput:
    """Draws at the input itself or, with a generator, in a cloud around it."""

    def __init__(
        self,
        problem: Problem,
        direction: Float[Tensor, " *input"],
        noise_std: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        self._problem = problem
        self._direction = direction
        self._direction_after = image(problem.first, direction[None])[0]
        self._noise_std = noise_std
        self._generator = generator

    def extend(self, count: int) -> list[Points]:
        """One block of equal draws."""
        ones = torch.ones(count, dtype=torch.float64)
        return [Points(ones, ones / count)]

    def place(self, points: Points) -> Placement:
        """At the input, plus noise."""
        positions = torch.stack([self._position() for _ in range(len(points))])
        directions = self._direction.expand(len(points), *self._direction.shape)
        return Placement(positions, directions, self._direction_after.expand_as(positions))

    def _position(self) -> Float[Tensor, " *path"]:
        if self._generator is None:
            return self._problem.input_after
        there = self._problem.input
        drawn = torch.randn(there.shape, generator=self._generator)
        return image(self._problem.first, (there + self._noise_std * drawn.to(there))[None])[0]

    def moments_for(self, view: View) -> Moments:  # noqa: ARG002 - all views alike
        """Pairs of independent draws, or the single value."""
        return WeightedSum() if self._generator is None else PairMoments()

    def name_draw(self, points: Points, index: int) -> str:  # noqa: ARG002 - all draws alike
        """Where it lies."""
        return "at the input" if self._generator is None else "near the input"

    def declared(self) -> None:
        """There are no baselines."""
