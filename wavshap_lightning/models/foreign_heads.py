"""Audio-classification models of Hugging Face as classifiers of ours, with the same logits.

transformers projects every frame, takes the mean over time and projects again: three linear steps,
which are one. So the head of such a model is a layer mix, mean pooling and a single linear layer.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    HubertForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    Wav2Vec2ForSequenceClassification,
    WavLMForSequenceClassification,
)

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.errors import ModelError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import EmotionHead, HeadSettings
from wavshap_lightning.models.normalization import normalize_waveforms
from wavshap_lightning.models.pretrained import Source, TransformersModule

CLASSES: dict[str, type[PreTrainedModel]] = {
    "wavlm": WavLMForSequenceClassification,
    "hubert": HubertForSequenceClassification,
    "wav2vec2": Wav2Vec2ForSequenceClassification,
}

CHECKED_FRAMES = 24
TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class OriginalHead:
    """Head of the original model, and its logits of a short sound.

    Args:
        weight: Weight of the two projections in one.
        bias: Bias of the two projections in one.
        layer_scores: Weights of the layers before their softmax; None where the last layer is taken.
        final_norm: True if the weighted sum takes the last layer after the final norm.
        sound: Waveform of zero mean and unit variance.
        logits: Logits of the original model for this waveform.
    """

    weight: Float[Tensor, "classes hidden"]
    bias: Float[Tensor, " classes"]
    layer_scores: Float[Tensor, " layer"] | None
    final_norm: bool
    sound: Float[Tensor, "1 samples"]
    logits: Float[Tensor, "1 classes"]


def open_huggingface(name: str, revision: str | None = None) -> EmotionClassifier:
    """A `WavLMForSequenceClassification`, or its like of HuBERT or wav2vec2, in evaluation mode on the CPU.

    The logits of a short sound are compared with the original's.

    Args:
        name: A folder with `config.json` and weights, or a Hub name.
        revision: The Hub commit, tag or branch.

    Raises:
        ModelError: If it is not there, of another kind, has no classification head or another one than
            transformers' own, does not classify, or gives other logits here.

    Warns:
        UserWarning: If transformers itself has changed what the model computes.
    """
    source = Source(name, revision, "model")
    config = source.config()
    labels = _labels(source, config)
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are loaded
        original = _read_head(source, config)
        backbone = SpeechBackbone(
            name, revision=source.pinned("config.json").revision, final_norm=original.final_norm
        )
        classifier = EmotionClassifier(backbone, labels, _head_settings(original)).eval()
    _take_over(original, classifier.head)
    _check_logits(source, original, classifier)
    return classifier


def _labels(source: Source, config: PretrainedConfig) -> list[str]:
    """Its classes in the order of the logits, after a look at what kind of model it is."""
    if config.model_type not in CLASSES:
        raise ModelError(
            f"{source} is of kind {config.model_type!r}; expected an audio-classification model of kind "
            f"{', '.join(CLASSES)}"
        )
    wanted, found = CLASSES[config.model_type].__name__, config.architectures or []
    if found and wanted not in found:
        raise ModelError(
            f"{source} holds a {' and a '.join(found)}; expected a {wanted}, whose classification head is "
            "known. On a model without such a head one can be trained: "
            f"python train.py fit --model.backbone.name {source.name}"
        )
    if getattr(config, "add_adapter", False):
        raise ModelError(
            f"{source} has add_adapter=True, which transformers allows in no classifier, and which mixes "
            "padding into valid frames; use a model without it"
        )
    return _class_names(source, config)


def _class_names(source: Source, config: PretrainedConfig) -> list[str]:
    problem = config.problem_type or "single_label_classification"
    by_index: dict[Any, Any] = dict(config.id2label or {})
    if problem != "single_label_classification" or len(by_index) < 2:
        raise ModelError(
            f"{source} solves problem_type={problem!r} with {len(by_index)} outputs; expected a classifier "
            "of at least two classes, of which a clip has one"
        )
    labels = [str(by_index.get(index, "")).strip() for index in range(len(by_index))]
    if not all(labels) or len(set(labels)) < len(labels):
        raise ModelError(
            f"{source} has id2label={by_index}; expected one name for each class from 0 to "
            f"{len(labels) - 1}, and no name twice; correct its config.json"
        )
    return labels


@torch.no_grad()
def _read_head(source: Source, config: PretrainedConfig) -> OriginalHead:
    original: TransformersModule
    original, missing = source.model(CLASSES[config.model_type], config)
    if missing:
        raise ModelError(
            f"{source} lacks {len(missing)} weights ({', '.join(missing[:4])}, ...), which would stay "
            f"random: it is no complete {type(original).__name__}; give a folder or revision with all weights"
        )
    original.eval()
    sound = _sound(config)
    layer_scores = getattr(original, "layer_weights", None)
    final_norm = layer_scores is None or _sums_after_final_norm(original.base_model, sound)
    if not final_norm and str(config.transformers_version).startswith("4."):
        warnings.warn(
            f"{source} was saved by transformers {config.transformers_version}, whose weighted sum of layers "
            "took the last one after the final norm; transformers now takes it before, and so do we. Its "
            "logits may be worse than those it was published with",
            stacklevel=4,
        )
    return OriginalHead(
        *_in_one(original.projector, original.classifier),
        None if layer_scores is None else layer_scores.clone(),
        final_norm,
        sound,
        original(sound).logits,
    )


def _sound(config: PretrainedConfig) -> Float[Tensor, "1 samples"]:
    """A tone that rises, as long as a few frames."""
    grid = FrameGrid(tuple(config.conv_kernel), tuple(config.conv_stride), sample_rate=1)
    num_samples = grid.receptive_field_samples + (CHECKED_FRAMES - 1) * grid.hop_samples
    time = torch.linspace(0.0, 1.0, num_samples)
    return normalize_waveforms((1000.0 * time.square()).sin()[None], torch.tensor([num_samples]))


def _sums_after_final_norm(model: TransformersModule, sound: Float[Tensor, "1 samples"]) -> bool:
    """Versions of transformers differ, so it is asked."""
    outputs = model(sound, output_hidden_states=True)
    return torch.equal(outputs.hidden_states[-1], outputs.last_hidden_state)


def _in_one(first: nn.Linear, second: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of two linear layers in one, multiplied in double precision."""
    weight, bias = second.weight.double(), second.bias.double()
    return (weight @ first.weight.double()).float(), (weight @ first.bias.double() + bias).float()


def _head_settings(original: OriginalHead) -> HeadSettings:
    linear = HeadSettings(layer="learned", pooling="mean", hidden_size=0, dropout=0.0)
    return linear if original.layer_scores is not None else replace(linear, layer="last")


@torch.no_grad()
def _take_over(original: OriginalHead, head: EmotionHead) -> None:
    """Fill the head; its norm, which has seen nothing, divides by the root of 1 + eps, which is undone."""
    mlp: TransformersModule = head.mlp
    norm, linear = mlp[0], mlp[-1]
    linear.weight.copy_(original.weight * (1.0 + norm.eps) ** 0.5)
    linear.bias.copy_(original.bias)
    if original.layer_scores is not None:
        head.mix.scores.copy_(original.layer_scores)


@torch.no_grad()
def _check_logits(source: Source, original: OriginalHead, classifier: EmotionClassifier) -> None:
    expected, found = original.logits, classifier(original.sound)
    error = float((found - expected).abs().max() / expected.abs().max())
    if not error <= TOLERANCE:
        raise ModelError(
            f"{source}: its logits here differ from the original's by {error:.2g} of the largest, more than "
            f"{TOLERANCE:g}; its weights are not finite, or it has parts that this version does not know. "
            "Please report it"
        )
