"""Outputs that are not classes: labels with their own probabilities, and values of dimensions."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors import safe_open

from wavshap_lightning.attribution.baselines import noise
from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AttributionError, SettingError
from wavshap_lightning.explainer.compare import compare, plain_comparisons
from wavshap_lightning.explainer.diagnostics import diagnose
from wavshap_lightning.explainer.explainer import Explainer, explain
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.files import load_clip, save_clip
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.stage_attribution import fingerprint
from wavshap_lightning.models.head import Outputs, Task

LABELS, DIMENSIONS = ("angry", "happy", "sad"), ("arousal", "dominance", "valence")
STAGES = ("frames", "layers", "waveform")


@pytest.fixture(scope="module")
def regressor(build_classifier):
    return build_classifier(labels=DIMENSIONS, task="dimensions")


@pytest.fixture(scope="module")
def tagger(build_classifier):
    return build_classifier(task="labels")


@pytest.fixture(scope="module")
def of_values(regressor, clip):
    return explain(regressor, clip, stages=STAGES, num_baselines=4)


@pytest.fixture(scope="module")
def of_labels(tagger, clip):
    return explain(tagger, clip, stages=("frames", "layers"), num_draws=16)


# Values of dimensions


def test_values_are_explained_completely(regressor, clip, of_values):
    """All dimensions at once: a sum is the value, minus its mean over the baselines."""
    baselines = noise(clip).declare(4, torch.Generator().manual_seed(0)).values
    with torch.no_grad():
        values = regressor(clip[None])[0]
        explained = values - regressor(baselines).mean(0)
    assert of_values.targets == DIMENSIONS
    assert explained.abs().max() > 0.1
    for attribution in of_values.attributions.values():
        for view in attribution.views.values():
            sums = view.values.flatten(1).sum(1)
            torch.testing.assert_close(sums.float(), explained, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(torch.tensor([*of_values.outputs.values()]), values, rtol=1e-5, atol=1e-5)


def test_values_predict_nothing(of_values):
    assert (of_values.prediction, of_values.probabilities) == ("", {})
    assert of_values.score == pytest.approx(of_values.outputs)
    assert of_values.default_target == "arousal"
    assert "prediction" not in repr(of_values)
    numbers = of_values.to_dict()
    assert numbers["values"] == of_values.outputs
    assert not {"prediction", "probabilities"} & numbers.keys()
    assert numbers["settings"]["score"] == "value"


def test_a_margin_of_two_dimensions_is_the_difference_of_their_values(regressor, clip):
    asked = {"stages": ("frames", "layers"), "num_baselines": 4}
    found = explain(regressor, clip, target="valence-vs-arousal", **asked)
    first, second = (explain(regressor, clip, target=one, **asked) for one in ("valence", "arousal"))
    for stage in asked["stages"]:
        difference = first.values(stage, "frames") - second.values(stage, "frames")
        torch.testing.assert_close(found.values(stage, "frames"), difference, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("task", ["labels", "dimensions"])
def test_a_single_output_is_explained(task, build_classifier, clip):
    found = explain(build_classifier(labels=("arousal",), task=task), clip, num_baselines=2)
    assert found.targets == ("arousal",)
    assert found.score["arousal"] == pytest.approx(found.logits[0], abs=1e-5)


# Labels


def test_labels_have_probabilities_of_their_own(tagger, clip, of_labels):
    with torch.no_grad():
        logits = tagger(clip[None])[0]
    probabilities = torch.tensor([*of_labels.probabilities.values()])
    torch.testing.assert_close(probabilities, logits.sigmoid(), rtol=1e-5, atol=1e-5)
    assert abs(float(probabilities.sum()) - 1.0) > 0.1
    assert of_labels.targets == (tagger.labels[int(logits.argmax())],) == (of_labels.prediction,)
    assert of_labels.score[of_labels.prediction] == pytest.approx(float(logits.max()), abs=1e-5)
    assert of_labels.settings.score == "logit"


@pytest.mark.parametrize(("task", "alike"), [("labels", True), ("dimensions", True), ("classes", False)])
def test_an_output_is_explained_whatever_the_others_are(task, alike, build_classifier, clip):
    classifier, other = build_classifier(task=task), build_classifier(task=task)
    with torch.no_grad():
        other.head.mlp[-1].weight[1:] *= -2.0
    one, two = (explain(each, clip, target="angry", num_draws=8) for each in (classifier, other))
    assert torch.equal(one.frame_values(), two.frame_values()) == alike


def test_the_log_odds_of_a_label_are_its_logit(tagger, clip, of_labels):
    again = explain(tagger, clip, stages=("frames", "layers"), score="logit", num_draws=16)
    assert torch.equal(again.values("frames", "frames"), of_labels.values("frames", "frames"))
    assert again.settings == of_labels.settings


# Distributions of votes

VOTES = (("sad", 3.0), ("angry", 1.0), ("bored", 2.0), ("happy", 0.0))


@pytest.fixture(scope="module")
def voted_on(clip, tmp_path_factory):
    """The clip as a file with the votes of listeners, and with values."""
    path = tmp_path_factory.mktemp("voted") / "clip.wav"
    save_audio(path, clip.numpy(), sample_rate=16_000)
    return Clip(path, "sad", votes=VOTES, values=(("arousal", 5.5), ("valence", 2.0)))


@pytest.fixture(scope="module")
def of_votes(build_classifier, voted_on):
    return explain(build_classifier(task="distribution"), voted_on, num_draws=8)


@pytest.fixture(scope="module")
def of_annotated(build_classifier, voted_on):
    regressor = build_classifier(labels=[Outputs("dimensions", DIMENSIONS, (1.0, 7.0))])
    return explain(regressor, voted_on, num_draws=8)


def test_a_distribution_is_explained_as_classes_are(classifier, voted_on, of_votes):
    of_classes = explain(classifier, voted_on, num_draws=8)
    assert of_votes.outputs == of_classes.outputs
    assert torch.equal(of_votes.frame_values(), of_classes.frame_values())
    assert of_votes.settings.score == "log_odds"
    assert of_votes.to_dict()["votes"] == of_classes.to_dict()["votes"] == dict(VOTES)
    assert explain(classifier, voted_on, score="probability", num_draws=2).settings.score == "probability"


def test_the_margin_of_the_listeners_is_that_of_their_first_and_second_choice(classifier, voted_on):
    """Votes for other labels, which a model cannot choose, are left out."""
    found, named = (
        explain(classifier, voted_on, target=one, num_draws=8) for one in ("listeners", "sad-vs-angry")
    )
    assert found.targets == named.targets == ("sad-vs-angry",)
    assert torch.equal(found.frame_values(), named.frame_values())


def test_a_margin_of_listeners_needs_votes_in_one_line(classifier, regressor, clip):
    with pytest.raises(AttributionError, match=r"^target='listeners' needs votes for two .* for none$"):
        explain(classifier, clip, target="listeners")
    for name in ("listeners", "second"):
        with pytest.raises(AttributionError, match=f"^target='{name}' is not a dimension of this classifier"):
            explain(regressor, clip, target=name)


@pytest.mark.parametrize("task", ["classes", "distribution", "labels"])
def test_second_is_the_second_largest_output(task, build_classifier, clip):
    classifier = build_classifier(task=task)
    found = explain(classifier, clip, target="second", num_draws=4)
    first, second, _ = sorted(found.outputs, key=found.outputs.__getitem__, reverse=True)
    assert (found.prediction, found.targets) == (first, (second,))
    margin = explain(classifier, clip, target="predicted-vs-second", num_draws=4)
    assert margin.targets == (f"{first}-vs-{second}",)
    assert margin.score[margin.targets[0]] > 0


def test_what_is_known_of_a_clip_is_told_and_nothing_else(of_annotated, of_values, three_paths, tmp_path):
    assert {"scale", "votes", "annotated_values"} <= of_annotated.to_dict().keys()
    assert of_annotated.to_dict()["annotated_values"] == {"arousal": 5.5, "valence": 2.0}
    for found in (of_values, three_paths):
        found.save(tmp_path / "clip.safetensors")
        with safe_open(tmp_path / "clip.safetensors", framework="pt") as file:
            header = json.loads(file.metadata()["explanation"])
        assert not {"scale", "votes", "annotated_values"} & {*header, *found.to_dict()}


# Several tasks


@pytest.mark.parametrize(
    ("target", "labels"),
    [("happy", LABELS), ("predicted", LABELS), ("valence", DIMENSIONS), ("arousal-vs-valence", DIMENSIONS)],
)
def test_of_several_tasks_the_one_with_the_target_is_explained(target, labels, build_classifier, clip):
    outputs = [Outputs("classes", LABELS), Outputs("dimensions", DIMENSIONS, (1.0, 7.0))]
    classifier = build_classifier(labels=outputs)
    with torch.no_grad():
        logits = classifier(clip[None])[0]
    found = explain(classifier, clip, target=target, num_draws=4)
    assert found.labels == labels
    own = logits[:3] if labels == LABELS else logits[3:]
    np.testing.assert_allclose(found.logits, own, rtol=1e-5, atol=1e-5)
    assert found.scale == (None if labels == LABELS else (1.0, 7.0))


# Both


@pytest.mark.parametrize(
    ("task", "score"),
    [
        ("classes", "value"),
        ("distribution", "value"),
        *(("labels", score) for score in ("value", "probability", "log_probability")),
        *(("dimensions", score) for score in ("logit", "probability", "log_probability")),
    ],
)
def test_a_score_that_the_outputs_lack_is_refused(task, score, build_classifier, clip):
    with pytest.raises(SettingError, match=f"score='{score}' does not exist for {task}; leave it out"):
        explain(build_classifier(task=task), clip, score=score)


def test_a_dimension_that_is_missing_is_told(regressor, build_classifier, clip):
    with pytest.raises(AttributionError, match=r"'joy' is not a dimension of this .* are arousal, dominance"):
        explain(regressor, clip, target="joy")
    with pytest.raises(AttributionError, match=r"dimensions are arousal; use one, 'predicted', 'all'$"):
        explain(build_classifier(labels=("arousal",), task="dimensions"), clip, target="joy")


@pytest.mark.parametrize("kind", ["of_values", "of_labels", "of_votes", "of_annotated"])
def test_an_explanation_comes_back_from_its_files(kind, request, tmp_path):
    found = request.getfixturevalue(kind)
    found.save(tmp_path / "clip.safetensors")
    again = Explanation.load(tmp_path / "clip.safetensors")
    for name in ("task", "outputs", "targets", "scale", "votes", "annotated_values"):
        assert getattr(again, name) == getattr(found, name)
    saved = found.to_saved_clip()
    save_clip(saved, tmp_path, "clip")
    assert load_clip(tmp_path, "clip").numbers == json.loads(json.dumps(saved.numbers))
    assert saved.numbers["task"] == found.task


def test_only_files_of_other_tasks_are_refused_by_older_readers(three_paths, of_values, of_labels, tmp_path):
    for found, version in ((three_paths, 2), (of_values, 3), (of_labels, 3)):
        found.save(tmp_path / "clip.safetensors")
        with safe_open(tmp_path / "clip.safetensors", framework="pt") as file:
            header = json.loads(file.metadata()["explanation"])
        assert header["format"] == found.to_dict()["format"] == version
        assert ("task" in header) == ("task" in found.to_dict()) == (version == 3)


def test_baselines_have_a_probability_where_outputs_have(tagger, clip, of_values, of_labels):
    assert of_values.baseline_checks["baseline_probability"] is None
    baselines = noise(clip).draw(4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tagger(baselines).sigmoid()[:, tagger.labels.index(of_labels.prediction)].mean()
    assert of_labels.baseline_checks["baseline_probability"] == pytest.approx(float(expected), abs=1e-5)


def test_all_dimensions_are_diagnosed_by_the_first(regressor, clip):
    assert all(one.message for one in diagnose(regressor, clip))


def test_two_regressors_are_compared(regressor, build_classifier, clip):
    other = build_classifier(labels=DIMENSIONS, task="dimensions")
    with torch.no_grad():
        other.head.mlp[-1].weight.mul_(1.5)
    explainer = Explainer(regressor, ExplainSettings(stages=("frames", "layers"), num_draws=8))
    found = compare(explainer, other, clip, explainer.explain(clip))
    assert found.target == "arousal"
    half = found.differences["frames", "frames"]
    np.testing.assert_allclose(half.values, 0.5 * half.first.values[0], rtol=1e-3, atol=1e-5)
    for model in plain_comparisons([found], ["one", "two"])["models"]:
        assert list(model["values"]) == list(DIMENSIONS)
        assert "prediction" not in model


def test_models_of_different_outputs_are_not_compared(regressor, tagger, clip):
    explainer = Explainer(regressor, ExplainSettings(num_draws=2))
    with pytest.raises(SettingError, match=r"models of dimensions \(.*\) and of labels \("):
        compare(explainer, tagger, clip, explainer.explain(clip))


def test_the_same_weights_with_another_meaning_are_another_model(build_classifier):
    tasks = get_args(Task)
    assert len({fingerprint(build_classifier(task=task)) for task in tasks}) == len(tasks) == 4
