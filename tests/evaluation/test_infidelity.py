"""Infidelity is 0 for an additive score, and Captum's where that is defined."""

from __future__ import annotations

import math

import pytest
import torch

from wavshap_lightning.evaluation.faithfulness import Perturbations, infidelity, perturb

TIME, CHANNELS = 15, 2


@pytest.fixture
def frames():
    return torch.randn(TIME, CHANNELS, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weights():
    return torch.randn(TIME, generator=torch.Generator().manual_seed(1))


def additive(weights):
    return lambda inputs: (inputs * weights[:, None]).sum((1, 2))


def curved(weights):
    return lambda inputs: (inputs * weights[:, None]).sum((1, 2)).tanh() + inputs[:, :, 0].square().mean(1)


def test_attributions_of_an_additive_score_predict_everything_up_to_a_factor(frames, weights):
    terms = (frames * weights[:, None]).sum(1)
    changes = perturb(
        additive(weights), frames, torch.zeros(2, TIME, CHANNELS), torch.Generator().manual_seed(2)
    )
    assert infidelity(terms, changes) < 1e-9
    assert infidelity(-7 * terms, changes) < 1e-9
    assert infidelity(terms.flip(0), changes) > 0.1


def test_attributions_that_say_nothing_are_no_better_than_no_change():
    effect = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    changes = Perturbations(torch.rand(1000, TIME, generator=torch.Generator().manual_seed(1)) < 0.5, effect)
    assert infidelity(torch.zeros(TIME), changes) == pytest.approx(
        float(effect.square().mean() / effect.var(unbiased=False))
    )
    assert math.isnan(infidelity(torch.ones(TIME), Perturbations(changes.changed, torch.ones(1000).double())))


def test_it_is_captums_over_the_variance(frames, weights):
    metrics = pytest.importorskip("captum.metrics", reason="captum is not installed")
    score, values = curved(weights), torch.randn(TIME, generator=torch.Generator().manual_seed(3))
    fill = torch.zeros(1, TIME, CHANNELS)
    changes = perturb(score, frames, fill, torch.Generator().manual_seed(2), count=40)
    where = changes.changed[:, :, None].expand(-1, -1, CHANNELS)

    def perturb_them(inputs):
        """Captum multiplies attributions with the first, so that each frame's is in one channel."""
        return where.float(), torch.where(where, 0.0, inputs)

    spread = torch.stack([values, torch.zeros(TIME)], 1)
    theirs = metrics.infidelity(
        score, perturb_them, frames[None], spread[None], n_perturb_samples=40, normalize=True
    )
    expected = float(theirs) / float(changes.effect.var(unbiased=False))
    assert infidelity(values, changes) == pytest.approx(expected, rel=1e-4)


def test_every_change_is_that_of_its_own_fill(frames, weights):
    fills = torch.stack([torch.zeros(TIME, CHANNELS), frames.flip(0)])
    changes = perturb(curved(weights), frames, fills, torch.Generator().manual_seed(2), count=7)
    whole = curved(weights)(frames[None])
    half = math.ceil(7 / 2)
    for row, (changed, effect) in enumerate(zip(changes.changed, changes.effect, strict=True)):
        filled = torch.where(changed[:, None], fills[int(row >= half)], frames)
        assert float(whole - curved(weights)(filled[None])) == pytest.approx(float(effect), abs=1e-5)
    assert set(changes.changed.sum(1).tolist()) == {round(TIME / 2)}


def test_attributions_that_are_all_alike_know_but_the_mean(frames, weights):
    changes = perturb(
        curved(weights), frames, torch.zeros(1, TIME, CHANNELS), torch.Generator().manual_seed(2)
    )
    assert infidelity(torch.ones(TIME), changes) == pytest.approx(1, abs=1e-9)
