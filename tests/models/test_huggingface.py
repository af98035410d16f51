"""Laws of models of Hugging Face: the same logits as the original, or a reason."""

from __future__ import annotations

import json
from itertools import product
from unittest.mock import patch

import pytest
import torch
from published import published_logits, save_model
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    Data2VecAudioForSequenceClassification,
    HubertForSequenceClassification,
    SEWDForSequenceClassification,
    SEWForSequenceClassification,
    UniSpeechForSequenceClassification,
    UniSpeechSatForSequenceClassification,
    Wav2Vec2ConformerForSequenceClassification,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    WavLMForCTC,
    WavLMForSequenceClassification,
)

from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.families import FAMILIES
from wavshap_lightning.models.foreign_heads import open_huggingface
from wavshap_lightning.models.pretrained import open_pretrained

LABELS = {0: "angry", 1: "happy", 2: "sad"}
CLASSES = {
    "wavlm": WavLMForSequenceClassification,
    "hubert": HubertForSequenceClassification,
    "wav2vec2": Wav2Vec2ForSequenceClassification,
}
ALIKE = {
    "unispeech": UniSpeechForSequenceClassification,
    "unispeech-sat": UniSpeechSatForSequenceClassification,
}
FURTHER = {
    "data2vec-audio": Data2VecAudioForSequenceClassification,
    "wav2vec2-conformer": Wav2Vec2ConformerForSequenceClassification,
    "sew": SEWForSequenceClassification,
    "sew-d": SEWDForSequenceClassification,
}
KINDS = [
    ("data2vec-audio", "layer", True, False),
    ("data2vec-audio", "layer", False, True),
    *product(("wav2vec2-conformer",), ("group",), (False,), (False, True)),
    *product(("sew", "sew-d"), ("group", "layer"), (True,), (False,)),
    *product(CLASSES, ("group", "layer"), (False, True), (False, True)),
    *product(ALIKE, ("group", "layer"), (True,), (False, True)),
]


@pytest.fixture
def make_original(build_model, tmp_path):
    """`(family, norm, normalize=False, **config) -> (model, folder)` with weights far from fresh ones."""

    def make(family="wavlm", norm="group", *, normalize=False, **config):
        config = {"id2label": LABELS, "classifier_proj_size": 24, **config}
        backbone = build_model(family, norm, **config)
        generator = torch.Generator().manual_seed(1)
        with torch.random.fork_rng(devices=[]):
            original = (CLASSES | ALIKE | FURTHER)[family](backbone.config).eval()
        original.base_model.load_state_dict(backbone.state_dict())
        with torch.no_grad():
            for name, value in original.named_parameters():
                if not name.startswith(original.base_model_prefix):
                    value.copy_(torch.randn(value.shape, generator=generator))
        original.save_pretrained(tmp_path)
        Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(tmp_path)
        return original, tmp_path

    return make


def change_config(folder, **changes):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | changes))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


def refuse(folder, *hints, revision=None):
    with pytest.raises(ModelError) as caught:
        open_huggingface(str(folder), revision)
    for hint in (f"model={str(folder)!r}", *hints):
        assert hint in str(caught.value)


# The same logits


@pytest.mark.parametrize(("family", "norm", "stable", "weighted"), KINDS)
def test_logits_equal_the_originals(family, norm, stable, weighted, make_original, clip):
    original, folder = make_original(
        family, norm, do_stable_layer_norm=stable, use_weighted_layer_sum=weighted
    )
    norms = stable or family == "wav2vec2-conformer"
    classifier = open_huggingface(str(folder), final_norm=False if norms and weighted else None)
    with torch.no_grad():
        expected = original(clip).logits
        torch.testing.assert_close(classifier(clip), expected, rtol=1e-5, atol=1e-5)
    assert expected.abs().max() > 0.3
    assert classifier.labels == tuple(LABELS.values())
    assert not any(module.training for module in classifier.modules())


@pytest.mark.parametrize("family", CLASSES | ALIKE | FURTHER)
def test_a_padded_batch_is_the_originals_clips_one_by_one(family, make_original, padded_batch):
    original, folder = make_original(family, use_weighted_layer_sum=not family.startswith("sew"))
    waveforms, lengths = padded_batch[0], padded_batch[1].clamp(min=120)  # SEW needs two frames
    with torch.no_grad():
        final_norm = False if family == "wav2vec2-conformer" else None
        found = open_huggingface(str(folder), final_norm=final_norm)(waveforms, lengths)
        for clip, length, logits in zip(waveforms, lengths, found, strict=True):
            torch.testing.assert_close(logits, original(clip[None, :length]).logits[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "normalize"), [("sew", True), ("sew-d", False), ("hubert", True)])
def test_a_classifier_that_is_known_as_a_whole_gives_its_outputs_alone(
    family, normalize, make_original, generator
):
    """A sum of layers at half the rate, and a kind of a later version of transformers."""
    norm = "layer" if normalize else "group"  # which would undo what the extractor does
    original, folder = make_original(family, norm, normalize=normalize, use_weighted_layer_sum=True)
    with patch.dict(FAMILIES):  # keeps their order
        FAMILIES.pop("hubert")
        classifier = open_huggingface(str(folder))
        with pytest.raises(SettingError, match="final_norm=True needs"):
            open_huggingface(str(folder), final_norm=True)
    waveforms, lengths = (
        0.1 + 0.3 * torch.randn(3, 4000, generator=generator),
        torch.tensor([4000, 2611, 1600]),
    )
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    heard = [
        extractor(clip[:n].numpy(), sampling_rate=16_000) for clip, n in zip(waveforms, lengths, strict=True)
    ]
    heard = [torch.tensor(one.input_values[0])[None].requires_grad_() for one in heard]
    expected = torch.cat([original(one).logits for one in heard])
    waveforms.requires_grad_()
    found = classifier(waveforms, lengths)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(classifier(waveforms)[:1], expected[:1], rtol=1e-5, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.01
    found[1].sum().backward()
    assert waveforms.grad[1, :2611].any()
    assert not waveforms.grad[1, 2611:].any()
    assert not waveforms.grad[0].any()
    assert (classifier.stages, classifier.backbone.num_layers) == (("waveform",), 1)
    with pytest.raises(SettingError, match="not exported"):
        classifier.save_pretrained(folder / "export")


def test_a_kind_that_takes_no_waveform_is_refused(build_model, tmp_path):
    folder = save_model(build_model("whisper", classifier=True, id2label=LABELS), tmp_path)
    with patch.dict(FAMILIES):
        FAMILIES.pop("whisper")
        refuse(folder, "takes input_features, not a waveform; need a model of kind wavlm")


@pytest.mark.parametrize("normalize", [False, True])
def test_the_feature_extractor_is_obeyed(normalize, make_original, clip):
    original, folder = make_original(norm="layer", normalize=normalize)
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    heard = extractor(clip[0].numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        torch.testing.assert_close(
            open_huggingface(str(folder))(clip), original(heard).logits, rtol=1e-5, atol=1e-5
        )
        assert normalize != torch.allclose(original(heard).logits, original(clip).logits, rtol=1e-3)


@pytest.mark.parametrize(
    ("problem_type", "names", "task"),
    [
        (None, ["angry", "sad"], "classes"),
        ("single_label_classification", ["angry", "sad"], "classes"),
        ("multi_label_classification", ["angry", "laughs", "sad"], "labels"),
        ("multi_label_classification", ["angry"], "labels"),
        ("regression", ["arousal", "dominance", "valence"], "dimensions"),
        ("regression", ["arousal"], "dimensions"),
        (None, ["Valence", "arousal"], "dimensions"),
    ],
)
def test_the_meaning_of_the_outputs_is_that_of_the_problem_type(
    problem_type, names, task, make_original, clip
):
    original, folder = make_original(problem_type=problem_type, id2label=dict(enumerate(names)))
    classifier = open_huggingface(str(folder))
    assert (classifier.task, classifier.labels) == (task, tuple(names))
    with torch.no_grad():
        torch.testing.assert_close(classifier(clip), original(clip).logits, rtol=1e-5, atol=1e-5)


def test_names_of_outputs_have_no_control_characters(make_original):
    _, folder = make_original(id2label={0: "an\ngry", 1: "\u202esad", 2: " a  b\t"})
    assert open_huggingface(str(folder)).labels == ("an gry", "sad", "a b")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_dimensions_without_names_are_numbered_and_this_is_told(count, make_original):
    _, folder = make_original(problem_type="regression", id2label={n: f"LABEL_{n}" for n in range(count)})
    with pytest.warns(UserWarning, match="does not name its dimensions: they are output_0"):
        classifier = open_huggingface(str(folder))
    assert classifier.labels == tuple(f"output_{n}" for n in range(count))


def test_another_sampling_rate_is_told(make_original):
    _, folder = make_original()
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder)
    assert open_huggingface(str(folder)).sample_rate == 8000


def test_weights_that_were_pickled_without_code_are_read(make_original, clip):
    original, folder = make_original()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with torch.no_grad():
        torch.testing.assert_close(
            open_huggingface(str(folder))(clip), original(clip).logits, rtol=1e-5, atol=1e-5
        )


def test_the_global_random_state_is_as_it_was(make_original):
    _, folder = make_original(use_weighted_layer_sum=True)
    before = torch.get_rng_state()
    open_huggingface(str(folder))
    assert torch.equal(torch.get_rng_state(), before)


# The final norm


@pytest.mark.parametrize("version", ["4.57.1", "4.6.0.dev0", None, "5.24.0"], ids=str)
@pytest.mark.parametrize("family", CLASSES)
def test_a_weighted_sum_takes_the_last_layer_after_the_final_norm(family, version, make_original, clip):
    original, folder = make_original(family, norm="layer", use_weighted_layer_sum=True)
    change_config(folder, transformers_version=version)
    with pytest.warns(
        UserWarning, match=r"after the final norm, as in transformers 4.*give final_norm=False"
    ):
        found = open_huggingface(str(folder))
    torch.testing.assert_close(
        found(clip), published_logits(original, input_values=clip), rtol=1e-5, atol=1e-5
    )
    assert (found(clip) - original(clip).logits).abs().max() > 0.01


def test_a_weighted_sum_trained_with_transformers_5_takes_it_before(make_original, clip):
    original, folder = make_original(norm="layer", use_weighted_layer_sum=True)
    (folder / "training_args.bin").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"before the final norm, as in transformers 5.*final_norm=True"):
        found = open_huggingface(str(folder))
    torch.testing.assert_close(found(clip), original(clip).logits, rtol=1e-5, atol=1e-5)


def test_the_place_of_the_final_norm_may_be_given(make_original, clip):
    original, folder = make_original(norm="layer", use_weighted_layer_sum=True)
    after, before = (open_huggingface(str(folder), final_norm=given) for given in (True, False))
    torch.testing.assert_close(
        after(clip), published_logits(original, input_values=clip), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(before(clip), original(clip).logits, rtol=1e-5, atol=1e-5)
    assert after.backbone.fingerprint != before.backbone.fingerprint


@pytest.mark.parametrize("config", [{"norm": "group", "use_weighted_layer_sum": True}, {"norm": "layer"}])
def test_where_nothing_depends_on_the_final_norm_it_is_not_asked_for(config, make_original):
    _, folder = make_original(**config)
    open_huggingface(str(folder))
    with pytest.raises(
        SettingError, match=r"final_norm=False needs a weighted sum of layers and a final norm"
    ):
        open_huggingface(str(folder), final_norm=False)


# What is refused


def test_another_kind_is_refused(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    refuse(tmp_path, "'bert'", "expected an audio-classification model of kind wavlm, hubert, wav2vec2")


def test_a_backbone_without_a_head_is_refused(build_model, save_model, tmp_path):
    save_model(build_model(), tmp_path)
    refuse(tmp_path, "holds a WavLMModel", "expected a WavLMForSequenceClassification", "train.py fit")


def test_another_head_is_refused(build_model, save_model, tmp_path):
    save_model(WavLMForCTC(build_model().config), tmp_path)
    refuse(tmp_path, "is a speech recognizer", "train.py fit")


@pytest.mark.parametrize(
    ("changes", "hints"),
    [
        ({"add_adapter": True}, ("add_adapter=True", "could not be opened")),
        ({"problem_type": "ranking"}, ("problem_type='ranking'", "'regression'")),
        (
            {"id2label": {"0": "angry"}, "label2id": {"angry": 0}},
            ("1 outputs", "at least two classes", "'regression'"),
        ),
        ({"id2label": {"0": "a", "1": "a", "2": "b"}}, ("id2label=", "no name twice")),
        ({"id2label": {"0": "a", "1": " ", "2": "b"}}, ("id2label=", "one name for each output")),
        ({"id2label": {"0": "a", "1": "b", "7": "c"}}, ("id2label=", "from 0 to 2")),
        ({"id2label": {"0": "a", "1": "b"}}, ("classifier.bias has shape (3,)", "asks for (2,)", "id2label")),
    ],
    ids=str,
)
def test_what_does_not_classify_is_refused(changes, hints, make_original):
    _, folder = make_original()
    change_config(folder, **changes)
    refuse(folder, *hints)


def test_a_head_without_weights_is_refused(make_original):
    _, folder = make_original()
    change_weights(folder, lambda weights: {k: v for k, v in weights.items() if "projector" not in k})
    refuse(folder, "lacks 2 weights (projector.bias, projector.weight", "would stay random")


def test_weights_that_are_not_finite_are_refused(make_original):
    _, folder = make_original()
    key = "classifier.bias"
    change_weights(folder, lambda weights: weights | {key: torch.full((3,), float("nan"))})
    refuse(folder, "differ from the original's by nan")


def test_logits_that_are_not_the_originals_are_noticed(make_original, monkeypatch):
    model, folder = make_original()
    forward = type(model).forward

    def changed(self, *inputs, **options):
        output = forward(self, *inputs, **options)
        output.logits = output.logits + 1.0
        return output

    monkeypatch.setattr(type(model), "forward", changed)
    refuse(folder, "logits here differ from the original's", "Please report it")


@pytest.mark.parametrize("revision", [None, "abc"])
def test_what_is_not_here_says_how_to_get_it(revision, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    fetch = "hf download nobody/nothing" + (" --revision abc" if revision else "")
    refuse("nobody/nothing", fetch, revision=revision)


# What would otherwise be left out in silence


def with_head(changes):
    """Other weights of a head, by name and shape, for those of transformers."""
    return lambda weights: {
        **{key: value for key, value in weights.items() if key.startswith("wavlm.")},
        **{key: torch.ones(shape) for key, shape in changes.items()},
    }


@pytest.mark.parametrize("key", ["attention_pool.weight", "batch_norm.running_mean", "projector2.bias"])
def test_weights_that_nothing_uses_are_refused(key, make_original):
    _, folder = make_original()
    change_weights(folder, lambda weights: weights | {key: torch.ones(3)})
    refuse(folder, f"holds 1 weights ({key}), which nothing would use", "it has another head", "train.py fit")


def test_another_head_is_named(make_original):
    _, folder = make_original()
    change_weights(folder, with_head({"classifier.dense.bias": 32, "classifier.out_proj.bias": 3}))
    refuse(folder, "lacks 4 weights", "holds 2 weights (classifier.dense.bias, classifier.out_proj.bias)")


@pytest.mark.parametrize("prefix", ["module.", "ssl_model."])
def test_another_prefix_is_named(prefix, make_original):
    _, folder = make_original()
    change_weights(folder, lambda weights: {f"{prefix}{key}": value for key, value in weights.items()})
    refuse(folder, f"its names begin with '{prefix}'; save it without this prefix")


@pytest.mark.parametrize(
    "scales", [{}, {"wavlm.encoder.layers.0.attention.q_proj.SCB": torch.ones(32)}], ids=len
)
@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_integers_are_no_weights(scales, pickled, make_original):
    _, folder = make_original()
    key = "wavlm.encoder.layers.0.attention.q_proj.weight"
    change_weights(folder, lambda weights: weights | {key: weights[key].mul(20).to(torch.int8)} | scales)
    if pickled:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    for role, load in {"model": open_huggingface, "backbone": open_pretrained}.items():
        with pytest.raises(
            ModelError, match=rf"{role}=.* holds 1 weights \({key}\) as integers: it is quantized"
        ):
            load(str(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling_mode": "max"},
        {"pooling": "attentive"},
        {"head_type": "mlp"},
        {"classifier_activation": "tanh"},
    ],
    ids=str,
)
def test_a_setting_of_another_head_is_refused(changes, make_original):
    _, folder = make_original()
    change_config(folder, **changes)
    refuse(folder, *(f"has {key}={value!r}" for key, value in changes.items()), "it has another head")


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "save it in full"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "save it in full precision"),
        ({"auto_map": {"AutoModelForAudioClassification": "modeling.Own"}}, "never run"),
        ({"auto_map": {"AutoConfig": "own.Config"}, "model_type": "ser"}, "never run"),
    ],
    ids=str,
)
def test_code_and_quantization_are_refused(changes, hint, make_original):
    _, folder = make_original()
    change_config(folder, **changes)
    refuse(folder, f"has {next(iter(changes))} in its config.json", hint)
    with pytest.raises(ModelError, match=hint):
        open_pretrained(str(folder))


def test_an_adapter_beside_full_weights_is_refused(make_original):
    _, folder = make_original()
    (folder / "adapter_config.json").write_text("{}")
    refuse(folder, "it is a LoRA adapter", "merge_and_unload()")


@pytest.mark.parametrize(
    "changes",
    [
        {"_attn_implementation": "flash_attention_2"},
        {"attn_implementation": "flash_attention_2"},
        {"return_dict": False},
        {"torchscript": True},
        {"output_hidden_states": True, "output_attentions": True},
        {"pooling_mode": "mean"},
        {"pruned_heads": {}},
        {"classifier_dropout": 0.1},
    ],
    ids=str,
)
def test_settings_that_change_no_logit_are_accepted(changes, make_original, clip):
    original, folder = make_original()
    change_config(folder, **changes)
    with torch.no_grad():
        expected = original(clip).logits
        torch.testing.assert_close(open_huggingface(str(folder))(clip), expected, rtol=1e-5, atol=1e-5)


def test_a_head_that_was_never_trained_is_told(make_original):
    _, folder = make_original()
    change_weights(folder, lambda weights: weights | {k: 0 * v for k, v in weights.items() if "r.bias" in k})
    with pytest.warns(UserWarning, match="all biases of its head are 0"):
        open_huggingface(str(folder))


BROKEN = [
    {"hidden_size": 0},
    {"hidden_size": "large"},
    {"num_attention_heads": 5},
    {"conv_stride": [5, 2]},
    {"conv_kernel": None},
    {"conv_dim": []},
    {"num_conv_pos_embedding_groups": 0},
    {"hidden_act": "none"},
    {"feat_extract_norm": "batch"},
    {"id2label": ["a", "b", "c"]},
    {"id2label": {"0": None, "1": None, "2": None}},
    {"id2label": 3},
    {"architectures": "WavLMForCTC"},
    {"layer_norm_eps": "tiny"},
    {"model_type": None},
    {"model_type": 3},
]


@pytest.mark.parametrize("changes", BROKEN, ids=str)
def test_a_broken_configuration_is_refused_in_a_line(changes, make_original):
    _, folder = make_original()
    change_config(folder, **changes)
    refuse(folder)


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize(
    "settings", [{"do_normalize": "no"}, {"sampling_rate": "16k"}, {"sampling_rate": 0}], ids=str
)
def test_a_broken_preprocessor_is_refused_in_a_line(settings, file, make_original):
    _, folder = make_original()
    content = {"feature_extractor": settings} if file.startswith("processor") else settings
    (folder / file).write_text(json.dumps(content))
    refuse(folder, "of its preprocessor")
