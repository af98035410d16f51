"""The estimator: chunks, stopping, memory, completeness."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from single_call import attribute

from wavshap_lightning.attribution.baselines import BaselineSet
from wavshap_lightning.attribution.estimation.designs import declared_spread, fresh_strata
from wavshap_lightning.attribution.estimation.estimate import Stopping, estimate
from wavshap_lightning.attribution.estimation.problem import open_problem
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.record import ViewEstimate
from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.attribution.views.frames import elements, of_terms, summed
from wavshap_lightning.errors import AttributionError

TARGET = Target("log_odds", (1,))
FRAMES = summed(1, name="frames", smooth_variance=True)


@pytest.fixture(params=["declared", "distribution"])
def baselines(request):
    return request.getfixturevalue(request.param)


def run(
    network, frames, baselines, *, generator=0, target=TARGET, chunk_size=64, views=(FRAMES,), **stopping
):
    rule = Stopping(**(stopping or {"num_draws": 64}))
    return attribute(
        gradient_shap,
        network,
        frames,
        target,
        baselines,
        generator=generator,
        stopping=rule,
        views=views,
        chunk_size=chunk_size,
    )


@pytest.mark.parametrize("chunk_size", [1, 5, 64, 1000])
def test_another_chunk_size_gives_the_same(chunk_size, network, frames, baselines):
    one, other = (run(network, frames, baselines, chunk_size=size) for size in (16, chunk_size))
    for name in ("values", "stderr"):
        torch.testing.assert_close(
            getattr(one.views["frames"], name), getattr(other.views["frames"], name), rtol=1e-5, atol=1e-6
        )
    assert one.gap == pytest.approx(other.gap, abs=1e-5)
    assert one.seed == other.seed


def test_sums_are_complete_after_the_correction(network, frames, baselines):
    found = run(network, frames, baselines, target=every_class(4), views=(FRAMES, elements()))
    expected = torch.tensor(found.score) - torch.tensor(found.mean_baseline_score)
    for view in found.views:
        torch.testing.assert_close(found.sums(view).float(), expected, rtol=1e-5, atol=1e-5)


def test_the_gap_is_the_one_before_the_correction(network, frames, baselines):
    """Of a view that keeps a part of the total only, the corrected sum does not give it away."""
    plain = of_terms("plain", lambda terms: terms.flatten(2).sum(2, keepdim=True))
    found = run(network, frames, baselines, views=(plain, FRAMES), num_draws=16)
    assert abs(found.gap[0]) > 1e-3
    difference = found.score[0] - found.mean_baseline_score[0]
    assert found.sums("plain").item() == pytest.approx(difference, abs=1e-5)
    expected = abs(found.gap[0]) / max(abs(difference), found.baseline_score_std[0])
    assert found.relative_gap[0] == pytest.approx(expected)


def test_views_share_their_draws(network, frames, baselines):
    together = run(network, frames, baselines, views=(FRAMES, elements()))
    alone = run(network, frames, baselines, views=(FRAMES,))
    assert torch.equal(together.views["frames"].values, alone.views["frames"].values)
    summed_up = together.views["elements"].values.sum(2)
    torch.testing.assert_close(summed_up, together.views["frames"].values, rtol=0.1, atol=0.05)


def test_a_view_may_have_a_single_unit(network, frames, baselines):
    found = run(network, frames, baselines, views=(summed(0, 1, name="all"),))
    assert found.views["all"].values.shape == (1,)
    expected = found.score[0] - found.mean_baseline_score[0]
    assert found.sums("all").item() == pytest.approx(expected, abs=1e-5)


def test_a_view_of_a_part_is_corrected_by_its_part(network, frames, baselines):
    """The first half alone must not be given the whole gap."""
    half = of_terms("half", lambda terms: terms[:, :, :6].sum(3))
    found = run(network, frames, baselines, views=(half, FRAMES), num_draws=16)
    torch.testing.assert_close(
        found.views["half"].values, found.views["frames"].values[:, :6], rtol=0.1, atol=0.05
    )


def test_the_correction_lowers_the_error(network, frames, declared):
    exact = (
        attribute(integrated_gradients, network, frames, TARGET, declared, num_nodes=100)
        .views["elements"]
        .values
    )
    corrected = uncorrected = 0.0
    for seed in range(30):
        found = run(network, frames, declared, generator=seed, num_draws=16).views["frames"].values
        corrected += (found - exact.sum(2)).norm().item()
        plain = mean_of_terms(network, frames, declared, seed, num_draws=16)
        uncorrected += (plain - exact.sum(2)).norm().item()
    assert corrected < 0.97 * uncorrected


def mean_of_terms(network, frames, declared, seed, num_draws):
    """Gradients times directions of the same draws, without any correction."""
    with open_problem(network, frames, TARGET) as problem:
        design = declared_spread(problem, declared, torch.Generator().manual_seed(seed), num_draws)
        total = 0.0
        for points in design.extend(num_draws):
            placed = design.place(points)
            terms = (problem.gradients(placed.positions)[1] * placed.directions[:, None]).sum(3)
            total = total + torch.tensordot(points.weights, terms.double(), 1) / num_draws
    return total


# Memory


@pytest.mark.slow
def test_memory_does_not_grow_with_draws(network, frames, baselines):
    """What the run holds between chunks is counted in numbers, not in draws."""
    held = []

    def counted(inputs):
        alive = [o for o in _tensors() if o.numel() >= 100]
        held.append(sum(tensor.numel() for tensor in alive))
        return network(inputs)

    run(counted, frames, baselines, num_draws=64, chunk_size=16)
    few = max(held)
    held.clear()
    run(counted, frames, baselines, num_draws=512, chunk_size=16)
    assert max(held) <= 1.05 * few + 6 * 512  # a few numbers a draw: alphas, weights, indices, and parts


def _tensors():
    import gc

    return [o for o in gc.get_objects() if type(o) is torch.Tensor]


def test_the_chunk_is_halved_where_memory_runs_out_and_nothing_is_lost(network, frames, baselines):
    too_large = []

    def small_machine(inputs):
        if len(inputs) > 6 and inputs.requires_grad:
            too_large.append(len(inputs))
            raise torch.OutOfMemoryError("out of memory")
        return network(inputs)

    found = run(small_machine, frames, baselines, chunk_size=32)
    expected = run(network, frames, baselines, chunk_size=32)
    torch.testing.assert_close(
        found.views["frames"].values, expected.views["frames"].values, rtol=1e-5, atol=1e-6
    )
    assert found.num_draws == 64
    assert len(too_large) <= 3  # from 32 or 16 down to 4, once: the lesson is kept


def test_running_out_of_memory_halves_what_is_encoded(network, frames, baselines):
    def encode(values):
        if len(values) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return values

    encoded, plain = baselines.through(encode), baselines.through(lambda values: values)
    found, expected = (run(network, frames, kind, num_draws=16) for kind in (encoded, plain))
    torch.testing.assert_close(found.views["frames"].values, expected.views["frames"].values)


def test_running_out_of_memory_halves_the_scores_of_declared_baselines(network, frames, declared):
    def small_machine(inputs):
        if len(inputs) > 4 and not inputs.requires_grad:
            raise torch.OutOfMemoryError("out of memory")
        return network(inputs)

    found, expected = (
        run(score, frames, declared, chunk_size=16).mean_baseline_score for score in (small_machine, network)
    )
    assert found == pytest.approx(expected)


def test_memory_for_not_even_one_draw_is_an_error(network, frames, declared):
    def tiny_machine(inputs):
        if inputs.requires_grad:
            raise torch.OutOfMemoryError("out of memory")
        return network(inputs)

    with pytest.raises(AttributionError, match="chunk_size=1: the memory of cpu does not hold a single draw"):
        run(tiny_machine, frames, declared)


# Stopping


def test_exactly_so_many_draws_are_taken(network, frames, baselines):
    for num_draws in (1, 2, 3, 50, 64):
        assert run(network, frames, baselines, num_draws=num_draws).num_draws == num_draws


def test_doublings_come_near_the_most_that_may_be_taken(network, frames, baselines):
    assert run(network, frames, baselines, tolerance=1.0, num_draws=100).num_draws == 50
    with pytest.warns(UserWarning, match="not resolved after 100 draws"):
        assert run(network, frames, baselines, tolerance=1e-9, num_draws=100).num_draws == 100


def test_a_tolerance_is_reached_by_doubling(network, frames, baselines):
    found = run(network, frames, baselines, tolerance=0.2)
    view = found.views["frames"]
    assert found.resolved
    assert found.draws_needed is None
    assert found.num_draws in {64 * 2**k for k in range(7)}
    assert (view.half_width() <= 0.2 * view.values.abs().max()).all()


@pytest.mark.filterwarnings("ignore:.*units are not resolved")
def test_a_tolerance_not_reached_says_where_and_how_many_draws_it_would_take(network, frames, baselines):
    found = run(network, frames, baselines, tolerance=1e-4, num_draws=128)
    view = found.views["frames"]
    assert not found.resolved
    assert torch.equal(found.unresolved, view.half_width() > 1e-4 * view.values.abs().max())
    worst = (view.half_width() / (1e-4 * view.values.abs().max())).max().item()
    assert found.draws_needed == pytest.approx(128 * worst**2, abs=1)


@pytest.mark.filterwarnings("ignore:.*units are not resolved")
def test_doubling_ends_where_drawing_at_once_ends(network, frames, declared):
    """The same net, whichever way it was drawn: also its error."""
    many = BaselineSet(declared.values.repeat(8, 1, 1))  # 256 draws are too few for a lattice
    doubled = run(network, frames, many, tolerance=1e-9, num_draws=256)
    at_once = run(network, frames, many, num_draws=256)
    for name in ("values", "stderr"):
        torch.testing.assert_close(
            getattr(doubled.views["frames"], name),
            getattr(at_once.views["frames"], name),
            rtol=1e-3,
            atol=1e-5,
        )


@pytest.mark.filterwarnings("ignore:.*units are not resolved")
@pytest.mark.parametrize("num_draws", [64, 128, 256])
def test_a_lattice_states_its_error_also_where_it_has_doubled(num_draws, network, frames, declared):
    alike = BaselineSet(declared.values[:4] * 0.1)  # what they share decides
    exact = attribute(integrated_gradients, network, frames, TARGET, alike, num_nodes=256, views=(FRAMES,))
    sizes = []
    for seed in range(12):
        found = run(network, frames, alike, generator=seed, tolerance=1e-9, num_draws=num_draws)
        view = found.views["frames"]
        error = view.values - exact.views["frames"].values
        sizes.append(torch.stack([error.square().mean(), view.stderr.square().mean()]))
    actual, stated = torch.stack(sizes).mean(0).sqrt()
    assert 0.7 * actual < stated < 2.5 * actual


def run_by_the_clock(network, frames, baselines, chunk_size, max_seconds):
    """Every look at the clock takes a second."""
    ticks, rule = itertools.count(), Stopping(max_seconds=max_seconds)
    generator = torch.Generator().manual_seed(0)
    with open_problem(network, frames, TARGET, views=(FRAMES,), chunk_size=chunk_size) as problem:
        if isinstance(baselines, BaselineSet):
            design = declared_spread(problem, baselines, generator, rule.first_draws)
        else:
            design = fresh_strata(problem, baselines, generator)
        return estimate(
            problem,
            design,
            rule,
            method="gradient_shap",
            clock=lambda: float(next(ticks)),
        )


def test_while_there_is_time_the_draws_double(network, frames, baselines):
    assert run_by_the_clock(network, frames, baselines, 16, 20.0).num_draws > 64


def test_the_clock_may_end_it_anywhere(network, frames, baselines):
    found = run_by_the_clock(network, frames, baselines, 4, 5.5)
    assert 4 <= found.num_draws < 64
    assert found.views["frames"].stderr.isfinite().all()


@pytest.mark.parametrize(
    "settings", [{}, {"num_draws": 0}, {"num_draws": -5}, {"tolerance": -0.1}, {"max_seconds": 0.0}]
)
def test_a_stopping_rule_that_stops_nothing_is_refused(settings):
    with pytest.raises(AttributionError, match="give num_draws, tolerance or max_seconds, each"):
        Stopping(**settings)


@pytest.mark.filterwarnings("ignore:.*units are not resolved")
def test_progress_is_told(network, frames, declared):
    told = []
    attribute(
        gradient_shap,
        network,
        frames,
        TARGET,
        declared,
        generator=0,
        stopping=Stopping(tolerance=1e-9, num_draws=128),
        chunk_size=32,
        progress=lambda done, planned: told.append((done, planned)),
    )
    assert told[0] == (16, 64)  # a block of the net
    assert told[-1] == (128, 128)


def two_logits(inputs):
    return torch.stack([inputs.sum(1), inputs.square().sum(1)], 1)


def explain_quadratic(baselines, **settings):
    target = Target("logit", (1,))
    return attribute(
        gradient_shap, two_logits, torch.arange(1.0, 5.0), target, baselines, generator=0, **settings
    )


def test_a_tolerance_no_number_of_draws_would_reach():
    baselines = BaselineSet(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    with pytest.warns(UserWarning, match="tolerance=1e-200: 4 of 4 units are not resolved after 8 draws"):
        found = explain_quadratic(baselines=baselines, stopping=Stopping(tolerance=1e-200, num_draws=8))
    assert found.draws_needed == 2**62


def test_a_tolerance_that_is_not_reached_is_put_into_words():
    rule = Stopping(tolerance=1e-9, num_draws=64)
    baselines = BaselineSet(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    with pytest.warns(UserWarning, match="tolerance=1e-09: 4 of 4 units are not resolved"):
        found = explain_quadratic(baselines=baselines, stopping=rule)
    assert re.fullmatch(
        r"4 of 4 units are not resolved after 64 draws; "
        r"about \d\.\de\+\d+ draws would resolve them",
        found.unresolved_in_words(),
    )
    assert explain_quadratic(baselines).unresolved_in_words() == ""


# Intervals


def test_the_half_width_is_students():
    view = ViewEstimate(torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64), 8.0)
    assert view.half_width().item() == pytest.approx(2.306, abs=1e-3)


def test_methods_without_chance_have_no_interval(network, frames, declared):
    found = attribute(integrated_gradients, network, frames, TARGET, declared)
    assert found.views["elements"].stderr is None
    with pytest.raises(AttributionError, match="is deterministic"):
        found.views["elements"].half_width()
