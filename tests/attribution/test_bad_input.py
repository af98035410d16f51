"""What cannot be explained is refused, with the value and the remedy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from single_call import attribute

from wavshap_lightning.attribution.baselines import BaselineDistribution, BaselineSet
from wavshap_lightning.attribution.estimation.designs import seeded
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.saliency import saliency
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import View, elements, summed
from wavshap_lightning.errors import AttributionError

TARGET = Target("logit", (1,))
INPUT = torch.arange(1.0, 5.0)
ZERO = BaselineSet(torch.zeros(1, 4))


def two_logits(inputs):
    return torch.stack([inputs.sum(1), inputs.square().sum(1)], 1)


def explain(score=two_logits, x=INPUT, baselines=ZERO, target=TARGET, **settings):
    return attribute(gradient_shap, score, x, target, baselines, generator=0, **settings)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_input_that_is_not_finite(value):
    bad = INPUT.clone()
    bad[2] = value
    with pytest.raises(AttributionError, match=r"input: .* must be of finite floating point numbers"):
        explain(x=bad)


@pytest.mark.parametrize("bad", [torch.empty(0), torch.arange(4)])
def test_an_input_without_numbers_to_vary(bad):
    with pytest.raises(
        AttributionError, match=r"input: dtype=.*, shape=.*must be of finite floating point numbers"
    ):
        explain(x=bad)


def test_a_score_of_the_input_that_is_not_finite():
    with pytest.raises(AttributionError, match=r"the logits of the input are \[10\.0, inf\]"):
        explain(lambda inputs: two_logits(inputs) / torch.tensor([1.0, 0.0]))


def test_a_score_of_a_baseline_that_is_not_finite():
    baselines = BaselineSet(torch.tensor([[0.0] * 4, [1.0] * 4, [-1.0] * 4]), "mine")
    with pytest.raises(AttributionError, match=r"baselines='mine': baseline=2: score=\[nan\]"):
        explain(
            lambda inputs: two_logits(inputs.sum(1, keepdim=True).sqrt().expand(-1, 4)), baselines=baselines
        )


def test_a_score_on_the_way_that_is_not_finite_names_draw_and_baseline():
    def hole(inputs):
        middle = (inputs[:, :1] > 0.55) & (inputs[:, :1] < 0.6)
        return two_logits(inputs) + torch.where(middle, torch.nan, 0.0)

    with pytest.raises(
        AttributionError, match=r"draw=\d+ \(baseline=0, alpha=0\.5[5-9]\d*\): the score is not finite"
    ):
        explain(hole)


def test_a_gradient_on_the_way_that_is_not_finite_names_draw_and_baseline():
    def kink(inputs):
        return two_logits(inputs) + (0.0 * inputs[:, :1]).sqrt()

    with pytest.raises(
        AttributionError, match=r"draw=0 \(baseline=0, alpha=0\.\d+\): the gradient is not finite"
    ):
        attribute(integrated_gradients, kink, INPUT, TARGET, ZERO, num_nodes=8)


def test_a_fresh_baseline_that_breaks_the_score_is_named_by_its_draw():
    drawn = iter([torch.ones(4)] * 5 + [-torch.ones(4)] + [torch.ones(4)] * 100)
    baselines = BaselineDistribution(lambda generator: drawn)

    def score(inputs):
        return two_logits(inputs) + torch.where(inputs.sum(1, keepdim=True) < -3.9, torch.nan, 0.0)

    with pytest.raises(
        AttributionError, match=r"baseline of draw=5: score=\[nan\]|draw=5 \(a baseline of its own"
    ):
        explain(score, baselines=baselines)


def test_a_drawn_baseline_that_is_not_finite():
    drawn = [torch.ones(4)] * 5 + [torch.full((4,), torch.nan)] * 64
    baselines = BaselineDistribution(lambda generator: iter(drawn), "broken")
    for chunk_size in (2, 64):
        with pytest.raises(AttributionError, match="baselines='broken': draw=5 is not finite"):
            explain(baselines=baselines, chunk_size=chunk_size)


@pytest.mark.parametrize(
    "score",
    [
        lambda inputs: two_logits(inputs.detach()),
        lambda inputs: torch.from_numpy(np.asarray(two_logits(inputs.detach()))),
        lambda inputs: torch.zeros(len(inputs), 2),
        lambda inputs: torch.zeros(len(inputs), 2, requires_grad=True) * 1.0,
    ],
    ids=["detach", "numpy", "constant", "other graph"],
)
def test_a_score_that_does_not_follow_from_its_input(score):
    with pytest.raises(AttributionError, match="no gradient comes back"):
        explain(score)


@pytest.mark.parametrize("method", [explain, lambda score: attribute(saliency, score, INPUT, TARGET)])
def test_an_input_without_influence_is_warned_of(method):
    with pytest.warns(UserWarning, match=r"does not influence the logit of classes=\[1\]"):
        found = method(lambda inputs: two_logits(inputs) * torch.tensor([1.0, 0.0]))
    assert not found.views["elements"].values.any()


def test_only_the_target_without_influence_is_warned_of():
    with pytest.warns(UserWarning, match=r"classes=\[1\]:"):
        explain(lambda inputs: two_logits(inputs) * torch.tensor([1.0, 0.0]), target=Target("logit", (0, 1)))


def test_a_target_the_score_lacks():
    with pytest.raises(AttributionError, match=r"classes=\[5\] do not exist; use 0 to 1"):
        explain(target=Target("logit", (5,)))


@pytest.mark.parametrize(
    ("score", "returned"),
    [
        (
            lambda inputs: inputs.sum(1),
            r"torch.float32 of shape \(2,\) for inputs of shape \(2, 4\)",
        ),
        (lambda inputs: two_logits(inputs)[:1], r"torch.float32 of shape \(1, 2\)"),
        (lambda inputs: two_logits(inputs)[None], r"torch.float32 of shape \(1, 2, 2\)"),
        (lambda inputs: two_logits(inputs)[:, :0], r"torch.float32 of shape \(2, 0\)"),
        (lambda inputs: two_logits(inputs).long(), "torch.int64 of shape"),
    ],
)
def test_a_score_of_the_wrong_kind(score, returned):
    with pytest.raises(AttributionError, match=f"the score returned {returned}"):
        explain(score)


@pytest.mark.parametrize("shape", [(3, 5), (3, 3), (3, 1, 4), (3,)])
def test_baselines_of_another_shape(shape):
    with pytest.raises(AttributionError, match=r"have shape \(.*\), the input has \(4,\); they must agree"):
        explain(baselines=BaselineSet(torch.zeros(shape)))


def test_fresh_baselines_of_another_length():
    baselines = BaselineDistribution(lambda generator: iter([torch.zeros(5)] * 64))
    with pytest.raises(AttributionError, match=r"have shape \(5,\), the input has \(4,\)"):
        explain(baselines=baselines)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: BaselineSet(torch.tensor(0.0)), "must hold at least one baseline"),
        (lambda: seeded(None), "generator=None must be a torch.Generator or a seed"),
        (lambda: seeded(1.5), "generator=1.5 must be a torch.Generator or a seed"),
        (lambda: seeded(2**63), r"generator=9223372036854775808 must be .* a seed, 0 to 2\^63 - 1"),
    ],
)
def test_arguments_of_another_kind(make, complaint):
    with pytest.raises(AttributionError, match=complaint):
        make()


def test_a_score_that_looks_at_the_whole_batch():
    def centred(inputs):
        return (inputs - inputs.mean(0)) @ torch.eye(4)

    with pytest.raises(AttributionError, match="neither on the rest of its batch nor on chance"):
        explain(score=centred)


def test_a_class_named_twice():
    with pytest.raises(AttributionError, match=r"classes=\(1, 1\), .* none twice"):
        Target("logit", (1, 1))


def test_empty_baselines():
    with pytest.raises(AttributionError, match="baselines='mine' must hold at least one"):
        BaselineSet(torch.zeros(0, 4), "mine")


def test_a_single_unit_has_no_neighbours():
    one = summed(0, name="all", smooth_variance=True)
    target, baselines = (
        Target("logit", (0, 1)),
        BaselineSet(torch.randn(3, 4, generator=torch.Generator().manual_seed(0))),
    )
    found = explain(target=target, baselines=baselines, views=(one, elements()))
    alone = explain(target=target, baselines=baselines, views=(summed(0, name="all"),))
    assert torch.equal(found.views["all"].stderr, alone.views["all"].stderr)


def test_a_chunk_below_one():
    with pytest.raises(AttributionError, match="chunk_size=0 must be at least 1"):
        explain(chunk_size=0)


def test_a_distribution_for_integrated_gradients():
    baselines = BaselineDistribution(lambda generator: iter([]), "noise")
    with pytest.raises(
        AttributionError,
        match=r"baselines='noise' must be a fixed set; use baselines.declare\(\)",
    ):
        attribute(integrated_gradients, two_logits, INPUT, TARGET, baselines)


@pytest.mark.parametrize("views", [(), (elements(), elements())])
def test_views_without_a_name_of_their_own(views):
    with pytest.raises(AttributionError, match="each with a different name"):
        explain(views=views)


def test_a_view_that_mixes_draws():
    with pytest.raises(
        AttributionError,
        match=r"view='odd' turned gradients of \(draws, targets\)=\(\d+, 1\) into shape \(1, 1, 4\)",
    ):
        explain(views=(View("odd", lambda gradients, directions: gradients.sum(0, keepdim=True)),))
