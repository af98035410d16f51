"""Occlusion and LIME: effects of replacing spans by baselines, which are not meant to add up to the score."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines
from wavshap_lightning.attribution.estimation.designs import seeded
from wavshap_lightning.attribution.estimation.problem import Problem
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.attribution.shapley.players import (
    Coalitions,
    Gains,
    Players,
    Values,
    check_num_coalitions,
    explain_players,
)

# Defaults of the library `lime` for images
KERNEL_WIDTH = 0.25
RIDGE = 1.0


def occlusion(problem: Problem, baselines: Baselines, players: Players) -> Attribution:
    """Compute the loss of score if one span is replaced: `phi_i = v(all) - v(all but i)`.

    `v(S)` is the mean score over the baselines, whose values replace the spans outside of `S`. The result is
    exact if the score is a sum over spans; evidence that two spans share is attributed to neither, so
    completeness does not hold. Source: Zeiler and Fergus (2014). Differences: baselines instead of a gray
    square, spans that do not overlap.

    Args:
        problem: Score, input and target.
        baselines: A fixed set; removed spans take its values, and scores are averaged over it.
        players: The spans. The views of the result are the spans and their positions.

    Raises:
        AttributionError: If the baselines are a distribution, or arguments do not fit together.

    >>> from wavshap_lightning.attribution.baselines import BaselineSet
    >>> from wavshap_lightning.attribution.estimation.problem import open_problem
    >>> from wavshap_lightning.attribution.shapley.players import equal_spans
    >>> from wavshap_lightning.attribution.targets import Target
    >>> silent = BaselineSet(torch.zeros(1, 4))
    >>> with open_problem(lambda x: x[:, :1] * x[:, 1:2], torch.ones(4), Target("logit", (0,))) as problem:
    ...     found = occlusion(problem, silent, equal_spans(4, 4))
    >>> found.views["spans"].values
    tensor([[1., 1., 0., 0.]], dtype=torch.float64)
    """
    every, but_one = torch.ones(1, players.count).bool(), ~torch.eye(players.count).bool()

    def fit_losses(_: Coalitions, gains: Gains, __: Float64[Tensor, " targets"]) -> Values:
        return (gains[:1] - gains[1:]).T

    present = torch.cat([every, but_one])
    return explain_players(problem, baselines, players, present, fit_losses, method="occlusion")


def lime(
    problem: Problem,
    baselines: Baselines,
    players: Players,
    *,
    generator: torch.Generator | int,
    num_coalitions: int = 256,
) -> Attribution:
    """Compute the weights of a linear model of the score, fitted to inputs with some spans removed.

    Each span is present with probability 1/2. The fit is a ridge regression with an intercept and weights
    `sqrt(exp(-d^2 / 0.25^2))`, where `d` is the cosine distance to the full input, as in the library `lime`
    for images. Completeness does not hold. Source: Ribeiro, Singh and Guestrin (2016). Differences:
    baselines instead of a gray segment, coalitions in complementary pairs, and standard errors.

    Args:
        problem: Score, input and target.
        baselines: A fixed set; removed spans take its values, and scores are averaged over it.
        players: The spans. The views of the result are the spans and their positions.
        generator: A seed, or a generator from which one is drawn.
        num_coalitions: Number of coalitions; even, and at least twice the number of players and 32.

    Raises:
        AttributionError: If there are too few coalitions, the baselines are a distribution, or arguments do
            not fit together.
    """
    seed, own = seeded(generator)
    check_num_coalitions(num_coalitions, players.count)
    drawn = torch.rand(num_coalitions // 2, players.count, generator=own, dtype=torch.float32) < 0.5
    present = torch.stack([drawn, ~drawn], 1).flatten(0, 1)
    settings = {"kernel_width": KERNEL_WIDTH, "ridge": RIDGE}
    return explain_players(
        problem, baselines, players, present, fit_ridge, method="lime", seed=seed, settings=settings
    )


def closeness(present: Coalitions) -> Float64[Tensor, " coalitions"]:
    """Weight of a coalition in the fit: 1 where all are present, nearly 0 where few are."""
    distance = 1 - present.double().mean(1).sqrt()
    return (-(distance**2) / KERNEL_WIDTH**2).exp().sqrt()


def fit_ridge(present: Coalitions, values: Gains, _: Float64[Tensor, " targets"]) -> Values:
    """Weights of the ridge regression of values on the players' presence, with an unpenalized intercept."""
    weights = closeness(present)
    share = (weights / weights.sum()).to(values)[:, None]
    members = present.to(values)
    members, values = members - (share * members).sum(0), values - (share * values).sum(0)
    weighted = members * weights.to(values)[:, None]
    moments = weighted.T @ members + RIDGE * torch.eye(members.shape[1]).to(values)
    return torch.linalg.solve(moments, weighted.T @ values).T
