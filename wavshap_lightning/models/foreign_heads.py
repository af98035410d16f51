"""Audio-classification models of Hugging Face as classifiers of ours, with the same logits.

transformers projects every frame, takes the mean over time and projects again: three linear steps,
which are one. So the head of such a model is a layer mix, mean pooling and a single linear layer.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PretrainedConfig

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.errors import ModelError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import EmotionHead, HeadSettings
from wavshap_lightning.models.normalization import normalize_waveforms
from wavshap_lightning.models.pretrained import (
    FAMILIES,
    PretrainedSpeechModel,
    Source,
    TransformersModule,
    preprocessing,
)

CHECKED_FRAMES = 24
TOLERANCE = 1e-4


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
    original: TransformersModule = source.model(_class_of(config), config).eval()
    sound = _sound(config)
    layer_scores = getattr(original, "layer_weights", None)
    # transformers draws which layers to drop even where none is
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        expected = original(sound).logits
        final_norm = layer_scores is None or _sums_after_final_norm(original.base_model, sound)
    if not final_norm and str(config.transformers_version).startswith("4."):
        warnings.warn(
            f"{source} was saved by transformers {config.transformers_version}, whose weighted sum of layers "
            "took the last one after the final norm; transformers now takes it before, and so do we. Its "
            "logits may be worse than those it was published with",
            stacklevel=3,
        )
    opened = PretrainedSpeechModel(
        original.base_model, name, source.pinned("config.json").revision, **preprocessing(source, config)
    )
    layer: Literal["last", "learned"] = "last" if layer_scores is None else "learned"
    head = HeadSettings(layer=layer, pooling="mean", hidden_size=0, dropout=0.0)
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are filled
        classifier = (
            EmotionClassifier(SpeechBackbone(opened, final_norm=final_norm), labels, head).float().eval()
        )
    _fill_head(classifier.head, original)
    _check_logits(source, expected, classifier(sound))
    return classifier


def _labels(source: Source, config: PretrainedConfig) -> list[str]:
    """Its classes in the order of the logits, after a look at what kind of model it is."""
    if config.model_type not in FAMILIES:
        raise ModelError(
            f"{source} is of kind {config.model_type!r}; expected an audio-classification model of kind "
            f"{', '.join(FAMILIES)}"
        )
    wanted, found = _class_of(config), config.architectures or []
    if found and wanted not in found:
        raise ModelError(
            f"{source} holds a {' and a '.join(found)}; expected a {wanted}, whose classification head is "
            "known. On a model without such a head one can be trained: "
            f"python train.py fit --model.backbone.name {source.name}"
        )
    return _class_names(source, config)


def _class_of(config: PretrainedConfig) -> str:
    return f"{FAMILIES[config.model_type]}ForSequenceClassification"


def _class_names(source: Source, config: PretrainedConfig) -> list[str]:
    problem = config.problem_type or "single_label_classification"
    by_index: dict[Any, Any] = dict(config.id2label or {})
    if problem != "single_label_classification" or len(by_index) < 2:
        raise ModelError(
            f"{source} solves problem_type={problem!r} with {len(by_index)} outputs; expected a classifier "
            "of at least two classes,with one class per clip"
        )
    labels = [str(by_index.get(index, "")).strip() for index in range(len(by_index))]
    if not all(labels) or len(set(labels)) < len(labels):
        raise ModelError(
            f"{source} has id2label={by_index}; expected one name for each class from 0 to "
            f"{len(labels) - 1}, and no name twice; correct its config.json"
        )
    return labels


def _sound(config: PretrainedConfig) -> Float[Tensor, "1 samples"]:
    """A tone that rises, as long as a few frames."""
    grid = FrameGrid(tuple(config.conv_kernel), tuple(config.conv_stride), sample_rate=1)
    num_samples = grid.receptive_field_samples + (CHECKED_FRAMES - 1) * grid.hop_samples
    time = torch.linspace(0.0, 1.0, num_samples, dtype=torch.float32)
    return normalize_waveforms((1000.0 * time.square()).sin()[None], torch.tensor([num_samples]))


def _sums_after_final_norm(model: TransformersModule, sound: Float[Tensor, "1 samples"]) -> bool:
    """Versions of transformers differ, so it is asked."""
    outputs = model(sound, output_hidden_states=True)
    return torch.equal(outputs.hidden_states[-1], outputs.last_hidden_state)


@torch.no_grad()
def _fill_head(head: EmotionHead, original: TransformersModule) -> None:
    """Multiply the two projections into one, and undo the norm, which divides by the root of 1 + eps."""
    first, second = original.projector, original.classifier
    mlp: TransformersModule = head.mlp
    norm, linear = mlp[0], mlp[-1]
    weight = second.weight.double()
    linear.weight.copy_((weight @ first.weight.double()).float() * (1.0 + norm.eps) ** 0.5)
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
