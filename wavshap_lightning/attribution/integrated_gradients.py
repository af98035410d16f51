"""Integrated gradients: the path integral from each of a declared set of baselines, by quadrature."""

from __future__ import annotations

from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines, BaselineSet, check_kind
from wavshap_lightning.attribution.estimation.designs import Quadrature
from wavshap_lightning.attribution.estimation.method import Method, Options, Question, explain
from wavshap_lightning.attribution.estimation.problem import Score
from wavshap_lightning.attribution.estimation.sampling import gauss_legendre
from wavshap_lightning.attribution.estimation.stopping import Stopping
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.errors import AttributionError


def integrated_gradients(
    score: Score,
    input: Tensor,  # noqa: A002 - the word for it
    baselines: Baselines,
    target: Target,
    *,
    num_nodes: int = 32,
    decibels: bool = False,
    options: Options | None = None,
) -> Attribution:
    """What each element of the input contributed along the straight path from each baseline.

    `phi_i = (x_i - b_i) int_0^1 d_i f(b + alpha (x - b)) d alpha`, averaged over the set. Source:
    Sundararajan, Taly and Yan (2017). Where we depart: Gauss-Legendre nodes, whose weights sum to one, for
    their Riemann sum. There is no chance in it and so no standard error: the gap tells whether the
    nodes suffice, and nothing is corrected.

    Args:
        score: As in [`gradient_shap`][wavshap_lightning.attribution.gradient_shap.gradient_shap], like
            `input` and `target`.
        input: See there.
        baselines: A declared set, often of one.
        target: See there.
        num_nodes: Gradient evaluations for each baseline.
        decibels: Spread the nodes evenly over alpha in decibels: for a path from silence.
        options: See there.

    Raises:
        AttributionError: If the baselines are a distribution, or anything does not fit together.
    """
    check_kind(baselines)
    if not isinstance(baselines, BaselineSet):
        raise AttributionError(
            f"baselines={baselines.name!r} is a distribution; integrated gradients start from declared "
            "baselines: use baselines.declare(count, generator), or gradient_shap"
        )
    points = gauss_legendre(num_nodes, len(baselines), decibels=decibels)
    method = Method(
        "integrated_gradients",
        Stopping(num_draws=len(points)),
        baselines,
        settings={"num_nodes": num_nodes, "decibels": decibels},
    )
    question = Question(score, input, target, options or Options())
    return explain(method, lambda problem: Quadrature(problem, baselines, points), question)
