"""Shapley values of spans: exactly, from every coalition; and Kernel SHAP, by least squares over some."""

from __future__ import annotations

from dataclasses import replace
from math import comb

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
from wavshap_lightning.errors import AttributionError

MAX_PLAYERS = 12
"""4096 coalitions: so many are evaluated at most where all of them are."""


def shapley(problem: Problem, baselines: Baselines, players: Players) -> Attribution:
    """Compute the exact Shapley value of each span: its mean contribution over all orders of adding spans.

    `phi_i = sum_{S without i} |S|! (M - |S| - 1)! / M! (v(S + i) - v(S))`, where `v(S)` is the mean score
    over the baselines, whose values replace the spans outside of `S`. `sum phi = f(x) - mean f(b)`, without
    sampling error. Source: Shapley (1953).

    Args:
        problem: Score, input and target.
        baselines: A fixed set; removed spans take its values, and scores are averaged over it.
        players: The spans, at most 12. The views of the result are the spans and their positions.

    Raises:
        AttributionError: If there are more players, the baselines are a distribution, or arguments do not
            fit together.

    >>> from wavshap_lightning.attribution.baselines import BaselineSet
    >>> from wavshap_lightning.attribution.estimation.problem import open_problem
    >>> from wavshap_lightning.attribution.shapley.players import equal_spans
    >>> from wavshap_lightning.attribution.targets import Target
    >>> silent = BaselineSet(torch.zeros(1, 4))
    >>> with open_problem(lambda x: x[:, :1] * x[:, 1:2], torch.ones(4), Target("logit", (0,))) as problem:
    ...     found = shapley(problem, silent, equal_spans(4, 4))
    >>> found.views["spans"].values
    tensor([[0.5000, 0.5000, 0.0000, 0.0000]], dtype=torch.float64)
    """
    count = players.count
    if count > MAX_PLAYERS:
        raise AttributionError(f"players.count={count} must be at most {MAX_PLAYERS}; else use kernel_shap")
    present = (torch.arange(2**count)[:, None] >> torch.arange(count)) % 2 == 1

    def fit_exact(every: Coalitions, gains: Gains, _: Float64[Tensor, " targets"]) -> Values:
        return (shapley_weights(every).to(gains) @ gains).T

    return explain_players(problem, baselines, players, present, fit_exact, method="shapley", complete=True)


def shapley_weights(present: Coalitions) -> Float64[Tensor, "players coalitions"]:
    """Weight of each coalition's value in the Shapley value of each player, given all coalitions.

    For a coalition of `s` of `M` players, the weight is `(s-1)! (M-s)! / M! = 1 / (M C(M-1, s-1))` for
    members and `-s! (M-s-1)! / M! = -1 / (M C(M-1, s))` for the other players.
    """
    count = present.shape[1]
    share = torch.tensor([1 / (count * comb(count - 1, size)) for size in range(count)], dtype=torch.float64)
    sizes = present.sum(1, keepdim=True)
    gain, loss = share[(sizes - 1).clamp(min=0)], share[sizes.clamp(max=count - 1)]
    return torch.where(present, gain, -loss).T


def kernel_shap(
    problem: Problem,
    baselines: Baselines,
    players: Players,
    *,
    generator: torch.Generator | int,
    num_coalitions: int = 256,
) -> Attribution:
    """Estimate the Shapley values of spans from a sample of coalitions.

    Shapley values are the solution of the weighted least squares
    `min sum_S w(S) (v(S) - v(none) - sum_{i in S} phi_i)^2` with `w(S) = (M - 1) / (C(M, s) s (M - s))` and
    `sum phi = f(x) - mean f(b)`. Coalitions are drawn with probability `w`, each with its complement; if
    `num_coalitions` covers them all, the result equals `shapley`. Sources: Lundberg and Lee (2017); the
    pairs, Covert and Lee (2021). The library `shap` is not used because it draws from NumPy's global state.

    Args:
        problem: Score, input and target.
        baselines: A fixed set; removed spans take its values, and scores are averaged over it.
        players: The spans. The views of the result are the spans and their positions.
        generator: A seed, or a generator from which one is drawn.
        num_coalitions: Number of coalitions besides the empty and the full one; even, and at least twice the
            number of players and 32.

    Raises:
        AttributionError: If there are too few coalitions, the baselines are a distribution, or arguments do
            not fit together.
    """
    seed, own = seeded(generator)
    if players.count <= MAX_PLAYERS and 2**players.count - 2 <= num_coalitions:
        exact = shapley(problem, baselines, players)
        settings = {**exact.settings, "num_coalitions": 2**players.count - 2}
        return replace(exact, method="kernel_shap", settings=settings)
    check_num_coalitions(num_coalitions, players.count)
    return explain_players(
        problem,
        baselines,
        players,
        draw_coalitions(players.count, num_coalitions, own),
        fit_additive,
        method="kernel_shap",
        seed=seed,
        complete=True,
        num_apart=2,
        settings={"num_coalitions": num_coalitions},
    )


def draw_coalitions(num_players: int, count: int, generator: torch.Generator) -> Coalitions:
    """Coalitions with the kernel's weights for probabilities, each followed by its complement."""
    sizes = torch.arange(1, num_players, dtype=torch.float64)
    by_size = 1 / (sizes * (num_players - sizes))
    size = torch.multinomial(by_size, count // 2, replacement=True, generator=generator) + 1
    drawn = torch.rand(count // 2, num_players, generator=generator, dtype=torch.float32)
    ranks = drawn.argsort(1).argsort(1)
    present = ranks < size[:, None]
    return torch.stack([present, ~present], 1).flatten(0, 1)


def fit_additive(present: Coalitions, gains: Gains, total: Float64[Tensor, " targets"]) -> Values:
    """The additive game that is nearest by least squares and sums to `total`.

    With `A = Z' Z` and `b = Z' gains`, `phi = A^-1 (b - 1 (1' A^-1 b - total) / (1' A^-1 1))`: coalitions
    drawn by the kernel's weights need no others.

    >>> alone, gains = torch.eye(2, dtype=torch.bool), torch.tensor([[1.0], [2.0]]).double()
    >>> fit_additive(alone, gains, torch.ones(1).double())
    tensor([[0., 1.]], dtype=torch.float64)
    """
    members = present.to(gains)
    right = torch.cat([members.T @ gains, gains.new_ones(members.shape[1], 1)], 1)
    solved = torch.linalg.pinv(members.T @ members, hermitian=True) @ right
    free, by_one = solved[:, :-1], solved[:, -1:]
    return (free - by_one * (free.sum(0) - total) / by_one.sum()).T
