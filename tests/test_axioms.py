"""Every method on every kind of score: the axioms an attribution is held to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wavshap_lightning.attribution.baselines import BaselineDistribution, BaselineSet
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.method import Options
from wavshap_lightning.attribution.saliency import input_x_gradient, saliency, smooth_grad
from wavshap_lightning.attribution.stopping import Stopping
from wavshap_lightning.attribution.targets import Target

NUM_INPUTS, NUM_CLASSES = 6, 3
DUMMY = 4
"""An input no score looks at."""
TWINS = (1, 2)
"""Inputs every score treats alike, with equal values and equal baselines."""
LOGIT = Target("logit", (0,))


def _noise(generator):
    while True:
        drawn = torch.randn(NUM_INPUTS, generator=generator)
        drawn[TWINS[1]] = drawn[TWINS[0]]
        yield drawn


DISTRIBUTION = BaselineDistribution(_noise)
DECLARED = DISTRIBUTION.declare(8, torch.Generator().manual_seed(0))
CLOUD = Stopping(num_draws=64)

PATH_METHODS = {
    "declared": lambda score, x, target, **o: gradient_shap(score, x, DECLARED, target, generator=1, **o),
    "distribution": lambda score, x, target, **o: gradient_shap(
        score, x, DISTRIBUTION, target, generator=1, **o
    ),
    "integrated_gradients": lambda score, x, target, **o: integrated_gradients(
        score, x, DECLARED, target, **o
    ),
}
METHODS = {
    **PATH_METHODS,
    "saliency": saliency,
    "input_x_gradient": input_x_gradient,
    "smooth_grad": lambda score, x, target, **o: smooth_grad(
        score, x, target, generator=1, stopping=CLOUD, **o
    ),
}


def _weights(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _read(inputs):
    """What every score sees: without the dummy, and the twins only through symmetric numbers."""
    twins = inputs[:, TWINS[0]], inputs[:, TWINS[1]]
    return torch.stack(
        [inputs[:, 0], twins[0] + twins[1], twins[0] * twins[1], inputs[:, 3], inputs[:, 5]], 1
    )


def linear(inputs):
    return _read(inputs)[:, [0, 1, 3, 4]] @ _weights(1, 4, NUM_CLASSES)


def quadratic(inputs):
    seen = _read(inputs)
    return torch.einsum("di,ijc,dj->dc", seen, _weights(2, 5, 5, NUM_CLASSES), seen)


def perceptron(inputs):
    return torch.tanh(_read(inputs) @ _weights(3, 5, 8)) @ _weights(4, 8, NUM_CLASSES)


def rectifier(inputs):
    return nn.functional.relu(_read(inputs) @ _weights(5, 5, 16)) @ _weights(6, 16, NUM_CLASSES)


SCORES = {"linear": linear, "quadratic": quadratic, "perceptron": perceptron, "rectifier": rectifier}


@pytest.fixture
def x():
    drawn = _weights(9, NUM_INPUTS)
    drawn[TWINS[1]] = drawn[TWINS[0]]
    return drawn


@pytest.fixture(params=SCORES)
def score(request):
    return SCORES[request.param]


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


@pytest.fixture(params=PATH_METHODS)
def path_method(request):
    return PATH_METHODS[request.param]


def values_of(found):
    return found.views["elements"].values


def test_completeness(path_method, score, x):
    """The attributions sum to `f(x) - mean f(b)`."""
    found = path_method(score, x, LOGIT)
    difference = found.score[0] - found.mean_baseline_score[0]
    tolerance = 0.01 if score is rectifier else 1e-4  # quadrature meets kinks
    assert found.sums("elements").item() == pytest.approx(difference, rel=tolerance, abs=tolerance)


def test_linearity(method, x):
    """The attributions of `a f + g` are `a` times those of `f` plus those of `g`."""

    def both(inputs):
        return 2.5 * perceptron(inputs) + quadratic(inputs)

    whole, one, other = (method(score, x, LOGIT).views["elements"] for score in (both, perceptron, quadratic))
    difference = whole.values - (2.5 * one.values + other.values)
    # What is given back of the gap is a ratio of estimates: with it the sum holds up to the error stated.
    corrected = method in (PATH_METHODS["declared"], PATH_METHODS["distribution"])
    allowed = whole.stderr if corrected else torch.zeros(())
    assert (difference.abs() <= allowed + 1e-5).all()


def test_dummy(method, score, x):
    """An input that is never looked at is given nothing, not even a share of the gap."""
    assert values_of(method(score, x, LOGIT))[0, DUMMY] == 0


def test_symmetry(method, score, x):
    """Inputs that are treated alike are given the same; a cloud breaks the tie up to its error."""
    found = method(score, x, LOGIT).views["elements"]
    tolerance = 1e-5 if method is not METHODS["smooth_grad"] else 6 * float(found.stderr.max())
    one, other = found.values[0, list(TWINS)].tolist()
    assert one == pytest.approx(other, abs=tolerance + 1e-5)


def test_implementation_invariance(method, x):
    """Two ways to compute the same function are given the same."""

    def rewritten(inputs):
        doubled = (2 * _read(inputs)) @ (_weights(3, 5, 8) / 2)
        return (1 - 2 / (torch.exp(2 * doubled) + 1)) @ _weights(4, 8, NUM_CLASSES)

    one, other = (values_of(method(score, x, LOGIT)) for score in (perceptron, rewritten))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_batch_independence(method, score, x):
    """How many draws share a forward pass makes no difference."""
    one, other = (values_of(method(score, x, LOGIT, options=Options(chunk_size=size))) for size in (5, 64))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_same_seed_same_bytes(method, score, x):
    one, other = (values_of(method(score, x, LOGIT)) for _ in range(2))
    assert torch.equal(one, other)


def test_an_offset_of_the_score_changes_nothing(method, score, x):
    moved = values_of(method(lambda inputs: score(inputs) + 3.0, x, LOGIT))
    torch.testing.assert_close(moved, values_of(method(score, x, LOGIT)), rtol=1e-4, atol=1e-5)


def test_the_baseline_itself_is_given_nothing(score):
    """Where the input is the only baseline there is nothing to explain."""
    only = BaselineSet(DECLARED.values[:1])
    with pytest.warns(UserWarning, match="does not influence"):
        found = gradient_shap(score, only.values[0], only, LOGIT, generator=0)
    assert not values_of(found).any()
    assert found.gap == (0.0,)
