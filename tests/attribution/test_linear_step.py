"""With a score's first, linear step outside of it everything is as with the step inside."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wavshap_lightning.attribution.estimation.method import Options
from wavshap_lightning.attribution.estimation.problem import LinearStep
from wavshap_lightning.attribution.estimation.stopping import Stopping
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.saliency import saliency
from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.attribution.views.frames import View, elements, grouped, summed
from wavshap_lightning.errors import AttributionError

TARGET = every_class(4)
WEIGHTS = torch.tensor([0.1, 0.3, 0.05, 0.35, 0.2], dtype=torch.float64)
MIX = LinearStep(
    lambda layers: torch.einsum("l,dlth->dth", WEIGHTS.to(layers), layers),
    lambda gradients: torch.einsum("l,dkth->dklth", WEIGHTS.to(gradients), gradients),
)
VIEWS = (
    elements(),
    summed(2, name="layer_frame", neighbours=True),
    summed(1, name="layer_neuron"),
    grouped(2, name="spans"),
)


@pytest.fixture(scope="module")
def score(network):
    import copy

    return copy.deepcopy(network).double()


def test_the_step_outside_of_the_score_gives_what_it_gives_inside(method, score, layers):
    options = Options(views=VIEWS, chunk_size=10)
    inside = method(lambda x: score(MIX.apply(x)), layers, options=options)
    outside = method(score, layers, options=replace(options, first=MIX))
    for name, view in inside.views.items():
        for number in ("values", "stderr"):
            one, other = getattr(view, number), getattr(outside.views[name], number)
            if one is not None:
                torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)
    for number in ("score", "gap", "mean_baseline_score", "baseline_score_std"):
        one, other = getattr(inside, number), getattr(outside, number)
        assert (one is None) == (other is None)
        assert one is None or other == pytest.approx(one, rel=1e-10, abs=1e-10)
    assert outside.input_sha256 == inside.input_sha256
    assert outside.prediction == inside.prediction


@pytest.mark.usefixtures("global_seed")
def test_it_meets_captum_on_the_composition(score, layers, declared_stacks):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    target = Target("log_odds", (2,))
    method = attr.GradientShap(lambda x: target(score(MIX.apply(x)))[:, 0])
    draws = [
        method.attribute(layers[None], declared_stacks.values, n_samples=500)[0].detach() for _ in range(20)
    ]
    runs = torch.stack(draws).sum(-1)
    found = gradient_shap(
        score,
        layers,
        declared_stacks,
        target,
        generator=0,
        stopping=Stopping(num_draws=512),
        options=Options(views=VIEWS[1:2], first=MIX),
    ).views["layer_frame"]
    error = (found.stderr[0].square() + runs.var(0) / len(runs)).sqrt()
    assert ((found.values[0] - runs.mean(0)).abs() <= 4 * error).all()
    assert ((found.values[0] - runs.mean(0)).abs() <= 3 * error).double().mean() > 0.97


def test_a_declared_set_goes_through_the_step_once(score, layers, declared_stacks):
    seen = []

    def apply(values):
        seen.append(len(values))
        return MIX.apply(values)

    gradient_shap(
        score,
        layers,
        declared_stacks,
        TARGET,
        generator=0,
        options=Options(first=LinearStep(apply, MIX.adjoint)),
    )
    assert sum(seen) == len(declared_stacks) + 2  # the input, and the pair that checks the adjoint


def test_gradients_go_back_through_the_step_only_where_a_view_asks(score, layers, declared_stacks):
    counted = _Counted(MIX.adjoint)
    inside = View("inside", lambda gradients, directions: gradients.sum(2), after_first=True)
    for views, calls in (((inside,), 0), ((inside, *VIEWS), 4)):
        counted.calls = 0
        options = Options(views=views, chunk_size=16, first=replace(MIX, adjoint=counted))
        gradient_shap(score, layers, declared_stacks, TARGET, generator=0, options=options)
        assert counted.calls == 1 + calls  # the check, and once a chunk


class _Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, values):
        self.calls += 1
        return self.function(values)


@pytest.mark.parametrize(
    "step",
    [
        replace(MIX, adjoint=lambda gradients: MIX.adjoint(gradients).flip(3)),
        replace(MIX, adjoint=lambda gradients: -MIX.adjoint(gradients)),
        replace(MIX, adjoint=lambda gradients: 1.01 * MIX.adjoint(gradients)),
        replace(MIX, apply=lambda layers: MIX.apply(layers) + 0.5),
        replace(MIX, apply=lambda layers: MIX.apply(layers).relu()),
    ],
    ids=["flipped", "negative", "scaled", "offset", "not linear"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_adjoint_that_is_not_that_of_the_step_is_refused(step, dtype, network, layers):
    with pytest.raises(
        AttributionError, match=r"first: <A d, g>=-?[\d.]+, but <d, A\^T g>=-?[\d.]+ for a random"
    ):
        saliency(network.to(dtype), layers.to(dtype), TARGET, options=Options(first=step))
    network.float()


def test_an_adjoint_of_another_shape_is_refused(score, layers):
    with pytest.raises(
        AttributionError, match=r"first\.adjoint turned gradients of shape .* must give \(1, 1, 5"
    ):
        saliency(
            score, layers, TARGET, options=Options(first=replace(MIX, adjoint=lambda gradients: gradients))
        )


def test_a_step_that_loses_the_first_axis_is_refused(score, layers):
    step = replace(MIX, apply=lambda layers: MIX.apply(layers)[0])
    with pytest.raises(AttributionError, match=r"first\.apply turned shape \(1, 5, 12, 3\) into \(12, 3\)"):
        saliency(score, layers, TARGET, options=Options(first=step))


def test_weights_that_ask_for_a_gradient_leave_no_graph_behind(score, layers, declared_stacks):
    weights = WEIGHTS.clone().requires_grad_()
    step = LinearStep(
        lambda x: torch.einsum("l,dlth->dth", weights, x), lambda g: torch.einsum("l,dkth->dklth", weights, g)
    )
    found = gradient_shap(score, layers, declared_stacks, TARGET, generator=0, options=Options(first=step))
    assert not found.views["elements"].values.requires_grad
    assert weights.grad is None
