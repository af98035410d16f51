"""Occlusion: what is lost when one span is taken away and all others stay."""

from __future__ import annotations

import torch
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines, check_kind
from wavshap_lightning.attribution.estimation.method import Method, Options, Question
from wavshap_lightning.attribution.estimation.problem import Score
from wavshap_lightning.attribution.estimation.stopping import Stopping
from wavshap_lightning.attribution.record import Attribution
from wavshap_lightning.attribution.shapley.game import Game, Players, Solution, play
from wavshap_lightning.attribution.targets import Target


def occlusion(
    score: Score,
    input: Tensor,  # noqa: A002 - the word for it
    baselines: Baselines,
    players: Players,
    target: Target,
    *,
    options: Options | None = None,
) -> Attribution:
    """What each span's absence costs: `phi_i = v(all) - v(all but i)`.

    `v(S)` is the mean score over the baselines, which stand where a span is absent. Exact where the score is
    a sum over spans; what two spans say alike it gives to neither, and completeness is not claimed. Source:
    Zeiler and Fergus (2014). Where we depart: baselines for their grey square, spans that do not overlap.

    Args:
        score: As in [`gradient_shap`][wavshap_lightning.attribution.gradient_shap.gradient_shap], like
            `input` and `target`.
        input: See there.
        baselines: A declared set; the mean over it is taken.
        players: The spans.
        target: See there.
        options: See there; the views are the players' own.

    Raises:
        AttributionError: If the baselines are a distribution, or anything does not fit together.

    >>> from wavshap_lightning.attribution.baselines import BaselineSet
    >>> from wavshap_lightning.attribution.shapley.game import equal_spans
    >>> silent = BaselineSet(torch.zeros(1, 4))
    >>> first = Target("logit", (0,))
    >>> found = occlusion(lambda x: x[:, :1] * x[:, 1:2], torch.ones(4), silent, equal_spans(4, 4), first)
    >>> found.views["spans"].values
    tensor([[1., 1., 0., 0.]], dtype=torch.float64)
    """
    check_kind(baselines)
    num_coalitions = players.count + 1
    method = Method(
        "occlusion",
        Stopping(num_draws=num_coalitions),
        baselines,
        settings={"num_players": players.count},
    )
    question = Question(score, input, target, options or Options())
    return play(method, _solve, players, question, num_coalitions)


def _solve(game: Game) -> Solution:
    """Everyone is there, then all but one."""
    count = game.players.count
    present = torch.cat([torch.ones(1, count, dtype=torch.bool), ~torch.eye(count, dtype=torch.bool)])
    values = game.values(present)
    return Solution((values[:1] - values[1:]).T, len(present))
