"""Shapley values of a few spans, exactly: every coalition is asked for."""

from __future__ import annotations

from math import comb

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines, check_kind
from wavshap_lightning.attribution.estimation.method import Method, Options, Question
from wavshap_lightning.attribution.estimation.problem import Score
from wavshap_lightning.attribution.estimation.stopping import Stopping
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.attribution.shapley.game import Game, Players, Solution, all_coalitions, play
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.errors import AttributionError

MAX_PLAYERS = 12
"""4096 coalitions."""


def shapley(
    score: Score,
    input: Tensor,  # noqa: A002 - the word for it
    baselines: Baselines,
    players: Players,
    target: Target,
    *,
    options: Options | None = None,
) -> Attribution:
    """The Shapley value of each span: its mean contribution over all orders in which spans could arrive.

    `phi_i = sum_{S without i} |S|! (M - |S| - 1)! / M! (v(S + i) - v(S))`, where `v(S)` is the mean score
    over the baselines, which stand where a span is absent. `sum phi = f(x) - mean f(b)`, and there is no
    chance in it. Source: Shapley (1953).

    Args:
        score: As in [`gradient_shap`][wavshap_lightning.attribution.gradient_shap.gradient_shap], like
            `input` and `target`.
        input: See there.
        baselines: A declared set; the mean over it is taken.
        players: The spans, at most 12.
        target: See there.
        options: See there; the views are the players' own.

    Raises:
        AttributionError: If there are more players, the baselines are a distribution, or anything does not
            fit together.

    >>> from wavshap_lightning.attribution.baselines import BaselineSet
    >>> from wavshap_lightning.attribution.shapley.game import equal_spans
    >>> silent = BaselineSet(torch.zeros(1, 4))
    >>> first = Target("logit", (0,))
    >>> found = shapley(lambda x: x[:, :1] * x[:, 1:2], torch.ones(4), silent, equal_spans(4, 4), first)
    >>> found.views["spans"].values
    tensor([[0.5000, 0.5000, 0.0000, 0.0000]], dtype=torch.float64)
    """
    check_kind(baselines)
    if players.count > MAX_PLAYERS:
        raise AttributionError(
            f"players.count={players.count}: exact Shapley values ask for all 2^{players.count} coalitions; "
            f"take at most {MAX_PLAYERS} players, or kernel_shap"
        )
    num_coalitions = 2**players.count
    method = Method(
        "shapley", Stopping(num_draws=num_coalitions), baselines, settings={"num_players": players.count}
    )
    question = Question(score, input, target, options or Options())
    return play(method, _solve, players, question, num_coalitions)


def _solve(game: Game) -> Solution:
    present = all_coalitions(game.players.count)
    values = game.values(present)
    weights = shapley_weights(present)
    return Solution((weights.to(values) @ values).T, len(present), complete=True)


def shapley_weights(present: Bool[Tensor, "coalitions players"]) -> Float64[Tensor, "players coalitions"]:
    """What each coalition's value counts for each player, given all of them; members gain, the others lose.

    A member of `s` among `M` gains `(s-1)! (M-s)! / M! = 1 / (M C(M-1, s-1))`, who is not one loses
    `s! (M-s-1)! / M! = 1 / (M C(M-1, s))`.
    """
    count = present.shape[1]
    share = torch.tensor([1 / (count * comb(count - 1, size)) for size in range(count)], dtype=torch.float64)
    sizes = present.sum(1, keepdim=True)
    gain, loss = share[(sizes - 1).clamp(min=0)], share[sizes.clamp(max=count - 1)]
    return torch.where(present, gain, -loss).T
