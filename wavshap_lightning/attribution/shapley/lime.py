"""LIME over spans: a linear model of the score near the input, in terms of which spans are there."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines, check_kind
from wavshap_lightning.attribution.estimation.method import Method, Options, Question
from wavshap_lightning.attribution.estimation.problem import Score
from wavshap_lightning.attribution.estimation.sampling import seeded
from wavshap_lightning.attribution.estimation.stopping import Stopping
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.attribution.shapley.game import (
    Game,
    Players,
    Solution,
    check_num_coalitions,
    jackknife,
    play,
)
from wavshap_lightning.attribution.targets import Target

KERNEL_WIDTH = 0.25
RIDGE = 1.0


def lime(
    score: Score,
    input: Tensor,  # noqa: A002 - the word for it
    baselines: Baselines,
    players: Players,
    target: Target,
    *,
    generator: torch.Generator | int,
    num_coalitions: int = 256,
    options: Options | None = None,
) -> Attribution:
    """The weights of a linear model of the score, fitted to inputs that lack some spans.

    Spans are there or not with equal chance; ridge regression with an intercept, weighted with
    `sqrt(exp(-d^2 / 0.25^2))` where `d` is the cosine distance to the whole, as the library `lime` does for
    images. Completeness is not claimed. Source: Ribeiro, Singh and Guestrin (2016). Where we depart:
    baselines for a grey segment, coalitions in complementary pairs, and an error.

    Args:
        score: As in [`gradient_shap`][wavshap_lightning.attribution.gradient_shap.gradient_shap], like
            `input` and `target`.
        input: See there.
        baselines: A declared set; the mean over it stands for absence.
        players: The spans.
        target: See there.
        generator: A generator, from which a seed is drawn, or that seed.
        num_coalitions: How many; even, at least twice as many as players and 32.
        options: See there; the views are the players' own.

    Raises:
        AttributionError: If there are too few coalitions, the baselines are a distribution, or anything does
            not fit together.
    """
    check_kind(baselines)
    seed, own = seeded(generator)
    check_num_coalitions(num_coalitions, players.count)
    method = Method(
        "lime",
        Stopping(num_draws=num_coalitions),
        baselines,
        seed,
        {"num_players": players.count, "kernel_width": KERNEL_WIDTH, "ridge": RIDGE},
    )

    def solve(game: Game) -> Solution:
        return _solve(game, num_coalitions, own)

    question = Question(score, input, target, options or Options())
    return play(method, solve, players, question, num_coalitions)


def _solve(game: Game, count: int, generator: torch.Generator) -> Solution:
    drawn = torch.rand(count // 2, game.players.count, generator=generator) < 0.5
    present = torch.stack([drawn, ~drawn], 1).flatten(0, 1)
    values = game.values(present)

    def fit(chosen: Int64[Tensor, " chosen"]) -> Float64[Tensor, "targets players"]:
        return fit_ridge(present[chosen], closeness(present[chosen]), values[chosen.to(values.device)])

    return Solution(fit(torch.arange(count)), count, jackknife(fit, count))


def closeness(present: Bool[Tensor, "coalitions players"]) -> Float64[Tensor, " coalitions"]:
    """How much a coalition counts: 1 where all are present, nearly 0 where few are."""
    distance = 1 - present.double().mean(1).sqrt()
    return (-(distance**2) / KERNEL_WIDTH**2).exp().sqrt()


def fit_ridge(
    present: Bool[Tensor, "coalitions players"],
    weights: Float64[Tensor, " coalitions"],
    values: Float64[Tensor, "coalitions targets"],
    ridge: float = RIDGE,
) -> Float64[Tensor, "targets players"]:
    """Weights of the ridge regression of values on who is present, with an intercept that is free."""
    share = (weights / weights.sum()).to(values)[:, None]
    members = present.to(values)
    members, values = members - (share * members).sum(0), values - (share * values).sum(0)
    weighted = members * weights.to(values)[:, None]
    moments = weighted.T @ members + ridge * torch.eye(members.shape[1]).to(values)
    return torch.linalg.solve(moments, weighted.T @ values).T
