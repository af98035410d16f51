"""GradientSHAP, or expected gradients: the mean of integrated gradients over many baselines."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from wavshap_lightning.attribution.baselines import BaselineDistribution, Baselines, check_kind
from wavshap_lightning.attribution.estimation.designs import DeclaredSpread, Design, FreshStrata
from wavshap_lightning.attribution.estimation.method import Method, Options, Question, explain
from wavshap_lightning.attribution.estimation.problem import Problem, Score
from wavshap_lightning.attribution.estimation.sampling import seeded
from wavshap_lightning.attribution.estimation.stopping import FIRST_DRAWS, Stopping
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.errors import AttributionError


def gradient_shap(
    score: Score,
    input: Tensor,  # noqa: A002 - the word for it
    baselines: Baselines,
    target: Target,
    *,
    generator: torch.Generator | int,
    stopping: Stopping | None = None,
    options: Options | None = None,
) -> Attribution:
    """What each element of the input contributed, against a set or a distribution of baselines.

    `phi_i = E_{b, alpha} [(x_i - b_i) d_i f(b + alpha (x - b))]`, `sum phi = f(x) - E_b f(b)`,
    with alpha uniform in [0, 1]. Sources: Lundberg and Lee (2017), the GradientExplainer of SHAP; Erion et
    al. (2021), expected gradients. Where we depart: alphas and baselines are not independent but spread
    evenly (a lattice over a declared set, strata for a distribution); what is missing to completeness is
    shared out, and reported as it was before; the error of every unit is stated.

    Four draws for each baseline of a declared set, or a multiple of that, serve best. With a single
    baseline, integrated gradients are as good and cheaper.

    Args:
        score: `(draws, *input) -> (draws, classes)`, logits; each row from its own input alone.
        input: What is explained, without a batch axis.
        baselines: Either kind; the record says which.
        target: Which scalars.
        generator: A generator, from which a seed is drawn, or that seed.
        stopping: When to stop; after 64 draws if None.
        options: See there.

    Raises:
        AttributionError: If anything does not fit together, as the parts say; more draws than a
            distribution has baselines.

    >>> from wavshap_lightning.attribution.baselines import BaselineSet
    >>> weights = torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.0, 3.0]])
    >>> baselines = BaselineSet(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    >>> first = Target("logit", (0,))
    >>> found = gradient_shap(lambda x: x @ weights, torch.ones(3), baselines, first, generator=0)
    >>> found.views["elements"].values
    tensor([[0.5000, 1.0000, 0.0000]], dtype=torch.float64)
    """
    check_kind(baselines)
    seed, own = seeded(generator)
    stopping = stopping or Stopping(num_draws=FIRST_DRAWS)
    if isinstance(baselines, BaselineDistribution):
        stopping = _within_capacity(stopping, baselines)

    def design(problem: Problem) -> Design:
        if isinstance(baselines, BaselineDistribution):
            return FreshStrata(problem, baselines, own)
        return DeclaredSpread(problem, baselines, own, stopping.first_draws)

    method = Method("gradient_shap", stopping, baselines, seed)
    return explain(method, design, Question(score, input, target, options or Options()))


def _within_capacity(stopping: Stopping, baselines: BaselineDistribution) -> Stopping:
    """No more draws than baselines: stop there, or refuse where exactly so many were asked for."""
    capacity = baselines.capacity
    if capacity is None or stopping.max_draws <= capacity:
        return stopping
    if stopping.num_draws is not None and not stopping.doubles:
        raise AttributionError(
            f"num_draws={stopping.num_draws}: a distribution gives every draw a fresh baseline, but "
            f"baselines={baselines.name!r} has only {capacity}; take fewer draws, or declare them as a set"
        )
    return replace(stopping, num_draws=capacity)
