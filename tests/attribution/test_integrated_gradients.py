"""Integrated gradients against closed forms and Captum; the quadrature they use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from single_call import attribute

from wavshap_lightning.attribution.baselines import BaselineSet
from wavshap_lightning.attribution.integrated_gradients import gauss_legendre, integrated_gradients
from wavshap_lightning.attribution.targets import Target, every_class

TARGET = Target("log_odds", (0, 2))


def elements_of(found):
    return found.views["elements"].values


def test_integrated_gradients_of_a_cubic_need_two_nodes(generator):
    """`sum w x^3` from baseline 0: exactly `w x^3`."""
    weights = torch.randn(6, generator=generator, dtype=torch.float64)
    x = torch.randn(6, generator=generator, dtype=torch.float64)

    def score(inputs):
        return torch.stack([(weights * inputs**3).sum(1), inputs[:, 0]], 1)

    found = attribute(
        integrated_gradients, score, x, Target("logit", (0,)), BaselineSet(torch.zeros(1, 6)), num_nodes=2
    )
    torch.testing.assert_close(elements_of(found)[0], weights * x**3)
    assert abs(found.gap[0]) < 1e-12


def test_integrated_gradients_meet_captum(network, frames, declared):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    method = attr.IntegratedGradients(lambda inputs: TARGET(network(inputs))[:, 0])
    theirs = torch.stack(
        [
            method.attribute(frames[None], baseline[None], n_steps=64, method="gausslegendre")[0]
            for baseline in declared.values
        ]
    ).mean(0)
    found = attribute(integrated_gradients, network, frames, TARGET, declared, num_nodes=64)
    torch.testing.assert_close(elements_of(found)[0].float(), theirs.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [None, 3])
def test_integrated_gradients_are_complete_without_a_correction(chunk, network, frames, declared, by_frame):
    found = attribute(
        integrated_gradients, network, frames, every_class(4), declared, num_nodes=64, **by_frame
    )
    assert max(found.relative_gap) < 1e-4
    expected = torch.tensor(found.score) - torch.tensor(found.mean_baseline_score)
    torch.testing.assert_close(found.sums("frames").float(), expected, rtol=1e-3, atol=1e-4)
    assert found.num_draws == 64 * 16


def test_too_few_nodes_show_in_the_gap_and_nothing_hides_it(network, frames, declared):
    found = attribute(integrated_gradients, network, frames, TARGET, declared, num_nodes=1)
    difference = found.score[0] - found.mean_baseline_score[0]
    assert abs(found.gap[0]) > 1e-3
    assert found.sums("elements")[0].item() == pytest.approx(difference + found.gap[0], abs=1e-5)


# Quadrature


@pytest.mark.parametrize("num_nodes", [1, 2, 5, 50])
def test_gauss_legendre_is_exact_for_polynomials(num_nodes):
    points = gauss_legendre(num_nodes)
    for degree in range(2 * num_nodes):
        integral = (points.weights * points.alphas**degree).sum().item()
        assert integral == pytest.approx(1 / (degree + 1), rel=1e-10)


@pytest.mark.parametrize("decibels", [False, True])
def test_weights_of_quadrature_sum_to_one_over_all_baselines(decibels):
    points = gauss_legendre(7, 3, decibels=decibels)
    assert points.weights.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert torch.bincount(points.baselines).tolist() == [7, 7, 7]


def test_decibels_integrate_over_many_orders_of_magnitude():
    """The integral of 1 / (alpha + 1e-4) is its logarithm; on a linear path 40 nodes miss a part of it."""
    exact = np.log1p(1e4)
    for decibels, error in ((True, 1e-3), (False, 1.0)):
        points = gauss_legendre(40, decibels=decibels)
        found = (points.weights / (points.alphas + 1e-4)).sum().item()
        assert (abs(found - exact) < 1e-3) == (error == 1e-3)
