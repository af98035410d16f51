"""Nothing of the model, the modes or the random states is as it was not before."""

from __future__ import annotations

import random
import warnings
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from single_call import attribute
from torch import nn

from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.no_trace import _modules_of, leave_no_trace
from wavshap_lightning.attribution.saliency import smooth_grad
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.errors import AttributionError

TARGET = Target("log_odds", (1,))


class Model(nn.Module):
    """Dropout and batch norm, a frozen weight, and gradients that wait for the next step."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(5, 3)

    def forward(self, inputs):
        return self.last(self.dropout(self.norm(torch.tanh(self.first(inputs)))))

    def logits(self, inputs):
        return self(inputs)


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Model()
        model.first.bias.requires_grad_(False)
        model(torch.randn(4, 6)).sum().backward()
    model.eval()
    model.dropout.train()  # the flags differ from module to module
    return model


def state_of(model):
    return {
        "flags": [module.training for module in model.modules()],
        "required": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "gradient_objects": [id(p.grad) for p in model.parameters()],
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "hooks": [
            len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
            for m in model.modules()
        ],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def assert_same(before, after):
    for name, value in before.items():
        if isinstance(value, list) and any(isinstance(entry, torch.Tensor) for entry in value):
            assert all(
                (a is b is None) or torch.equal(a, b) for a, b in zip(value, after[name], strict=True)
            ), name
        elif isinstance(value, dict):
            assert all(torch.equal(value[key], after[name][key]) for key in value), name
        elif isinstance(value, torch.Tensor | np.ndarray):
            assert (value == after[name]).all(), name
        else:
            assert value == after[name], name


def meddling(model):
    """A score that does what it should not."""

    def score(inputs):
        torch.rand(3), np.random.rand(3), random.random()
        if inputs.requires_grad:
            inner = model(inputs.detach())
            if inner.requires_grad:
                inner.sum().backward()
        return model(inputs)

    return score


def _flags_inside(score):
    """Training flags and required gradients of all modules behind a callable, while it is looked at."""
    with leave_no_trace(score):
        modules = _modules_of(score)
        return {module.training for module in modules} | {
            p.requires_grad for m in modules for p in m.parameters()
        }


class Holder:
    """A score that is an object with a model."""

    def __init__(self, model):
        self.model = model

    def __call__(self, inputs):
        return self.model(inputs)


MODES = {"plain": nullcontext, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make_score", [lambda model: model, lambda model: model.logits, meddling])
@pytest.mark.filterwarnings("ignore:the model was in training mode")
def test_everything_is_as_before(mode, make_score, model, set_of):
    score, baselines = make_score(model), set_of(torch.zeros(6), torch.ones(6))
    with MODES[mode]():
        before = state_of(model)
        found = attribute(gradient_shap, score, torch.arange(6.0), TARGET, baselines, generator=0)
        attribute(smooth_grad, score, torch.arange(6.0), TARGET, generator=0)
        assert_same(before, state_of(model))
    assert found.views["elements"].values.any()


def test_pythons_own_random_state_is_kept_too():
    with leave_no_trace():
        before = random.getstate()
        random.random()
    assert random.getstate() == before


@pytest.mark.filterwarnings("ignore:the model was in training mode")
def test_everything_is_as_before_when_the_call_raises(model, set_of):
    calls = []

    def failing(inputs):
        torch.rand(2)
        calls.append(None)
        if len(calls) > 3:
            raise RuntimeError("the disk is on fire")
        return model(inputs)

    before = state_of(model)
    with pytest.raises(RuntimeError, match="on fire"):
        attribute(gradient_shap, failing, torch.arange(6.0), TARGET, set_of(torch.zeros(6)), generator=0)
    assert_same(before, state_of(model))


def test_a_model_made_in_inference_mode_is_refused_and_left_alone():
    with torch.inference_mode():
        model = nn.Linear(6, 3).eval()
    with (
        pytest.raises(AttributionError, match=r"made inside torch.inference_mode\(\)"),
        leave_no_trace(model),
    ):
        raise NotImplementedError
    assert model.weight.requires_grad


def test_the_result_is_the_same_in_every_mode(model, set_of):
    model.eval()
    baselines = set_of(torch.zeros(6))
    with torch.inference_mode():
        made_inside = torch.arange(6.0)
        inside = attribute(gradient_shap, model, made_inside, TARGET, baselines, generator=0)
    outside = attribute(gradient_shap, model, torch.arange(6.0), TARGET, baselines, generator=0)
    assert torch.equal(inside.views["elements"].values, outside.views["elements"].values)


def test_baselines_encoded_in_inference_mode_can_be_used(model, set_of):
    model.eval()
    with torch.inference_mode():
        baselines = set_of(torch.zeros(6)).through(lambda values: values + 0.5)
    found = attribute(gradient_shap, model, torch.arange(6.0), TARGET, baselines, generator=0)
    assert found.relative_gap[0] < 0.05


@pytest.mark.parametrize(
    "hide",
    [
        lambda model: model,
        lambda model: model.logits,
        lambda model: partial(torch.nn.functional.linear, model),
        lambda model: lambda inputs: model(inputs) + 1.0,
        lambda model: lambda inputs, inner=model: inner(inputs),
        lambda model: lambda inputs, *, inner=model: inner(inputs),
        lambda model: partial(lambda inputs: model(inputs) + 1.0),
        Holder,
    ],
    ids=["module", "method", "partial", "closure", "default", "keyword default", "nested", "attribute"],
)
def test_modules_are_found_behind_callables(hide, model):
    with pytest.warns(UserWarning, match=r"the model was in training mode \(Dropout.training=True\)"):
        flags = _flags_inside(hide(model))
    assert model.dropout.training
    assert flags == {False}


def test_a_model_in_training_mode_is_explained_in_evaluation_mode(model, set_of):
    baselines = set_of(torch.zeros(6))
    with pytest.warns(UserWarning, match="was in training mode"):
        found = attribute(gradient_shap, model, torch.arange(6.0), TARGET, baselines, generator=0)
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = attribute(gradient_shap, model, torch.arange(6.0), TARGET, baselines, generator=0)
    assert torch.equal(found.views["elements"].values, expected.views["elements"].values)


def test_training_mode_that_cannot_be_seen_is_noticed_by_what_it_does(model, set_of):
    class Hidden:
        def __init__(self):
            self.models = [model.train()]

        def __call__(self, inputs):
            (model,) = self.models
            return model.last(model.dropout(model.first(inputs)))

    complaint = r"values that differ by .* put the model into evaluation mode"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # once in thirty times dropout leaves out the same units twice
        with pytest.raises(AttributionError, match=complaint):
            attribute(gradient_shap, Hidden(), torch.arange(6.0), TARGET, set_of(torch.zeros(6)), generator=0)


def test_gradients_waiting_for_the_next_step_are_neither_added_to_nor_wiped(model, set_of):
    model.eval()
    waiting = [parameter.grad for parameter in model.parameters()]
    attribute(gradient_shap, model, torch.arange(6.0), TARGET, set_of(torch.zeros(6)), generator=0)
    assert all(now.grad is before for now, before in zip(model.parameters(), waiting, strict=True))
    assert any(gradient is not None for gradient in waiting)
