"""A score that says it is pooled is given what it is given without saying so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wavshap_lightning.attribution.estimation.method import Options
from wavshap_lightning.attribution.estimation.problem import PooledScore, pool, totals, unpool
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.saliency import saliency
from wavshap_lightning.attribution.targets import every_class
from wavshap_lightning.attribution.views.frames import elements, summed
from wavshap_lightning.attribution.views.layers import layer_detail, layer_frame, layer_mix, layer_neuron
from wavshap_lightning.errors import AttributionError

WEIGHTS = torch.tensor([0.1, 0.3, 0.05, 0.35, 0.2], dtype=torch.float64)
VIEWS = (layer_frame(WEIGHTS), layer_neuron(WEIGHTS), layer_detail(WEIGHTS, 3), elements())
TARGET = every_class(4)


class Tail(nn.Module):
    def __init__(self):
        super().__init__()
        self.classify = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, pooled):
        return 3 * self.classify(torch.cat([pooled[:, 0], (pooled[:, 1] + 1e-6).sqrt()], 1))


@pytest.fixture(scope="module")
def tail():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Tail().double().eval()


@pytest.mark.parametrize("at_once", [False, True])
def test_saying_so_changes_nothing(method, at_once, tail, layers):
    pooled = PooledScore(tail)
    options = Options(views=VIEWS, chunk_size=10, first=layer_mix(WEIGHTS), targets_at_once=at_once)
    plain, fast = method(pooled.__call__, layers, options=options), method(pooled, layers, options=options)
    for name, view in plain.views.items():
        torch.testing.assert_close(fast.views[name].values, view.values, rtol=1e-9, atol=1e-11)
        if view.stderr is not None:
            torch.testing.assert_close(fast.views[name].stderr, view.stderr, rtol=1e-7, atol=1e-10)
    assert fast.score == plain.score
    if plain.gap is not None:
        assert fast.gap == pytest.approx(plain.gap, abs=1e-12)


def test_it_needs_no_first_step(tail, layers, declared_stacks):
    pooled, frames = PooledScore(tail), layers[0]
    baselines = declared_stacks.through(lambda values: values[:, 0])
    options = Options(views=(summed(1, name="frames"), elements()))
    plain, fast = (
        gradient_shap(score, frames, baselines, TARGET, generator=0, options=options)
        for score in (pooled.__call__, pooled)
    )
    for name, view in plain.views.items():
        torch.testing.assert_close(fast.views[name].values, view.values, rtol=1e-9, atol=1e-11)


def test_gradients_are_those_of_autograd(tail, layers):
    frames = layers[:3].requires_grad_()
    of_pooled = torch.randn(3, 2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = unpool(frames.detach(), of_pooled)
    for target in range(2):
        (expected,) = torch.autograd.grad((pool(frames) * of_pooled[:, target]).sum(), frames)
        torch.testing.assert_close(found.dense()[:, target], expected)
    directions = torch.randn(frames.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(totals(found, directions), totals(found.dense(), directions))


def test_its_modules_are_seen_and_put_back(tail, layers):
    tail.train()
    try:
        with pytest.warns(UserWarning, match="the model was in training mode"):
            saliency(PooledScore(tail), layers, TARGET, options=Options(first=layer_mix(WEIGHTS)))
        assert all(module.training for module in tail.modules())
        assert all(parameter.requires_grad and parameter.grad is None for parameter in tail.parameters())
    finally:
        tail.eval()


def test_a_gradient_that_is_not_finite_is_named(layers):
    score = PooledScore(lambda pooled: pooled[:, 0] + (0.0 * pooled[:, 1]).sqrt())
    with pytest.raises(AttributionError, match=r"draw=0 \(at the input\): the gradient is not finite"):
        saliency(score, layers, every_class(3), options=Options(first=layer_mix(WEIGHTS)))
