"""A model of Hugging Face, and an export, are explained like a classifier trained here."""

from __future__ import annotations

import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForSequenceClassification

from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.models.loading import load_classifier

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
    one, other = (explain(str(model), clip, target="sad", num_draws=64) for model in (folder, exported))
    assert torch.equal(one.values("frames", "frames"), other.values("frames", "frames"))


def test_doubts_about_a_model_are_among_the_diagnostics_of_every_clip(folder, clip):
    classifier = load_classifier(folder)
    found = explain(classifier, clip, target="all", num_draws=8)
    weighted = classifier.head.settings.layer == "learned"
    assert any("after the final norm" in message for message in classifier.warnings) == weighted
    for diagnostics in found.diagnostics.values():
        assert [one.message for one in diagnostics if one.name == "model"] == list(classifier.warnings)
