"""Audio-classification models of Hugging Face as classifiers of ours, with the same logits.

transformers projects every frame, takes the mean over time and projects again: three linear steps,
which are one. So the head of such a model is a layer mix, mean pooling and a single linear layer.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.families import FAMILIES
from wavshap_lightning.models.frontends import TransformersModule, normalize_waveforms
from wavshap_lightning.models.head import EmotionHead, HeadSettings, Task
from wavshap_lightning.models.pretrained import (
    PretrainedSpeechModel,
    Source,
    absolute,
    preprocessing,
    train_on,
)

# Settings that the classes of transformers do not have and others use for their heads.
OF_A_HEAD = re.compile(r"^(?!.*dropout).*(pool|head|classif|fusion|attentive|aggregat|lora)")
TASKS: dict[str | None, Task] = {
    None: "classes",
    "single_label_classification": "classes",
    "multi_label_classification": "labels",
    "regression": "dimensions",
}
"""Meaning of the outputs by `problem_type`."""

CHECKED_FRAMES = 24
TOLERANCE = 1e-4


def open_huggingface(
    name: str, revision: str | None = None, *, final_norm: bool | None = None
) -> EmotionClassifier:
    """A `WavLMForSequenceClassification`, or its like of another family, in evaluation mode on the CPU.

    The logits of a short sound are compared with the original's.

    Args:
        name: A folder with `config.json` and weights, or a Hub name.
        revision: The Hub commit, tag or branch.
        final_norm: Whether a weighted sum of layers takes the last one after the final norm (transformers 4)
            or before (transformers 5). None: after, unless the folder is of a training with transformers 5.

    Raises:
        ModelError: If it is not there, of another kind, has no classification head or another one than
            transformers' own, does not classify, or gives other logits here.
        SettingError: If `final_norm` is given for a model whose logits do not depend on it.

    Warns:
        UserWarning: If they depend on it and it is not given.
    """
    # at one commit, whose files are found in the cache without asking the Hub again
    source = Source(absolute(name), revision, "model").pinned("config.json")
    return source.read(lambda: _open(source, final_norm=final_norm))


def _open(source: Source, *, final_norm: bool | None) -> EmotionClassifier:
    config = source.config()
    labels = _labels(source, config)
    original: TransformersModule = source.model(_class_of(config), config).eval()
    weighted = hasattr(original, "layer_weights")
    if weighted and getattr(config, "do_stable_layer_norm", False):  # for others the versions agree
        final_norm = _default_final_norm(source) if final_norm is None else final_norm
    elif final_norm is not None:
        raise SettingError(
            f"final_norm={final_norm} needs a weighted sum of layers and a final norm, which {source} lacks"
        )
    first, second = _head_layers(original)
    if not (first.bias.any() or second.bias.any()):
        warnings.warn(
            f"{source}: all biases of its head are 0, as before training; it may never have been trained",
            stacklevel=2,
        )
    settings = preprocessing(source, config)
    opened = PretrainedSpeechModel(_base(original), source.name, source.revision, **settings)
    frontend = opened.frontend()
    sound = _sound(frontend.grid)
    features = frontend.features(sound, torch.tensor([sound.shape[1]]))
    expected = _logits(original, features, final_norm=final_norm)
    layer: Literal["last", "learned"] = "learned" if weighted else "last"
    head = HeadSettings(layer=layer, pooling="mean", hidden_size=0, dropout=0.0)
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are filled
        backbone = SpeechBackbone(opened, final_norm=final_norm is not False)
        task = TASKS[config.problem_type]
        classifier = EmotionClassifier(backbone, labels, head, task=task).float().eval()
    _fill_head(classifier.head, original)
    _check_logits(source, expected, classifier(sound))
    return classifier


def _base(classifier: TransformersModule) -> TransformersModule:
    """The model without its head; that of Whisper is only an encoder, and no base model to transformers."""
    return classifier.encoder if classifier.base_model is classifier else classifier.base_model


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


def _labels(source: Source, config: PretrainedConfig) -> list[str]:
    """Names of its outputs in their order, after a look at what kind of model it is."""
    if config.model_type not in FAMILIES:
        raise ModelError(
            f"{source} is of kind {config.model_type!r}; expected an audio-classification model of kind "
            f"{', '.join(FAMILIES)}"
        )
    wanted, found = _class_of(config), config.architectures or []
    if found and wanted not in found:
        raise ModelError(
            f"{source} holds a {' and a '.join(found)}; expected a {wanted}, whose classification head is "
            f"known. {train_on(source.name)}"
        )
    known = type(config)().to_dict()
    for key, value in source.json("config.json").items():
        if value and value != "mean" and key not in known and OF_A_HEAD.search(key):
            raise ModelError(
                f"{source} has {key}={value!r} in its config.json, which a {wanted} does not use: it has "
                f"another head. {train_on(source.name)}"
            )
    return _class_names(source, config)


def _class_of(config: PretrainedConfig) -> str:
    return MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES[config.model_type]


def _class_names(source: Source, config: PretrainedConfig) -> list[str]:
    by_index: dict[Any, Any] = dict(config.id2label or {})
    task = TASKS.get(config.problem_type)
    if task is None or (task == "classes" and len(by_index) < 2):
        raise ModelError(
            f"{source} has problem_type={config.problem_type!r} and {len(by_index)} outputs; expected at "
            "least two classes, or in its config.json problem_type 'regression' (values) or "
            "'multi_label_classification' (sigmoids)"
        )
    labels = [str(by_index.get(index, "")).strip() for index in range(len(by_index))]
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
