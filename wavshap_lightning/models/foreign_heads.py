"""Emotion models of others as classifiers of ours, with the same outputs and without their code.

transformers projects every frame, takes the mean over time and projects again: three linear steps,
which are one. So the head of such a model is a layer mix, mean pooling and a single linear layer. Heads of
other projects are rows of a table, which gives the names of the weights of each part.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.corpora.clip import normalized
from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.families import ENCODED_WINDOW, FAMILIES, KINDS, Family
from wavshap_lightning.models.frontends import TransformersModule, normalize_waveforms
from wavshap_lightning.models.head import EmotionHead, HeadSettings, Task
from wavshap_lightning.models.pooling import FramewisePooling
from wavshap_lightning.models.pretrained import (
    PretrainedSpeechModel,
    Source,
    State,
    absolute,
    listed,
    preprocessing,
    train_on,
)

# Settings that the classes of transformers do not have and others use for their heads.
OF_A_HEAD = re.compile(r"^(?!.*dropout|is_classifier).*(pool|head|classif|fusion|attentive|aggregat|lora)")
TASKS: dict[str | None, Task] = {
    None: "classes",
    "single_label_classification": "classes",
    "multi_label_classification": "labels",
    "regression": "dimensions",
}
"""Meaning of the outputs by `problem_type`."""

NO_FINAL_NORM = "final_norm={final_norm} needs a weighted sum of layers and a final norm: {source} lacks them"
CHECKED_FRAMES = 24
TOLERANCE = 1e-4

# Geometry of the backbones that other projects name, where it is not the default of the family.
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
WAVLM_LARGE = {"model_type": "wavlm", "feat_extract_norm": "layer", "do_stable_layer_norm": True, **LARGE}
WHISPER = {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
BACKBONES: dict[Any, dict[str, Any]] = {
    "facebook/wav2vec2-base": {"model_type": "wav2vec2", "normalization_epsilon": 1e-5},
    "microsoft/wavlm-large": WAVLM_LARGE,
    "wavlm_large": WAVLM_LARGE,
    "whisper_large": {"model_type": "whisper", "num_mel_bins": 128, "max_source_positions": 750, **WHISPER},
}
DIMENSIONS = ("arousal", "valence", "dominance")
ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


@dataclass(frozen=True)
class Layout:
    """A head of another project, by the names of its weights.

    `frames`, `score` and `mlp` are chains of layers: an activation, or the name of a layer with weight and
    bias. The weight tells the kind: a vector is a layer norm, a matrix a linear layer, also as a convolution
    over one frame. Names joined by `|` are layers side by side; `?` ends that of a weight without bias.

    Args:
        mark: Weights and settings; of the layouts that have all of theirs, the first is taken.
        mlp: From the pooled frames to the outputs.
        frames: From a frame of the layer mix to a frame, before pooling.
        score: From a frame to its score, in attentive statistics pooling.
        mix: Name of the scores of the layers; without it, the last layer is taken.
        normalized: Setting that is `True` if frames are normalized over time and features before the mean.
        backbone: Begin of the names of the backbone's weights; without it, that of transformers.
        geometry: Setting that names the backbone, one of `BACKBONES`, without settings of transformers.
        family: Row of the backbone, if not that of its kind.
        renamed: Names of weights that take the place of others, by the names of these.
        unused: Begins of the names of weights that other outputs may have.
        labels: Names of the outputs, where the files do not give them.
        tokens: Outputs are tokens of a speech recognizer.
        scaled: Waveforms are scaled by the settings `mean` and `std` instead of their own.
        doubt: Assumption of which the user is warned.
    """

    mark: str
    mlp: str
    frames: str = ""
    score: str = ""
    mix: str = ""
    normalized: str = ""
    backbone: str = ""
    geometry: str = ""
    family: Family | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    tokens: bool = False
    scaled: bool = False
    doubt: str = ""


TANH_ASSUMED = "the activation of its head is not published; tanh is assumed, as in the code it was made from"
VOX_PROFILE = Layout(
    "emotion_layer.0.weight",
    "emotion_layer.0 relu emotion_layer.2",
    frames="model_seq.0 relu model_seq.3 relu model_seq.6",
    mix="weights",
    backbone="backbone_model.",
    geometry="pretrain_model",
    unused=(*(f"{name}_layer." for name in ("emotion", "detailed_out", "gender", *DIMENSIONS)), "weights"),
    labels=("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise", "Other"),
)
VOX_DIMENSIONS = replace(
    VOX_PROFILE,
    mark="arousal_layer.0.weight",
    mlp="arousal_layer.0|valence_layer.0|dominance_layer.0 relu "
    "arousal_layer.2|valence_layer.2|dominance_layer.2 sigmoid",
    labels=DIMENSIONS,
)
# The last layer alone, and a table of positions of its own.
VOX_WHISPER: dict[str, Any] = {
    "mix": "",
    "backbone": "backbone_model.encoder.",
    "family": ENCODED_WINDOW,
    "renamed": {"backbone_model.encoder.embed_positions.weight": "embed_positions"},
    "unused": (*VOX_PROFILE.unused, "backbone_model.decoder."),
}
LAYOUTS = (
    # of audeering and of a tutorial that many followed; a variant of it; of nkululeko
    Layout("classifier.out_proj.weight", "classifier.dense tanh classifier.out_proj"),
    Layout("classifier.output.weight", "classifier.dense tanh classifier.output", doubt=TANH_ASSUMED),
    Layout("head.out_proj.weight", "head.dense tanh head.out_proj"),
    # CTC with emotions as tokens, averaged over the frames
    Layout("lm_head.weight", "lm_head", tokens=True),
    # baselines of the Odyssey 2024 challenge
    Layout(
        "pool_model.attention",
        "ser_model.fc.0.0 ser_model.fc.0.1 relu ser_model.out.0",
        score="pool_model.sap_linear tanh pool_model.attention?",
        backbone="ssl_model.",
        geometry="ssl_type",
        scaled=True,
    ),
    # SpeechBrain
    Layout("0.w.weight", "0.w.weight?", normalized="output_norm", backbone="model.", geometry="wav2vec2_hub"),
    # Vox-Profile; its Whisper for dimensions has a head for classes too, which was not trained
    replace(VOX_DIMENSIONS, mark="backbone_model.encoder.conv1.weight predict_gender", **VOX_WHISPER),
    replace(VOX_PROFILE, mark="backbone_model.encoder.conv1.weight emotion_layer.0.weight", **VOX_WHISPER),
    VOX_PROFILE,
    VOX_DIMENSIONS,
)


def open_huggingface(
    name: str, revision: str | None = None, *, final_norm: bool | None = None
) -> EmotionClassifier:
    """A `WavLMForSequenceClassification`, its like of another family, or a model with a head of `LAYOUTS`.

    In evaluation mode on the CPU. The logits of a short sound are compared with those of the class of
    transformers, if the model has one.

    Args:
        name: A folder with `config.json` and weights, or a Hub name.
        revision: The Hub commit, tag or branch.
        final_norm: Whether a weighted sum of layers takes the last one after the final norm (transformers 4)
            or before (transformers 5). None: after, unless the folder is of a training with transformers 5.

    Raises:
        ModelError: If it is not there, of another kind, not complete, has no head or another one than
            transformers' own and those of `LAYOUTS`, or gives other logits here.
        SettingError: If `final_norm` is given for a model whose logits do not depend on it.

    Warns:
        UserWarning: If they depend on it and it is not given.
    """
    # at one commit, whose files are found in the cache without asking the Hub again
    source = Source(absolute(name), revision, "model").pinned("config.json")
    return source.read(lambda: _open(source, final_norm=final_norm))


def _open(source: Source, *, final_norm: bool | None) -> EmotionClassifier:
    given = source.json("config.json")
    kind = given.get("model_type")
    # those of a model of text may be large, and are not needed to refuse it
    weights = source.weights() if kind in FAMILIES or kind not in CONFIG_MAPPING else {}
    for layout in LAYOUTS:
        if {*layout.mark.split()} <= {*weights, *given}:
            try:
                return _build(source, layout, given, final_norm=final_norm)
            except (LookupError, RuntimeError, TypeError, ValueError) as error:
                what = f"lacks {error}" if isinstance(error, KeyError) else error
                raise ModelError(f"{source} {what}; it is not complete, or another kind of model") from error
    return _open_stock(source, final_norm=final_norm)


def _build(
    source: Source, layout: Layout, given: dict[str, Any], *, final_norm: bool | None
) -> EmotionClassifier:
    """The classifier of a layout of the table."""
    if path := source.file("hyperparams.yaml") if layout.normalized else None:
        # as lines of text, which no tag in it can make anything else
        given |= re.findall(r"^ *(\w+): *(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    config = _configuration(source, layout, given)
    names = _emotions(source, config) if layout.tokens else dict(enumerate(_class_names(source, config)))
    prefix = layout.backbone or f"{config.model_type.replace('-', '_')}."
    weights = source.weights("cpu")
    weights |= {key: weights.pop(name) for key, name in layout.renamed.items() if name in weights}
    inner = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    for key in [key for key in inner if key.endswith(".lora_A")]:
        change = inner.pop(f"{key[:-1]}B") @ inner.pop(key) / given["lora_rank"]  # as in loralib
        inner[f"{key[:-6]}weight"] = inner[f"{key[:-6]}weight"] + change
    outer = {key: value for key, value in weights.items() if not key.startswith(prefix)}
    if layout.tokens:
        outer |= {key: value[[*names]] for key, value in outer.items() if key.startswith(layout.mlp)}
    model = source.model(FAMILIES[config.model_type].backbone, config, inner)
    if final_norm is not None and not layout.mix:
        raise SettingError(NO_FINAL_NORM.format(final_norm=final_norm, source=source))
    if layout.scaled:
        _scale_input(model, float(given["mean"]), float(given["std"]))
    settings = {"normalize": not layout.scaled} if layout.geometry else preprocessing(source, config)
    opened = PretrainedSpeechModel(model, source.name, source.revision, row=layout.family, **settings)
    classifier = _classifier(opened, [*names.values()], mixed=bool(layout.mix), final_norm=final_norm)
    _fill_parts(layout, given, outer, classifier.head, config.hidden_size)
    if damaged := [key for key, value in classifier.state_dict().items() if not value.isfinite().all()]:
        raise ValueError(f"has {listed(damaged)} that are not finite")
    if layout.doubt:
        warnings.warn(f"{source}: {layout.doubt}", stacklevel=2)
    return classifier.eval()


def _configuration(source: Source, layout: Layout, given: Mapping[str, Any]) -> PretrainedConfig:
    """Geometry of the backbone, names and kind of the outputs."""
    known = None
    if layout.geometry:
        path, name = source.file("label_encoder.txt"), given[layout.geometry]
        if name not in BACKBONES:
            raise ModelError(f"{source} has {layout.geometry}={name!r}; known are {', '.join(BACKBONES)}")
        lines = path.read_text(encoding="utf-8").split("====")[0] if path else ""
        labels = {int(index): label for label, index in re.findall(r"'(.*)' => (\d+)", lines)}
        known = BACKBONES[name] | {"id2label": labels or dict(enumerate(layout.labels))}
    config = source.config(known)
    if not known:
        _check_kind(source, config)
    if given.get("is_classifier") is False:
        config.problem_type = "regression"
    return config


def _emotions(source: Source, config: PretrainedConfig) -> dict[int, str]:
    """Words among the tokens of a speech recognizer, without special ones such as `<pad>` and `|`."""
    # a vocabulary of several languages holds one for each
    tokens: dict[Any, Any] = {i: t for t, i in source.json("vocab.json").items() if isinstance(i, int)}
    if len(named := config.id2label or {}) == len(source.weights()["lm_head.weight"]):
        tokens = {i: name for i, name in named.items() if name != f"LABEL_{i}"} or tokens
    names = {i: normalized(str(name)) for i, name in tokens.items()}
    words = {i: name for i, name in names.items() if not re.fullmatch(r"\[.*\]|<.*>|\||", name)}
    if not 2 <= len(words) <= 24 or min(map(len, words.values())) < 2:  # others have letters, or many tokens
        raise ModelError(
            f"{source} is a speech recognizer: its tokens are not emotions. {train_on(source.name)}"
        )
    return words


@torch.no_grad()
def _scale_input(model: TransformersModule, mean: float, std: float) -> None:
    """Let the first convolution, which is linear, take waveforms that are not scaled yet."""
    first = model.feature_extractor.conv_layers[0].conv
    first.weight.div_(std + 1e-6)  # as added by those who trained it
    shift = -mean * first.weight.sum((1, 2))
    first.bias = nn.Parameter(shift if first.bias is None else first.bias + shift)


def _fill_parts(layout: Layout, given: Mapping[str, Any], left: State, head: EmotionHead, size: int) -> None:
    """Build the head, on frames of a size, of all the weights that are left."""
    num_named = len([*head.parameters()][-1])
    frames, size = _chain(left, layout.frames, size)
    score = _chain(left, layout.score, size)[0] if layout.score else None
    normalized = bool(layout.normalized) and given[layout.normalized] == "True"
    head.pooling = FramewisePooling(size, frames, score, normalized=normalized)
    head.mlp, num_outputs = _chain(left, layout.mlp, head.pooling.output_size)
    head.described = False
    if layout.mix:
        if len(scores := left.pop(layout.mix)) != len(head.mix.scores):
            raise ValueError(f"has {layout.mix} of {len(scores)} layers instead of {len(head.mix.scores)}")
        head.mix.scores.data.copy_(scores)
    if unknown := [key for key in left if not key.startswith(layout.unused)]:
        raise ValueError(f"holds {listed(unknown)}, which nothing would use")
    if num_outputs != num_named:
        raise ValueError(f"has {num_outputs} outputs, but names of {num_named}")


def _chain(left: State, names: str, size: int) -> tuple[nn.Sequential, int]:
    """A chain of layers on `size` features, and the number of features after it; uses the weights up."""
    layers: TransformersModule = nn.Sequential()
    for name in names.split():
        known = ACTIVATIONS.get(name)
        layers.append(known() if known else _layer(left, name, size))
        size = size if known else len(layers[-1].weight)
    return layers, size


def _layer(left: State, name: str, size: int) -> nn.Module:
    parts = name.split("|")
    bias = None if name.endswith("?") else torch.cat([left.pop(f"{part}.bias") for part in parts])
    weights = [left.pop(name[:-1])] if bias is None else [left.pop(f"{part}.weight") for part in parts]
    weight, *others = (weight.flatten(min(1, weight.dim() - 1)) for weight in weights)
    if weight.shape[-1] == size:
        weight = torch.cat([weight, *others])
    else:  # each layer has features of its own; a weight without bias may be stored the other way round
        weight = weight.T if bias is None else torch.block_diag(weight, *others)  # type: ignore[no-untyped-call]
    fits = weight.is_floating_point() and (bias is None or bias.shape == weight.shape[:1])
    if weight.shape[-1] != size or not fits:
        raise ValueError(f"has {name} of {weight.dtype} {tuple(weight.shape)}, where {size} features come in")
    layer = nn.LayerNorm(size) if weight.dim() == 1 else nn.Linear(size, len(weight), device="meta")
    layer.weight = nn.Parameter(weight.float())
    layer.register_parameter("bias", None if bias is None else nn.Parameter(bias.float()))
    return layer


def _open_stock(source: Source, *, final_norm: bool | None) -> EmotionClassifier:
    config = source.config()
    _check_kind(source, config)
    wanted = MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES[config.model_type]
    found = config.architectures or []
    if found and wanted not in found:
        raise ModelError(
            f"{source} holds a {' and a '.join(found)}; expected a {wanted}, whose classification head is "
            f"known. {train_on(source.name)}"
        )
    labels = _class_names(source, config)
    original: TransformersModule = source.model(wanted, config).eval()
    # of a kind without a row, or with a sum of layers at another rate than that of the frames
    is_squeezed = hasattr(config, "squeeze_factor") and config.use_weighted_layer_sum
    is_whole = is_squeezed or config.model_type not in FAMILIES
    if is_whole and original.main_input_name != "input_values":
        raise ModelError(f"{source} takes {original.main_input_name}, not a waveform; need a {KINDS}")
    weighted = hasattr(original, "layer_weights") and not is_whole
    # for Whisper, which has no base model, the versions agree
    if weighted and FAMILIES[config.model_type].encoder.has_final_norm(original.base_model):
        final_norm = _default_final_norm(source) if final_norm is None else final_norm
    elif final_norm is not None:
        raise SettingError(NO_FINAL_NORM.format(final_norm=final_norm, source=source))
    if not (is_whole or any(layer.bias.any() for layer in _head_layers(original))):
        warnings.warn(
            f"{source}: all biases of its head are 0, as before training; it may never have been trained",
            stacklevel=2,
        )
    settings = preprocessing(source, config)
    model = original if is_whole else _base(original)
    opened = PretrainedSpeechModel(model, source.name, source.revision, **settings)
    frontend = opened.frontend()
    sound = _sound(frontend.grid)
    features = frontend.features(sound, torch.tensor([sound.shape[1]]))
    expected = _logits(original, features, final_norm=final_norm)
    classifier = _classifier(opened, labels, mixed=weighted, final_norm=final_norm)
    if is_whole:
        classifier.head.mlp, classifier.head.described = nn.Sequential().eval(), False
    else:
        _fill_head(classifier.head, original)
    _check_logits(source, expected, classifier(sound))
    return classifier


def _base(classifier: TransformersModule) -> TransformersModule:
    """The model without its head; that of Whisper is only an encoder, and no base model to transformers."""
    return classifier.encoder if classifier.base_model is classifier else classifier.base_model


def _classifier(
    opened: PretrainedSpeechModel, labels: list[str], *, mixed: bool, final_norm: bool | None
) -> EmotionClassifier:
    """The classifier with a random linear head on the mean of the last layer or of a layer mix."""
    head = HeadSettings("learned" if mixed else "last", "mean", hidden_size=0, dropout=0.0)
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are filled
        backbone = SpeechBackbone(opened, final_norm=final_norm is not False)
        task = TASKS[opened.model.config.problem_type]
        return EmotionClassifier(backbone, labels, head, task=task).float().eval()


def _default_final_norm(source: Source) -> bool:
    """False for the output of a training with transformers 5.

    A configuration names the version that saved it last; only a training leaves its arguments.
    """
    version = source.json("config.json").get("transformers_version")
    old = str(version or "4.").startswith(("3.", "4."))
    after = old or source.file("training_args.bin") is None
    taken, other = ("after", 5) if after else ("before", 4)
    warnings.warn(
        f"{source}: its weighted sum takes the last layer {taken} the final norm, as in transformers "
        f"{9 - other} (saved by {version or 'an unknown version'}); if it was trained with transformers "
        f"{other}, give final_norm={not after}, else final_norm={after} to confirm",
        stacklevel=2,
    )
    return after


@torch.no_grad()
def _logits(
    model: TransformersModule, sound: Float[Tensor, "1 ..."], *, final_norm: bool | None
) -> Float[Tensor, "1 classes"]:
    """Logits of the model in transformers, whose version must not decide where the final norm comes."""
    with torch.random.fork_rng(devices=[]):  # it draws which layers to drop even where none is
        if final_norm is None:
            return model(sound).logits
        encoder = model.base_model.encoder
        norm, encoder.layer_norm = encoder.layer_norm, nn.Identity()
        logits, last = model(sound).logits, model.base_model(sound).last_hidden_state
        encoder.layer_norm = norm
    change = model.layer_weights.softmax(0)[-1] * (norm(last) - last).mean(1)
    return logits + final_norm * (change @ model.projector.weight.T @ model.classifier.weight.T)


def _check_kind(source: Source, config: PretrainedConfig) -> None:
    if config.model_type not in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES:
        raise ModelError(
            f"{source} is of kind {config.model_type!r}; expected an audio-classification {KINDS}"
        )
    known = type(config)().to_dict()
    for key, value in source.json("config.json").items():
        if value and value != "mean" and key not in known and OF_A_HEAD.search(key):
            raise ModelError(
                f"{source} has {key}={value!r} in its config.json, which is not known: it has another head. "
                f"{train_on(source.name)}"
            )


def _class_names(source: Source, config: PretrainedConfig) -> list[str]:
    by_index: dict[Any, Any] = dict(config.id2label or {})
    if set() < {str(label).strip().casefold() for label in by_index.values()} <= {*DIMENSIONS}:
        config.problem_type = "regression"  # whatever it says
    task = TASKS.get(config.problem_type)
    if task is None or (task == "classes" and len(by_index) < 2):
        raise ModelError(
            f"{source} has problem_type={config.problem_type!r} and {len(by_index)} outputs; expected at "
            "least two classes, or in its config.json problem_type 'regression' (values) or "
            "'multi_label_classification' (sigmoids)"
        )
    labels = [normalized(str(by_index.get(index, ""))) for index in range(len(by_index))]
    if not all(labels) or len(set(labels)) < len(labels):
        raise ModelError(
            f"{source} has id2label={by_index}; expected one name for each output from 0 to "
            f"{len(labels) - 1}, and no name twice; correct its config.json"
        )
    if task == "dimensions" and labels == [f"LABEL_{index}" for index in range(len(labels))]:
        labels = [f"output_{index}" for index in range(len(labels))]
        warnings.warn(
            f"{source} does not name its dimensions: they are {', '.join(labels)}; name them by id2label in "
            "its config.json",
            stacklevel=2,
        )
    return labels


def _sound(grid: FrameGrid) -> Float[Tensor, "1 samples"]:
    """A tone that rises, as long as a few frames."""
    num_samples = grid.receptive_field_samples + (CHECKED_FRAMES - 1) * grid.hop_samples
    time = torch.linspace(0.0, 1.0, num_samples, dtype=torch.float32)
    return normalize_waveforms((1000.0 * time.square()).sin()[None], torch.tensor([num_samples]))


def _head_layers(original: TransformersModule) -> tuple[TransformersModule, TransformersModule]:
    """Its two linear layers; the first of AST is a layer norm, of which scale and shift are left."""
    head = original.classifier
    return (original.projector, head) if hasattr(original, "projector") else (head.layernorm, head.dense)


@torch.no_grad()
def _fill_head(head: EmotionHead, original: TransformersModule) -> None:
    """Multiply the two projections into one, and undo the norm, which divides by the root of 1 + eps."""
    first, second = _head_layers(original)
    mlp: TransformersModule = head.mlp
    norm, linear = mlp[0], mlp[-1]
    weight, inner = second.weight.double(), first.weight.double()
    inner = inner.diag() if inner.ndim == 1 else inner
    linear.weight.copy_((weight @ inner).float() * (1.0 + norm.eps) ** 0.5)
    linear.bias.copy_((weight @ first.bias.double() + second.bias.double()).float())
    if hasattr(original, "layer_weights"):
        head.mix.scores.copy_(original.layer_weights)


def _check_logits(
    source: Source, expected: Float[Tensor, "1 classes"], found: Float[Tensor, "1 classes"]
) -> None:
    error = float((found - expected).detach().abs().max() / expected.abs().max())
    if not error <= TOLERANCE:
        raise ModelError(
            f"{source}: its logits here differ from the original's by {error:.2g} of the largest, more than "
            f"{TOLERANCE:g}; its weights are not finite, or it has parts that this version does not know. "
            "Please report it"
        )
