"""Families of speech transformers: for each, the classes of transformers, frontend and encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wavshap_lightning.models import encoders, frontends

# Feature extractors of waveforms, of Wav2Vec2-BERT, and of AST with its usual statistics.
KIND = "feature_extractor_type"
WAVEFORMS = {KIND: "Wav2Vec2FeatureExtractor"}
STACKED = {KIND: "SeamlessM4TFeatureExtractor", "stride": 2, "return_attention_mask": True}
AUDIOSET = {KIND: "ASTFeatureExtractor", "do_normalize": True, "mean": -4.2677393, "std": 4.5689974}


@dataclass(frozen=True)
class Family:
    """A family of speech transformers.

    Args:
        backbone: Name of the class of transformers without a head, with its module unless it is public; it is
            imported when a model is opened.
        frontend: First stage.
        encoder: Second stage.
        stages: Stages to whose input a score can be attributed.
        renamed: Patterns in the names of the weights of the backbone, and their replacements.
        extractor: From a configuration, settings of the feature extractor that the frontend is.
        followed: Those among them that the frontend takes as arguments, so that others will do.
        geometry: Settings that change the layers, besides those that all families have.
    """

    backbone: str
    frontend: Callable[..., frontends.Frontend] = frontends.Convolutions
    encoder: type[encoders.Encoder] = encoders.ConvolutionalPositions
    stages: tuple[str, ...] = ("frames", "layers", "waveform")
    renamed: Mapping[str, str] = field(default_factory=dict)
    extractor: Callable[[Any], dict[str, Any]] = lambda _config: WAVEFORMS
    followed: tuple[str, ...] = ()
    geometry: tuple[str, ...] = ()


# By `model_type` of a config.json.
FAMILIES = {
    "wavlm": Family("WavLMModel"),
    "hubert": Family("HubertModel"),
    "wav2vec2": Family("Wav2Vec2Model"),
    "unispeech": Family("UniSpeechModel"),
    "unispeech-sat": Family("UniSpeechSatModel"),
    "whisper": Family(
        "models.whisper.modeling_whisper.WhisperEncoder",
        frontends.LogMel,
        encoders.TabulatedPositions,
        renamed={r"^(model\.)?encoder\.": ""},
        extractor=frontends.LogMel.extractor,
        geometry=("activation_function",),
    ),
    "data2vec-audio": Family("Data2VecAudioModel"),
    "wav2vec2-conformer": Family("Wav2Vec2ConformerModel", encoder=encoders.Conformer),
    "sew": Family("SEWModel", encoder=encoders.SqueezedLayers),
    "sew-d": Family(
        "SEWDModel",
        encoder=encoders.SqueezedLayers,
        geometry=("feature_layer_norm_eps", "max_position_embeddings", "pos_att_type"),
    ),
    "wav2vec2-bert": Family(
        "Wav2Vec2BertModel",
        frontends.StackedFilterBank,
        encoders.Conformer,
        extractor=lambda config: {**STACKED, "num_mel_bins": config.feature_projection_input_dim // 2},
        geometry=("position_embeddings_type", "rotary_embedding_base", "left_max_position_embeddings"),
    ),
    "audio-spectrogram-transformer": Family(
        "ASTModel",
        frontends.PaddedFilterBank,
        encoders.SummaryTokens,
        stages=("frames", "waveform"),
        extractor=lambda c: {**AUDIOSET, "num_mel_bins": c.num_mel_bins, "max_length": c.max_length},
        followed=("mean", "std"),
        geometry=("max_length", "frequency_stride", "time_stride"),
    ),
}
# Of a classifier that is known as a whole; its outputs stand for frames and layers, but are neither.
WHOLE = Family("", frontends.WholeModel, encoders.NoEncoder, stages=("waveform",))
# Of a Whisper whose head takes the clip's own frames of the last layer.
ENCODED_WINDOW = Family(
    "", frontends.EncodedWindow, encoders.NoEncoder, ("layers", "waveform"), geometry=("activation_function",)
)
KINDS = f"model of kind {', '.join(FAMILIES)}"
