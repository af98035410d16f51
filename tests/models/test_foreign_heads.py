"""Laws of heads of other projects: the published forward pass, written down again, clip by clip."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F  # noqa: N812
from transformers import Wav2Vec2FeatureExtractor

from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.loading import load_classifier

HIDDEN = 32
EMOTIONS = ("angry", "happy", "sad")
DIMENSIONS = ("arousal", "dominance", "valence")
MEAN, STD = 0.02, 0.15


def normalized(clip, epsilon=1e-7):
    return (clip - clip.mean()) / (clip.var(correction=0) + epsilon).sqrt()


def linear(x, weights, name):
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


# The published forward passes of one clip, from (model, weights of the head, clip).


def dense_tanh_out(model, weights, clip):
    pooled = model(normalized(clip)).last_hidden_state.mean(1)
    prefix = next(key for key in weights if key.endswith("dense.weight")).removesuffix("dense.weight")
    out = next(key for key in weights if key.endswith(("out_proj.weight", "output.weight")))
    return linear(linear(pooled, weights, f"{prefix}dense").tanh(), weights, out.removesuffix(".weight"))


def averaged_ctc(model, weights, clip):
    logits = linear(model(normalized(clip)).last_hidden_state, weights, "lm_head")
    return logits.mean(1)[:, 1:4]  # between <pad> and |


def odyssey(model, weights, clip):
    x = model((clip - MEAN) / (STD + 0.000001)).last_hidden_state
    h = linear(x, weights, "pool_model.sap_linear").tanh()
    w = (h @ weights["pool_model.attention"]).squeeze(2).softmax(1)[:, :, None]
    mu = (x * w).sum(1)
    sigma = ((x.square() * w).sum(1) - mu.square()).clamp(min=1e-5).sqrt()
    h = linear(torch.cat([mu, sigma], 1), weights, "ser_model.fc.0.0")
    h = F.layer_norm(h, h.shape[1:], weights["ser_model.fc.0.1.weight"], weights["ser_model.fc.0.1.bias"])
    return linear(h.relu(), weights, "ser_model.out.0")


def speechbrain(model, weights, clip):
    out = model(F.layer_norm(clip, clip.shape)).last_hidden_state
    return F.linear(F.layer_norm(out, out.shape).mean(1), weights["0.w.weight"])


def vox_pooled(model, weights, clip):
    outputs = model(normalized(clip), output_hidden_states=True)
    states = torch.stack([*outputs.hidden_states[:-1], outputs.last_hidden_state])
    x = (weights["weights"].softmax(0)[:, None, None, None] * states).sum(0).transpose(1, 2)
    for index in (0, 3, 6):
        x = F.conv1d(x, weights[f"model_seq.{index}.weight"], weights[f"model_seq.{index}.bias"])
        x = x if index == 6 else x.relu()
    return x.mean(2)


def vox_classes(model, weights, clip):
    pooled = vox_pooled(model, weights, clip)
    return linear(linear(pooled, weights, "emotion_layer.0").relu(), weights, "emotion_layer.2")


def vox_dimensions(model, weights, clip):
    pooled = vox_pooled(model, weights, clip)
    names = [f"{name}_layer" for name in ("arousal", "valence", "dominance")]
    values = [linear(linear(pooled, weights, f"{n}.0").relu(), weights, f"{n}.2").sigmoid() for n in names]
    return torch.cat(values, 1)


def mlp(name, size, num_outputs):
    return {f"{name}.0": (size, size), f"{name}.2": (num_outputs, size)}


VOX = {"model_seq.0": (20, HIDDEN, 1), "model_seq.3": (20, 20, 1), "model_seq.6": (20, 20, 1), "weights": 3}
VOX_DIMENSIONS = {k: v for n in DIMENSIONS for k, v in mlp(f"{n}_layer", 20, 1).items()}
VOX_CLASSES = mlp("emotion_layer", 20, 9) | mlp("detailed_out_layer", 20, 17)


@dataclass(frozen=True)
class Case:
    """A published layout: weights of its head by shape, settings, and its forward pass."""

    forward: Any
    shapes: dict[str, Any]
    family: str = "wav2vec2"
    norm: str = "layer"
    prefix: str = "wav2vec2."
    config: dict[str, Any] = field(default_factory=dict)
    whole: bool = True  # config.json is that of transformers
    labels: tuple[str, ...] = EMOTIONS
    task: str = "classes"
    vocabulary: tuple[str, ...] = ()


SOXAN = {
    "architectures": ["Wav2Vec2ForSpeechClassification"],
    "pooling_mode": "mean",
    "id2label": dict(enumerate(EMOTIONS)),
}
SER = {
    "auto_map": {"AutoModelForAudioClassification": "pipeline_utils.SERModel"},
    "architectures": ["SERModel"],
    "model_type": "ser",
    "ssl_type": "microsoft/wavlm-large",
    "mean": MEAN,
    "std": STD,
    "num_classes": 3,
    "classifier_hidden_layers": 1,
    "classifier_dropout_prob": 0.5,
}
SER_SHAPES = {
    "pool_model.sap_linear": (HIDDEN, HIDDEN),
    "pool_model.attention": (HIDDEN, 1),
    "ser_model.fc.0.0": (HIDDEN, 2 * HIDDEN),
    "ser_model.fc.0.1": (HIDDEN,),
    "ser_model.out.0": (3, HIDDEN),
}
AUDEERING = Case(
    dense_tanh_out,
    {"classifier.dense": (HIDDEN, HIDDEN), "classifier.out_proj": (3, HIDDEN)},
    config=SOXAN | {"problem_type": "regression", "id2label": dict(enumerate(DIMENSIONS))},
    labels=DIMENSIONS,
    task="dimensions",
)
ODYSSEY = Case(
    odyssey,
    SER_SHAPES,
    "wavlm",
    prefix="ssl_model.",
    config=SER | {"id2label": {"0": "Angry", "1": "Sad", "2": "Happy"}},
    whole=False,
    labels=("Angry", "Sad", "Happy"),
)
VOX_PROFILE = Case(
    vox_classes,
    VOX | VOX_CLASSES | VOX_DIMENSIONS,
    "wavlm",
    prefix="backbone_model.",
    config={"pretrain_model": "wavlm_large", "use_conv_output": True, "output_class_num": 9},
    whole=False,
    labels=("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise", "Other"),
)
CASES = {
    "audeering": AUDEERING,
    "harshit345": replace(AUDEERING, config=SOXAN, labels=EMOTIONS, task="classes"),
    "ehcalabres": Case(
        dense_tanh_out,
        {"classifier.dense": (HIDDEN, HIDDEN), "classifier.output": (3, HIDDEN)},
        config=SOXAN | {"architectures": ["Wav2Vec2ForSequenceClassification"]},
    ),
    "nkululeko": Case(
        dense_tanh_out,
        {"head.dense": (HIDDEN, HIDDEN), "head.out_proj": (3, HIDDEN)},
        "hubert",
        prefix="hubert.",
        config={"id2label": dict(enumerate(EMOTIONS)), "is_classifier": True},
    ),
    "ctc": Case(
        averaged_ctc,
        {"lm_head": (5, HIDDEN)},
        config={"architectures": ["Wav2Vec2ForCTC"]},
        vocabulary=("<pad>", *EMOTIONS, "|"),
    ),
    "odyssey classes": ODYSSEY,
    "odyssey dimensions": replace(
        ODYSSEY,
        config=SER | {"id2label": dict(enumerate(DIMENSIONS))},
        labels=DIMENSIONS,
        task="dimensions",
    ),
    "speechbrain": Case(
        speechbrain,
        {"0.w.weight": (3, HIDDEN)},
        norm="group",
        prefix="model.",
        whole=False,
        labels=("neu", "ang", "hap"),
    ),
    "vox classes": VOX_PROFILE,
    "vox dimensions": replace(
        VOX_PROFILE,
        forward=vox_dimensions,
        shapes=VOX | VOX_DIMENSIONS,
        labels=("arousal", "valence", "dominance"),
        task="dimensions",
    ),
}
HYPERPARAMS = """
wav2vec2_hub: facebook/wav2vec2-base
__set_seed: !apply:os.mkdir [!ref <wav2vec2_hub>]
wav2vec2: !new:speechbrain.lobes.models.huggingface_wav2vec.HuggingFaceWav2Vec2
    source: !ref <wav2vec2_hub>
    output_norm: True # of the whole clip
avg_pool: !new:speechbrain.nnet.pooling.StatisticsPooling
    return_std: False
"""
ENCODER = "'neu' => 0\n'ang' => 1\n'hap' => 2\n================\n'starting_index' => 0\n"


def weights_of(shapes, generator):
    """Random weights that give outputs of order one."""
    weights = {}
    for name, shape in shapes.items():
        if isinstance(shape, int) or name.endswith((".weight", "attention")):
            weights[name] = torch.randn(shape, generator=generator) / (1 if isinstance(shape, int) else 4)
            continue
        fan_in = max(torch.Size(shape[1:]).numel(), 1)
        weights[f"{name}.weight"] = 2 * torch.randn(shape, generator=generator) * fan_in**-0.5
        weights[f"{name}.bias"] = torch.randn(shape[0], generator=generator) / 2
    return weights


def save(case, model, weights, folder):
    """The folder as it is published."""
    folder.mkdir(exist_ok=True)
    inner = {case.prefix + key: value.contiguous() for key, value in model.state_dict().items()}
    geometry = json.loads(model.config.to_json_string(use_diff=False))
    if not case.whole:
        kept = ("_norm", "size", "num_", "conv_", "max_bucket")
        geometry = {key: value for key, value in geometry.items() if any(part in key for part in kept)}
    if case.forward is speechbrain:
        torch.save(inner, folder / "wav2vec2.ckpt")
        torch.save(weights, folder / "model.ckpt")
        (folder / "hyperparams.yaml").write_text(HYPERPARAMS)
        (folder / "label_encoder.txt").write_text(ENCODER)
    else:
        save_file(inner | weights, folder / "model.safetensors", metadata={"format": "pt"})
    if case.whole:
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    if case.vocabulary:
        vocabulary = {token: index for index, token in enumerate(case.vocabulary)}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "config.json").write_text(json.dumps(geometry | case.config))
    return folder


@pytest.fixture
def publish(build_model, generator, tmp_path):
    """`(case, change=...) -> (model, weights, folder)`, with the weights of the head changed."""

    def publish(case, change=lambda weights: weights):
        model = build_model(case.family, case.norm).eval()
        weights = change(weights_of(case.shapes, generator))
        return model, weights, save(case, model, weights, tmp_path / "published")

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
