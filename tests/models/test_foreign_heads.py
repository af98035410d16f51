"""Laws of heads of other projects, against their published forward pass, clip by clip."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import published
import pytest
import torch
from published import (
    AUDEERING,
    CASES,
    EMOTIONS,
    HYPERPARAMS,
    ODYSSEY,
    OF_ENCODER,
    VOX_OF_WHISPER,
    VOX_PROFILE,
)
from safetensors.torch import load_file, save_file
from torch.nn import functional as F  # noqa: N812
from transformers import AutoConfig

from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.stage_attribution import fingerprint
from wavshap_lightning.models.foreign_heads import BACKBONES
from wavshap_lightning.models.loading import load_classifier

STAGES = ("frames", "layers", "waveform")


@pytest.fixture
def publish(generator, tmp_path):
    """`(case, change=...) -> (model, weights, folder)`, with the weights of the head changed."""

    def publish(case, *change):
        folder = tmp_path / "published"
        return *published.publish(case, folder, generator, *change), folder

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
    lengths = lengths.clamp(min=classifier.backbone.frame_grid.min_samples)
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


def test_pickled_weights_without_code_are_read(publish, clip):
    _, _, folder = publish(ODYSSEY)
    expected = open_quietly(folder)(clip)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    torch.testing.assert_close(open_quietly(folder)(clip), expected, rtol=1e-5, atol=1e-5)


def test_tags_of_hyperparameters_are_not_heeded(publish):
    _, _, folder = publish(CASES["speechbrain"])
    open_quietly(folder)
    assert not (folder / "facebook").exists()


def test_a_folder_of_speechbrain_needs_no_config(publish):
    _, _, folder = publish(CASES["speechbrain"])
    (folder / "config.json").unlink()
    (folder / "hyperparams.yaml").write_text(HYPERPARAMS.replace("facebook/wav2vec2-base", "me/mine"))
    with pytest.raises(ModelError, match=r"has wav2vec2_hub='me/mine'; known are facebook/wav2vec2-base,"):
        load_classifier(folder)


@torch.no_grad()
def test_quiet_clips_are_normalized_as_in_speechbrain(publish, clip):
    case = CASES["speechbrain"]
    model, weights, folder = publish(case)
    expected = case.forward(model, weights, clip / 1000)
    torch.testing.assert_close(open_quietly(folder)(clip / 1000), expected, rtol=1e-5, atol=1e-5)


def test_the_geometry_of_wavlm_large_is_the_published_one():
    config = AutoConfig.for_model(**BACKBONES["wavlm_large"])
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (1024, 24, 16)
    assert (config.intermediate_size, config.feat_extract_norm, config.conv_bias) == (4096, "layer", False)
    assert (config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups) == (128, 16)
    assert (config.num_buckets, config.max_bucket_distance, config.layer_norm_eps) == (320, 800, 1e-5)
    assert config.do_stable_layer_norm


# Whisper


@torch.no_grad()
def test_the_mean_covers_the_frames_of_the_clip_and_the_encoder_sees_the_window(publish, generator):
    model, weights, folder = publish(VOX_OF_WHISPER)
    classifier, lengths = open_quietly(folder), (160, 319, 320, 479, 480, 650, 5000, 47_999, 48_000, 48_159)
    clips = [0.3 * torch.randn(1, length, generator=generator) for length in lengths]
    expected = torch.cat([VOX_OF_WHISPER.forward(model, weights, clip) for clip in clips])
    padded = torch.nn.utils.rnn.pad_sequence([clip[0] for clip in clips], batch_first=True)
    for found in (torch.cat([*map(classifier, clips)]), classifier(padded, torch.tensor(lengths))):
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    counts = classifier.backbone.num_frames(torch.tensor(lengths)).tolist()
    assert counts == [1, 1, 1, 1, 2, 2, 16, 150, 150, 150]
    within = classifier.backbone.frontend(clips[6])[0]
    assert (
        within - classifier.backbone.frontend(torch.cat([clips[6], clips[6]], 1))[0, :16]
    ).abs().max() > 0.01


@pytest.mark.parametrize(("length", "hint"), [(48_160, "has 48160 samples, the model takes"), (159, "160")])
def test_clips_without_a_frame_or_beyond_the_window_are_refused_in_a_line(length, hint, publish):
    classifier = open_quietly(publish(VOX_OF_WHISPER)[2])
    with pytest.raises(SettingError, match=hint) as caught:
        classifier(torch.ones(1, length))
    assert "\n" not in str(caught.value)


@torch.no_grad()
def test_adapters_and_positions_of_the_model_count(publish, clip):
    expected = open_quietly(publish(VOX_OF_WHISPER)[2])(clip)
    for part in ("lora_A", "embed_positions"):
        others = publish(
            VOX_OF_WHISPER,
            lambda weights, part=part: {
                key: value * (1 if part not in key else 0) for key, value in weights.items()
            },
        )[2]
        assert (open_quietly(others)(clip) - expected).abs().max() > 0.01 * expected.abs().max()


@torch.no_grad()
def test_saved_after_a_run_positions_may_stand_in_the_encoder(publish, clip):
    _, _, folder = publish(VOX_OF_WHISPER)
    expected = open_quietly(folder)(clip)
    stored = load_file(folder / "model.safetensors")
    stored[f"{VOX_OF_WHISPER.prefix}embed_positions.weight"] = stored.pop("embed_positions")
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(open_quietly(folder)(clip), expected)


def test_the_geometry_of_whisper_large_is_the_published_one():
    config = AutoConfig.for_model(**BACKBONES["whisper_large"])
    assert (config.d_model, config.encoder_layers, config.encoder_attention_heads) == (1280, 32, 20)
    assert (config.encoder_ffn_dim, config.num_mel_bins, config.max_source_positions) == (5120, 128, 750)
    assert (config.activation_function, config.scale_embedding) == ("gelu", False)


# What holds of others


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


@pytest.mark.parametrize(
    ("name", "target"),
    {
        "odyssey dimensions": "arousal",
        "speechbrain": "neu",
        "vox classes": "Anger",
        "vox whisper classes": "Surprise",
    }.items(),
)
def test_attributions_from_each_stage_add_up_to_the_output(name, target, publish, clip):
    classifier = open_quietly(publish(CASES[name])[2])
    found = explain(classifier, clip[0], target=target, stages=STAGES, num_draws=512)
    assert (*found.attributions,) == tuple(stage for stage in STAGES if stage in classifier.stages)
    for attribution in found.attributions.values():
        expected = attribution.score[0] - attribution.mean_baseline_score[0]
        assert float(attribution.relative_gap[0]) < 0.25
        for view in attribution.views.values():
            assert float(view.values.sum()) == pytest.approx(expected, abs=1e-4)


def test_every_weight_of_the_head_changes_the_fingerprint(publish, clip):
    classifier = open_quietly(publish(ODYSSEY)[2])
    before = fingerprint(classifier)
    for parameter in classifier.head.parameters():
        with torch.no_grad():
            parameter.view(-1)[0] += 1
        assert fingerprint(classifier) != before
        before = fingerprint(classifier)


@pytest.mark.parametrize("name", ["ctc", "vox classes"])
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
        r"classifier.out_proj of torch.float32 \(3, 7\), where 32",
    ),
    ("audeering", also("classifier.dense.bias", 5), r"has classifier.dense of torch.float32 \(32, 32\)"),
    ("audeering", also("wav2vec2.extra", 3), r"holds 1 weights \(extra\), which nothing would use"),
    (
        "nkululeko",
        also("head.dense.weight", (32, 31)),
        r"head.dense of torch.float32 \(32, 31\), where 32 features",
    ),
    ("ctc", without("lm_head.bias"), "lacks 'lm_head.bias'"),
    ("odyssey classes", without("pool_model.sap_linear.bias"), "lacks 'pool_model.sap_linear.bias'"),
    ("odyssey classes", without("ser_model.out.0.weight"), "lacks 'ser_model.out.0.weight'"),
    (
        "odyssey classes",
        also("ser_model.fc.1.0.weight", (32, 32)),
        r"holds 1 weights \(ser_model.fc.1.0.weight\)",
    ),
    ("odyssey classes", also("ser_model.fc.0.1.weight", 5), r"ser_model.fc.0.1 of torch"),
    ("odyssey classes", also("pool_model.attention", (31, 1)), r"pool_model.attention\? of torch"),
    ("speechbrain", also("0.w.bias", 3), r"holds 1 weights \(0.w.bias\)"),
    ("speechbrain", also("0.w.weight", (3, 64)), r"0.w.weight\? of torch"),
    ("speechbrain", also("0.w.weight", (4, 32)), "has 4 outputs, but names of 3"),
    ("vox classes", without("weights"), "lacks 'weights'"),
    ("vox classes", without("model_seq.3.bias"), "lacks 'model_seq.3.bias'"),
    ("vox classes", also("weights", 2), "has weights of 2 layers instead of 3"),
    (
        "vox classes",
        also("model_seq.0.weight", (20, 32, 3)),
        r"model_seq.0 of torch.float32 \(20, 96\), where 32",
    ),
    ("vox classes", also("lora_A", (2, 2)), r"holds 1 weights \(lora_A\)"),
    (
        "vox classes",
        also("emotion_layer.2.weight", (9, 5)),
        r"emotion_layer.2 of torch.float32 \(9, 5\), where 20",
    ),
    ("vox dimensions", also("valence_layer.0.weight", (20, 9)), "of torch|Sizes of tensors"),
    ("vox dimensions", without("dominance_layer.2.bias"), "lacks 'dominance_layer.2.bias'"),
    ("vox whisper classes", without(f"{OF_ENCODER}layers.1.fc1.lora_B"), "lacks '.*layers.1.fc1.lora_B'"),
    ("vox whisper classes", also(f"{OF_ENCODER}layers.1.fc1.lora_A", (2, 31)), "could not|shape|size"),
    ("vox whisper classes", also("embed_positions", (1500, 32)), r"has shape \(1500, 32\), but its config"),
]


@pytest.mark.parametrize(("name", "change", "hint"), BROKEN)
def test_weights_that_do_not_fit_are_named_in_a_line(name, change, hint, publish):
    _, _, folder = publish(CASES[name], change)
    with pytest.raises(ModelError, match=hint) as caught:
        open_quietly(folder)
    assert f"model={str(folder)!r}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "changes", "hint"),
    [
        (
            "harshit345",
            {"pooling_mode": "max"},
            "has pooling_mode='max' in its config.json, which is not known",
        ),
        ("harshit345", {"pooling_mode": "sum"}, "has pooling_mode='sum'"),
        ("harshit345", {"id2label": {"0": "angry", "1": "happy"}}, "has 3 outputs, but names of 2"),
        ("nkululeko", {"model_type": "bert"}, "is of kind 'bert'"),
        ("ctc", {"quantization_config": {"bits": 4}}, "save it in full precision"),
        (
            "odyssey classes",
            {"ssl_type": "facebook/hubert-xlarge"},
            "has ssl_type='facebook/hubert-xlarge'; known",
        ),
        ("odyssey classes", {"ssl_type": None}, "has ssl_type=None; known are"),
        ("odyssey classes", {"quantization_config": {"bits": 4}}, "save it in full precision"),
        ("vox classes", {"pretrain_model": "hubert"}, "has pretrain_model='hubert'; known are"),
        (
            "vox classes",
            {"pretrain_model": "whisper_large"},
            r"lacks \d+ weights .* not a complete Whisper",
        ),
        (
            "vox whisper classes",
            {"pretrain_model": "whisper_tiny"},
            "has pretrain_model='whisper_tiny'; known",
        ),
        ("vox whisper classes", {"lora_rank": None}, "it is not complete, or another kind of model"),
        ("odyssey classes", {"id2label": {}}, "has problem_type=None and 0 outputs; expected at least two"),
        ("odyssey classes", {"std": None}, "not 'NoneType'; it is not complete, or another kind of model"),
        ("vox classes", {"id2label": {"0": "a", "1": "b"}}, "has 9 outputs, but names of 2"),
    ],
)
def test_settings_that_do_not_fit_are_named_in_a_line(name, changes, hint, publish):
    _, _, folder = publish(CASES[name])
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | changes))
    with pytest.raises(ModelError, match=hint) as caught:
        open_quietly(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tokens",
    [
        ("<pad>", "|", "a", "b", "c"),
        ("[PAD]", "angry", "b", "happy", "sad"),
        ("<pad>", "<s>", "</s>", "|", "angry"),
        (),
    ],
)
def test_a_speech_recognizer_is_refused_as_what_it_is(tokens, publish):
    with pytest.raises(ModelError, match=r"is a speech recognizer: its tokens are not emotions\. On its"):
        open_quietly(publish(replace(CASES["ctc"], vocabulary=tokens))[2])


def test_a_recognizer_of_several_languages_is_refused_as_what_it_is(publish):
    _, _, folder = publish(CASES["ctc"])
    (folder / "vocab.json").write_text(json.dumps({"eng": {"angry": 1, "happy": 2}, "deu": {"traurig": 1}}))
    with pytest.raises(ModelError, match="is a speech recognizer"):
        open_quietly(folder)


def test_weights_of_another_kind_of_model_are_not_read(publish):
    _, _, folder = publish(AUDEERING)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "model.safetensors").write_bytes(b"not to be read")
    with pytest.raises(ModelError, match="is of kind 'bert'"):
        open_quietly(folder)


def test_missing_weights_of_the_backbone_are_named(publish):
    _, _, folder = publish(ODYSSEY)
    weights = load_file(folder / "model.safetensors")
    weights.pop("ssl_model.encoder.layer_norm.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"lacks 1 weights \(encoder.layer_norm.weight\).*not a complete WavLM"
    ):
        open_quietly(folder)


def test_names_in_the_configuration_stand_before_the_vocabulary(publish):
    names = {"id2label": {0: "calm", 1: "fear", 2: "<unk>", 3: "joy", 4: "rage"}}
    case = replace(CASES["ctc"], config=CASES["ctc"].config | names)
    assert open_quietly(publish(case)[2]).labels == ("calm", "fear", "joy", "rage")


def test_names_of_fewer_outputs_than_there_are_do_not_count(publish):
    case = CASES["ctc"]
    fewer = replace(case, config=case.config | {"id2label": {0: "calm", 1: "fear", 2: "joy"}})
    assert open_quietly(publish(fewer)[2]).labels == case.labels


def test_a_regression_of_nkululeko_gives_values(publish):
    case = CASES["nkululeko"]
    classifier = open_quietly(publish(replace(case, config=case.config | {"is_classifier": False}))[2])
    assert (classifier.task, classifier.labels) == ("dimensions", EMOTIONS)
