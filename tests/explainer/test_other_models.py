"""A model of Hugging Face, and an export, are explained like a classifier trained here."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from transformers import (
    SEWConfig,
    SEWForSequenceClassification,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WavLMForSequenceClassification,
)

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.measure import measure
from wavshap_lightning.evaluation.summary import family_agreement
from wavshap_lightning.explainer.compare import compare
from wavshap_lightning.explainer.diagnostics import diagnose
from wavshap_lightning.explainer.explainer import Explainer, explain
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.viz.figures import plot

SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (12, 12, 12, 12),
    "conv_kernel": (10, 3, 3, 3),
    "conv_stride": (5, 2, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_buckets": 16,
    "max_bucket_distance": 20,
}
VIEWS = ("frames", "layers", "waveform")

pytestmark = pytest.mark.filterwarnings("ignore:.*the final norm:UserWarning")


@pytest.fixture(params=[False, True], ids=["last layer", "weighted sum"])
def folder(request, tmp_path):
    config = WavLMConfig(
        **SHAPE,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        use_weighted_layer_sum=request.param,
        id2label={0: "angry", 1: "happy", 2: "sad"},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WavLMForSequenceClassification(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "model")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_all_views_of_a_model_of_hugging_face_add_up_to_its_score(folder, clip):
    found = explain(folder, clip, target="happy", stages=VIEWS, num_baselines=4, num_draws=64)
    classifier = load_classifier(folder)
    with torch.no_grad():
        probability = classifier(clip[None]).softmax(1)[0, 1]
    assert found.probabilities["happy"] == pytest.approx(float(probability), abs=1e-5)
    for attribution in found.attributions.values():
        expected = attribution.score[0] - attribution.mean_baseline_score[0]
        assert expected == pytest.approx(
            float(torch.logit(probability)) - attribution.mean_baseline_score[0], abs=1e-4
        )
        assert attribution.relative_gap[0] < 0.1
        for view in attribution.views.values():
            assert float(view.values.sum()) == pytest.approx(expected, abs=1e-4)


def test_an_export_is_explained_the_same(folder, tmp_path, clip):
    exported = tmp_path / "mine"
    load_classifier(folder).save_pretrained(exported)
    one, other = (
        explain(str(model), clip, target="sad", stages=VIEWS[:2], num_draws=64)
        for model in (folder, exported)
    )
    for stage in VIEWS[:2]:
        assert torch.equal(one.values(stage, "frames"), other.values(stage, "frames"))


@pytest.mark.parametrize(
    ("named", "own", "used"),
    [
        (VIEWS, ("waveform", "frames"), ("frames", "waveform")),
        (("layers", "frames"), ("waveform",), ("waveform",)),
        (("layers",), ("waveform", "frames"), ("frames", "waveform")),
    ],
)
def test_a_model_without_some_stages_is_explained_by_its_others(build_classifier, clip, named, own, used):
    classifier = build_classifier()
    expected = explain(classifier, clip, target="sad", stages=used, num_draws=8)
    classifier.backbone.stages = own
    found = explain(classifier, clip, target="sad", stages=named, num_draws=8)
    assert (*found.attributions,) == found.settings.stages == used
    for stage in used:
        assert torch.equal(found.values(stage, "frames"), expected.values(stage, "frames"))
    note, *rest = found.diagnostics["sad"]
    assert (note.severity, "not to its layers" in note.message) == ("note", own != ("waveform",))
    assert rest == list(expected.diagnostics["sad"])
    assert note in diagnose(classifier, clip, "sad")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot(found, clip)


def test_models_are_compared_at_the_stages_that_both_have(build_classifier, clip):
    first = Explainer(build_classifier(), ExplainSettings(stages=("frames", "layers")))
    second = build_classifier()
    second.backbone.stages = ("waveform", "frames")
    found = compare(first, second, clip, first.explain(clip))
    assert found.differences.keys() == {("frames", "frames")}


def test_a_model_known_as_a_whole_is_explained_by_its_waveform(tmp_path, clip):
    shape = {name: value for name, value in SHAPE.items() if "bucket" not in name and "max_" not in name}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SEWForSequenceClassification(SEWConfig(**shape, use_weighted_layer_sum=True, num_labels=3))
    model.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    found = explain(tmp_path, clip.repeat(3), target="LABEL_1", num_baselines=2, num_draws=16)
    assert (*found.attributions,) == ("waveform",)
    assert any("its waveform alone" in one.message for one in found.diagnostics["LABEL_1"])
    attribution = found.attributions["waveform"]
    total = attribution.score[0] - attribution.mean_baseline_score[0]
    assert float(found.values("waveform", "frames").sum()) == pytest.approx(total, abs=1e-4)


def test_settings_that_need_a_missing_stage_are_refused(build_classifier, clip):
    classifier = build_classifier()
    classifier.backbone.stages = ("waveform",)
    for settings in ({"method": "occlusion", "stages": ("frames",)}, {"layer": 1}):
        with pytest.raises(SettingError, match="this model has waveform alone"):
            explain(classifier, clip, **settings)
    agreement = family_agreement(Explainer(classifier), clip, "sad", families=("noise", "time_shifted"))
    assert agreement.keys() == {("noise", "time_shifted")}
    with pytest.raises(SettingError, match="removes frames, which this model does not have"):
        measure(classifier, [Clip(Path("a.wav"), "sad")])


def test_doubts_about_a_model_are_among_the_diagnostics_of_every_clip(folder, clip):
    classifier = load_classifier(folder)
    found = explain(classifier, clip, target="all", num_draws=8)
    weighted = classifier.head.settings.layer == "learned"
    assert any("after the final norm" in message for message in classifier.warnings) == weighted
    for diagnostics in found.diagnostics.values():
        assert [one.message for one in diagnostics if one.name == "model"] == list(classifier.warnings)
