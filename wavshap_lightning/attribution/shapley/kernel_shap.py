"""Kernel SHAP: Shapley values by weighted least squares over some coalitions."""

from __future__ import annotations

from math import comb

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
    all_coalitions,
    check_num_coalitions,
    jackknife,
    play,
)
from wavshap_lightning.attribution.targets import Target

MOST_LISTED = 12
"""Up to so many players all coalitions may be listed, where the number asked for covers them."""


def kernel_shap(
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
    """Shapley values of spans, estimated from some coalitions.

    The additive game nearest to `v`, `min sum_S w(S) (v(S) - v(none) - sum_{i in S} phi_i)^2` with
    `w(S) = (M - 1) / (C(M, s) s (M - s))` and `sum phi = f(x) - mean f(b)`, has the Shapley values for its
    solution. Coalitions are drawn with probability `w`, each with its complement, or all listed where the
    number covers them, when the result is exact. Sources: Lundberg and Lee (2017); the pairs, Covert and Lee
    (2021). Ours, and not the library `shap`, because that one draws from a generator of the whole process.

    Args:
        score: As in [`gradient_shap`][wavshap_lightning.attribution.gradient_shap.gradient_shap], like
            `input` and `target`.
        input: See there.
        baselines: A declared set; the mean over it stands for absence.
        players: The spans.
        target: See there.
        generator: A generator, from which a seed is drawn, or that seed.
        num_coalitions: How many besides none and all; even, at least twice as many as players and 32.
        options: See there; the views are the players' own.

    Raises:
        AttributionError: If there are too few coalitions, the baselines are a distribution, or anything does
            not fit together.
    """
    check_kind(baselines)
    seed, own = seeded(generator)
    listed = _may_list(players.count, num_coalitions)
    if not listed:
        check_num_coalitions(num_coalitions, players.count)
    asked = 2**players.count - 2 if listed else num_coalitions
    method = Method(
        "kernel_shap",
        Stopping(num_draws=asked + 2),
        baselines,
        None if listed else seed,
        {"num_players": players.count, "num_coalitions": asked},
    )

    def solve(game: Game) -> Solution:
        return _exactly(game) if listed else _estimated(game, num_coalitions, own)

    question = Question(score, input, target, options or Options())
    return play(method, solve, players, question, asked + 2)


def _may_list(num_players: int, num_coalitions: int) -> bool:
    return num_players <= MOST_LISTED and 2**num_players - 2 <= num_coalitions


def _exactly(game: Game) -> Solution:
    count = game.players.count
    present = all_coalitions(count)[1:-1]
    sizes = present.sum(1).tolist()
    weights = torch.tensor([1 / (comb(count, s) * s * (count - s)) for s in sizes], dtype=torch.float64)
    empty, whole = _ends(game)
    values = game.values(present) if len(present) else empty.new_zeros(0, len(empty))
    return Solution(
        fit_additive(present, weights, values - empty, whole - empty), len(present) + 2, complete=True
    )


def _estimated(game: Game, count: int, generator: torch.Generator) -> Solution:
    present = draw_coalitions(game.players.count, count, generator)
    empty, whole = _ends(game)
    gains = game.values(present) - empty

    def fit(chosen: Int64[Tensor, " chosen"]) -> Float64[Tensor, "targets players"]:
        equal = torch.ones(len(chosen), dtype=torch.float64)
        return fit_additive(present[chosen], equal, gains[chosen.to(gains.device)], whole - empty)

    return Solution(fit(torch.arange(count)), count + 2, jackknife(fit, count), complete=True)


def _ends(game: Game) -> tuple[Float64[Tensor, " targets"], Float64[Tensor, " targets"]]:
    """The values of no one and of everyone."""
    return game.alone().mean(0), game.problem.score


def draw_coalitions(
    num_players: int, count: int, generator: torch.Generator
) -> Bool[Tensor, "coalitions players"]:
    """Coalitions with the kernel's weights for probabilities, each followed by its complement."""
    sizes = torch.arange(1, num_players, dtype=torch.float64)
    by_size = 1 / (sizes * (num_players - sizes))
    size = torch.multinomial(by_size, count // 2, replacement=True, generator=generator) + 1
    ranks = torch.rand(count // 2, num_players, generator=generator).argsort(1).argsort(1)
    present = ranks < size[:, None]
    return torch.stack([present, ~present], 1).flatten(0, 1)


def fit_additive(
    present: Bool[Tensor, "coalitions players"],
    weights: Float64[Tensor, " coalitions"],
    gains: Float64[Tensor, "coalitions targets"],
    total: Float64[Tensor, " targets"],
) -> Float64[Tensor, "targets players"]:
    """The additive game that is nearest by weighted least squares and sums to `total`.

    With `A = Z' W Z` and `b = Z' W gains`, `phi = A^-1 (b - 1 (1' A^-1 b - total) / (1' A^-1 1))`.

    >>> alone, one = torch.eye(2, dtype=torch.bool), torch.ones(1).double()
    >>> fit_additive(alone, one.expand(2), torch.tensor([[1.0], [2.0]]).double(), one)
    tensor([[0., 1.]], dtype=torch.float64)
    """
    count = present.shape[1]
    if count == 1:
        return total[:, None]
    members = present.to(gains)
    weighted = members * weights.to(gains)[:, None]
    ones = gains.new_ones(count, 1)
    solved = torch.linalg.pinv(weighted.T @ members, hermitian=True) @ torch.cat(
        [weighted.T @ gains, ones], 1
    )
    free, by_one = solved[:, :-1], solved[:, -1:]
    return (free - by_one * (free.sum(0) - total) / by_one.sum()).T
