"""Occlusion and LIME: effects of replacing spans by baselines, which are not meant to add up to the score."""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines
from wavshap_lightning.attribution.estimation.problem import Progress, Score
from wavshap_lightning.attribution.estimation.sampling import seeded
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.attribution.shapley.game import (
    Coalitions,
    Players,
    Values,
    check_num_coalitions,
    jackknife,
    open_game,
)
from wavshap_lightning.attribution.targets import Target

# Defaults of the library `lime` for images
KERNEL_WIDTH = 0.25
RIDGE = 1.0


def occlusion(
    score: Score,
    input: Tensor,
    baselines: Baselines,
    players: Players,
    target: Target,
    *,
    chunk_size: int | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Loss of score where one span is replaced and all others stay: `phi_i = v(all) - v(all but i)`.

    `v(S)` is the mean score over the baselines, which stand where a span is absent. Exact where the score is
    a sum over spans; evidence that two spans share is given to neither, and completeness is not claimed.
    Source: Zeiler and Fergus (2014). Where we depart: baselines for their grey square, spans that do not
    overlap.

    Args:
        score: `(draws, *input) -> (draws, classes)`, logits; each row from its own input alone.
        input: What is explained, without a batch axis.
        baselines: A declared set; the mean over it stands for absence.
        players: The spans; the views are they and their places.
        target: Scalars of the logits that are explained.
        chunk_size: Inputs that go through the model at once; found from input and memory if None.
        progress: Called after every chunk with the evaluations done and planned.

    Raises:
        AttributionError: If the baselines are a distribution, or arguments do not fit together.

    >>> from wavshap_lightning.attribution.baselines import BaselineSet
    >>> from wavshap_lightning.attribution.shapley.game import equal_spans
    >>> silent = BaselineSet(torch.zeros(1, 4))
    >>> first = Target("logit", (0,))
    >>> found = occlusion(lambda x: x[:, :1] * x[:, 1:2], torch.ones(4), silent, equal_spans(4, 4), first)
    >>> found.views["spans"].values
    tensor([[1., 1., 0., 0.]], dtype=torch.float64)
    """
    count = players.count
    present = torch.cat([torch.ones(1, count, dtype=torch.bool), ~torch.eye(count, dtype=torch.bool)])
    with open_game(
        score, input, baselines, players, target, total=len(present), chunk_size=chunk_size, progress=progress
    ) as game:
        values = game.values(present)
        return game.attribution("occlusion", (values[:1] - values[1:]).T, len(present))


def lime(
    score: Score,
    input: Tensor,
    baselines: Baselines,
    players: Players,
    target: Target,
    *,
    generator: torch.Generator | int,
    num_coalitions: int = 256,
    chunk_size: int | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Weights of a linear model of the score, fitted to inputs that lack some spans.

    Spans are present or not with equal chance; ridge regression with an intercept, weighted with
    `sqrt(exp(-d^2 / 0.25^2))` where `d` is the cosine distance to the whole, as the library `lime` does for
    images. Completeness is not claimed. Source: Ribeiro, Singh and Guestrin (2016). Where we depart:
    baselines for a grey segment, coalitions in complementary pairs, and an error.

    Args:
        score: `(draws, *input) -> (draws, classes)`, logits; each row from its own input alone.
        input: What is explained, without a batch axis.
        baselines: A declared set; the mean over it stands for absence.
        players: The spans; the views are they and their places.
        target: Scalars of the logits that are explained.
        generator: A generator, from which a seed is drawn, or that seed.
        num_coalitions: Coalitions to fit to; an even number, at least twice the players and 32.
        chunk_size: Inputs that go through the model at once; found from input and memory if None.
        progress: Called after every chunk with the evaluations done and planned.

    Raises:
        AttributionError: If there are too few coalitions, the baselines are a distribution, or arguments do
            not fit together.
    """
    seed, own = seeded(generator)
    check_num_coalitions(num_coalitions, players.count)
    count = num_coalitions
    drawn = torch.rand(count // 2, players.count, generator=own) < 0.5
    present = torch.stack([drawn, ~drawn], 1).flatten(0, 1)
    with open_game(
        score, input, baselines, players, target, total=count, chunk_size=chunk_size, progress=progress
    ) as game:
        values = game.values(present)

        def fit(chosen: Int64[Tensor, " chosen"]) -> Values:
            return fit_ridge(present[chosen], closeness(present[chosen]), values[chosen.to(values.device)])

        return game.attribution(
            "lime",
            fit(torch.arange(count)),
            count,
            stderr=jackknife(fit, count),
            seed=seed,
            settings={"kernel_width": KERNEL_WIDTH, "ridge": RIDGE},
        )


def closeness(present: Coalitions) -> Float64[Tensor, " coalitions"]:
    """Weight of a coalition in the fit: 1 where all are present, nearly 0 where few are."""
    distance = 1 - present.double().mean(1).sqrt()
    return (-(distance**2) / KERNEL_WIDTH**2).exp().sqrt()


def fit_ridge(
    present: Coalitions,
    weights: Float64[Tensor, " coalitions"],
    values: Float64[Tensor, "coalitions targets"],
    ridge: float = RIDGE,
) -> Values:
    """Weights of the ridge regression of values on the players' presence, with an unpenalized intercept."""
    share = (weights / weights.sum()).to(values)[:, None]
    members = present.to(values)
    members, values = members - (share * members).sum(0), values - (share * values).sum(0)
    weighted = members * weights.to(values)[:, None]
    moments = weighted.T @ members + ridge * torch.eye(members.shape[1]).to(values)
    return torch.linalg.solve(moments, weighted.T @ values).T
