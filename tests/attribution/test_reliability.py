"""Units that are certain to be among the strongest, and the share of these that another seed keeps."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from wavshap_lightning.attribution.record import ViewEstimate
from wavshap_lightning.attribution.reliability import (
    certain_among,
    measure_agreement,
    measure_reliability,
    survival,
)

UNITS, K, RUNS = 40, 5, 120
TRUTHS = {
    "peaks": np.exp(-np.arange(UNITS) / 4.0),
    "signs": np.sin(np.arange(UNITS)) * np.linspace(0, 1, UNITS),
    "step": np.where(np.arange(UNITS) < K, 1.0, 0.9),
    "equal": np.ones(UNITS),
    "nothing": np.zeros(UNITS),
    "almost nothing": np.where(np.arange(UNITS) < K, 1e-6, 0.0),
}
SCALES = (0.005, 0.05, 0.5)


def tensor(numbers):
    return torch.as_tensor(np.asarray(numbers, dtype=np.float64))


def named(estimate, stderr, freedom, k):
    return certain_among(tensor(estimate).abs(), tensor(stderr), freedom, k)


def strongest(values, k):
    return {*np.argsort(-np.abs(values), kind="stable")[:k].tolist()}


def is_wrong(truth, found, k):
    """Whether a unit is named although `k` others are truly stronger."""
    sizes = np.abs(truth)
    return any((sizes > sizes[one] + 1e-12).sum() >= k for one in found)


def drawn_errors(kind, generator, runs, units):
    """Errors `(runs, units)` of variance one, and the standard errors that are stated for them."""
    normal = generator.standard_normal((runs, units))
    stated = np.ones((runs, units))
    if kind == "alike":
        normal = 0.3 * normal + 0.91**0.5 * generator.standard_normal((runs, 1))
    elif kind == "sum to zero":
        normal = (normal - normal.mean(1, keepdims=True)) / (1 - 1 / units) ** 0.5
    elif kind == "smooth":
        rolled = sum(np.roll(normal, shift, axis=1) for shift in range(5))
        normal = rolled / 5**0.5
    if kind.startswith("few degrees"):
        columns = 1 if kind.endswith("shared") else units
        stated = np.sqrt(generator.chisquare(3, (runs, columns)) / 3) * stated
    return normal, stated


@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
@pytest.mark.parametrize(
    "kind", ["independent", "alike", "sum to zero", "smooth", "few degrees", "few degrees, shared"]
)
def test_all_that_are_named_are_among_the_strongest_in_95_percent_of_runs(truth, kind):
    generator, freedom = np.random.default_rng(0), 3.0 if kind.startswith("few") else np.inf
    for scale in SCALES:
        size = scale * np.exp(generator.standard_normal(UNITS))  # some units are known far better than others
        errors, stated = drawn_errors(kind, generator, RUNS, UNITS)
        wrong = sum(
            is_wrong(truth, named(truth + size * error, size * said, freedom, K), K)
            for error, said in zip(errors, stated, strict=True)
        )
        assert wrong <= 0.05 * RUNS


@pytest.mark.parametrize(("freedom", "k"), [(np.inf, 1), (np.inf, 3), (4.0, 1), (4.0, 3)])
def test_the_level_is_just_kept_where_errors_conspire(freedom, k):
    """The strongest and the others hardly differ, and have errors of one size in opposite directions."""
    generator, runs = np.random.default_rng(1), 4000
    truth = np.repeat([1.0, 1.0 - 1e-9], k)
    wrong = 0
    for _ in range(runs):
        stated = np.sqrt(generator.chisquare(freedom) / freedom) if np.isfinite(freedom) else 1.0
        half = np.full(k, 0.01 * generator.standard_normal())
        estimate = truth + np.concatenate([half, -half])
        wrong += bool({*named(estimate, np.full(2 * k, 0.01 * stated), freedom, k)} - {*range(k)})
    assert 0.003 * runs < wrong <= 0.05 * runs


def test_strong_and_well_known_units_are_named():
    truth = TRUTHS["peaks"]
    shares = []
    for scale in (0.2, 0.02, 0.002):
        errors = scale * np.random.default_rng(0).standard_normal((50, UNITS))
        found = [named(truth + error, np.full(UNITS, scale), 8.0, K) for error in errors]
        shares.append(np.mean([len(one) / K for one in found]))
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.95


def test_no_more_than_k_are_named_and_all_from_the_strongest():
    generator = np.random.default_rng(2)
    for k in (1, 4, 20, 39):
        estimate, stderr = generator.standard_normal(UNITS), 0.05 * generator.random(UNITS)
        assert {*named(estimate, stderr, 8.0, k)} <= strongest(estimate, k)


def test_without_errors_the_strongest_are_certain_and_stay():
    values = tensor([3.0, -5.0, 1.0, 4.0])
    assert named(values, np.zeros(4), np.inf, 2) == [1, 3]
    assert survival(values.abs(), torch.zeros(4).double(), 2) == 1


def test_all_units_are_among_all():
    values, stderr = [0.1, 0.0, -2.0], [9.0, 9.0, np.inf]
    assert named(values, stderr, 3.0, 3) == [0, 1, 2]
    assert survival(tensor(values).abs(), tensor(stderr), 3) == 1


def test_of_equal_units_at_the_limit_none_is_certain():
    assert named([2.0, 1.0, -1.0, 0.0], np.zeros(4), np.inf, 2) == [0]
    assert named([2.0, 1.0, -1.0, 0.0], np.zeros(4), np.inf, 3) == [0, 1, 2]
    assert named(np.zeros(4), np.zeros(4), np.inf, 1) == []


def test_where_nothing_is_known_yet_nothing_is_certain_and_chance_decides():
    values, unknown = tensor(np.arange(20)), torch.full((20,), torch.inf).double()
    assert named(values, unknown, 1.0, 5) == []
    assert survival(values, unknown, 5) == pytest.approx(0.25, abs=0.02)


def test_the_order_of_units_makes_no_difference():
    generator = np.random.default_rng(3)
    values, stderr = generator.standard_normal(UNITS), 0.1 * generator.random(UNITS)
    order = generator.permutation(UNITS)
    moved = named(values[order], stderr[order], 8.0, K)
    assert sorted(order[moved].tolist()) == named(values, stderr, 8.0, K)
    sizes = tensor(values).abs()
    assert survival(sizes[order], tensor(stderr[order]), K) == survival(sizes, tensor(stderr), K)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("units", "k"), [(60, 6), (200, 20)])
def test_survival_is_what_two_estimates_of_one_truth_share(spread, units, k):
    """Also where the map is mostly noise, so that its strongest owe their rank to it."""
    generator = np.random.default_rng(4)
    said, shared = [], []
    for _ in range(40):
        truth, stderr = spread * generator.standard_normal(units), 0.5 + generator.random(units)
        one, other = generator.normal(truth, stderr), generator.normal(truth, stderr)
        said.append(survival(tensor(one).abs(), tensor(stderr), k))
        shared.append(len(strongest(one, k) & strongest(other, k)) / k)
    assert np.mean(said) == pytest.approx(np.mean(shared), abs=0.05)


@pytest.mark.parametrize(("units", "k"), [(2, 1), (3, 1), (5, 2), (13, 3), (24, 3), (64, 7), (100, 10)])
def test_the_strongest_are_a_tenth_but_three_if_that_is_no_more_than_half(units, k):
    view = ViewEstimate(torch.rand(1, units).double(), torch.zeros(1, units).double())
    assert measure_reliability(view, 0).k == k


def test_one_unit_has_no_rank():
    assert measure_reliability(ViewEstimate(torch.ones(1, 1).double(), torch.ones(1, 1).double()), 0) is None


def drawn_maps(num_models, units, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((num_models, units)))


def test_agreement_is_what_pairs_of_models_share():
    maps = drawn_maps(4, 55) + 2 * drawn_maps(1, 55, seed=1)
    maps[:, 7:12] = 0.25  # equal values
    found = measure_agreement(maps, [0.5, 1.0, 0.75, 0.75])
    sets, pairs = [strongest(one.numpy(), 6) for one in maps], [*combinations(range(4), 2)]
    assert (found.num_models, found.k, found.survival) == (4, 6, 0.75)
    assert found.shared == pytest.approx(np.mean([len(sets[a] & sets[b]) / 6 for a, b in pairs]))
    ranks = np.mean([spearmanr(maps[a], maps[b]).statistic for a, b in pairs])
    assert found.rank_correlation == pytest.approx(ranks)
    assert found.counts == [sum(frame in one for one in sets) for frame in range(55)]
    assert 0 < found.shared < 1


def test_equal_models_agree_in_full_and_opposite_ones_in_magnitude():
    one = drawn_maps(1, 40)
    equal, opposite = (measure_agreement(torch.cat([one, scale * one]), []) for scale in (3.0, -3.0))
    assert (equal.shared, opposite.shared, equal.survival) == (1, 1, None)
    assert equal.rank_correlation == pytest.approx(1)
    assert opposite.rank_correlation == pytest.approx(-1)
    assert {*equal.counts} == {0, 2}


def test_models_that_have_nothing_in_common_agree_by_chance():
    generator, one = np.random.default_rng(5), drawn_maps(1, 60)[0].numpy()
    maps = torch.from_numpy(np.stack([generator.permutation(one) for _ in range(60)]))
    found = measure_agreement(maps, [])
    assert found.shared == pytest.approx(found.k / 60, abs=0.02)
    assert found.rank_correlation == pytest.approx(0, abs=0.02)
    assert sum(found.counts) == 60 * found.k


def test_a_constant_map_has_no_ranks():
    found = measure_agreement(torch.stack([torch.zeros(9), torch.arange(9.0)]).double(), [])
    assert found.rank_correlation is None
