"""Small random models in folders as they are published, and what their original code gives for a clip.

For the tests of models and for `benchmarks/models.py`. Of the package it takes nothing but the names of the
classes of transformers.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch.nn import functional as F  # noqa: N812
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES

from wavshap_lightning.models.families import FAMILIES

# Families

TRANSFORMER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
# Hop 40 samples, receptive field 80. Everything random in training is on, and strongly so.
SHAPE = {
    **TRANSFORMER,
    "conv_dim": (16, 16, 16, 16),
    "conv_kernel": (10, 3, 3, 3),
    "conv_stride": (5, 2, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "attention_dropout": 0.3,
    "hidden_dropout": 0.3,
    "activation_dropout": 0.3,
    "feat_proj_dropout": 0.3,
    "layerdrop": 0.5,
    "mask_time_prob": 0.3,
    "mask_time_length": 2,
}
SHAPE_OF_FAMILY = {
    "wavlm": {"num_buckets": 16, "max_bucket_distance": 20},
    "data2vec-audio": {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5},
    "wav2vec2-conformer": {"conv_depthwise_kernel_size": 5, "max_source_positions": 20},
    "sew-d": {"max_position_embeddings": 64, "position_buckets": 16, "conv_dim": (16, 16, 16, 32)},
}

# A window of one second: 50 frames.
WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "max_source_positions": 50,
    "vocab_size": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "dropout": 0.3,
}
BERT = {
    **TRANSFORMER,
    "classifier_proj_size": 24,
    "conv_depthwise_kernel_size": 5,
    "left_max_position_embeddings": 6,
    "right_max_position_embeddings": 3,
    "attention_dropout": 0.3,
}
# A window of 64 frames, or 0.655 s, and overlapping patches.
AST = {**TRANSFORMER, "num_mel_bins": 40, "max_length": 64, "frequency_stride": 8, "time_stride": 10}
SHAPES = {"whisper": WHISPER, "wav2vec2-bert": BERT, "audio-spectrogram-transformer": AST}


def build_model(family="wavlm", norm="group", seed=0, *, classifier=False, **config):
    """A model as transformers builds it; equal arguments, equal weights.

    Args:
        family: A key of `FAMILIES`.
        norm: Where the convolutions normalize; with layer norm, the encoder does so before its layers.
        seed: Decides the weights.
        classifier: With the head for classes.
        config: Other settings.
    """
    name = FAMILIES[family].backbone
    if classifier:
        name = MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES[family]
    model_class = attrgetter(name)(transformers)
    settings = {"feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer", **SHAPE}
    settings = SHAPES.get(family) or settings | SHAPE_OF_FAMILY.get(family, {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(model_class.config_class(**settings | config))
        shake(model)
    return model


@torch.no_grad()
def shake(model):
    """Fresh transformers have unit norms, zero biases and faint attention, which would hide mistakes."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.copy_(torch.randn_like(parameter) * parameter[0].numel() ** -0.5)
        else:
            parameter.add_(0.2 * torch.randn_like(parameter))


def config_class(family):
    """Class of the configurations of a family."""
    return attrgetter(FAMILIES[family].backbone)(transformers).config_class


def extractor_of(config):
    """The feature extractor that a model of this configuration is published with."""
    if config.model_type == "whisper":
        sizes = {"feature_size": config.num_mel_bins, "chunk_length": config.max_source_positions // 50}
        return transformers.WhisperFeatureExtractor(**sizes)
    if config.model_type == "wav2vec2-bert":
        return transformers.SeamlessM4TFeatureExtractor()
    if config.model_type == "audio-spectrogram-transformer":
        sizes = {"num_mel_bins": config.num_mel_bins, "max_length": config.max_length}
        return transformers.ASTFeatureExtractor(**sizes)
    return transformers.Wav2Vec2FeatureExtractor(do_normalize=True)


def features_of(model, clip):
    """Inputs of the model for one clip, by its feature extractor."""
    return extractor_of(model.config)(clip.numpy(), sampling_rate=16_000, return_tensors="pt")


def save_model(model, folder):
    """A folder as it is published, with weights and preprocessing."""
    model.save_pretrained(folder)
    extractor_of(model.config).save_pretrained(folder)
    return folder


@torch.no_grad()
def published_logits(model, **inputs):
    """A weighted sum as in transformers 4, where the last of the hidden states was taken after the norm."""
    base = getattr(model, "encoder", model.base_model)
    outputs = base(**inputs, output_hidden_states=True)
    states = torch.stack([*outputs.hidden_states[:-1], outputs.last_hidden_state], 1)
    mixed = (states * model.layer_weights.softmax(0).view(1, -1, 1, 1)).sum(1)
    return model.classifier(model.projector(mixed).mean(1))


# Heads of other projects

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
    return vox_mean((weights["weights"].softmax(0)[:, None, None, None] * states).sum(0), weights)


def vox_mean(x, weights):
    x = x.transpose(1, 2)
    for index in (0, 3, 6):
        x = F.conv1d(x, weights[f"model_seq.{index}.weight"], weights[f"model_seq.{index}.bias"])
        x = x if index == 6 else x.relu()
    return x.mean(2)


def vox_whisper_pooled(model, weights, clip):
    """The encoder sees the window, the mean covers the clip."""
    model = deepcopy(model)
    model.embed_positions.weight.data = weights["embed_positions"]
    for name, layer in model.named_modules():
        if f"{OF_ENCODER}{name}.lora_A" in weights:
            a, b = (weights[f"{OF_ENCODER}{name}.lora_{one}"] for one in "AB")
            layer.register_forward_hook(lambda _, x, y, a=a, b=b: y + F.linear(F.linear(x[0], a), b) / RANK)
    columns = clip.shape[1] // 160
    states = model(features_of(model, clip[0]).input_features).last_hidden_state
    return vox_mean(states[:, : (columns - 1) // 2 + 1], weights)


def pooled_of(model):
    return vox_whisper_pooled if model.config.model_type == "whisper" else vox_pooled


def vox_classes(model, weights, clip):
    pooled = pooled_of(model)(model, weights, clip)
    return linear(linear(pooled, weights, "emotion_layer.0").relu(), weights, "emotion_layer.2")


def vox_dimensions(model, weights, clip):
    pooled = pooled_of(model)(model, weights, clip)
    names = [f"{name}_layer" for name in ("arousal", "valence", "dominance")]
    values = [linear(linear(pooled, weights, f"{n}.0").relu(), weights, f"{n}.2").sigmoid() for n in names]
    return torch.cat(values, 1)


def mlp(name, size, num_outputs):
    return {f"{name}.0": (size, size), f"{name}.2": (num_outputs, size)}


VOX = {"model_seq.0": (20, HIDDEN, 1), "model_seq.3": (20, 20, 1), "model_seq.6": (20, 20, 1), "weights": 3}
VOX_DIMENSIONS = {k: v for n in DIMENSIONS for k, v in mlp(f"{n}_layer", 20, 1).items()}
VOX_CLASSES = mlp("emotion_layer", 20, 9) | mlp("detailed_out_layer", 20, 17)
# Those of Whisper have all heads and a decoder, here with a window of 3 s; adapters are in the upper layers.
OF_ENCODER, RANK = "backbone_model.encoder.", 2
VOX_WHISPER = VOX | VOX_CLASSES | VOX_DIMENSIONS
VOX_WHISPER |= {"embed_positions": (150, HIDDEN), "backbone_model.decoder.layers.0.fc1": (48, HIDDEN)}
VOX_ADAPTERS = {
    f"{OF_ENCODER}layers.1.fc1.lora_A": (RANK, HIDDEN),
    f"{OF_ENCODER}layers.1.fc1.lora_B": (48, RANK),
    f"{OF_ENCODER}layers.1.fc2.lora_A": (RANK, 48),
    f"{OF_ENCODER}layers.1.fc2.lora_B": (HIDDEN, RANK),
}
MATRICES = (".weight", "attention", "embed_positions", "lora_A", "lora_B")


@dataclass(frozen=True)
class Case:
    """A published layout: its models, its forward pass, weights of its head by shape, and settings."""

    models: tuple[str, ...]
    forward: Any
    shapes: dict[str, Any]
    family: str = "wav2vec2"
    norm: str = "layer"
    prefix: str = "wav2vec2."
    backbone: dict[str, Any] = field(default_factory=dict)
    gain: float = 2.0  # of linear layers
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
    ("audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",),
    dense_tanh_out,
    {"classifier.dense": (HIDDEN, HIDDEN), "classifier.out_proj": (3, HIDDEN)},
    config=SOXAN | {"problem_type": "regression", "id2label": dict(enumerate(DIMENSIONS))},
    labels=DIMENSIONS,
    task="dimensions",
)
ODYSSEY = Case(
    ("3loi/SER-Odyssey-Baseline-WavLM-Categorical",),
    odyssey,
    SER_SHAPES,
    "wavlm",
    prefix="ssl_model.",
    config=SER | {"id2label": {"0": "Angry", "1": "Sad", "2": "Happy"}},
    whole=False,
    labels=("Angry", "Sad", "Happy"),
)
VOX_PROFILE = Case(
    ("tiantiaf/wavlm-large-categorical-emotion",),
    vox_classes,
    VOX | VOX_CLASSES | VOX_DIMENSIONS,
    "wavlm",
    prefix="backbone_model.",
    config={"pretrain_model": "wavlm_large", "use_conv_output": True, "output_class_num": 9},
    whole=False,
    labels=("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise", "Other"),
)
VOX_OF_WHISPER = replace(
    VOX_PROFILE,
    models=("tiantiaf/whisper-large-v3-msp-podcast-emotion",),
    shapes=VOX_WHISPER | VOX_ADAPTERS,
    family="whisper",
    prefix=OF_ENCODER,
    backbone={"max_source_positions": 150},
    gain=1.5,
    config={"pretrain_model": "whisper_large", "finetune_method": "lora", "lora_rank": RANK},
)
CASES = {
    "audeering": AUDEERING,
    "harshit345": replace(
        AUDEERING,
        models=("harshit345/xlsr-wav2vec-speech-emotion-recognition",),
        config=SOXAN,
        labels=EMOTIONS,
        task="classes",
    ),
    "ehcalabres": Case(
        ("ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition",),
        dense_tanh_out,
        {"classifier.dense": (HIDDEN, HIDDEN), "classifier.output": (3, HIDDEN)},
        config=SOXAN | {"architectures": ["Wav2Vec2ForSequenceClassification"]},
    ),
    "nkululeko": Case(
        ("models of nkululeko",),
        dense_tanh_out,
        {"head.dense": (HIDDEN, HIDDEN), "head.out_proj": (3, HIDDEN)},
        "hubert",
        prefix="hubert.",
        config={"id2label": dict(enumerate(EMOTIONS)), "is_classifier": True},
    ),
    "ctc": Case(
        ("r-f/wav2vec-english-speech-emotion-recognition",),
        averaged_ctc,
        {"lm_head": (5, HIDDEN)},
        config={"architectures": ["Wav2Vec2ForCTC"]},
        vocabulary=("<pad>", *EMOTIONS, "|"),
    ),
    "odyssey classes": ODYSSEY,
    "odyssey dimensions": replace(
        ODYSSEY,
        models=("3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes",),
        config=SER | {"id2label": dict(enumerate(DIMENSIONS))},
        labels=DIMENSIONS,
        task="dimensions",
    ),
    "speechbrain": Case(
        ("speechbrain/emotion-recognition-wav2vec2-IEMOCAP",),
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
        models=("tiantiaf/wavlm-large-msp-podcast-emotion-dim",),
        forward=vox_dimensions,
        shapes=VOX | VOX_DIMENSIONS,
        labels=("arousal", "valence", "dominance"),
        task="dimensions",
    ),
    "vox whisper classes": VOX_OF_WHISPER,
    "vox whisper dimensions": replace(
        VOX_OF_WHISPER,
        models=("tiantiaf/whisper-large-v3-msp-podcast-emotion-dim",),
        forward=vox_dimensions,
        shapes=VOX_WHISPER,
        config={"pretrain_model": "whisper_large", "finetune_method": "finetune", "predict_gender": False},
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


def weights_of(shapes, generator, gain):
    """Random weights that give outputs of order one."""
    weights = {}
    for name, shape in shapes.items():
        if isinstance(shape, int) or name.endswith(MATRICES):
            weights[name] = torch.randn(shape, generator=generator) / (1 if isinstance(shape, int) else 4)
            continue
        fan_in = max(torch.Size(shape[1:]).numel(), 1)
        weights[f"{name}.weight"] = gain * torch.randn(shape, generator=generator) * fan_in**-0.5
        weights[f"{name}.bias"] = torch.randn(shape[0], generator=generator) / 2
    return weights


def save_head(case, model, weights, folder):
    """The folder as it is published."""
    folder.mkdir(exist_ok=True)
    inner = {case.prefix + key: value.contiguous() for key, value in model.state_dict().items()}
    geometry = json.loads(model.config.to_json_string(use_diff=False))
    if not case.whole:
        kept = ("_norm", "size", "num_", "conv_", "max_bucket", "encoder_", "d_model", "max_source")
        geometry = {key: value for key, value in geometry.items() if any(part in key for part in kept)}
        geometry.pop("vocab_size")
    if case.forward is speechbrain:
        torch.save(inner, folder / "wav2vec2.ckpt")
        torch.save(weights, folder / "model.ckpt")
        (folder / "hyperparams.yaml").write_text(HYPERPARAMS)
        (folder / "label_encoder.txt").write_text(ENCODER)
    else:
        save_file(inner | weights, folder / "model.safetensors", metadata={"format": "pt"})
    if case.whole:
        transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    if case.vocabulary:
        vocabulary = {token: index for index, token in enumerate(case.vocabulary)}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "config.json").write_text(json.dumps(geometry | case.config))
    return folder


def publish(case, folder, generator, change=lambda weights: weights, **config):
    """Write a case of random weights to a folder; returns backbone and weights of the head.

    Args:
        case: One of `CASES`.
        folder: Made if need be.
        generator: Decides the weights of the head.
        change: Of the weights of the head.
        config: Settings of the backbone.
    """
    model = build_model(case.family, case.norm, **case.backbone | config).eval()
    weights = change(weights_of(case.shapes, generator, case.gain))
    save_head(case, model, weights, folder)
    return model, weights
