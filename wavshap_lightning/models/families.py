"""Families of speech transformers: for each, the classes of transformers, frontend and encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wavshap_lightning.models.encoders import (
    ConvolutionalPositions,
    Encoder,
    SqueezedLayers,
    TabulatedPositions,
)
from wavshap_lightning.models.frontends import Convolutions, Frontend, LogMel


@dataclass(frozen=True)
class Family:
    """A family of speech transformers.

    Args:
        backbone: Name of the class of transformers without a head, with its module unless it is public; it is
            imported when a model is opened.
        classifier: Name of the class with a head for classes.
        frontend: First stage.
        encoder: Second stage.
        stages: Stages to whose input a score can be attributed.
        renamed: Patterns in the names of the weights of the backbone, and their replacements.
        extractor: From a configuration, settings of the feature extractor that the frontend is; none for
            waveforms.
        geometry: Settings that change the layers, besides those that all families have.
    """

    backbone: str
    classifier: str
    frontend: Callable[..., Frontend] = Convolutions
    encoder: type[Encoder] = ConvolutionalPositions
    stages: tuple[str, ...] = ("frames", "layers", "waveform")
    renamed: Mapping[str, str] = field(default_factory=dict)
    extractor: Callable[[Any], dict[str, Any]] = lambda _config: {}
    geometry: tuple[str, ...] = ()


# By `model_type` of a config.json.
FAMILIES = {
    "wavlm": Family("WavLMModel", "WavLMForSequenceClassification"),
    "hubert": Family("HubertModel", "HubertForSequenceClassification"),
    "wav2vec2": Family("Wav2Vec2Model", "Wav2Vec2ForSequenceClassification"),
    "unispeech": Family("UniSpeechModel", "UniSpeechForSequenceClassification"),
    "unispeech-sat": Family("UniSpeechSatModel", "UniSpeechSatForSequenceClassification"),
    "whisper": Family(
        "models.whisper.modeling_whisper.WhisperEncoder",
        "WhisperForAudioClassification",
        LogMel,
        TabulatedPositions,
        renamed={r"^(model\.)?encoder\.": ""},
        extractor=LogMel.extractor,
        geometry=("activation_function",),
    ),
    "data2vec-audio": Family("Data2VecAudioModel", "Data2VecAudioForSequenceClassification"),
    "sew": Family("SEWModel", "SEWForSequenceClassification", encoder=SqueezedLayers),
    "sew-d": Family(
        "SEWDModel",
        "SEWDForSequenceClassification",
        encoder=SqueezedLayers,
        geometry=("feature_layer_norm_eps", "max_position_embeddings", "pos_att_type"),
    ),
}
KINDS = f"model of kind {', '.join(FAMILIES)}"
