"""Correlation, reliability and sensitivity of explanations for which they are known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from wavshap_lightning.evaluation.stability import (
    add_noise,
    correlation,
    rank_correlation,
    reliability,
    sensitivities,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_correlation_is_pearsons():
    first, second = draw(50), draw(50, seed=1)
    assert correlation(first, second) == pytest.approx(stats.pearsonr(first, second).statistic)


@pytest.mark.parametrize(("slope", "expected"), [(3.0, 1.0), (-0.1, -1.0)])
def test_only_the_sign_of_a_line_matters(slope, expected):
    values = draw(20)
    assert correlation(values, slope * values + 7) == pytest.approx(expected, abs=1e-12)
    assert abs(correlation(values, slope * values)) <= 1


def test_what_is_constant_agrees_with_nothing():
    assert math.isnan(correlation(torch.ones(5), draw(5)))


def test_reliability_is_the_correlation_of_two_runs():
    truth, error = draw(200_000), 0.5
    runs = [truth + error * draw(200_000, seed=seed) for seed in (1, 2)]
    stated = reliability(runs[0], torch.full_like(truth, error))
    assert stated == pytest.approx(correlation(*runs), abs=0.01)
    assert stated == pytest.approx(1 / (1 + error**2), abs=0.01)


def test_reliability_of_nothing_but_chance_is_0_and_of_the_unknown_not_a_number():
    assert reliability(draw(100), torch.full((100,), 5.0)) == 0
    assert math.isnan(reliability(draw(3), torch.full((3,), math.inf)))
    assert math.isnan(reliability(torch.ones(3), torch.zeros(3)))


def test_rank_correlation_is_spearmans_also_where_values_are_equal():
    first, second = draw(50).mul(2).round(), draw(50, seed=1).round()
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert rank_correlation(first.exp(), second) == pytest.approx(rank_correlation(first, second))


CLIP = torch.randn(4000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("snr_db", [10.0, 30.0])
def test_noise_lies_so_far_below_the_clip(snr_db):
    noise = add_noise(CLIP, snr_db, torch.Generator().manual_seed(1)) - CLIP
    ratio = 10 * torch.log10(CLIP.square().mean() / noise.square().mean())
    assert float(ratio) == pytest.approx(snr_db, abs=0.01)


def test_an_explanation_that_is_the_clip_moves_as_much_as_the_clip():
    found = sensitivities(lambda clip: clip, CLIP, torch.Generator().manual_seed(1))
    assert found == pytest.approx({"sensitivity_30": 10**-1.5, "sensitivity_40": 1e-2}, rel=1e-3)


def test_one_that_never_moves_has_0_and_chance_of_the_method_is_taken_off():
    still = sensitivities(torch.ones_like, CLIP, torch.Generator().manual_seed(1))
    assert set(still.values()) == {0}
    chance = torch.Generator().manual_seed(2)

    def noisy(clip):
        return torch.ones(400) + torch.randn(400, generator=chance)

    found = sensitivities(noisy, CLIP, torch.Generator().manual_seed(1), num_perturbations=20)
    assert abs(found["sensitivity_30"]) < 0.15


def test_the_same_generator_gives_the_same_numbers():
    first, second = (sensitivities(torch.abs, CLIP, torch.Generator().manual_seed(4)) for _ in range(2))
    assert first == second
