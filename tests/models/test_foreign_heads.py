"""Laws of heads of other projects, against their published forward pass, clip by clip."""

from __future__ import annotations

import warnings

import pytest
import torch
from published import AUDEERING, CASES, HYPERPARAMS, ODYSSEY, VOX_PROFILE, save_head, weights_of
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.loading import load_classifier


@pytest.fixture
def publish(build_model, generator, tmp_path):
    """`(case, change=...) -> (model, weights, folder)`, with the weights of the head changed."""

    def publish(case, change=lambda weights: weights):
        model = build_model(case.family, case.norm).eval()
        weights = change(weights_of(case.shapes, generator))
        return model, weights, save_head(case, model, weights, tmp_path / "published")

    return publish


def open_quietly(folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_classifier(folder, **options)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_outputs_are_the_published_ones_in_any_batch(name, publish, padded_batch):
    case = CASES[name]
    model, weights, folder = publish(case)
    classifier, (waveforms, lengths) = open_quietly(folder), padded_batch
    clips = [clip[None, :length] for clip, length in zip(waveforms, lengths, strict=True)]
    expected = torch.cat([case.forward(model, weights, clip) for clip in clips])
    alone, padded = torch.cat([classifier(clip) for clip in clips]), classifier(waveforms, lengths)
    for found in (alone, padded):
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert expected.std(0).max() > 0.02
    assert (classifier.labels, classifier.task) == (case.labels, case.task)


# What holds besides


def test_the_assumed_activation_is_told(publish):
    _, _, folder = publish(CASES["ehcalabres"])
    with pytest.warns(UserWarning, match=r"activation of its head is not published; tanh is assumed"):
        classifier = load_classifier(folder)
    assert any("tanh is assumed" in text for text in classifier.warnings)


def test_the_code_of_a_known_layout_is_not_needed_and_not_run(publish, tmp_path):
    _, _, folder = publish(ODYSSEY)
    (folder / "pipeline_utils.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    assert open_quietly(folder).labels == ODYSSEY.labels
    assert not (tmp_path / "run").exists()


def test_tags_of_hyperparameters_are_not_heeded(publish):
    _, _, folder = publish(CASES["speechbrain"])
    open_quietly(folder)
    assert not (folder / "facebook").exists()


def test_a_folder_of_speechbrain_needs_no_config(publish):
    _, _, folder = publish(CASES["speechbrain"])
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has shape \(32,\), but its config.json asks for \(768,\)"):
        load_classifier(folder)  # that has the geometry of wav2vec2 base


def test_speechbrain_without_norm_is_a_mean(publish, clip):
    model, weights, folder = publish(CASES["speechbrain"])
    (folder / "hyperparams.yaml").write_text(HYPERPARAMS.replace("output_norm: True", "output_norm: False"))
    with torch.no_grad():
        expected = model(F.layer_norm(clip, clip.shape)).last_hidden_state.mean(1) @ weights["0.w.weight"].T
        torch.testing.assert_close(open_quietly(folder)(clip), expected, rtol=1e-5, atol=1e-5)


def test_the_final_norm_may_be_given_for_a_mix_of_layers_alone(publish):
    _, _, folder = publish(VOX_PROFILE)
    after, before = open_quietly(folder), open_quietly(folder, final_norm=False)
    assert after.backbone.fingerprint != before.backbone.fingerprint
    with pytest.raises(SettingError, match="final_norm=True needs a weighted sum"):
        open_quietly(publish(AUDEERING)[2], final_norm=True)


def test_the_global_random_state_is_as_it_was(publish):
    _, _, folder = publish(ODYSSEY)
    before = torch.get_rng_state()
    open_quietly(folder)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", CASES)
def test_a_head_of_another_project_is_not_exported(name, publish, tmp_path):
    classifier = open_quietly(publish(CASES[name])[2])
    with pytest.raises(SettingError, match=r"heads of other projects are explained, not exported"):
        classifier.save_pretrained(tmp_path / "export")
    assert not (tmp_path / "export").exists()


# What is refused


def without(key):
    return lambda weights: {name: value for name, value in weights.items() if name != key}


def also(key, shape):
    return lambda weights: weights | {key: torch.ones(shape)}


BROKEN = [
    ("audeering", without("classifier.dense.weight"), "lacks 'classifier.dense.weight'"),
    ("audeering", without("classifier.dense.bias"), "lacks 'classifier.dense.bias'"),
    ("audeering", also("classifier.norm.weight", 3), r"holds 1 weights \(classifier.norm.weight\), which no"),
    (
        "audeering",
        also("classifier.out_proj.weight", (3, 7)),
        r"classifier.out_proj of shape \(3, 7\), where 32",
    ),
    ("audeering", also("classifier.dense.bias", 5), r"has classifier.dense of shape \(32, 32\)"),
    ("audeering", also("wav2vec2.extra", 3), r"holds 1 weights \(extra\), which nothing would use"),
    ("nkululeko", also("head.dense.weight", (32, 31)), r"head.dense of shape \(32, 31\), where 32 features"),
    ("ctc", without("lm_head.bias"), "lacks 'lm_head.bias'"),
    ("odyssey classes", without("pool_model.sap_linear.bias"), "lacks 'pool_model.sap_linear.bias'"),
    ("odyssey classes", without("ser_model.out.0.weight"), "lacks 'ser_model.out.0.weight'"),
    (
        "odyssey classes",
        also("ser_model.fc.1.0.weight", (32, 32)),
        r"holds 1 weights \(ser_model.fc.1.0.weight\)",
    ),
    ("odyssey classes", also("ser_model.fc.0.1.weight", 5), r"ser_model.fc.0.1 of shape"),
    ("odyssey classes", also("pool_model.attention", (31, 1)), r"pool_model.attention\? of shape"),
    ("speechbrain", also("0.w.bias", 3), r"holds 1 weights \(0.w.bias\)"),
    ("speechbrain", also("0.w.weight", (3, 64)), r"0.w.weight\? of shape"),
    ("speechbrain", also("0.w.weight", (4, 32)), "has 4 outputs, but names of 3"),
    ("vox classes", without("weights"), "lacks 'weights'"),
    ("vox classes", without("model_seq.3.bias"), "lacks 'model_seq.3.bias'"),
    ("vox classes", also("weights", 2), "has weights of 2 layers instead of 3"),
    ("vox classes", also("model_seq.0.weight", (20, 32, 3)), r"model_seq.0 of shape \(20, 96\), where 32"),
    ("vox classes", also("lora_A", (2, 2)), r"holds 1 weights \(lora_A\)"),
    ("vox classes", also("emotion_layer.2.weight", (9, 5)), r"emotion_layer.2 of shape \(9, 5\), where 20"),
    ("vox dimensions", also("valence_layer.0.weight", (20, 9)), "of shape|Sizes of tensors"),
    ("vox dimensions", without("dominance_layer.2.bias"), "lacks 'dominance_layer.2.bias'"),
]


@pytest.mark.parametrize(("name", "change", "hint"), BROKEN)
def test_weights_that_do_not_fit_are_named_in_a_line(name, change, hint, publish):
    _, _, folder = publish(CASES[name], change)
    with pytest.raises(ModelError, match=hint) as caught:
        open_quietly(folder)
    assert f"model={str(folder)!r}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
