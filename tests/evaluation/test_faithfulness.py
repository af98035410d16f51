"""Of a linear score, what removing frames does is known."""

from __future__ import annotations

from math import ceil

import pytest
import torch

from wavshap_lightning.evaluation.faithfulness import SHARES, faithfulness

TIME = 40


@pytest.fixture
def frames():
    return torch.rand(TIME, 3, generator=torch.Generator().manual_seed(0)) + 0.1


@pytest.fixture
def weights():
    return torch.randn(TIME, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def score(weights):
    return lambda inputs: inputs.sum(2) @ weights


def measure(score, frames, attributions, fills=None, **settings):
    fills = torch.zeros(2, *frames.shape) if fills is None else fills
    return faithfulness(score, frames, attributions, fills, torch.Generator().manual_seed(2), **settings)


def test_of_a_linear_score_it_is_the_sum_of_what_is_removed_over_that_of_an_average_frame(
    score, frames, weights
):
    terms = frames.sum(1) * weights
    best = terms.sort(descending=True).values
    counts = sorted({max(1, ceil(share * TIME)) for share in SHARES})
    gained = sum(float(best[:count].sum() - count * terms.mean()) for count in counts) / len(counts)
    found = measure(score, frames, terms, num_random=2000)
    assert found.comprehensiveness == pytest.approx(gained, rel=0.02)
    assert found.sufficiency == pytest.approx(-gained, rel=0.02)


def test_the_wrong_order_is_worse_than_chance(score, frames, weights):
    terms = frames.sum(1) * weights
    right, wrong = (measure(score, frames, sign * terms, num_random=50) for sign in (1, -1))
    assert right.comprehensiveness > 0 > wrong.comprehensiveness
    assert right.sufficiency < 0 < wrong.sufficiency


def test_orders_that_say_nothing_come_to_nothing_on_average(score, frames):
    values = [
        measure(score, frames, torch.rand(TIME, generator=torch.Generator().manual_seed(seed)), num_random=20)
        for seed in range(200)
    ]
    scale = measure(score, frames, frames.sum(1) * score(torch.eye(TIME)[:, :, None])).comprehensiveness
    assert abs(sum(one.comprehensiveness for one in values)) / len(values) < 0.1 * scale


def test_fills_that_change_nothing_change_nothing(score, frames, weights):
    found = measure(score, frames, weights, fills=frames[None])
    assert found.comprehensiveness == pytest.approx(0, abs=1e-5)
    assert found.sufficiency == pytest.approx(0, abs=1e-5)


def test_the_score_is_asked_for_a_few_at_a_time(score, frames, weights):
    sizes = []

    def watched(inputs):
        sizes.append(len(inputs))
        assert not torch.is_grad_enabled()
        return score(inputs)

    measure(watched, frames, weights)
    assert max(sizes) <= 8
