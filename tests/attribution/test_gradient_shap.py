"""GradientSHAP against closed forms, quadrature and Captum."""

from __future__ import annotations

import traceback
from pathlib import PurePath

import pytest
import torch
from single_call import attribute

from wavshap_lightning.attribution.baselines import BaselineDistribution, BaselineSet
from wavshap_lightning.attribution.estimation.designs import declared_spread
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.estimation.moments import BlockMoments
from wavshap_lightning.attribution.estimation.problem import open_problem
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.attribution.views.frames import summed
from wavshap_lightning.errors import AttributionError

LOG_ODDS = Target("log_odds", (2,))
FRAMES = summed(1, name="frames", smooth_variance=True)


class Recorder:
    """A stage that keeps what went through it: the baselines that were drawn."""

    def __init__(self):
        self.seen = []

    def __call__(self, values):
        self.seen.append(values.clone())
        return values

    @property
    def mean(self):
        return torch.cat(self.seen).double().mean(0)


@pytest.mark.parametrize("num_draws", [1, 2, 3, 7, 16, 50, 64])
def test_a_linear_score_has_its_closed_form_at_any_number_of_draws(
    num_draws, linear, linear_weights, frames, distribution
):
    """`(x - mean of the baselines drawn) * w`."""
    recorder = Recorder()
    found = attribute(
        gradient_shap,
        linear,
        frames,
        Target("logit", (1, 3)),
        distribution.through(recorder),
        generator=0,
        stopping=Stopping(num_draws=num_draws),
    )
    expected = (frames - recorder.mean) * linear_weights[..., [1, 3]].movedim(2, 0)
    torch.testing.assert_close(found.views["elements"].values, expected, rtol=1e-5, atol=1e-5)
    assert found.num_draws == num_draws == sum(len(drawn) for drawn in recorder.seen)
    assert max(map(abs, found.gap)) < 1e-4


@pytest.mark.parametrize("num_draws", [16, 64])
def test_a_linear_score_over_a_declared_set_is_exact_when_it_divides_the_draws(
    num_draws, linear, linear_weights, frames, declared
):
    found = attribute(
        gradient_shap,
        linear,
        frames,
        Target("logit", (0,)),
        declared,
        generator=0,
        stopping=Stopping(num_draws=num_draws),
    )
    expected = (frames - declared.values.mean(0)) * linear_weights[..., 0]
    torch.testing.assert_close(found.views["elements"].values[0].float(), expected, rtol=1e-5, atol=1e-5)


def test_a_quadratic_score_has_its_closed_form(frames, generator):
    """For `x A x` and a baseline `b`: `(x_i - b_i) ((A + A^T) (x + b) / 2)_i`."""
    size = frames.numel()
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64) / size
    baseline = torch.randn(frames.shape, generator=generator, dtype=torch.float64)
    x = frames.double()

    def score(inputs):
        flat = inputs.flatten(1)
        return torch.stack([(flat @ matrix * flat).sum(1), flat[:, 0]], 1)

    found = attribute(
        gradient_shap,
        score,
        x,
        Target("logit", (0,)),
        BaselineSet(baseline[None]),
        generator=0,
        stopping=Stopping(num_draws=256),
    )
    middle = ((matrix + matrix.T) @ ((x + baseline) / 2).flatten()).reshape(x.shape)
    expected = (x - baseline) * middle
    view = found.views["elements"]
    assert ((view.values[0] - expected).abs() <= 4 * view.stderr[0] + 1e-9).all()
    assert (view.values[0] - expected).norm() < 2e-3 * expected.norm()


def within_three_errors(found, expected):
    """Of many units with few degrees of freedom a few lie outside, as they should."""
    for name, view in found.views.items():
        error = (view.values - expected[name]).abs() / view.stderr
        assert (error <= 3).double().mean() > 0.9, name
        assert error.square().mean().sqrt() < 2, name
        assert (view.stderr < 0.2 * view.values.abs().max()).all(), name


def test_a_declared_set_meets_quadrature_averaged_over_it(network, frames, declared, by_frame):
    target = every_class(4)
    exact = attribute(integrated_gradients, network, frames, target, declared, num_nodes=200, **by_frame)
    found = attribute(
        gradient_shap,
        network,
        frames,
        target,
        declared,
        generator=1,
        stopping=Stopping(num_draws=256),
        **by_frame,
    )
    within_three_errors(found, {name: view.values for name, view in exact.views.items()})


def test_a_distribution_meets_quadrature_averaged_over_thousands(network, frames, distribution, by_frame):
    many = distribution.declare(4000, torch.Generator().manual_seed(77))
    exact = attribute(integrated_gradients, network, frames, LOG_ODDS, many, num_nodes=6, **by_frame)
    found = attribute(
        gradient_shap,
        network,
        frames,
        LOG_ODDS,
        distribution,
        generator=5,
        stopping=Stopping(num_draws=1024),
        **by_frame,
    )
    within_three_errors(found, {name: view.values for name, view in exact.views.items()})


@pytest.mark.usefixtures("global_seed")
def test_both_kinds_meet_captum_at_many_draws(network, frames, declared, by_frame):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    method = attr.GradientShap(lambda inputs: LOG_ODDS(network(inputs))[:, 0])
    runs = torch.stack(
        [
            method.attribute(frames[None], declared.values, n_samples=1000)[0].detach().double()
            for _ in range(20)
        ]
    )
    theirs, their_error = runs.mean(0), runs.std(0) / 20**0.5
    for baselines in (declared, BaselineDistribution(lambda generator: _forever(declared, generator))):
        found = attribute(
            gradient_shap,
            network,
            frames,
            LOG_ODDS,
            baselines,
            generator=3,
            stopping=Stopping(num_draws=1024),
            **by_frame,
        ).views["elements"]
        error = (found.stderr[0].square() + their_error.square()).sqrt()
        assert ((found.values[0] - theirs).abs() <= 4 * error).all()
        assert (((found.values[0] - theirs).abs() <= 3 * error).double().mean()) > 0.97


def _forever(declared, generator):
    while True:
        yield declared.values[int(torch.randint(len(declared), (), generator=generator))]


def test_a_net_needs_far_fewer_draws_than_captum_for_the_same_error(network, frames, declared, by_frame):
    exact = (
        attribute(integrated_gradients, network, frames, LOG_ODDS, declared, num_nodes=200)
        .views["elements"]
        .values
    )
    ours = torch.stack(
        [
            attribute(gradient_shap, network, frames, LOG_ODDS, declared, generator=seed)
            .views["elements"]
            .values
            - exact
            for seed in range(20)
        ]
    )
    drawn = torch.Generator().manual_seed(0)
    baselines = declared.values[torch.randint(16, (20 * 64,), generator=drawn)]
    alphas = torch.rand(20 * 64, 1, 1, generator=drawn)
    positions = (baselines + alphas * (frames - baselines)).requires_grad_()
    (gradients,) = torch.autograd.grad(LOG_ODDS(network(positions)).sum(), positions)
    independent = (gradients * (frames - baselines)).detach().reshape(20, 64, *frames.shape).double().mean(1)
    gain = (independent - exact[0]).square().mean() / ours.square().mean()
    assert gain > 4  # in draws


def test_all_classes_at_once_are_each_class_alone(network, frames, declared):
    together = attribute(gradient_shap, network, frames, every_class(4), declared, generator=0).views[
        "elements"
    ]
    for index in range(4):
        alone = attribute(gradient_shap, network, frames, Target("log_odds", (index,)), declared, generator=0)
        torch.testing.assert_close(
            together.values[index], alone.views["elements"].values[0], rtol=1e-4, atol=1e-6
        )


def test_a_distribution_with_an_end_is_not_drawn_beyond_it(network, frames, declared):
    ends = BaselineDistribution(lambda generator: iter(declared.values), "sixteen")
    with pytest.raises(
        AttributionError, match=r"baselines='sixteen' ended at 16 of 17; take fewer draws, or use"
    ):
        attribute(
            gradient_shap, network, frames, LOG_ODDS, ends, generator=0, stopping=Stopping(num_draws=17)
        )


def test_the_record_says_what_was_estimated(network, frames, declared, distribution):
    of_set, of_distribution = (
        attribute(gradient_shap, network, frames, LOG_ODDS, kind, generator=0).estimand
        for kind in (declared, distribution)
    )
    assert of_set == "the mean over exactly 16 declared baselines (walks)"
    assert of_distribution == "the mean over the distribution of baselines (walks)"


def test_a_set_is_not_its_distribution(network, frames, distribution, by_frame):
    """Three baselines, many draws: the interval holds for these three, not for what they were drawn from."""
    few = distribution.declare(3, torch.Generator().manual_seed(8))
    many = distribution.declare(2000, torch.Generator().manual_seed(9))
    of_all = attribute(integrated_gradients, network, frames, LOG_ODDS, many, num_nodes=6, **by_frame)
    found = attribute(
        gradient_shap,
        network,
        frames,
        LOG_ODDS,
        few,
        generator=0,
        stopping=Stopping(num_draws=512),
        **by_frame,
    ).views["frames"]
    outside = (found.values - of_all.views["frames"].values).abs() > found.half_width()
    assert outside.double().mean() > 0.5


def test_a_generator_and_its_recorded_seed_give_the_same_values(network, frames, declared):
    generator = torch.Generator().manual_seed(1)
    first = attribute(gradient_shap, network, frames, LOG_ODDS, declared, generator=generator)
    again = attribute(gradient_shap, network, frames, LOG_ODDS, declared, generator=first.seed)
    other = attribute(gradient_shap, network, frames, LOG_ODDS, declared, generator=generator)
    values = [record.views["elements"].values for record in (first, again, other)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


@pytest.mark.parametrize("num_baselines", [3, 4, 9, 16])
def test_the_error_of_a_lattice_is_stated_more_closely_than_that_of_a_net(
    num_baselines, network, frames, declared
):
    """The same draws, once with the design's own moments, once with those of a net."""
    baselines = BaselineSet(declared.values[:num_baselines])
    with open_problem(network, frames, LOG_ODDS) as problem:
        design = declared_spread(problem, baselines, torch.Generator().manual_seed(0), 8 * num_baselines)
        moments = [design.moments(FRAMES), BlockMoments(smooth=True)]
        for points in design.extend(8 * num_baselines):
            placed = design.place(points)
            terms = (problem.gradients(placed.positions)[1] * placed.directions[:, None]).sum(3)
            for one in moments:
                one.open_block()
                one.add(
                    torch.cat([terms, terms.sum(2, keepdim=True)], 2).double(),
                    points.weights,
                    points.baselines,
                )
    own, of_a_net = (one.estimate(None, terms.shape[1:]).stderr for one in moments)
    assert (own * 1.4 < of_a_net).all()


def test_at_most_six_calls_lead_from_the_method_to_the_score(network, frames, declared):
    """A stack trace of a score that fails shows the method, not machinery."""
    depths = []

    def score(inputs):
        if inputs.requires_grad:
            files = [PurePath(frame.filename).parts for frame in traceback.extract_stack()]
            depths.append(sum("attribution" in parts and "tests" not in parts for parts in files))
        return network(inputs)

    with open_problem(score, frames, LOG_ODDS) as problem:
        gradient_shap(problem, declared, generator=0)
    assert 1 < max(depths) <= 6
