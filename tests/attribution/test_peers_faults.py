"""Faults that other libraries have: none of them is ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from single_call import attribute

from wavshap_lightning.attribution.baselines import BaselineDistribution
from wavshap_lightning.attribution.estimation.designs import AlphaStrata, SobolNet
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import gauss_legendre, integrated_gradients
from wavshap_lightning.attribution.targets import Target

TARGET = Target("log_odds", (1,))


def run(network, x, baselines, generator=0, num_draws=64, chunk_size=64, **settings):
    return attribute(
        gradient_shap,
        network,
        x,
        TARGET,
        baselines,
        generator=generator,
        stopping=Stopping(num_draws=num_draws),
        chunk_size=chunk_size,
        **settings,
    )


@pytest.mark.parametrize("kind", ["declared", "distribution"])
def test_global_generators_neither_decide_nor_move(kind, network, frames, request):
    baselines = request.getfixturevalue(kind)
    found = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed)
            before = torch.get_rng_state(), np.random.get_state()[1].copy()
            found.append(run(network, frames, baselines).views["elements"].values)
            assert torch.equal(before[0], torch.get_rng_state())
            assert (before[1] == np.random.get_state()[1]).all()
    assert torch.equal(*found)


def test_no_forward_pass_is_larger_than_a_chunk(network, frames, declared):
    sizes = []

    def score(inputs):
        sizes.append(len(inputs))
        return network(inputs)

    run(score, frames, declared, num_draws=256, chunk_size=7)
    assert max(sizes) <= 7


def test_baselines_are_scored_without_gradients(network, frames, declared):
    """Only positions on the way carry a graph, chunk by chunk."""
    with_graph = []

    def score(inputs):
        with_graph.append(len(inputs) if inputs.requires_grad else 0)
        return network(inputs)

    run(score, frames, declared, num_draws=32)
    assert sum(with_graph) == 32


def test_chunks_do_not_reuse_baselines(network, frames):
    """Every draw has a baseline of its own, whatever the chunk."""
    for chunk_size in (1, 3, 19):
        drawn = []

        def stream(generator, drawn=drawn):
            while True:
                drawn.append(torch.randn(frames.shape, generator=generator))
                yield drawn[-1]

        run(network, frames, BaselineDistribution(stream), num_draws=19, chunk_size=chunk_size)
        assert len({round(float(b.sum()), 5) for b in drawn}) == 19


def test_the_gap_is_one_number_a_clip_and_target_not_one_a_draw(network, frames, declared):
    found = run(network, frames, declared)
    assert len(found.gap) == 1


def test_it_is_complete_at_any_stage_of_a_model(network, frames, declared):
    """Also where the input is an inner layer of the model."""

    def encode(values):
        return torch.nn.functional.gelu(2 * network.convolution(values.transpose(1, 2))).transpose(1, 2)

    def head(states):
        weights = torch.softmax(2 * network.attend(states), 1)
        return 4 * network.classify((weights * states).sum(1))

    with torch.no_grad():
        states = encode(frames[None])[0]
    found = run(head, states, declared.through(encode))
    whole = run(network, frames, declared)
    assert found.relative_gap[0] < 0.05
    assert found.mean_baseline_score == pytest.approx(whole.mean_baseline_score, abs=1e-5)
    assert found.score == pytest.approx(whole.score, abs=1e-5)
    assert found.sums("elements").item() == pytest.approx(whole.sums("elements").item(), abs=1e-4)


@pytest.mark.parametrize("count", [1, 2, 10, 50])
def test_weights_sum_to_one(count):
    generator = torch.Generator().manual_seed(0)
    for points in (
        SobolNet(3, generator).draw(count),
        AlphaStrata(generator).draw(count),
        gauss_legendre(count, 3),
    ):
        assert points.weights.sum().item() == pytest.approx(1.0, abs=1e-12)


def test_the_same_draws_make_differences_of_inputs_mean_something(network, frames, declared):
    """Two inputs that hardly differ, explained with one seed, hardly differ in their attributions."""
    near = frames + 1e-6 * torch.ones_like(frames)
    one, other = (run(network, x, declared).views["elements"].values for x in (frames, near))
    assert (one - other).abs().max() < 1e-4


def test_the_standard_error_has_its_root_n(network, frames, distribution):
    """Four times the draws, half the error; and the scatter of repeated runs is the error stated."""
    stated, seen = {}, {}
    for num_draws in (32, 128):
        runs = [run(network, frames, distribution, seed, num_draws).views["elements"] for seed in range(30)]
        stated[num_draws] = torch.stack([view.stderr.square() for view in runs]).mean().sqrt().item()
        seen[num_draws] = torch.stack([view.values for view in runs]).var(0).mean().sqrt().item()
    assert stated[32] / stated[128] == pytest.approx(2.0, rel=0.15)
    for num_draws, scatter in seen.items():
        assert stated[num_draws] == pytest.approx(scatter, rel=0.2)


def test_completeness_is_a_number_not_an_equality(network, frames, declared):
    found = attribute(integrated_gradients, network, frames, TARGET, declared, num_nodes=64)
    assert 0 < abs(found.gap[0]) < 1e-3
    assert found.relative_gap[0] < 1e-3


def test_each_unit_has_its_own_attribution(network, frames, declared):
    """Not one sum copied into every neuron of a frame."""
    values = run(network, frames, declared).views["elements"].values[0]
    assert (values.std(1) > 1e-4).all()


def test_signs_survive_the_sum_over_a_frame(network, frames, declared, by_frame):
    found = run(network, frames, declared, views=by_frame["views"])
    frames_, elements_ = (found.views[name].values for name in ("frames", "elements"))
    assert (frames_ < 0).any()
    assert (frames_.abs() < 0.7 * elements_.abs().sum(2)).any()
