"""Every method on every kind of score: the axioms an attribution is held to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import pytest
import torch
from single_call import attribute
from torch import nn

from wavshap_lightning.attribution.baselines import BaselineDistribution, BaselineSet
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.saliency import input_x_gradient, saliency, smooth_grad
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.pretrained import PretrainedSpeechModel, build_tiny_model

NUM_CLASSES = 3
TWINS = (-3, -2)
"""Along the last axis: inputs every score treats alike, with equal values and equal baselines."""
DUMMY = -1
"""Likewise: an input no score looks at."""
LOGIT = Target("logit", (0,))


@dataclass(frozen=True)
class Case:
    """A score, the same function computed in another way, another function, and what they are asked about.

    Baselines are noise of a level. As many nodes for each of two baselines as there are draws meet the
    difference that they integrate up to a share of it, `quadrature`.
    """

    score: Callable
    rewritten: Callable
    other: Callable
    x: torch.Tensor
    level: float = 1.0
    num_draws: int = 64
    quadrature: float = 1e-4

    @property
    def distribution(self):
        return BaselineDistribution(partial(_noise, self.x.shape, self.level))

    @property
    def declared(self):
        return self.distribution.declare(8, torch.Generator().manual_seed(0))

    @property
    def stopping(self):
        return Stopping(num_draws=self.num_draws)


def _noise(shape, level, generator):
    while True:
        yield _with_twins(level * torch.randn(shape, generator=generator))


def _with_twins(drawn):
    drawn[..., TWINS[1]] = drawn[..., TWINS[0]]
    return drawn


def _weights(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Small scores of six numbers


def _read(inputs):
    """What every small score sees: all but the dummy, and the twins only through symmetric numbers."""
    twins = inputs[:, TWINS[0]], inputs[:, TWINS[1]]
    return torch.cat([inputs[:, :3], torch.stack([twins[0] + twins[1], twins[0] * twins[1]], 1)], 1)


def linear(inputs):
    return _read(inputs)[:, :4] @ _weights(1, 4, NUM_CLASSES)


def quadratic(inputs):
    seen = _read(inputs)
    return torch.einsum("di,ijc,dj->dc", seen, _weights(2, 5, 5, NUM_CLASSES), seen)


def perceptron(inputs):
    return torch.tanh(_read(inputs) @ _weights(3, 5, 8)) @ _weights(4, 8, NUM_CLASSES)


def rectifier(inputs):
    return nn.functional.relu(_read(inputs) @ _weights(5, 5, 16)) @ _weights(6, 16, NUM_CLASSES)


def rewritten_linear(inputs):
    return sum(_read(inputs)[:, [i]] * _weights(1, 4, NUM_CLASSES)[i] for i in range(4))


def rewritten_quadratic(inputs):
    seen = _read(inputs)
    return (seen[:, :, None] * seen[:, None]).flatten(1) @ _weights(2, 5, 5, NUM_CLASSES).flatten(0, 1)


def rewritten_perceptron(inputs):
    doubled = (2 * _read(inputs)) @ _weights(3, 5, 8)
    return (1 - 2 / (torch.exp(doubled) + 1)) @ _weights(4, 8, NUM_CLASSES)


def rewritten_rectifier(inputs):
    seen = _read(inputs) @ _weights(5, 5, 16)
    return ((seen + seen.abs()) / 2) @ _weights(6, 16, NUM_CLASSES)


# A small WavLM, explained at each of its three stages


@cache
def _classifier(seed):
    backbone = SpeechBackbone(PretrainedSpeechModel(build_tiny_model(seed), name="tiny", normalize=False))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return EmotionClassifier(backbone, ["angry", "happy", "sad"]).eval()


def _stages(classifier):
    head = classifier.head
    return {
        "waveform": classifier,
        "frames": lambda frames: head(classifier.encoder(frames)),
        "layers": head,
    }


def _extended(score, inputs):
    """The score of what stands before twins and dummy; the twins move all of it alike."""
    return score(inputs[..., :-3] + inputs[..., list(TWINS)].sum(-1, keepdim=True) / 4)


def _stage_case(stage):
    waveform = 0.1 * _weights(8, 1720)
    classifier = _classifier(0)
    with torch.no_grad():
        frames = classifier.frontend(waveform[None])
        core = {"waveform": waveform, "frames": frames[0], "layers": classifier.encoder(frames)[0]}[stage]
    level = float(core.std())
    x = _with_twins(torch.cat([core, level * _weights(9, *core.shape[:-1], 3)], -1))
    score, other = (partial(_extended, _stages(_classifier(seed))[stage]) for seed in (0, 1))
    return Case(
        score,
        lambda inputs: torch.cat([score(row[None]) for row in inputs]),
        other,
        x,
        level,
        num_draws=16,
        quadrature=0.02,
    )


@cache
def _case(name):
    if name not in SMALL:
        return _stage_case(name)
    kinks = name == "rectifier"
    x = _with_twins(_weights(9, 6))
    return Case(*SMALL[name], other=quadratic, x=x, quadrature=0.03 if kinks else 1e-4)


SMALL = {
    "linear": (linear, rewritten_linear),
    "quadratic": (quadratic, rewritten_quadratic),
    "perceptron": (perceptron, rewritten_perceptron),
    "rectifier": (rectifier, rewritten_rectifier),
}
CASES = (*SMALL, "waveform", "frames", "layers")


# Methods


def _declared(score, x, case, options):
    return attribute(
        gradient_shap, score, x, LOGIT, case.declared, generator=1, stopping=case.stopping, **options
    )


def _distribution(score, x, case, options):
    return attribute(
        gradient_shap, score, x, LOGIT, case.distribution, generator=1, stopping=case.stopping, **options
    )


def _integrated(score, x, case, options):
    few = BaselineSet(case.declared.values[:2])
    return attribute(integrated_gradients, score, x, LOGIT, few, num_nodes=case.num_draws, **options)


def _smooth(score, x, case, options):
    return attribute(smooth_grad, score, x, LOGIT, generator=1, stopping=case.stopping, **options)


PATH_METHODS = {"declared": _declared, "distribution": _distribution, "integrated_gradients": _integrated}
METHODS = {
    **PATH_METHODS,
    "saliency": lambda score, x, case, options: attribute(saliency, score, x, LOGIT),
    "input_x_gradient": lambda score, x, case, options: attribute(input_x_gradient, score, x, LOGIT),
    "smooth_grad": _smooth,
}


def explain(method, case, score=None, x=None, **options):
    return METHODS[method](score or case.score, case.x if x is None else x, case, options)


@cache
def explained(method, name):
    """What most tests look at, once."""
    return explain(method, _case(name))


def values_of(found):
    return found.views["elements"].values


def assert_the_same(one, other, tolerance):
    """Up to a share of the largest attribution."""
    assert (one - other).abs().max() <= tolerance * other.abs().max()


pytestmark = pytest.mark.parametrize("name", CASES)
of_every_method = pytest.mark.parametrize("method", METHODS)


@pytest.mark.parametrize("method", PATH_METHODS)
def test_completeness(method, name):
    """The attributions sum to `f(x) - mean f(b)`."""
    found = explained(method, name)
    difference = found.score[0] - found.mean_baseline_score[0]
    tolerance = _case(name).quadrature if method == "integrated_gradients" else 1e-5
    scale = max(abs(difference), found.baseline_score_std[0])
    assert found.sums("elements").item() == pytest.approx(difference, abs=tolerance * scale + 1e-6)


@of_every_method
def test_linearity(method, name):
    """The attributions of `a f + g` are `a` times those of `f` plus those of `g`."""
    case = _case(name)

    def both(inputs):
        return 2.5 * case.score(inputs) + case.other(inputs)

    whole = explain(method, case, both).views["elements"]
    one, other = explained(method, name), explain(method, case, case.other)
    difference = whole.values - (2.5 * values_of(one) + values_of(other))
    # What is given back of the gap is a ratio of estimates: with it the sum holds up to the error stated.
    corrected = method in ("declared", "distribution")
    allowed = whole.stderr.norm() if corrected else 0.0
    assert difference.norm() <= allowed + 1e-4 * whole.values.norm()


@of_every_method
def test_dummy(method, name):
    """An input that is never looked at is given nothing, not even a share of the gap."""
    assert not values_of(explained(method, name))[..., DUMMY].any()


@of_every_method
def test_symmetry(method, name):
    """Inputs that are treated alike are given the same; a cloud breaks the tie up to its error."""
    found = explained(method, name).views["elements"]
    largest = float(found.values.abs().max())
    tolerance = 1e-5 * largest if method != "smooth_grad" else 6 * float(found.stderr.max())
    one, other = (found.values[..., twin] for twin in TWINS)
    assert (one - other).abs().max() <= tolerance + 1e-6 * largest
    assert one.any() or name == "layers"


@of_every_method
def test_implementation_invariance(method, name):
    """Two ways to compute the same function are given the same."""
    case = _case(name)
    again = explain(method, case, case.rewritten)
    assert_the_same(values_of(again), values_of(explained(method, name)), 1e-3)


@of_every_method
def test_batch_independence(method, name):
    """How many draws share a forward pass makes no difference."""
    again = explain(method, _case(name), chunk_size=5)
    assert_the_same(values_of(again), values_of(explained(method, name)), 1e-5)


@of_every_method
def test_same_seed_same_bytes(method, name):
    """Also when something else was explained in between."""
    case = _case(name)
    first = values_of(explained(method, name))
    explain(method, case, x=case.x.flip(0))
    assert torch.equal(values_of(explain(method, case)), first)


@of_every_method
def test_an_offset_of_the_score_changes_nothing(method, name):
    case = _case(name)
    moved = explain(method, case, lambda inputs: case.score(inputs) + 3.0)
    assert_the_same(values_of(moved), values_of(explained(method, name)), 1e-4)


def test_the_baseline_itself_is_given_nothing(name):
    """Where the input is the only baseline there is nothing to explain."""
    case = _case(name)
    only = BaselineSet(case.declared.values[:1])
    with pytest.warns(UserWarning, match="does not influence"):
        found = attribute(
            gradient_shap, case.score, only.values[0], LOGIT, only, generator=0, stopping=case.stopping
        )
    assert not values_of(found).any()
    assert found.gap == pytest.approx((0.0,), abs=1e-6)
