"""A declared linear first step of the score changes no attribution."""

from __future__ import annotations

import pytest
import torch
from single_call import attribute
from torch import nn

from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.estimation.problem import LinearFirst
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.saliency import saliency
from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.attribution.views.frames import View, summed
from wavshap_lightning.attribution.views.layers import layer_frame, layer_mix, layer_neuron
from wavshap_lightning.errors import AttributionError

TARGET = every_class(4)
WEIGHTS = torch.tensor([0.1, 0.3, 0.05, 0.35, 0.2], dtype=torch.float64)


def mix(layers):
    return torch.einsum("l,dlth->dth", WEIGHTS.to(layers), layers)


INSIDE = View("inside", lambda gradients, directions: gradients.sum(2))
VIEWS = (summed(2, name="layer_frame", smooth_variance=True), summed(1, name="layer_neuron"))
AFTER = (layer_frame(WEIGHTS), layer_neuron(WEIGHTS))


@pytest.fixture(scope="module")
def score(network):
    import copy

    return copy.deepcopy(network).double()


def test_a_declared_linear_step_changes_nothing(method, score, layers):
    inside = method(lambda x: score(mix(x)), layers, views=VIEWS)
    outside = method(LinearFirst(mix, score), layers, views=AFTER)
    for name, view in inside.views.items():
        for number in ("values", "stderr"):
            one, other = getattr(view, number), getattr(outside.views[name], number)
            if one is not None:
                torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)
    for number in ("score", "gap", "mean_baseline_score", "baseline_score_std"):
        one, other = getattr(inside, number), getattr(outside, number)
        assert (one is None) == (other is None)
        assert one is None or other == pytest.approx(one, rel=1e-10, abs=1e-10)
    assert outside.prediction == inside.prediction


@pytest.mark.usefixtures("global_seed")
def test_it_meets_captum_on_the_composition(score, layers, declared_stacks):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    target = Target("log_odds", (2,))
    method = attr.GradientShap(lambda x: target(score(mix(x)))[:, 0])
    draws = [
        method.attribute(layers[None], declared_stacks.values, n_samples=500)[0].detach() for _ in range(20)
    ]
    runs = torch.stack(draws).sum(-1)
    found = attribute(
        gradient_shap,
        LinearFirst(mix, score),
        layers,
        target,
        declared_stacks,
        generator=0,
        stopping=Stopping(num_draws=512),
        views=AFTER[:1],
    ).views["layer_frame"]
    error = (found.stderr[0].square() + runs.var(0) / len(runs)).sqrt()
    assert ((found.values[0] - runs.mean(0)).abs() <= 4 * error).all()
    assert ((found.values[0] - runs.mean(0)).abs() <= 3 * error).double().mean() > 0.97


def test_a_declared_set_goes_through_the_step_once(score, layers, declared_stacks):
    seen = []

    def counted(values):
        seen.append(len(values))
        return mix(values)

    whole = LinearFirst(counted, score)
    attribute(gradient_shap, whole, layers, TARGET, declared_stacks, generator=0, views=(INSIDE,))
    assert sum(seen) == len(declared_stacks) + 3  # the input, and the two parts that check the step


def test_a_view_of_the_elements_asks_for_a_score_without_the_step(score, layers):
    with pytest.raises(AttributionError, match="view='elements' takes no linear first step"):
        attribute(saliency, LinearFirst(mix, score), layers, TARGET)


@pytest.mark.parametrize("apply", [lambda x: mix(x) + 0.5, lambda x: mix(x).relu()], ids=["offset", "relu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_that_is_not_linear_is_refused(apply, dtype, network, layers):
    with pytest.raises(
        AttributionError, match=r"linear step: apply\(x\) - apply\(d\) - apply\(x - d\) is .*, not 0"
    ):
        attribute(saliency, LinearFirst(apply, network.to(dtype)), layers.to(dtype), TARGET)
    network.float()


def test_a_step_that_loses_the_first_axis_is_refused(score, layers):
    with pytest.raises(AttributionError, match=r"apply: \(1, 5, 12, 3\) became \(12, 3\)"):
        attribute(saliency, LinearFirst(lambda layers: mix(layers)[0], score), layers, TARGET)


def test_weights_that_ask_for_a_gradient_leave_no_graph_behind(score, layers, declared_stacks):
    weights = WEIGHTS.clone().requires_grad_()
    whole = LinearFirst(lambda x: torch.einsum("l,dlth->dth", weights, x), score)
    view = layer_frame(weights)
    found = attribute(gradient_shap, whole, layers, TARGET, declared_stacks, generator=0, views=(view,))
    assert not found.views["layer_frame"].values.requires_grad
    assert weights.grad is None


def test_modules_behind_the_step_are_seen_and_put_back(layers):
    with torch.random.fork_rng(devices=[]):
        rest = nn.Sequential(nn.Flatten(), nn.Linear(36, 4)).double()
    with pytest.warns(UserWarning, match="the model was in training mode"):
        attribute(saliency, layer_mix(WEIGHTS, rest), layers, TARGET, views=AFTER)
    assert all(module.training for module in rest.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in rest.parameters())
