"""Diagnostics are given when they are due, and only then; probing changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.text import Text

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.cli.clips import ExplainedClip
from wavshap_lightning.cli.explain import describe
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.explainer.diagnostics import (
    Diagnostic,
    attribution_diagnostics,
    baseline_diagnostics,
    diagnose,
)
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.figures import plot
from wavshap_lightning.viz.report.page import build_report

WELL_POSED = {
    "early_shares": {"frames": 0.01},
    "level_response": 0.5,
    "baseline_probability": 0.2,
    "gain_invariant": False,
}


def checks(**changes):
    usual = {"target": "sad", "baselines": "noise", "clip_unlikeness": 1.0, "baseline_unlikeness": 1.2}
    return {**usual, **WELL_POSED, **changes}


def probe(classifier, clip, **settings):
    """The numbers behind the diagnostics of a clip's baselines."""
    stages = ("frames", "waveform")
    return explain(classifier, clip, stages=stages, num_draws=4, **settings).baseline_checks


def messages(found):
    return [one.message for one in found]


class TestBaselines:
    def test_silence_is_ill_posed_for_a_model_with_group_norm(self, build_classifier, clip):
        classifier = build_classifier("group")
        settings = {"baselines": "silence", "method": "integrated_gradients", "decibels": True}
        found = probe(classifier, clip, **settings)
        assert abs(found["early_shares"]["waveform"]) > 0.5
        assert abs(found["level_response"]) < 0.05
        first = messages(baseline_diagnostics(found))[0]
        assert "ill-posed" in first
        assert "invariant to input gain" in first
        noise = probe(classifier, clip)
        assert abs(noise["early_shares"]["waveform"]) < 0.1
        assert not any("at stage waveform" in words for words in messages(baseline_diagnostics(noise)))

    def test_an_even_path_has_its_hundredth_in_the_first_hundredth(self, classifier, clip):
        """Along a straight line at the frames a score that is nearly linear changes evenly."""
        assert -0.05 < probe(classifier, clip, score="logit")["early_shares"]["frames"] < 0.1

    def test_the_same_seed_gives_the_same_and_leaves_the_classifier_alone(self, classifier, clip):
        before = {name: value.clone() for name, value in classifier.state_dict().items()}
        state = torch.random.get_rng_state()
        settings = ExplainSettings(stages=("frames", "waveform"))
        assert diagnose(classifier, clip, settings=settings) == diagnose(classifier, clip, settings=settings)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())

    def test_unlikeness_is_one_for_the_clips_that_the_head_was_fitted_to(self, build_classifier, clip):
        classifier = build_classifier(layer=0, pooling="mean")
        norm = classifier.head.mlp[0]
        assert probe(classifier, clip)["clip_unlikeness"] is None  # no statistics of training clips yet
        with torch.no_grad():
            pooled = classifier.encoder(classifier.frontend(clip[None]))[:, 0].mean(1)[0]
        norm.num_batches_tracked.fill_(1)
        norm.running_mean.copy_(pooled - 2.0)
        norm.running_var.fill_(4.0 - norm.eps)
        assert probe(classifier, clip)["clip_unlikeness"] == pytest.approx(1.0, rel=1e-4)
        norm.running_mean.copy_(pooled - 20.0)
        found = probe(classifier, clip)
        assert found["clip_unlikeness"] == pytest.approx(10.0, rel=1e-4)
        assert any(
            "clip is unlike the training clips" in words for words in messages(baseline_diagnostics(found))
        )

    @pytest.mark.parametrize(
        ("changes", "name", "message"),
        [
            ({"early_shares": {"frames": 0.4}}, "ill_posed_baseline", "40% of the score difference arises"),
            ({"baseline_probability": 0.9}, "baselines_predicted_as_target", "predicted as sad"),
            ({"clip_unlikeness": 4.0}, "clip_out_of_distribution", "The clip is unlike"),
            ({"baseline_unlikeness": 5.0}, "baselines_out_of_distribution", "(noise) are unlike"),
        ],
    )
    def test_each_finding_is_one_diagnostic(self, changes, name, message):
        (found,) = baseline_diagnostics(checks(**changes))
        assert (found.name, found.severity) == (name, "warning")
        assert message in found.message

    def test_a_well_posed_baseline_has_none(self):
        assert list(baseline_diagnostics(checks())) == []
        assert list(baseline_diagnostics(checks(clip_unlikeness=None, baseline_unlikeness=None))) == []
        assert json.loads(json.dumps(checks()))["early_shares"] == {"frames": 0.01}

    def test_of_several_targets_the_prediction_is_probed(self, classifier, clip):
        settings = ExplainSettings(stages=("frames",))
        every, predicted = (
            diagnose(classifier, clip, name, settings=settings) for name in ("all", "predicted")
        )
        assert every == predicted

    @pytest.mark.parametrize(
        ("norm", "normalize", "ill"), [("layer", False, False), ("group", False, True), ("layer", True, True)]
    )
    def test_silence_is_ill_posed_where_gain_makes_no_difference(
        self, build_classifier, clip, norm, normalize, ill
    ):
        classifier = build_classifier(norm, normalize=normalize)
        found = explain(classifier, clip, baselines="silence", stages=["layers"], num_draws=4)
        (reasons,) = found.diagnostics.values()
        assert any("ill-posed" in words for words in messages(reasons)) is ill
        with torch.no_grad():
            loud, quiet = (
                classifier.frontend(level * clip[None], torch.tensor([len(clip)])) for level in (1.0, 0.3)
            )
        assert torch.allclose(loud, quiet, atol=1e-2) is ill


class TestAttributions:
    @pytest.fixture
    def certain(self, three_paths):
        """Attributions without a gap, all of whose frames are resolved, and levels that are all speech."""
        attributions = {name: replace(found, gap=(0.0,)) for name, found in three_paths.attributions.items()}
        views = attributions["frames"].views
        sure = replace(views["frames"], stderr=1e-9 * views["frames"].stderr)
        attributions["frames"] = replace(attributions["frames"], views={**views, "frames": sure})
        return attributions

    @staticmethod
    def diagnosed(attributions, **changes):
        changed = {**attributions, "frames": replace(attributions["frames"], **changes)}
        num_frames = attributions["frames"].views["frames"].values.shape[1]
        return list(attribution_diagnostics(changed, 0, torch.zeros(num_frames)))

    def test_none_are_due(self, certain):
        assert self.diagnosed(certain) == []

    def test_a_large_gap(self, certain):
        found = certain["frames"]
        whole = max(abs(found.score[0] - found.mean_baseline_score[0]), found.baseline_score_std[0])
        assert self.diagnosed(certain, gap=(0.09 * whole,)) == []
        (one,) = self.diagnosed(certain, gap=(-0.11 * whole,))
        assert one.value == pytest.approx(0.11)
        assert "gap of the path from the frames is 11% (before correction)" in one.message

    def test_frames_that_are_mostly_noise(self, certain):
        views = certain["frames"].views
        unsure = replace(views["frames"], stderr=views["frames"].values.abs())
        (one,) = self.diagnosed(certain, views={**views, "frames": unsure})
        assert one.name == "unresolved_frames"
        assert "hold 100% of the attribution" in one.message

    def test_a_tolerance_that_was_not_reached(self, certain):
        unresolved = torch.zeros_like(certain["frames"].views["frames"].values, dtype=torch.bool)
        unresolved[0, 3] = True
        (one,) = self.diagnosed(certain, unresolved=unresolved, draws_needed=500)
        assert one.message.startswith("The tolerance was not reached (frames): 1 of ")

    def test_attributions_outside_speech(self, certain):
        values = certain["frames"].views["frames"].values[0]
        level_db = torch.where(values.abs() >= values.abs().median(), -80.0, 0.0)
        (one,) = list(attribution_diagnostics(certain, 0, level_db))
        assert "properties of the recordings instead of the voices" in one.message


@pytest.mark.parametrize(("native_rate", "top_hz"), [(8000, [4000.0]), (16_000, []), (48_000, [])])
def test_empty_upper_bands_of_a_file_are_noted(native_rate, top_hz, classifier, tmp_path):
    drawn = np.random.default_rng(0).uniform(-0.1, 0.1, native_rate // 4)
    save_audio(tmp_path / "call.wav", drawn, sample_rate=native_rate)
    found = tuple(diagnose(classifier, tmp_path / "call.wav", "happy"))
    assert [one.value for one in found if one.name == "empty_bands"] == top_hz
    assert (
        found
        == explain(classifier, tmp_path / "call.wav", num_draws=2, target="happy").diagnostics["happy"][
            : len(found)
        ]
    )


def test_terminal_json_figure_and_page_show_the_same_list(three_paths, clip, tmp_path, capsys):
    found = (Diagnostic("engine", "warning", "Take more draws."), Diagnostic("segments", "note", "No words."))
    explanation = replace(three_paths, diagnostics={"happy": found})
    saved = explanation.to_saved_clip()
    assert saved.numbers["diagnostics"] == [vars(one) for one in found]

    view = ClipView.from_saved(saved, "clip.wav", clip.numpy())
    recording = Clip(tmp_path / "clip.wav", "happy")
    described = ExplainedClip(recording, explanation, saved, clip.numpy(), seconds=0.0)
    describe(described, [view], "", brief=False)
    printed = capsys.readouterr().out
    drawn = [text.get_text() for text in plot(explanation, clip).findobj(Text)]
    page = build_report([view], title="One")
    for one in found:
        assert printed.count(one.message) == page.count(one.message) == 1
        assert sum(one.message in words for words in drawn) == 1
