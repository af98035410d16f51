"""Families of speech transformers: for each, the classes of transformers, frontend and encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wavshap_lightning.models.encoders import ConvolutionalPositions, Encoder
from wavshap_lightning.models.frontends import Convolutions, Frontend


@dataclass(frozen=True)
class Family:
    """A family of speech transformers.

    Args:
        backbone: Name of the class of transformers without a head; it is imported when a model is opened.
        classifier: Name of the class with a head for classes.
        frontend: First stage.
        encoder: Second stage.
        stages: Stages to whose input a score can be attributed.
    """

    backbone: str
    classifier: str
    frontend: Callable[..., Frontend] = Convolutions
    encoder: type[Encoder] = ConvolutionalPositions
    stages: tuple[str, ...] = ("frames", "layers", "waveform")


# By `model_type` of a config.json.
FAMILIES = {
    "wavlm": Family("WavLMModel", "WavLMForSequenceClassification"),
    "hubert": Family("HubertModel", "HubertForSequenceClassification"),
    "wav2vec2": Family("Wav2Vec2Model", "Wav2Vec2ForSequenceClassification"),
    "unispeech": Family("UniSpeechModel", "UniSpeechForSequenceClassification"),
    "unispeech-sat": Family("UniSpeechSatModel", "UniSpeechSatForSequenceClassification"),
}
KINDS = f"model of kind {', '.join(FAMILIES)}"
