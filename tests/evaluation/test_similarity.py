"""Similarity of maps for which it is known; randomized copies leave the classifier alone."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from wavshap_lightning.evaluation.similarity import (
    correlation,
    dependence,
    intraclass_correlation,
    likeness,
    mean_rank_correlation,
    randomize,
    rank_correlation,
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


def test_intraclass_correlation_is_the_correlation_of_two_runs():
    truth, error = draw(200_000), 0.5
    runs = [truth + error * draw(200_000, seed=seed) for seed in (1, 2)]
    stated = intraclass_correlation(runs[0], torch.full_like(truth, error))
    assert stated == pytest.approx(correlation(*runs), abs=0.01)
    assert stated == pytest.approx(1 / (1 + error**2), abs=0.01)


def test_intraclass_correlation_of_nothing_but_chance_is_0_and_of_the_unknown_not_a_number():
    assert intraclass_correlation(draw(100), torch.full((100,), 5.0)) == 0
    assert math.isnan(intraclass_correlation(draw(3), torch.full((3,), math.inf)))
    assert math.isnan(intraclass_correlation(torch.ones(3), torch.zeros(3)))


def test_rank_correlation_is_spearmans_also_where_values_are_equal():
    first, second = draw(50).mul(2).round(), draw(50, seed=1).round()
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert rank_correlation(first.exp(), second) == pytest.approx(rank_correlation(first, second))


@pytest.mark.parametrize("part", ["head", "all"])
def test_what_is_named_is_randomized_and_nothing_else(classifier, part):
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    copied = dict(randomize(classifier, part, seed=0).named_parameters())
    for name, parameter in classifier.named_parameters():
        changed = part == "all" or name.startswith("head.")
        assert torch.equal(copied[name], parameter) != changed
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())


def test_the_head_is_the_same_whatever_else_is_randomized(classifier):
    head, everything = (dict(randomize(classifier, part, 3).named_parameters()) for part in ("head", "all"))
    assert all(torch.equal(head[name], everything[name]) for name in head if name.startswith("head."))


@pytest.mark.parametrize("frozen", [True, False])
def test_only_a_frozen_backbone_is_shared_with_the_copy_whose_head_is_randomized(classifier, frozen):
    asked = deepcopy(classifier)
    if not frozen:
        asked.backbone.settings = replace(asked.backbone.settings, unfreeze_layers=1)
    copied = randomize(asked, "head", seed=0)
    assert (copied.backbone is asked.backbone) == frozen
    assert not copied.training


def test_tensors_of_one_shape_get_draws_of_their_own(classifier):
    drawn = dict(randomize(classifier, "all", seed=0).named_parameters())
    layers = [
        drawn[f"backbone.model.encoder.layers.{index}.feed_forward.intermediate_dense.weight"]
        for index in range(3)
    ]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        both = torch.stack([layers[one].flatten(), layers[other].flatten()])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.2


def test_sizes_stay_and_a_seed_is_a_seed(classifier):
    first, again, other = (dict(randomize(classifier, "all", seed).named_parameters()) for seed in (1, 1, 2))
    for name, parameter in classifier.named_parameters():
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])
        if parameter.numel() > 200:
            found, expected = first[name].detach().std(), parameter.detach().std()
            assert float(found) == pytest.approx(float(expected), rel=0.25)


def drawn(seed):
    return torch.randn(200, generator=torch.Generator().manual_seed(seed))


def test_a_map_that_depends_on_everything():
    """Unrelated with other parameters, opposite for the other class, much the same with another head."""
    own = drawn(0)
    changed = {
        "head_redrawn": [drawn(1)],
        "all_redrawn": [drawn(2)],
        "other_class": [-own],
        "other_seeds": [own.exp(), 2 * own],
    }
    found = dependence(own, changed)
    assert abs(found["head_redrawn"]) < 0.2
    assert abs(found["all_redrawn"]) < 0.2
    assert found["other_class"] == pytest.approx(-1)
    assert found["other_seeds"] == pytest.approx(1)


def test_a_map_that_depends_on_nothing():
    names = ("head_redrawn", "all_redrawn", "other_class", "other_seeds")
    found = dependence(drawn(0), {name: [drawn(0)] for name in names})
    assert found["other_class"] == found["other_seeds"] == pytest.approx(1)
    assert min(found["head_redrawn"], found["all_redrawn"]) > 0.9
    assert dependence(drawn(0), {}) == {}


def test_the_mean_over_pairs_leaves_out_what_has_no_correlation():
    maps = torch.randn(3, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = [rank_correlation(maps[one], maps[other]) for one, other in ((0, 1), (0, 2), (1, 2))]
    assert mean_rank_correlation(*maps) == pytest.approx(sum(pairs) / 3)
    assert mean_rank_correlation(*maps, torch.ones(30)) == pytest.approx(sum(pairs) / 3)
    assert math.isnan(mean_rank_correlation(maps[0]))


def test_likeness_is_one_correlation_above_those_of_all_shifts():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=50).cumsum(), rng.normal(size=50).cumsum()
    rho = [abs(stats.spearmanr(first, np.roll(second, shift)).statistic) for shift in range(50)]
    found = likeness(torch.from_numpy(first), torch.from_numpy(second))
    assert found == pytest.approx(rho[0] - np.mean(rho[1:]))


def test_maps_that_have_nothing_to_do_with_each_other_are_alike_by_0_however_smooth():
    """Plain correlations of smooth maps are large by chance."""
    rng = np.random.default_rng(0)
    kernel = np.hanning(21)
    plain, corrected = [], []
    for _ in range(100):
        noise = np.fft.rfft(rng.normal(size=(2, 100))) * np.fft.rfft(kernel, 100)
        one, other = torch.from_numpy(np.fft.irfft(noise, 100))
        plain.append(abs(rank_correlation(one, other)))
        corrected.append(likeness(one, other))
    assert np.mean(plain) > 0.2
    assert abs(np.mean(corrected)) < 3 * np.std(corrected) / 100**0.5


def test_likeness_of_a_constant_map_is_unknown():
    assert math.isnan(likeness(torch.ones(5), torch.arange(5.0)))
