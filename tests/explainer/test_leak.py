"""The leak of a model whose leak is known in closed form, and disagreement between stages."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from wavshap_lightning.attribution.record import ViewEstimate
from wavshap_lightning.explainer.diagnostics import baseline_diagnostics, stage_disagreements
from wavshap_lightning.explainer.explainer import Explainer, explain
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.leak import measure_leak, span_effect, strongest_span
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.stage_attribution import open_clip
from wavshap_lightning.explainer.stages import Stages
from wavshap_lightning.explainer.time_grid import TimeGrid, seen_by_frames

LAYERS = ExplainSettings(stages=("layers",))


class ClosedForm(Stages):
    """Frames of the power that each sees and of the whole clip's; a share of the score reads the latter.

    The score reads the power of every frame, or that of the whole clip in the first frame. While the first
    frame lies outside the span, other frames carry exactly `share` of the effect of any span.
    """

    def __init__(self, classifier, share, gain=1.0):
        super().__init__(classifier)
        grid, weights = classifier.backbone.frame_grid, torch.tensor([gain * (1 - share), gain * share])

        def frontend(waveforms):
            power = torch.stack([seen_by_frames(one, grid).square().sum(1) for one in waveforms])
            return torch.stack([power, power.sum(1, keepdim=True).expand_as(power)], 2)

        def logits(frames):
            read = weights[0] * frames[:, :, 0].sum(1) + weights[1] * frames[:, 0, 1]
            return torch.stack([torch.zeros_like(read), read, torch.zeros_like(read)], 1)

        self.frontend, self.encoder = frontend, lambda frames: frames[:, None]
        self.score = lambda stage: logits if stage == "frames" else (lambda layers: logits(layers[:, 0]))


@pytest.fixture(scope="module")
def sound():
    """Half a second of noise, loudest in the middle."""
    swell = 0.02 + 0.2 * torch.hann_window(8000) ** 4
    return swell * torch.randn(8000, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def attribution(classifier, sound):
    """Attributions to frames whose strongest span lies behind the loudest."""
    found = explain(classifier, sound, stages=["frames"], num_draws=2).attributions["frames"]
    values = torch.zeros_like(found.views["frames"].values)
    values[:, 150] = 1.0
    return replace(found, views={"frames": replace(found.views["frames"], values=values)})


@pytest.fixture
def leak_of(classifier, sound, attribution):
    """`(share, baselines=None, stage="frames", gain=1.0)`: the leak of such a model."""

    def measure(share, baselines=None, *, stage="frames", gain=1.0):
        baselines = torch.zeros(2, len(sound)) if baselines is None else baselines
        with open_clip(classifier, sound, ExplainSettings(score="logit")) as opened:
            closed = replace(opened, stages=ClosedForm(classifier, share, gain))
            return measure_leak(closed, stage, attribution, baselines, 1)

    return measure


@pytest.mark.parametrize("stage", ["frames", "layers"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_leak_is_the_share_of_the_score_that_reads_other_frames(leak_of, share, stage):
    assert leak_of(share, stage=stage) == pytest.approx(share, abs=1e-4)


def test_the_order_of_the_baselines_makes_no_difference(leak_of, sound):
    baselines = 0.05 * torch.randn(4, len(sound), generator=torch.Generator().manual_seed(3))
    assert leak_of(0.3, baselines) == pytest.approx(leak_of(0.3, baselines.flip(0)), abs=1e-9)


def test_it_is_undefined_where_nothing_changes_and_where_baselines_disagree(leak_of, sound):
    assert leak_of(0.5, gain=0.0) is None
    assert leak_of(0.5, torch.stack([torch.zeros_like(sound), 10 * sound])) is None  # less power, more power


def test_without_a_norm_over_time_nothing_leaks_at_the_frames(build_classifier, sound):
    leaks = {
        norm: explain(
            build_classifier(norm), sound, target="happy", stages=["frames"], num_draws=4
        ).baseline_checks["leaks"]
        for norm in ("layer", "group")
    }
    assert leaks["layer"] == {"frames": pytest.approx(0.0, abs=1e-3)}
    assert leaks["group"]["frames"] > 0.02


def test_the_part_of_own_frames_is_the_shapley_value_of_two_players():
    generator = torch.Generator().manual_seed(0)
    clip, others = torch.randn(5, 3, generator=generator), torch.randn(4, 5, 3, generator=generator)
    own = torch.tensor([False, True, True, False, False])

    def score(rows):
        return rows.prod(1).sum(1) + rows[:, :2].sum((1, 2)).tanh()

    effect, part = span_effect(score, clip, others, own)
    for other, one_effect, one_part in zip(others, effect, part, strict=True):
        with_own, with_rest = clip.clone(), clip.clone()
        with_own[~own], with_rest[own] = other[~own], other[own]
        whole, own_alone, rest_alone, none = (
            float(score(row[None])) for row in (clip, with_own, with_rest, other)
        )
        assert float(one_effect) == pytest.approx(whole - none, abs=1e-5)
        expected = 0.5 * (own_alone - none) + 0.5 * (whole - rest_alone)
        assert float(one_part) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_strongest_span_has_the_largest_sum_of_all(seed):
    times = TimeGrid(40, 320, 400, 0, 16_000)
    values = torch.randn(40, generator=torch.Generator().manual_seed(seed))
    duration_s = 0.6  # 30 frames; the others are silence that the model adds
    start, end = strongest_span(values, times, duration_s)
    sums = [abs(float(values[first : first + 5].sum())) for first in range(26)]
    first = int(np.argmax(sums))
    assert (start, end) == (40 + 320 * first, min(40 + 320 * (first + 5), 9600))


def test_the_class_that_is_probed_is_the_predicted_one_if_explained(classifier, sound):
    leaks = [
        Explainer(classifier, ExplainSettings(stages=("frames",), num_draws=4)).explain(sound, target)
        for target in ("all", "predicted")
    ]
    assert leaks[0].baseline_checks == leaks[1].baseline_checks
    stages = ("frames", "layers")
    margin = explain(classifier, sound, target="sad-vs-happy", stages=stages, num_draws=2)
    assert margin.baseline_checks["leaks"].keys() == {*stages}


def test_measuring_leaves_the_classifier_alone_and_is_saved(build_classifier, sound, tmp_path):
    classifier = build_classifier("group").train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    state = torch.random.get_rng_state()
    with pytest.warns(UserWarning, match="training mode"):
        found = explain(classifier, sound, stages=["frames"], num_draws=4)
    assert classifier.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    found.save(tmp_path / "clip.safetensors")
    leaks = Explanation.load(tmp_path / "clip.safetensors").baseline_checks["leaks"]
    assert (
        leaks
        == found.baseline_checks["leaks"]
        == json.loads(json.dumps(found.to_dict()))["baseline_checks"]["leaks"]
    )


@pytest.mark.parametrize(
    ("stage", "leak", "name"),
    [
        ("frames", None, None),
        ("frames", 0.3, None),
        ("frames", 0.4, "leak"),
        ("layers", 0.4, None),
        ("layers", 0.6, "context"),
    ],
)
def test_a_large_leak_is_a_warning_with_its_remedy(classifier, sound, stage, leak, name):
    checks = explain(classifier, sound, stages=["frames"], num_draws=2).baseline_checks
    known = {one.name for one in baseline_diagnostics({**checks, "leaks": {}})}
    found = [one for one in baseline_diagnostics({**checks, "leaks": {stage: leak}}) if one.name not in known]
    assert [(one.name, one.severity, one.value) for one in found] == (
        [(name, "warning", leak)] if name else []
    )
    assert all(f"{leak:.0%} of the effect" in one.message and "--stages" in one.message for one in found)


class TestDisagreement:
    @staticmethod
    def found(attribution, frames, waveform, stderr=1e-3):
        times = {"frames": TimeGrid(40, 320, 400, 0, 16_000), "waveform": TimeGrid(41, 320, 320, 0, 16_000)}
        changed = {
            stage: replace(
                attribution,
                views={"frames": ViewEstimate(*torch.stack([values, 0 * values + stderr])[:, None].double())},
            )
            for stage, values in (("frames", frames), ("waveform", waveform))
        }
        return list(stage_disagreements(changed, 0, times, 0.8))

    @staticmethod
    def peak(place, count, sign=1.0):
        return sign * (torch.arange(count) - place).abs().lt(3).float() + 0.1

    def test_two_certain_maps_that_point_elsewhere_are_noted(self, attribution):
        (one,) = self.found(attribution, self.peak(10, 40), self.peak(30, 41, -1.0))
        assert (one.name, one.severity) == ("stages_disagree", "note")
        assert "0.16 s (frames) and 0.56 s (waveform)" in one.message

    def test_there_is_none_where_they_overlap_or_are_uncertain(self, attribution):
        assert self.found(attribution, self.peak(10, 40), self.peak(12, 41)) == []
        assert self.found(attribution, self.peak(10, 40), self.peak(17, 41)) == []  # two ends of one sound
        assert self.found(attribution, self.peak(10, 40), self.peak(30, 41), stderr=1.0) == []

    def test_a_stage_alone_cannot_disagree(self, attribution):
        alone = {"frames": attribution}
        assert list(stage_disagreements(alone, 0, {"frames": TimeGrid(199, 40, 80, 0, 16_000)}, 0.5)) == []

    def test_noise_about_one_map_seldom_looks_like_two(self, attribution):
        """Both stages estimate the same map, of two equally strong moments."""
        generator = torch.Generator().manual_seed(0)
        truth = self.peak(10, 41) + self.peak(30, 41)
        drawn = (truth + 0.3 * torch.randn(2, 41, generator=generator) for _ in range(200))
        noted = [bool(self.found(attribution, one[:40], other, stderr=0.3)) for one, other in drawn]
        assert sum(noted) <= 10
