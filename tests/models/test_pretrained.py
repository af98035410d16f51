"""Laws of opening a backbone: the right weights, the right preprocessing, or a reason."""

from __future__ import annotations

import copy
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    ClapFeatureExtractor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    WavLMForSequenceClassification,
    WavLMForXVector,
    WavLMModel,
)

from wavshap_lightning.errors import ModelError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.pretrained import NO_CONVERSION, PretrainedSpeechModel, open_pretrained


@pytest.fixture
def model(build_model):
    return build_model()


@pytest.fixture
def folder(model, save_model, tmp_path):
    """A folder as it is published."""
    return save_model(model, tmp_path)


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


def states_equal(found, expected):
    found, expected = found.state_dict(), expected.state_dict()
    assert found.keys() == expected.keys()
    return all(torch.equal(found[key], expected[key]) for key in expected)


# What is opened


def test_a_saved_model_comes_back(variant, build_model, save_model, tmp_path):
    model = build_model(*variant)
    save_model(model, tmp_path)
    opened = open_pretrained(str(tmp_path))
    assert type(opened.model) is type(model)
    assert states_equal(opened.model, model)
    assert (opened.name, opened.revision) == (str(tmp_path), None)


def test_half_precision_weights_come_as_float32(model, save_model, tmp_path):
    save_model(copy.deepcopy(model).half(), tmp_path)
    opened = open_pretrained(str(tmp_path)).model
    assert {parameter.dtype for parameter in opened.parameters()} == {torch.float32}
    assert states_equal(opened, copy.deepcopy(model).half().float())


def test_a_classifier_opens_as_its_backbone(model, save_model, tmp_path):
    classifier = WavLMForSequenceClassification(copy.deepcopy(model.config))
    classifier.wavlm.load_state_dict(model.state_dict())
    save_model(classifier, tmp_path)
    assert states_equal(open_pretrained(str(tmp_path)).model, model)


def test_older_names_of_the_position_weights_are_known(model, folder):
    older = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}

    def rename(weights):
        prefix = "encoder.pos_conv_embed.conv."
        return weights | {prefix + name: weights.pop(prefix + key) for key, name in older.items()}

    change_weights(folder, rename)
    assert states_equal(open_pretrained(str(folder)).model, model)


def test_the_global_random_state_is_as_it_was(folder):
    before = torch.get_rng_state()
    open_pretrained(str(folder))
    assert torch.equal(torch.get_rng_state(), before)


def test_tiny_needs_neither_folder_nor_network():
    opened = open_pretrained("tiny")
    assert (opened.name, opened.normalize, opened.sample_rate) == ("tiny", False, 16_000)


# Preprocessing


@pytest.mark.parametrize(
    ("family", "norm", "normalize"),
    [
        ("wavlm", "group", False),
        ("wavlm", "layer", True),
        ("wav2vec2", "group", True),
        ("hubert", "group", True),
    ],
)
def test_without_a_word_on_preprocessing_it_is_as_published(
    family, norm, normalize, build_model, save_model, tmp_path
):
    folder = save_model(build_model(family, norm), tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.warns(UserWarning, match="has no preprocessor_config.json"):
        opened = open_pretrained(str(folder))
    assert (opened.normalize, opened.sample_rate) == (normalize, 16_000)


@pytest.mark.parametrize("content", ["[]", '{"do_normalize": null}', "3"])
def test_odd_settings_are_an_error_or_unset(content, folder):
    (folder / "preprocessor_config.json").write_text(content)
    if content.startswith("{"):
        with pytest.warns(UserWarning, match="has no preprocessor_config.json"):
            open_pretrained(str(folder))
    else:
        refuse(folder, "an object of settings")


def test_nobody_is_asked_to_convert_the_weights(folder, monkeypatch):
    seen = []
    load = WavLMModel.from_pretrained
    monkeypatch.setattr(
        WavLMModel,
        "from_pretrained",
        lambda *args, **options: seen.append(os.environ.get(NO_CONVERSION)) or load(*args, **options),
    )
    monkeypatch.delenv(NO_CONVERSION, raising=False)
    open_pretrained(str(folder))
    assert seen == ["1"]
    assert NO_CONVERSION not in os.environ


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("sample_rate", [8_000, 16_000])
def test_the_feature_extractors_settings_are_honoured(normalize, sample_rate, folder):
    Wav2Vec2FeatureExtractor(do_normalize=normalize, sampling_rate=sample_rate).save_pretrained(folder)
    assert (folder / "preprocessor_config.json").is_file()
    opened = open_pretrained(str(folder))
    assert (opened.normalize, opened.sample_rate) == (normalize, sample_rate)


def test_the_settings_are_found_inside_a_processors(folder):
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({token: i for i, token in enumerate(["<pad>", "<unk>", "<s>", "</s>"])}))
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, sampling_rate=8_000)
    Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(vocabulary)).save_pretrained(folder)
    (folder / "preprocessor_config.json").unlink()
    opened = open_pretrained(str(folder))
    assert (opened.normalize, opened.sample_rate) == (False, 8_000)


# Fingerprint


def fingerprint(model, **options):
    return PretrainedSpeechModel(model, "small", **options).fingerprint


def test_equal_weights_have_equal_fingerprints(model, build_model, folder):
    assert fingerprint(model) == fingerprint(build_model()) != fingerprint(build_model(seed=1))
    assert open_pretrained(str(folder)).fingerprint == fingerprint(model, normalize=True)


def test_the_name_is_not_in_the_fingerprint(model):
    renamed = PretrainedSpeechModel(model, "other", "abc")
    assert renamed.fingerprint == fingerprint(model)


def test_every_weight_is_in_the_fingerprint(model):
    before = {fingerprint(model)}
    for name, weight in model.state_dict().items():
        if name == "masked_spec_embed":
            continue
        first = weight.view(-1)[:1]
        first += 1e-3
        before.add(fingerprint(model))
    assert len(before) == len(model.state_dict())


def test_preprocessing_is_in_the_fingerprint(model):
    assert fingerprint(model) != fingerprint(model, normalize=True)
    assert fingerprint(model) != fingerprint(model, sample_rate=8_000)


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 2},
        {"conv_stride": (2, 5, 2, 2)},
        {"do_stable_layer_norm": True},
        {"hidden_act": "relu"},
        {"feat_extract_activation": "relu"},
        {"layer_norm_eps": 1e-3},
        {"max_bucket_distance": 40},
    ],
    ids=lambda change: next(iter(change)),
)
def test_geometry_that_weights_do_not_show_is_in_the_fingerprint(change, model):
    before = fingerprint(model)
    for name, value in change.items():
        setattr(model.config, name, value)
    assert fingerprint(model) != before


@pytest.mark.parametrize(
    "change",
    [{"feature_layer_norm_eps": 0.1}, {"max_position_embeddings": 32}, {"pos_att_type": ["p2c"]}],
    ids=lambda change: next(iter(change)),
)
def test_so_is_what_a_family_has_of_its_own(change, build_model, clip, relative_error):
    model, other = (build_model("sew-d", **config).eval() for config in ({}, change))
    assert relative_error(other(clip).last_hidden_state, model(clip).last_hidden_state) > 1e-4
    assert fingerprint(other) != fingerprint(model)
    assert fingerprint(build_model(**change)) == fingerprint(build_model())


def test_the_fingerprint_of_the_embedded_backbone_stays():
    """Checkpoints and exports hold it."""
    assert SpeechBackbone("tiny").fingerprint.startswith("6125842c9029a491")


def test_what_only_pretraining_uses_may_lack_and_does_not_count(folder, model):
    change_weights(folder, lambda weights: {k: v for k, v in weights.items() if k != "masked_spec_embed"})
    opened = open_pretrained(str(folder))
    assert not torch.equal(opened.model.masked_spec_embed, model.masked_spec_embed)
    assert opened.fingerprint == fingerprint(model, normalize=True)


# What cannot be opened


def refuse(name, *hints, revision=None):
    with pytest.raises(ModelError) as caught:
        open_pretrained(str(name), revision)
    for hint in (f"backbone={str(name)!r}", *hints):
        assert hint in str(caught.value)


@pytest.mark.parametrize("keys", [("encoder.layers.0.attention.q_proj.weight",), ("encoder.", "feature_pro")])
def test_missing_weights_are_refused(keys, folder):
    change_weights(folder, lambda weights: {k: v for k, v in weights.items() if not k.startswith(keys)})
    refuse(folder, "lacks", "weights (encoder.layer", "would stay random")


def test_weights_of_another_shape_are_refused(folder):
    key = "encoder.layers.0.attention.q_proj.weight"
    change_weights(folder, lambda weights: weights | {key: torch.zeros(5, 5)})
    refuse(folder, "could not be opened")


def test_a_backbone_opens_out_of_a_model_with_any_head(build_model, save_model, tmp_path):
    """That of speaker verification has a layer of the same name as a part of the backbone."""
    model = WavLMForXVector(build_model().config)
    opened = open_pretrained(str(save_model(model, tmp_path))).model
    assert torch.equal(opened.encoder.layer_norm.weight, model.wavlm.encoder.layer_norm.weight)


@pytest.mark.parametrize("key", ["encoder.layers.2.layer_norm.bias", "encoder.layers.0.attention.q_proj.SCB"])
def test_parts_of_a_backbone_that_nothing_uses_are_refused(key, build_model, save_model, tmp_path):
    folder = save_model(build_model(), tmp_path)
    change_weights(folder, lambda weights: weights | {key: torch.ones(32)})
    refuse(folder, f"holds 1 weights ({key}), which nothing would use")
    change_weights(folder, lambda weights: {f"wavlm.{name}": value for name, value in weights.items()})
    refuse(folder, f"holds 1 weights (wavlm.{key}), which nothing would use")


def test_another_kind_of_model_is_refused_and_the_kinds_listed(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    refuse(tmp_path, "'bert'", "wavlm, hubert, wav2vec2")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["removed", "garbage"])
def test_a_damaged_folder_is_refused(name, damage, folder):
    (folder / name).unlink()
    if damage == "garbage":
        (folder / name).write_bytes(b"garbage" * 9)
    named = (damage, name) == ("garbage", "config.json")
    remedy = "its config.json is damaged" if named else "the folder needs config.json and model.safetensors"
    refuse(folder, "could not be opened", remedy)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_damaged_settings_are_refused(name, folder):
    (folder / name).write_text("{nothing")
    refuse(folder, f"its {name} is damaged", "get this file again")


@pytest.mark.parametrize("family", ["wavlm", "whisper", "wav2vec2-bert", "audio-spectrogram-transformer"])
def test_a_feature_extractor_of_another_kind_is_refused(family, build_model, save_model, tmp_path):
    folder = save_model(build_model(family), tmp_path)
    ClapFeatureExtractor(feature_size=80).save_pretrained(folder)
    refuse(folder, "feature_extractor_type='ClapFeatureExtractor' of its preprocessor must be")


class MakesFolder:
    """Pickled, it makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_not_run(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"code": MakesFolder(folder / "made")}, folder / "pytorch_model.bin")
    refuse(folder, "pickled code, which is never run")
    assert not (folder / "made").exists()


def test_the_same_weights_without_code_are_read_from_a_pickle(folder, model):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert states_equal(open_pretrained(str(folder)).model, model)


@pytest.mark.parametrize("offline", [True, False], ids=["told to stay offline", "no network"])
def test_what_is_not_here_says_how_to_get_it(offline, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    name = "nobody-at-all/no-such-model"
    refuse(name, f"hf download {name}", "backbone='tiny'", "check the name")
    refuse(name, "revision='abc'", f"hf download {name} --revision abc", revision="abc")


def test_what_cannot_be_a_name_is_refused():
    refuse("no such name", "could not be opened")
