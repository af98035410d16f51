"""Integrated gradients, saliency, input x gradient and SmoothGrad against closed forms and Captum."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.attribution.baselines import BaselineSet
from wavshap_lightning.attribution.estimation.stopping import Stopping
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.saliency import input_x_gradient, saliency, smooth_grad
from wavshap_lightning.attribution.targets import Target, every_class

TARGET = Target("log_odds", (0, 2))


def elements_of(found):
    return found.views["elements"].values


def gradient_of(network, positions, column=0):
    positions = positions.clone().requires_grad_()
    return torch.autograd.grad(TARGET(network(positions))[:, column].sum(), positions)[0].double()


def test_integrated_gradients_of_a_cubic_need_two_nodes(generator):
    """`sum w x^3` from baseline 0: exactly `w x^3`."""
    weights = torch.randn(6, generator=generator, dtype=torch.float64)
    x = torch.randn(6, generator=generator, dtype=torch.float64)

    def score(inputs):
        return torch.stack([(weights * inputs**3).sum(1), inputs[:, 0]], 1)

    found = integrated_gradients(score, x, BaselineSet(torch.zeros(1, 6)), Target("logit", (0,)), num_nodes=2)
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
    found = integrated_gradients(network, frames, declared, TARGET, num_nodes=64)
    torch.testing.assert_close(elements_of(found)[0].float(), theirs.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [None, 3])
def test_integrated_gradients_are_complete_without_a_correction(chunk, network, frames, declared, by_frame):
    found = integrated_gradients(network, frames, declared, every_class(4), num_nodes=64, options=by_frame)
    assert max(found.relative_gap) < 1e-4
    expected = torch.tensor(found.score) - torch.tensor(found.mean_baseline_score)
    torch.testing.assert_close(found.sums("frames").float(), expected, rtol=1e-3, atol=1e-4)
    assert found.num_draws == 64 * 16


def test_too_few_nodes_show_in_the_gap_and_nothing_hides_it(network, frames, declared):
    found = integrated_gradients(network, frames, declared, TARGET, num_nodes=1)
    difference = found.score[0] - found.mean_baseline_score[0]
    assert abs(found.gap[0]) > 1e-3
    assert found.sums("elements")[0].item() == pytest.approx(difference + found.gap[0], abs=1e-5)


def test_saliency_is_the_gradient(network, frames):
    found = saliency(network, frames, TARGET)
    for column in range(2):
        torch.testing.assert_close(elements_of(found)[column], gradient_of(network, frames[None], column)[0])
    assert (found.num_draws, found.seed) == (1, None)


def test_input_x_gradient_is_what_it_says(network, frames):
    expected = frames * elements_of(saliency(network, frames, TARGET))
    torch.testing.assert_close(
        elements_of(input_x_gradient(network, frames, TARGET)), expected, rtol=1e-6, atol=1e-8
    )


def test_input_x_gradient_is_exact_for_a_linear_score(linear, linear_weights, frames):
    found = elements_of(input_x_gradient(linear, frames, Target("logit", (0,))))
    torch.testing.assert_close(found[0].float(), frames * linear_weights[..., 0])


def test_smooth_grad_is_the_mean_gradient_around_the_input(network, frames, generator):
    std = 0.2 * float(frames.max() - frames.min())
    cloud = frames + std * torch.randn(20_000, *frames.shape, generator=generator)
    gradients = gradient_of(network, cloud)
    found = smooth_grad(
        network, frames, TARGET, generator=0, relative_noise=0.2, stopping=Stopping(num_draws=2048)
    ).views["elements"]
    error = (found.stderr[0].square() + gradients.var(0) / len(gradients)).sqrt()
    assert ((found.values[0] - gradients.mean(0)).abs() <= 4 * error).all()


def test_smooth_grad_of_a_linear_score_is_its_weights(linear, linear_weights, frames):
    found = smooth_grad(linear, frames, Target("logit", (3,)), generator=0, stopping=Stopping(num_draws=3))
    torch.testing.assert_close(elements_of(found)[0].float(), linear_weights[..., 3])
    assert not found.views["elements"].stderr.any()
