"""Views of a layer stack are sums of its elements, without the elements."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from single_call import attribute

from wavshap_lightning.attribution.baselines import BaselineDistribution
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.saliency import saliency
from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.attribution.views.frames import summed
from wavshap_lightning.attribution.views.layers import layer_detail, layer_frame, layer_mix, layer_neuron
from wavshap_lightning.errors import AttributionError

SHAPE = (5, 12, 3)
WEIGHTS = torch.tensor([0.1, 0.3, 0.05, 0.35, 0.2])
VIEWS = (layer_frame(WEIGHTS), layer_neuron(WEIGHTS), layer_detail(WEIGHTS, 3))
SUMS = (summed(2, name="layer_frame", smooth_variance=True), summed(1, name="layer_neuron"))


def _stream(generator):
    while True:
        yield torch.randn(SHAPE, generator=generator)


DISTRIBUTION = BaselineDistribution(_stream)


@pytest.fixture
def layers():
    return next(_stream(torch.Generator().manual_seed(7)))


@pytest.fixture(params=["declared", "distribution"])
def baselines(request):
    return DISTRIBUTION if request.param == "distribution" else DISTRIBUTION.declare(6, torch.Generator())


def mixed(network):
    """The score as one function, whose gradients are those of the layers."""
    return lambda stacks: network(torch.einsum("l,dlth->dth", WEIGHTS, stacks))


def explain(network, layers, baselines, target, views, **settings):
    score = layer_mix(WEIGHTS, network)
    return attribute(gradient_shap, score, layers, target, baselines, generator=0, views=views, **settings)


@pytest.mark.parametrize("chunk_size", [1, 7, 64])
def test_they_are_sums_of_the_elements(chunk_size, network, layers, baselines):
    target = every_class(4)
    fast = explain(network, layers, baselines, target, VIEWS, chunk_size=chunk_size).views
    plain = attribute(gradient_shap, mixed(network), layers, target, baselines, generator=0, views=SUMS).views
    for name in ("layer_frame", "layer_neuron"):
        assert fast[name].values.shape == plain[name].values.shape
        torch.testing.assert_close(fast[name].values, plain[name].values, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(fast[name].stderr, plain[name].stderr, rtol=1e-4, atol=1e-6)


def test_one_layer_in_full_is_that_layer_of_the_elements(network, layers):
    """By quadrature: a part's share in the gap is another guess than the whole's, up to its error."""
    declared = DISTRIBUTION.declare(6, torch.Generator())
    found = partial(attribute, integrated_gradients, target=every_class(4), baselines=declared, num_nodes=4)
    layer = found(layer_mix(WEIGHTS, network), layers, views=VIEWS[2:]).views["layer_3"]
    whole = found(mixed(network), layers).views["elements"]
    torch.testing.assert_close(layer.values, whole.values[:, 3], rtol=1e-5, atol=1e-7)


def test_all_classes_at_once_are_each_class_alone(network, layers, baselines):
    together = explain(network, layers, baselines, every_class(4), VIEWS)
    for index in range(4):
        alone = explain(network, layers, baselines, Target("log_odds", (index,)), VIEWS)
        for name, view in alone.views.items():
            torch.testing.assert_close(
                together.views[name].values[index], view.values[0], rtol=1e-4, atol=1e-6
            )


def test_they_share_one_total(network, layers, baselines):
    found = explain(network, layers, baselines, every_class(4), VIEWS)
    torch.testing.assert_close(found.sums("layer_frame"), found.sums("layer_neuron"), rtol=1e-6, atol=1e-6)
    expected = torch.tensor(found.score) - torch.tensor(found.mean_baseline_score)
    torch.testing.assert_close(found.sums("layer_frame").float(), expected, rtol=1e-5, atol=1e-5)


def test_a_layer_without_weight_is_given_nothing(network, layers, baselines):
    weights = WEIGHTS * torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0])
    score = layer_mix(weights, network)
    views = (layer_neuron(weights),)
    found = attribute(gradient_shap, score, layers, every_class(4), baselines, generator=0, views=views)
    assert not found.views["layer_neuron"].values[:, 1].any()


@pytest.mark.parametrize("layer", [-1, 5])
def test_a_layer_that_is_not_there(layer):
    with pytest.raises(AttributionError, match=f"layer={layer} must lie between 0 and 4"):
        layer_detail(WEIGHTS, layer)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_stack_without_its_mix(view, network, layers):
    with pytest.raises(AttributionError, match="use score=layer_mix"):
        attribute(saliency, mixed(network), layers, Target("logit", (0,)), views=(view,))


def test_another_number_of_weights(network, layers):
    score, views = layer_mix(WEIGHTS, network), (layer_frame(WEIGHTS[:4]),)
    with pytest.raises(AttributionError, match=r"input: shape \(5, 12, 3\) must be \(4, 12, 3\)"):
        attribute(saliency, score, layers, Target("logit", (0,)), views=views)
