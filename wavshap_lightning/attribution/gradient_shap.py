"""GradientSHAP, or expected gradients: the mean of integrated gradients over many baselines."""

from __future__ import annotations

import torch

from wavshap_lightning.attribution.baselines import Baselines, BaselineSet
from wavshap_lightning.attribution.estimation.designs import declared_spread, fresh_strata, seeded
from wavshap_lightning.attribution.estimation.estimate import FIRST_DRAWS, Stopping, estimate
from wavshap_lightning.attribution.estimation.problem import Problem
from wavshap_lightning.attribution.record import Attribution


def gradient_shap(
    problem: Problem,
    baselines: Baselines,
    *,
    generator: torch.Generator | int,
    stopping: Stopping | None = None,
) -> Attribution:
    """Attribute the score to each element of the input, for a fixed set or a distribution of baselines.

    `phi_i = E_{b, alpha} [(x_i - b_i) d_i f(b + alpha (x - b))]`, `sum phi = f(x) - E_b f(b)`,
    with alpha uniform in [0, 1]. Sources: Lundberg and Lee (2017), the GradientExplainer of SHAP; Erion et
    al. (2021), expected gradients. Differences from these: alphas and baselines are not independent but
    evenly spread (a lattice for a fixed set, strata for a distribution); the completeness gap is reported,
    then distributed over the units; every unit has a standard error.

    For a fixed set, use a multiple of four draws, at least four times its size. For a single baseline,
    integrated gradients are as accurate and cheaper.

    Args:
        problem: Score, input and target.
        baselines: A fixed set or a distribution; the result records which.
        generator: A seed, or a generator from which one is drawn.
        stopping: Stopping rule; 64 draws if None.

    Raises:
        AttributionError: If problem and baselines do not fit together, a value is not finite, or the
            distribution runs out of baselines.

    Warns:
        UserWarning: If the input does not influence a target, or a tolerance was not reached; the result then
            names the unresolved units.

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
