"""Saliency, input x gradient and SmoothGrad against closed forms and autograd."""

from __future__ import annotations

import torch
from single_call import attribute

from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.saliency import input_x_gradient, saliency, smooth_grad
from wavshap_lightning.attribution.targets import Target

TARGET = Target("log_odds", (0, 2))


def elements_of(found):
    return found.views["elements"].values


def gradient_of(network, positions, column=0):
    positions = positions.clone().requires_grad_()
    return torch.autograd.grad(TARGET(network(positions))[:, column].sum(), positions)[0].double()


def test_saliency_is_the_gradient(network, frames):
    found = attribute(saliency, network, frames, TARGET)
    for column in range(2):
        torch.testing.assert_close(elements_of(found)[column], gradient_of(network, frames[None], column)[0])
    assert (found.num_draws, found.seed) == (1, None)


def test_input_x_gradient_is_what_it_says(network, frames):
    expected = frames * elements_of(attribute(saliency, network, frames, TARGET))
    torch.testing.assert_close(
        elements_of(attribute(input_x_gradient, network, frames, TARGET)), expected, rtol=1e-6, atol=1e-8
    )


def test_input_x_gradient_is_exact_for_a_linear_score(linear, linear_weights, frames):
    found = elements_of(attribute(input_x_gradient, linear, frames, Target("logit", (0,))))
    torch.testing.assert_close(found[0].float(), frames * linear_weights[..., 0])


def test_smooth_grad_is_the_mean_gradient_around_the_input(network, frames, generator):
    std = 0.15 * float(frames.max() - frames.min())
    cloud = frames + std * torch.randn(20_000, *frames.shape, generator=generator)
    gradients = gradient_of(network, cloud)
    found = attribute(
        smooth_grad,
        network,
        frames,
        TARGET,
        generator=0,
        stopping=Stopping(num_draws=2048),
    ).views["elements"]
    error = (found.stderr[0].square() + gradients.var(0) / len(gradients)).sqrt()
    assert ((found.values[0] - gradients.mean(0)).abs() <= 4 * error).all()


def test_smooth_grad_of_a_linear_score_is_its_weights(linear, linear_weights, frames):
    found = attribute(
        smooth_grad, linear, frames, Target("logit", (3,)), generator=0, stopping=Stopping(num_draws=3)
    )
    torch.testing.assert_close(elements_of(found)[0].float(), linear_weights[..., 3])
    assert not found.views["elements"].stderr.any()
