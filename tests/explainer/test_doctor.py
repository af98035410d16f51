"""The baseline doctor finds what is ill-posed, keeps quiet where nothing is, and touches nothing."""

from __future__ import annotations

import json

import pytest
import torch

from wavshap_lightning.explainer.diagnostics import Checkup, examine
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.settings import ExplainSettings

SOUND = {"early_shares": {"frames": 0.01}, "level_response": 0.5, "baseline_probability": 0.2}


def checkup(**changes):
    values = {
        "target": "sad",
        "baselines": "noise",
        "clip_unlikeness": 1.0,
        "baseline_unlikeness": 1.2,
        **SOUND,
    }
    return Checkup(**{**values, **changes})


def probe(classifier, clip, **settings):
    return examine(Explainer(classifier, ExplainSettings(stages=("frames", "waveform"), **settings)), clip)


def test_silence_is_ill_posed_for_a_model_with_group_norm(build_classifier, clip):
    classifier = build_classifier("group")
    found = probe(classifier, clip, baselines="silence", method="integrated_gradients", decibels=True)
    assert abs(found.early_shares["waveform"]) > 0.5
    assert abs(found.level_response) < 0.05
    assert "ill-posed" in found.warnings[0]
    assert "divides the level" in found.warnings[0]
    noise = probe(classifier, clip)
    assert abs(noise.early_shares["waveform"]) < 0.1
    assert not any("path from the waveform" in words for words in noise.warnings)


def test_an_even_path_has_its_hundredth_in_the_first_hundredth(classifier, clip):
    """Along a straight line at the frames a score that is nearly linear changes evenly."""
    with torch.no_grad():
        found = probe(classifier, clip, score="logit")
    assert -0.05 < found.early_shares["frames"] < 0.1


def test_same_seed_same_checkup_and_the_classifier_is_as_it_was(classifier, clip):
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    state = torch.random.get_rng_state()
    assert probe(classifier, clip) == probe(classifier, clip)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_unlikeness_is_one_for_what_the_head_was_fitted_to(build_classifier, clip):
    classifier = build_classifier(layer=0, pooling="mean")
    norm = classifier.head.mlp[0]
    assert probe(classifier, clip).clip_unlikeness is None  # nothing is known of training clips yet
    with torch.no_grad():
        pooled = classifier.encoder(classifier.frontend(clip[None]))[:, 0].mean(1)[0]
    norm.num_batches_tracked.fill_(1)
    norm.running_mean.copy_(pooled - 2.0)
    norm.running_var.fill_(4.0 - norm.eps)
    assert probe(classifier, clip).clip_unlikeness == pytest.approx(1.0, rel=1e-4)
    norm.running_mean.copy_(pooled - 20.0)
    found = probe(classifier, clip)
    assert found.clip_unlikeness == pytest.approx(10.0, rel=1e-4)
    assert any("clip is unlike the training clips" in words for words in found.warnings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"early_shares": {"frames": 0.4}}, "40% of what is explained arises in the first hundredth"),
        ({"baseline_probability": 0.9}, "themselves sound like sad"),
        ({"clip_unlikeness": 4.0}, "The clip is unlike"),
        ({"baseline_unlikeness": 5.0}, "The baselines (noise) are unlike"),
    ],
)
def test_each_finding_is_said_once(changes, said):
    (words,) = checkup(**changes).warnings
    assert said in words


def test_a_sound_checkup_says_nothing_and_is_plain():
    assert checkup().warnings == []
    assert checkup(clip_unlikeness=None, baseline_unlikeness=None).warnings == []
    assert json.loads(json.dumps(checkup().to_dict()))["early_shares"] == {"frames": 0.01}


def test_of_several_targets_the_prediction_is_probed(classifier, clip):
    explainer = Explainer(classifier, ExplainSettings(stages=("frames",)))
    assert examine(explainer, clip, "all") == examine(explainer, clip, "predicted")
