"""Occlusion, Shapley values, Kernel SHAP and LIME over spans: laws, closed forms, and other libraries."""

from __future__ import annotations

import warnings
from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats
from single_call import attribute
from sklearn.linear_model import Ridge

from wavshap_lightning.attribution.baselines import BaselineSet
from wavshap_lightning.attribution.shapley.perturbation import closeness, fit_ridge, lime, occlusion
from wavshap_lightning.attribution.shapley.players import Players, equal_spans
from wavshap_lightning.attribution.shapley.shapley import draw_coalitions, kernel_shap, shapley
from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.errors import AttributionError

TARGET = Target("log_odds", (0, 2))
FOUR = equal_spans(12, 4)
FITTED = {"generator": 0, "num_coalitions": 64}
METHODS = {
    "occlusion": partial(attribute, occlusion),
    "shapley": partial(attribute, shapley),
    "kernel_shap": partial(attribute, kernel_shap, **FITTED),
    "lime": partial(attribute, lime, **FITTED),
}


def spans_of(found):
    return found.views["spans"].values


def value(network, frames, declared, players, present):
    """Of one coalition, written again."""
    kept = torch.tensor([owner in present for owner in players.owner.tolist()])[:, None]
    with torch.no_grad():
        return TARGET(network(torch.where(kept, frames, declared.values))).double().mean(0)


def test_shapley_values_are_the_mean_over_all_orders_of_arrival(network, frames, declared):
    expected, orders = torch.zeros(2, 4, dtype=torch.float64), list(permutations(range(4)))
    for order in orders:
        for place, player in enumerate(order):
            before, after = set(order[:place]), {*order[: place + 1]}
            gain = value(network, frames, declared, FOUR, after) - value(
                network, frames, declared, FOUR, before
            )
            expected[:, player] += gain / len(orders)
    found = attribute(shapley, network, frames, TARGET, declared, FOUR)
    torch.testing.assert_close(spans_of(found), expected, rtol=1e-4, atol=1e-6)
    assert found.num_draws == 16 * 16
    assert (found.seed, found.views["spans"].stderr) == (None, None)


def test_occlusion_is_what_is_lost_without_each(network, frames, declared):
    whole = value(network, frames, declared, FOUR, {0, 1, 2, 3})
    lost = [whole - value(network, frames, declared, FOUR, {0, 1, 2, 3} - {one}) for one in range(4)]
    found = attribute(occlusion, network, frames, TARGET, declared, FOUR)
    torch.testing.assert_close(spans_of(found), torch.stack(lost, 1), rtol=1e-4, atol=1e-6)
    assert found.gap is None


@pytest.mark.parametrize(("name", "theirs"), [("shapley", "ShapleyValues"), ("occlusion", "FeatureAblation")])
def test_captum_agrees(name, theirs, network, frames, set_of, global_seed):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    baseline = set_of(frames.flip(0) / 3)
    mask = FOUR.owner[None, :, None].repeat(1, 1, 3)
    method = getattr(attr, theirs)(lambda inputs: TARGET(network(inputs))[:, 0].contiguous())
    expected = method.attribute(frames[None].clone(), baseline.values, feature_mask=mask)[0, ::3, 0]
    found = spans_of(METHODS[name](network, frames, TARGET, baseline, FOUR))[0]
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-5)


def test_kernel_shap_over_all_coalitions_is_exact(network, frames, declared):
    exact = attribute(shapley, network, frames, TARGET, declared, FOUR)
    found = attribute(kernel_shap, network, frames, TARGET, declared, FOUR, generator=0, num_coalitions=14)
    torch.testing.assert_close(spans_of(found), spans_of(exact), rtol=1e-6, atol=1e-8)
    assert found.views["spans"].stderr is None
    assert found.seed is None


def test_kernel_shap_of_an_additive_score_is_exact_with_any_coalitions(linear, frames, declared):
    players, target = equal_spans(12, 12), Target("logit", (1,))
    exact = attribute(shapley, linear, frames, target, declared, players)
    found = attribute(kernel_shap, linear, frames, target, declared, players, generator=0, num_coalitions=64)
    torch.testing.assert_close(spans_of(found), spans_of(exact), rtol=1e-4, atol=1e-5)
    assert float(found.views["spans"].stderr.max()) < 1e-5


def test_kernel_shap_says_how_far_off_it_is(network, frames, declared):
    """About 95 of 100 intervals cover the exact value; the estimates are not far off on average."""
    few = BaselineSet(declared.values[:2])
    players = equal_spans(12, 6)
    exact = spans_of(attribute(shapley, network, frames, TARGET, few, players))
    inside = []
    for seed in range(40):
        found = attribute(
            kernel_shap, network, frames, TARGET, few, players, generator=seed, num_coalitions=60
        )
        view = found.views["spans"]
        inside.append((view.values - exact).abs() <= view.half_width())
        assert found.gap == pytest.approx((0.0, 0.0), abs=1e-9)
    assert 0.88 <= float(torch.stack(inside).double().mean()) <= 1


def test_kernel_shap_meets_the_library(network, frames, set_of):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("shap", reason="shap is not installed")
    baseline, players = set_of(frames.flip(0) / 3), equal_spans(12, 6)

    def ask(masks):
        kept = torch.from_numpy(masks).bool()
        with torch.no_grad():
            return TARGET(network(players.fill(kept, frames, baseline.values[0])))[:, 0].double().numpy()

    explainer = library.KernelExplainer(ask, np.zeros((1, 6)))
    expected = explainer.shap_values(np.ones((1, 6)), nsamples=62, l1_reg=False, silent=True)[0]
    found = attribute(kernel_shap, network, frames, TARGET, baseline, players, generator=0, num_coalitions=62)
    np.testing.assert_allclose(spans_of(found)[0], expected, rtol=1e-4, atol=1e-6)


def test_coalitions_come_in_pairs_and_by_the_kernel(generator):
    present = draw_coalitions(5, 20_000, generator)
    assert torch.equal(present[::2], ~present[1::2])
    sizes = torch.bincount(present.sum(1), minlength=6)[1:5].double()
    by_size = torch.tensor([1 / (size * (5 - size)) for size in range(1, 5)]).double()
    assert stats.chisquare(sizes / 2, by_size / by_size.sum() * sizes.sum() / 2).pvalue > 1e-3
    assert (present.double().mean(0) - 0.5).abs().max() < 0.01


def test_ridge_is_scikit_learns(generator):
    present = torch.rand(60, 5, generator=generator) < 0.5
    values = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    weights = closeness(present)
    expected = Ridge(alpha=1.0).fit(present.double().numpy(), values.numpy(), sample_weight=weights.numpy())
    np.testing.assert_allclose(fit_ridge(present, values, torch.zeros(2).double()), expected.coef_, rtol=1e-8)


def test_lime_meets_the_library(generator):
    base = pytest.importorskip("lime.lime_base", reason="lime is not installed")
    present = torch.rand(80, 5, generator=generator) < 0.5
    present[0] = True
    values = torch.randn(80, 1, generator=generator, dtype=torch.float64)
    distances = 1 - present.double().mean(1).sqrt().numpy()  # the cosine to the whole
    library = base.LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2)), random_state=0)
    theirs = library.explain_instance_with_data(
        present.double().numpy(), values.numpy(), distances, 0, 5, feature_selection="none"
    )[1]
    ours = fit_ridge(present, values, torch.zeros(1).double())[0]
    np.testing.assert_allclose([weight for _, weight in sorted(theirs)], ours, rtol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_an_additive_score_is_told_apart_by_all(name, linear, linear_weights, frames, declared):
    found = METHODS[name](linear, frames, Target("logit", (3,)), declared, FOUR)
    terms = ((frames - declared.values.mean(0)) * linear_weights[..., 3]).sum(1)
    expected = torch.stack([terms[FOUR.owner == player].sum() for player in range(4)]).double()
    got = spans_of(found)[0]
    if name == "lime":  # the ridge shrinks it
        assert torch.corrcoef(torch.stack([got, expected]))[0, 1] > 0.99
    else:
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_what_changes_nothing_gets_nothing_and_spans_share_their_value(name, network, frames, declared):
    same = BaselineSet(torch.cat([frames[:3].expand(16, 3, 3), declared.values[:, 3:]], 1))
    found = METHODS[name](network, frames, every_class(4), same, FOUR)
    spans, places = found.views["spans"].values, found.views["frames"].values
    tolerance = 0.5 * float(spans.abs().max()) if name == "lime" else 1e-4
    assert float(spans[:, 0].abs().max()) < tolerance
    torch.testing.assert_close(places.sum(1), spans.sum(1))
    torch.testing.assert_close(places[:, 3:6], spans[:, 1:2].expand(4, 3) / 3)


@pytest.mark.parametrize("name", ["shapley", "kernel_shap"])
def test_the_values_are_complete(name, network, frames, declared):
    found = METHODS[name](network, frames, TARGET, declared, equal_spans(12, 7))
    expected = torch.tensor(found.score) - torch.tensor(found.mean_baseline_score)
    torch.testing.assert_close(spans_of(found).sum(1).float(), expected)
    assert max(found.relative_gap) < 1e-6


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_values(name, network, frames, declared):
    chance = torch.get_rng_state()
    first, again = (METHODS[name](network, frames, TARGET, declared, FOUR) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), chance)
    assert torch.equal(spans_of(first), spans_of(again))
    assert first.method == name


def test_chunks_change_nothing_and_progress_is_told(network, frames, declared):
    told = []
    small = attribute(
        shapley,
        network,
        frames,
        TARGET,
        declared,
        FOUR,
        chunk_size=3,
        progress=lambda done, planned: told.append((done, planned)),
    )
    torch.testing.assert_close(
        spans_of(small),
        spans_of(attribute(shapley, network, frames, TARGET, declared, FOUR)),
        rtol=1e-4,
        atol=1e-6,
    )
    assert told[-1] == (256, 256)


def test_players_may_be_segments_and_own_nothing(network, frames, declared):
    owner = (torch.arange(12) >= 5).long()
    found = attribute(shapley, network, frames, TARGET, declared, Players(2 * owner, 3, "words"))
    assert found.views["words"].values[:, 1].abs().max() < 1e-6
    two = attribute(shapley, network, frames, TARGET, declared, Players(owner, 2))
    torch.testing.assert_close(found.views["words"].values[:, ::2], spans_of(two), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"players": equal_spans(12, 12), "which": "many"}, r"players.count=13 must be at most 12"),
        ({"players": equal_spans(11, 4)}, "players: 11 positions are given, but the input has 12"),
        ({"baselines": "distribution"}, r"use baselines.declare\(\)"),
        ({"baselines": "short"}, r"shape \(11, 3\), the input has \(12, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message, network, frames, declared, distribution):
    players = Players(torch.zeros(12).long(), 13) if "which" in change else change.get("players", FOUR)
    kinds = {"distribution": distribution, "short": BaselineSet(declared.values[:, :11])}
    with pytest.raises(AttributionError, match=message):
        attribute(shapley, network, frames, TARGET, kinds.get(change.get("baselines"), declared), players)


@pytest.mark.parametrize("method", [kernel_shap, lime])
@pytest.mark.parametrize("count", [30, 65])
def test_too_few_coalitions_are_refused(method, count, network, frames, declared):
    with pytest.raises(AttributionError, match=f"num_coalitions={count} must be even and at least 32"):
        attribute(
            method, network, frames, TARGET, declared, equal_spans(12, 7), generator=0, num_coalitions=count
        )


def test_players_that_are_none_are_refused():
    with pytest.raises(AttributionError, match="count=1 players"):
        Players(torch.tensor([0, 1]), 1)
    with pytest.raises(AttributionError, match="count=0"):
        equal_spans(3, 0)
