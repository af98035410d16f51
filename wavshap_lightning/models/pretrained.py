"""Opening a pretrained speech transformer: by Hub name, from a folder, or the embedded one."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import HubertModel, PretrainedConfig, PreTrainedModel, Wav2Vec2Model, WavLMModel

from wavshap_lightning.errors import ModelError
from wavshap_lightning.models.source import Source, is_unused
from wavshap_lightning.models.tiny import open_tiny_model

TransformersModule = Any  # transformers' submodules are untyped

FAMILIES: dict[str, type[PreTrainedModel]] = {
    "wavlm": WavLMModel,
    "hubert": HubertModel,
    "wav2vec2": Wav2Vec2Model,
}


@dataclass(frozen=True, eq=False)
class PretrainedSpeechModel:
    """A speech transformer as it was found, before anything is changed.

    Args:
        model: WavLM, HuBERT or wav2vec2, without a task head.
        name: `"tiny"`, a folder, or a Hub name.
        revision: The Hub commit asked for.
        normalise: Whether each waveform is scaled to zero mean and unit variance first.
        sample_rate: Samples per second it was trained on.
    """

    model: PreTrainedModel
    name: str
    revision: str | None = None
    normalise: bool = False
    sample_rate: int = 16_000

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights that matter, the geometry and the preprocessing."""
        digest = hashlib.sha256(json.dumps(self._geometry(), sort_keys=True).encode())
        weights = {key: tensor for key, tensor in self.model.state_dict().items() if not is_unused(key)}
        for key, tensor in sorted(weights.items()):
            digest.update(f"{key}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _geometry(self) -> dict[str, Any]:
        config = self.model.config
        names = (
            "model_type",
            "conv_kernel",
            "conv_stride",
            "feat_extract_norm",
            "do_stable_layer_norm",
            "num_attention_heads",
            "hidden_act",
            "feat_extract_activation",
            "layer_norm_eps",
            "max_bucket_distance",
        )
        geometry = {name: getattr(config, name, None) for name in names}
        return {**geometry, "normalise": self.normalise, "sample_rate": self.sample_rate}


def open_pretrained(name: str, revision: str | None = None) -> PretrainedSpeechModel:
    """Open a backbone.

    Args:
        name: `"tiny"`, a folder with `config.json` and weights, or a Hub name.
        revision: The Hub commit, tag or branch; pin a commit for a result that lasts.

    Raises:
        ModelError: If it is not there, of another kind, or lacks weights.
    """
    if name == "tiny":
        return PretrainedSpeechModel(open_tiny_model(), name="tiny")
    source = Source(name, revision)
    config = source.config()
    model, missing = source.model(_model_class(name, config), config)
    if missing:
        raise ModelError(
            f"backbone={name!r} lacks {len(missing)} weights ({', '.join(missing[:3])}, ...), which would "
            "stay random; give a folder or revision with complete weights"
        )
    return PretrainedSpeechModel(model, name, revision, **_preprocessing(source, config))


def _model_class(name: str, config: PretrainedConfig) -> type[PreTrainedModel]:
    model_class = FAMILIES.get(config.model_type)
    if model_class is None:
        raise ModelError(
            f"backbone={name!r} is of kind {config.model_type!r}; need one of {', '.join(FAMILIES)}, "
            "such as 'microsoft/wavlm-base-plus'"
        )
    return model_class


def _preprocessing(source: Source, config: PretrainedConfig) -> dict[str, Any]:
    """Sampling rate and normalisation as the feature extractor has them."""
    usual = {"do_normalize": _usually_normalised(config), "sampling_rate": 16_000}
    found = _extractor_settings(source)
    if not found:
        warnings.warn(
            f"backbone={source.name!r} has no preprocessor_config.json; assuming {usual}, as published "
            "models of its kind have; add the file if that is wrong",
            stacklevel=4,
        )
    settings = usual | found
    return {"normalise": bool(settings["do_normalize"]), "sample_rate": int(settings["sampling_rate"])}


def _usually_normalised(config: PretrainedConfig) -> bool:
    """Of the published models only WavLM Base and Base+ take waveforms as they are."""
    return not (config.model_type == "wavlm" and config.feat_extract_norm == "group")


def _extractor_settings(source: Source) -> dict[str, Any]:
    """A model saved together with its processor keeps them in the processor's file."""
    nested = source.json("processor_config.json").get("feature_extractor", {})
    settings = nested or source.json("preprocessor_config.json")
    return {key: settings[key] for key in ("do_normalize", "sampling_rate") if settings.get(key) is not None}
