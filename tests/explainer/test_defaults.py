"""Stage and baselines where none are named: the rule row by row, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from single_call import attribute

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.views.frames import summed
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.explainer.defaults import (
    MIN_REFERENCES,
    NUM_REFERENCES,
    REFERENCE_DRAWS,
    choose_stages,
    draw_references,
)
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import DEFAULT_DRAWS, ExplainSettings

ALL = ("waveform", "frames", "layers")
DECIBELS = {"method": "integrated_gradients", "decibels": True, "baselines": "silence"}


@pytest.mark.parametrize(
    ("asked", "has", "read", "chosen"),
    [
        ({"method": "occlusion"}, ALL, "learned", "frames"),
        (DECIBELS, ALL, "learned", "waveform"),
        ({"layer": 1}, ALL, 0, "layers"),
        ({}, ALL, "learned", "layers"),
        ({}, ALL, "last", "layers"),
        ({}, ALL, 0, "frames"),  # the input of the transformer
        ({}, ("waveform", "frames"), "learned", "frames"),
        ({}, ("waveform",), "learned", "waveform"),
    ],
)
def test_the_stage_follows_from_what_is_asked_and_what_the_head_reads(
    asked, has, read, chosen, build_classifier
):
    classifier = build_classifier(layer=read)
    classifier.backbone.stages = has
    settings, reasons = choose_stages(ExplainSettings(**asked), classifier)
    assert settings.stages == (chosen,)
    assert reasons.keys() == {"stages"}
    assert choose_stages(settings, classifier) == (settings, {})


def test_reasons_are_told_and_gone_where_settings_are_named(classifier, clip, tmp_path):
    found = explain(classifier, clip, num_draws=8)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["reasons"].keys() == {"stages", "baselines"}
    assert all(plain["reasons"].values())
    assert (plain["settings"]["stages"], plain["settings"]["baselines"]) == (["layers"], "noise")
    named = explain(classifier, clip, stages=("layers",), baselines="noise", num_draws=8)
    assert named.to_dict()["reasons"] == {}
    assert torch.equal(named.frame_values(), found.frame_values())
    found.save(tmp_path / "found")
    assert Explanation.load(tmp_path / "found").reasons == found.reasons


def test_the_map_in_time_is_of_the_layers_where_frames_were_not_explained(classifier, clip, three_paths):
    for found, stage in ((explain(classifier, clip, num_draws=8), "layers"), (three_paths, "frames")):
        plain = found.to_dict()
        assert plain["time_stage"] == found.time_stage == stage
        assert plain["frames"]["attribution"] == found.values(stage, "frames").tolist()
        assert torch.equal(found.frame_values(), found.values(stage, "frames"))


def test_frames_of_the_layers_are_their_sum_with_an_error_of_its_own(classifier, clip):
    found = explain(classifier, clip, target="happy", stages=["layers"])
    views = found.attributions["layers"].views
    frames, cells = views["frames"], views["layer_frame"]
    torch.testing.assert_close(frames.values, cells.values.sum(1), rtol=1e-4, atol=1e-5)
    assert float(frames.stderr.norm()) < float(cells.stderr.sum(1).norm())
    inputs = classifier.encoder(classifier.frontend(clip[None]))[0]
    expected = attribute(
        gradient_shap,
        classifier.head,
        inputs,
        found.attributions["layers"].target,
        noise(clip).through(classifier.frontend).through(classifier.encoder),
        generator=0,
        stopping=None,
        views=(summed(0, 2, name="frames", smooth_variance=True),),
    ).views["frames"]
    torch.testing.assert_close(frames.values, expected.values, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(frames.stderr, expected.stderr, rtol=1e-3, atol=1e-7)


def test_recordings_at_hand_are_baselines_if_there_are_enough(build_classifier, clip):
    regressor = build_classifier(labels=("arousal", "valence"), task="dimensions")
    others = [clip.roll(100 * index) for index in range(1, MIN_REFERENCES + 1)]
    enough = explain(regressor, clip, recordings=others, num_draws=8)
    too_few = explain(regressor, clip, recordings=others[1:], num_draws=8)
    named = explain(regressor, clip, baselines="other_clips", recordings=others, num_draws=8)
    assert (enough.settings.baselines, too_few.settings.baselines) == ("other_clips", "noise")
    assert torch.equal(enough.frame_values(), named.frame_values())
    assert torch.equal(too_few.frame_values(), explain(regressor, clip, num_draws=8).frame_values())


def test_layers_take_more_draws_from_recordings_which_pass_through_the_head_alone(build_classifier, clip):
    regressor = build_classifier(labels=("arousal", "valence"), task="dimensions")
    others = [clip.roll(100 * index) for index in range(1, MIN_REFERENCES + 1)]

    def draws(**settings):
        return explain(regressor, clip, **settings).attributions["layers"].num_draws

    assert (draws(recordings=others), draws()) == (REFERENCE_DRAWS, DEFAULT_DRAWS)
    assert draws(recordings=others, stages=("layers", "frames")) == DEFAULT_DRAWS
    assert draws(recordings=others, num_draws=16) == 16


def test_a_recording_that_begins_with_silence_longer_than_the_clip_is_left_out(build_classifier, clip):
    regressor = build_classifier(labels=("arousal", "valence"), task="dimensions")
    others = [clip.roll(100 * index) for index in range(1, MIN_REFERENCES + 1)]
    late = torch.cat([torch.zeros_like(clip), clip])
    found = explain(regressor, clip, recordings=[late, *others], num_draws=8)
    alone = explain(regressor, clip, recordings=others, num_draws=8)
    assert found.settings.baselines == "other_clips"
    assert torch.equal(found.frame_values(), alone.frame_values())


def test_more_baselines_than_there_are_recordings_are_noise(build_classifier, clip):
    regressor = build_classifier(labels=("arousal", "valence"), task="dimensions")
    others = [clip.roll(100 * index) for index in range(1, MIN_REFERENCES + 2)]
    found = explain(regressor, clip, recordings=others, num_baselines=16, num_draws=16)
    assert found.settings.baselines == "noise"


def test_references_are_some_of_the_clips_and_always_the_same():
    clips = [Clip(Path(f"{index}.wav"), "sad") for index in range(2 * NUM_REFERENCES)]
    drawn = draw_references(clips)
    assert len(drawn) == NUM_REFERENCES + 1  # so that there are enough without the clip itself
    assert len({clip.path for clip in drawn} & {clip.path for clip in clips}) == len(drawn)
    assert draw_references(clips) == drawn != clips[: len(drawn)]
