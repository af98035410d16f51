"""Whisper as a backbone and classifier, against transformers' feature extractor and models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from published import WHISPER, shake
from torch.nn.functional import gelu
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
    WhisperForCausalLM,
    WhisperForConditionalGeneration,
    WhisperModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.frontends import LogMel
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.models.pretrained import PretrainedSpeechModel

TINY_EN = Path(__file__).parents[3] / "shared/data/whisper-tiny.en"

LENGTHS = (1, 1599, 7000, 15_900, 16_000)


def build(model_class=WhisperEncoder, **config):
    """A model with weights of a real scale, so that its layers differ between clips."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(WhisperConfig(**WHISPER | config)).eval()
        shake(model)
    return model


def extractor(**settings):
    return WhisperFeatureExtractor(**{"chunk_length": 1, **settings})


def save(model, folder, **settings):
    """A folder as it is published."""
    model.save_pretrained(folder)
    extractor(**settings).save_pretrained(folder)
    return folder


def open_whisper(model=None, **options):
    return SpeechBackbone(PretrainedSpeechModel(model or build(), name="small"), **options)


def features_of(waveforms, **settings):
    clips = [waveform.numpy() for waveform in waveforms]
    return extractor(**settings)(clips, sampling_rate=16_000, return_tensors="pt").input_features


def layers_of_transformers(model, features):
    outputs = model(features, output_hidden_states=True)
    return torch.stack([*outputs.hidden_states[:-1], outputs.last_hidden_state], 1)


def layers_of_cut_clip(model, waveform):
    """Plain: the spectrogram, convolutions and positions of the clip's own frames."""
    count = -(-len(waveform) // 320)
    states = features_of([waveform])[:, :, : 2 * count]
    for convolution in (model.conv1, model.conv2):
        states = gelu(convolution(states))
    layers = [states.transpose(1, 2) + model.embed_positions.weight[:count]]
    for layer in model.layers:
        layers.append(layer(layers[-1], None))
    return torch.stack([*layers[:-1], model.layer_norm(layers[-1])], 1)


@pytest.fixture
def clips(generator):
    """Clips of noise at several levels: of one sample, of whole and broken frames, of a whole window."""
    return [
        level * torch.randn(length, generator=generator)
        for length, level in zip(LENGTHS, (0.5, 0.1, 0.01, 0.3, 0.2), strict=True)
    ]


@pytest.fixture
def batch(clips):
    padded = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    padded[0, 1:] = 9.0  # what lies beyond a clip must not matter
    return padded, torch.tensor(LENGTHS)


# Frames and layers


@pytest.mark.parametrize("num_mel_bins", [80, 128])
def test_spectrograms_are_those_of_the_feature_extractor(num_mel_bins, batch, clips, relative_error):
    frontend = LogMel(build(num_mel_bins=num_mel_bins), sample_rate=16_000, normalize=False)
    expected = features_of(clips, feature_size=num_mel_bins)
    assert relative_error(frontend.features(*batch), expected) <= 1e-6
    for clip, one in zip(clips, expected, strict=True):
        alone = frontend.features(clip[None], torch.tensor([len(clip)]))
        assert relative_error(alone, one[None]) <= 1e-6


@torch.no_grad()
def test_layers_are_those_of_transformers(batch, clips, relative_error):
    model = build()
    expected = layers_of_transformers(model, features_of(clips))
    found = open_whisper(model)(*batch)
    assert found.shape == (5, 3, 50, 32)
    assert relative_error(found, expected) <= 1e-6
    assert float(expected[1].sub(expected[3]).norm() / expected[1].norm()) > 0.1


@torch.no_grad()
def test_without_the_window_a_padded_batch_has_the_layers_of_each_clip(batch, clips, relative_error):
    model = build()
    backbone = open_whisper(model, pad_to_window=False)
    found, counts = backbone(*batch), backbone.num_frames(batch[1])
    assert counts.tolist() == [1, 5, 22, 50, 50]
    for clip, layers, count in zip(clips, found, counts.tolist(), strict=True):
        assert relative_error(layers[None, :, :count], layers_of_cut_clip(model, clip)) <= 1e-5
        assert not layers[:, count:].any()


def test_gradients_reach_the_waveform(clips):
    backbone, clip = open_whisper().double(), clips[2][None].double()
    probe = torch.randn(backbone(clip).shape, generator=torch.Generator().manual_seed(1))

    def score(waveforms):
        return (backbone(waveforms) * probe).sum()

    inputs = clip.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(inputs), inputs)
    direction = torch.randn(clip.shape, generator=torch.Generator().manual_seed(2)).double()
    change = (score(clip + 1e-5 * direction) - score(clip - 1e-5 * direction)) / 2e-5
    assert float((gradient * direction).sum()) == pytest.approx(float(change), rel=1e-3)


def test_frames_change_only_where_they_see_a_change(clips):
    backbone, clip = open_whisper(), clips[3]
    clip[100] = 2.0  # the highest level stays where it is
    changed = clip.clone()
    changed[8000] += 0.05
    difference = (backbone.frontend(changed[None]) - backbone.frontend(clip[None])).abs().sum(2)[0]
    start_s, end_s = backbone.frame_grid.start_s(50), backbone.frame_grid.end_s(50)
    assert (
        np.flatnonzero(difference > 1e-4).tolist()
        == np.flatnonzero((start_s <= 0.5) & (end_s > 0.5)).tolist()
    )
    assert backbone.frame_grid.center_s(50)[:2] == pytest.approx([0, 0.02], abs=1e-4)


def test_too_long_a_clip_is_refused():
    with pytest.raises(SettingError, match="16001 samples, the model takes 16000"):
        open_whisper()(torch.ones(1, 16_001))


@torch.no_grad()
def test_layers_may_be_left_out_unfrozen_and_adapted(batch, relative_error):
    whole = open_whisper()(*batch)
    assert relative_error(open_whisper(last_layer=1)(*batch), whole[:, :2]) == 0
    before_norm = open_whisper(final_norm=False)(*batch)
    assert relative_error(before_norm[:, :2], whole[:, :2]) == 0
    assert relative_error(build().layer_norm(before_norm[:, 2]), whole[:, 2]) <= 1e-6
    trained = open_whisper(unfreeze_layers=1)
    names = [name for name, one in trained.named_parameters() if one.requires_grad]
    assert names
    assert all(name.startswith("model.layers.1.") for name in names)


def test_adapters_are_on_queries_and_values():
    pytest.importorskip("peft")
    adapted = open_whisper(lora_rank=2)
    trained = {name for name, one in adapted.named_parameters() if one.requires_grad}
    assert len(trained) == 2 * 2 * 2
    assert all(".q_proj.lora_" in name or ".v_proj.lora_" in name for name in trained)


# Fingerprints


def test_every_change_of_the_layers_has_its_fingerprint():
    changes = [{}, {"pad_to_window": False}, {"last_layer": 1}, {"final_norm": False}]
    changes += [{"last_layer": 1, "pad_to_window": False}, {"final_norm": False, "pad_to_window": False}]
    found = [open_whisper(**one).fingerprint for one in changes]
    found.append(open_whisper(build(activation_function="relu")).fingerprint)
    assert len({*found}) == len(found)


def test_models_without_a_window_refuse_to_leave_it_out():
    with pytest.raises(SettingError, match="pad_to_window=False needs a model that pads every clip"):
        SpeechBackbone("tiny", pad_to_window=False)


# Folders


@pytest.mark.parametrize(
    "model_class",
    [WhisperForConditionalGeneration, WhisperModel, WhisperForAudioClassification, WhisperEncoder],
)
def test_the_encoder_of_every_model_opens_as_a_backbone(model_class, tmp_path):
    model = build(model_class)
    encoder = model.get_encoder() if hasattr(model, "get_encoder") else model
    encoder = getattr(model, "encoder", encoder)
    backbone = SpeechBackbone(str(save(model, tmp_path)))
    assert backbone.fingerprint == open_whisper(encoder).fingerprint
    assert not any("decoder" in name for name, _ in backbone.named_parameters())


def test_a_decoder_alone_is_refused(tmp_path):
    folder = save(build(WhisperForCausalLM, is_encoder_decoder=False), tmp_path)
    with pytest.raises(ModelError, match=r"lacks 37 weights .* it is not a complete WhisperEncoder"):
        SpeechBackbone(str(folder))


def test_layers_that_the_configuration_does_not_count_are_refused(tmp_path):
    folder = save(build(WhisperModel), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"encoder_layers": 1}))
    with pytest.raises(ModelError, match=r"holds 15 weights \(layers\.1\."):
        SpeechBackbone(str(folder))


def test_usual_settings_are_assumed_with_a_warning(tmp_path):
    build().save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"has no preprocessor_config.json; assuming .*'n_fft': 400"):
        assert SpeechBackbone(str(tmp_path)).sample_rate == 16_000


@pytest.mark.parametrize(
    ("name", "value"),
    {
        "dither": 1e-4,
        "n_fft": 512,
        "hop_length": 80,
        "chunk_length": 2,
        "feature_size": 128,
        "sampling_rate": 8000,
    }.items(),
)
def test_another_extractor_is_refused_by_name(name, value, tmp_path):
    path = save(build(), tmp_path) / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(ModelError, match=f"{name}={value} of its preprocessor must be"):
        SpeechBackbone(str(tmp_path))


@torch.no_grad()
def test_do_normalize_is_not_heeded_as_in_transformers(tmp_path, clips, relative_error):
    backbone = SpeechBackbone(str(save(build(), tmp_path, do_normalize=True)))
    expected = layers_of_transformers(build(), features_of(clips[2:3], do_normalize=True))
    assert relative_error(backbone(clips[2][None]), expected) <= 1e-6


@pytest.mark.skipif(not TINY_EN.is_dir(), reason=f"no published weights in {TINY_EN}")
@torch.no_grad()
def test_published_weights_give_the_layers_of_transformers(relative_error):
    backbone = SpeechBackbone(str(TINY_EN))
    time_s = torch.arange(20_000) / 16_000
    clip = 0.3 * (2 * torch.pi * (200 + 300 * time_s) * time_s).sin()
    features = WhisperFeatureExtractor()(clip.numpy(), sampling_rate=16_000, return_tensors="pt")
    model = WhisperEncoder.from_pretrained(
        TINY_EN, key_mapping={"^model.encoder.": ""}, dtype=torch.float32
    ).eval()
    expected = layers_of_transformers(model, features.input_features)
    assert relative_error(backbone(clip[None]), expected) <= 1e-5


# Classifiers


@pytest.mark.parametrize("weighted", [False, True], ids=["last layer", "weighted sum"])
@torch.no_grad()
def test_logits_are_those_of_transformers_alone_and_in_a_batch(
    weighted, batch, clips, tmp_path, relative_error
):
    model = build(WhisperForAudioClassification, use_weighted_layer_sum=weighted, num_labels=3)
    classifier = load_classifier(save(model, tmp_path))
    expected = model(features_of(clips)).logits
    assert float((expected[1] - expected[3]).abs().max() / expected.abs().max()) > 0.1
    assert relative_error(classifier(*batch), expected) <= 1e-6
    for clip, logits in zip(clips, expected, strict=True):
        assert relative_error(classifier(clip[None]), logits[None]) <= 1e-6
    assert classifier.warnings == ()  # about the final norm: all versions of transformers agree
    backbone = SpeechBackbone(str(tmp_path))
    assert classifier.backbone.fingerprint == backbone.fingerprint


def test_heads_on_cut_clips_survive_export(tmp_path, clips):
    folder = save(build(), tmp_path / "whisper")
    backbone = SpeechBackbone(str(folder), pad_to_window=False)
    classifier = EmotionClassifier(backbone, ["sad", "happy"]).eval()
    classifier.save_pretrained(tmp_path / "export")
    restored = load_classifier(tmp_path / "export")
    assert restored.backbone.settings == backbone.settings
    assert torch.equal(restored(clips[2][None]), classifier(clips[2][None]))
    assert (
        "pad_to_window"
        not in EmotionClassifier(SpeechBackbone("tiny"), ["a", "b"]).record.to_dict()["backbone"]
    )


@pytest.mark.parametrize(
    ("part", "advice"), [("classifier", "another head"), ("encoder.conv1", "not a complete")]
)
def test_weights_that_are_missing_are_told_apart(part, advice, tmp_path):
    model = build(WhisperForAudioClassification)
    state = {key: value for key, value in model.state_dict().items() if not key.startswith(part)}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ModelError, match=rf"lacks 2 weights \({part}.*{advice}"):
        load_classifier(tmp_path)
