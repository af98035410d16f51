"""Laws of points: weights that sum to one, evenness, no bias, no global state."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from wavshap_lightning.attribution.estimation.designs import (
    AlphaStrata,
    BaselineLattice,
    SobolNet,
    seeded,
)
from wavshap_lightning.errors import AttributionError


def new(kind, seed=0, num_baselines=4):
    generator = torch.Generator().manual_seed(seed)
    return SobolNet(num_baselines, generator) if kind == "net" else AlphaStrata(generator)


def strata_of(alphas, count):
    return sorted((alphas * count).long().tolist())


@pytest.mark.parametrize("kind", ["net", "strata"])
@pytest.mark.parametrize("count", [1, 5, 64, 100])
def test_weights_sum_to_one_and_alphas_lie_on_the_path(kind, count):
    points = new(kind).draw(count)
    assert points.weights.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert len(points) == count
    assert ((points.alphas >= 0) & (points.alphas < 1)).all()


@pytest.mark.parametrize("kind", ["net", "strata"])
def test_every_stratum_of_alpha_holds_one_point_also_after_doubling(kind):
    sampler = new(kind)
    alphas = sampler.draw(32).alphas
    assert strata_of(alphas, 32) == list(range(32))
    for count in (32, 64):
        alphas = torch.cat([alphas, sampler.draw(count).alphas])
        assert strata_of(alphas, 2 * count) == list(range(2 * count))


def test_strata_need_no_power_of_two():
    sampler = new("strata")
    alphas = torch.cat([sampler.draw(25).alphas, sampler.draw(25).alphas])
    assert strata_of(alphas, 50) == list(range(50))


def test_a_net_is_even_in_every_elementary_interval():
    points = new("net", num_baselines=16).draw(64)
    for alpha_parts, baseline_parts in ((64, 1), (16, 4), (8, 8), (4, 16)):
        cells = (points.alphas * alpha_parts).long() * baseline_parts
        cells = cells + points.baselines * baseline_parts // 16
        assert torch.bincount(cells, minlength=64).tolist() == [1] * 64


@pytest.mark.parametrize("num_baselines", [1, 3, 10, 100])
def test_baselines_get_their_share_but_for_the_edges(num_baselines):
    counts = torch.bincount(
        new("net", num_baselines=num_baselines).draw(256).baselines, minlength=num_baselines
    )
    assert ((counts - 256 / num_baselines).abs() < 2).all()


def test_a_net_drawn_in_parts_is_the_same_net():
    whole, parts = new("net").draw(64), new("net")
    assert torch.equal(whole.baselines, torch.cat([parts.draw(16).baselines, parts.draw(48).baselines]))


@pytest.mark.parametrize("kind", ["net", "strata"])
@pytest.mark.parametrize("position", [0, 3, 7])
def test_each_single_point_is_uniform(kind, position):
    drawn = torch.stack([new(kind, seed).draw(8).alphas[position] for seed in range(400)])
    assert drawn.mean().item() == pytest.approx(1 / 2, abs=0.05)
    assert drawn.var().item() == pytest.approx(1 / 12, abs=0.015)


def test_neighbouring_strata_come_in_pairs():
    drawn = (new("strata").draw(20).alphas * 20).long().reshape(10, 2)
    strata = drawn.sort(1).values
    assert not torch.equal(drawn, strata)
    assert (strata[:, 1] - strata[:, 0] == 1).all()
    assert (strata[:, 0] % 2 == 0).all()
    assert strata[:, 0].tolist() != sorted(strata[:, 0].tolist())


@pytest.mark.parametrize("kind", ["net", "strata"])
def test_the_generator_alone_decides(kind):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, same, other = (new(kind, seed).draw(16).alphas for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


# Seeds


def test_a_seed_reproduces_what_a_generator_gave():
    seed, own = seeded(torch.Generator().manual_seed(5))
    assert torch.equal(torch.rand(3, generator=own), torch.rand(3, generator=seeded(seed)[1]))


def test_a_generator_moves_on():
    generator = torch.Generator().manual_seed(5)
    assert seeded(generator)[0] != seeded(generator)[0]


def test_a_negative_seed_is_refused():
    with pytest.raises(AttributionError, match=r"generator=-1 must be a torch.Generator or a seed, 0 to"):
        seeded(-1)


def lattice(num_baselines=16, seed=0, first_draws=64):
    return BaselineLattice(num_baselines, torch.Generator().manual_seed(seed), first_draws)


def places_of(alphas):
    """`t` of `alpha = t^2 (3 - 2 t)`."""
    return 0.5 - torch.sin(torch.asin(1 - 2 * alphas) / 3)


@pytest.mark.parametrize(("num_baselines", "count"), [(1, 4), (3, 24), (16, 64), (16, 256)])
def test_a_lattice_is_evenly_spaced_on_every_path_also_after_doubling(num_baselines, count):
    sampler = lattice(num_baselines, first_draws=count)
    drawn = [sampler.draw(count), sampler.draw(count), sampler.draw(2 * count)]
    for number in (1, 2, 3):
        alphas = torch.cat([points.alphas for points in drawn[:number]])
        baselines = torch.cat([points.baselines for points in drawn[:number]])
        for baseline in range(num_baselines):
            steps = places_of(alphas[baselines == baseline]).sort().values.diff()
            torch.testing.assert_close(steps, torch.full_like(steps, num_baselines / len(alphas)))


def test_a_lattice_is_even_over_all_paths_together_and_in_each_quarter():
    points = lattice().draw(64)
    places = places_of(points.alphas)
    assert sorted((places * 64).long().tolist()) == list(range(64))
    for quarter in range(4):
        part = slice(16 * quarter, 16 * quarter + 16)
        assert sorted(points.baselines[part].tolist()) == list(range(16))
        assert sorted((places[part] * 16).long().tolist()) == list(range(16))


@pytest.mark.parametrize(("num_baselines", "count"), [(9, 64), (5, 44), (12, 48)])
def test_baselines_of_a_lattice_differ_by_four_draws_at_most_also_after_doubling(num_baselines, count):
    sampler = lattice(num_baselines, first_draws=count)
    points = [sampler.draw(count), sampler.draw(count)]
    for quarter in points[0].baselines.split(count // 4):
        each = torch.bincount(quarter, minlength=num_baselines)
        assert set(each.tolist()) <= {count // 4 // num_baselines, count // 4 // num_baselines + 1}
    places = torch.cat([places_of(one.alphas) for one in points])
    baselines = torch.cat([one.baselines for one in points])
    for baseline in range(num_baselines):
        steps = places[baselines == baseline].sort().values.diff()
        torch.testing.assert_close(steps, torch.full_like(steps, 1 / (len(steps) + 1)))


def test_the_halves_of_a_lattice_are_lattices_too():
    points = lattice().draw(64)
    for half in (slice(0, 32), slice(32, 64)):
        places, baselines = places_of(points.alphas[half]), points.baselines[half]
        for baseline in range(16):
            first, second = places[baselines == baseline].sort().values
            assert second - first == pytest.approx(0.5)


@pytest.mark.parametrize(("num_baselines", "count"), [(1, 4), (3, 24), (16, 64), (9, 64), (5, 44)])
def test_every_baseline_of_a_lattice_weighs_the_same(num_baselines, count):
    sampler = lattice(num_baselines, first_draws=count)
    for _ in range(2):
        points = sampler.draw(count)
        shares = torch.zeros(num_baselines, dtype=torch.float64).index_add(
            0, points.baselines, points.weights
        )
        torch.testing.assert_close(shares, torch.full_like(shares, 1 / num_baselines))


def test_the_error_of_a_lattice_falls_by_four_or_more_where_draws_double():
    def error(count):
        found = torch.tensor(
            [
                float((points.weights * points.alphas.mul(3).exp()).sum())
                for points in (lattice(1, seed, count).draw(count) for seed in range(200))
            ]
        )
        exact = (math.exp(3) - 1) / 3
        assert abs(found.mean().item() - exact) < found.std().item()
        return (found - exact).square().mean().sqrt().item()

    errors = [error(count) for count in (4, 8, 16, 32)]
    assert all(few > 3.9 * many for few, many in pairwise(errors))
