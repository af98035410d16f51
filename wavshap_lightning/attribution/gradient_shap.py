"""GradientSHAP, or expected gradients: the mean of integrated gradients over many baselines."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines, BaselineSet, check_kind
from wavshap_lightning.attribution.estimation.designs import declared_spread, fresh_strata
from wavshap_lightning.attribution.estimation.estimate import FIRST_DRAWS, Stopping, estimate
from wavshap_lightning.attribution.estimation.problem import Progress, Score, open_problem
from wavshap_lightning.attribution.estimation.sampling import seeded
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import View


def gradient_shap(
    score: Score,
    input: Tensor,
    baselines: Baselines,
    target: Target,
    *,
    generator: torch.Generator | int,
    stopping: Stopping | None = None,
    views: Sequence[View] | None = None,
    chunk_size: int | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Contribution of each element of the input, against a set or a distribution of baselines.

    `phi_i = E_{b, alpha} [(x_i - b_i) d_i f(b + alpha (x - b))]`, `sum phi = f(x) - E_b f(b)`,
    with alpha uniform in [0, 1]. Sources: Lundberg and Lee (2017), the GradientExplainer of SHAP; Erion et
    al. (2021), expected gradients. Where we depart: alphas and baselines are not independent but spread
    evenly (a lattice over a declared set, strata for a distribution); what is missing to completeness is
    distributed over the units, and reported as it was before; the error of every unit is stated.

    Four draws for each baseline of a declared set, or a multiple of that, serve best. With a single
    baseline, integrated gradients are as good and cheaper.

    The score's modules are in evaluation mode and take no gradient meanwhile; those it reaches in a way that
    cannot be seen, give to [`leave_no_trace`][wavshap_lightning.attribution.no_trace.leave_no_trace] around
    the call.

    Args:
        score: `(draws, *input) -> (draws, classes)`, logits; each row from its own input alone. A
            [`LinearFirst`][wavshap_lightning.attribution.estimation.problem.LinearFirst] costs less.
        input: What is explained, without a batch axis.
        baselines: A declared set or a distribution; the record says which.
        target: Scalars of the logits that are explained.
        generator: A generator, from which a seed is drawn, or that seed.
        stopping: When to stop; after 64 draws if None.
        views: Resolutions of attributions and errors; the elements of the input if None.
        chunk_size: Draws that go through the model at once; found from input and memory if None.
        progress: Called after every chunk with the draws done and planned.

    Raises:
        AttributionError: If input, score, target, baselines and views do not fit together, a number on the
            way is not finite, or the baselines of a distribution come to an end.

    Warns:
        UserWarning: If the input does not influence a target, or a tolerance was not reached: the record then
            names the units that are not resolved.

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
    with open_problem(score, input, target, views=views, chunk_size=chunk_size, progress=progress) as problem:
        if isinstance(baselines, BaselineSet):
            design = declared_spread(problem, baselines, own, stopping.first_draws)
        else:
            design = fresh_strata(problem, baselines, own)
        return estimate(problem, design, stopping, method="gradient_shap", seed=seed)
