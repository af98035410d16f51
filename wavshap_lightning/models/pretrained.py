"""Opening a pretrained speech transformer: by Hub name, from a folder, or the embedded one."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    HubertModel,
    PretrainedConfig,
    PreTrainedModel,
    Wav2Vec2Model,
    WavLMModel,
)
from transformers.utils.hub import cached_file

from wavshap_lightning.errors import ModelError
from wavshap_lightning.models.tiny import open_tiny_model

TransformersModule = Any  # transformers' submodules are untyped

FAMILIES: dict[str, type[PreTrainedModel]] = {
    "wavlm": WavLMModel,
    "hubert": HubertModel,
    "wav2vec2": Wav2Vec2Model,
}

NO_CONVERSION = "DISABLE_SAFETENSORS_CONVERSION"

# What broken folders were seen to raise in transformers and its readers.
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    UnpicklingError,
)

# Used in pretraining only: no forward pass of ours reads it.
UNUSED_KEYS = frozenset({"masked_spec_embed"})


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
        weights = {key: tensor for key, tensor in self.model.state_dict().items() if not _unused(key)}
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

    A Hub name is fetched once by transformers and found in its cache from then on; weights come
    as safetensors or through `weights_only=True`, never as pickled code.

    Args:
        name: `"tiny"`, a folder with `config.json` and weights, or a Hub name.
        revision: The Hub commit, tag or branch; pin a commit for a result that lasts.

    Raises:
        ModelError: If it is not there, of another kind, or lacks weights.
    """
    if name == "tiny":
        return PretrainedSpeechModel(open_tiny_model(), name="tiny")
    config = _found(name, revision, lambda: AutoConfig.from_pretrained(name, revision=revision))
    model_class = _model_class(name, config)
    options = {"config": config, "revision": revision, "dtype": torch.float32, "output_loading_info": True}
    # transformers draws weights before it loads them, and asks a server to convert what is no safetensors.
    with torch.random.fork_rng(devices=[]), _without_conversion_requests():
        model, report = _found(name, revision, lambda: model_class.from_pretrained(name, **options))
    missing = sorted(key for key in report["missing_keys"] if not _unused(key))
    if missing:
        raise ModelError(
            f"backbone={name!r} lacks {len(missing)} weights ({', '.join(missing[:3])}, ...), which would "
            "stay random; give a folder or revision with complete weights"
        )
    return PretrainedSpeechModel(model, name, revision, **_preprocessing(name, revision, config))


def _unused(key: str) -> bool:
    return key.rpartition(".")[2] in UNUSED_KEYS


def _model_class(name: str, config: PretrainedConfig) -> type[PreTrainedModel]:
    model_class = FAMILIES.get(config.model_type)
    if model_class is None:
        raise ModelError(
            f"backbone={name!r} is of kind {config.model_type!r}; need one of {', '.join(FAMILIES)}, "
            "such as 'microsoft/wavlm-base-plus'"
        )
    return model_class


def _preprocessing(name: str, revision: str | None, config: PretrainedConfig) -> dict[str, Any]:
    """Sampling rate and normalisation as the feature extractor has them."""
    usual = {"do_normalize": _usually_normalised(config), "sampling_rate": 16_000}
    found = _found(name, revision, lambda: _extractor_settings(name, revision))
    if not found:
        warnings.warn(
            f"backbone={name!r} has no preprocessor_config.json; assuming {usual}, as published models of "
            "its kind have; add the file if that is wrong",
            stacklevel=4,
        )
    settings = usual | found
    return {"normalise": bool(settings["do_normalize"]), "sample_rate": int(settings["sampling_rate"])}


def _usually_normalised(config: PretrainedConfig) -> bool:
    """Of the published models only WavLM Base and Base+ take waveforms as they are."""
    return not (config.model_type == "wavlm" and config.feat_extract_norm == "group")


def _extractor_settings(name: str, revision: str | None) -> dict[str, Any]:
    """A model saved together with its processor keeps them in the processor's file."""
    nested = _read_json(name, "processor_config.json", revision).get("feature_extractor", {})
    settings = nested or _read_json(name, "preprocessor_config.json", revision)
    return {key: settings[key] for key in ("do_normalize", "sampling_rate") if settings.get(key) is not None}


def _read_json(name: str, file: str, revision: str | None) -> dict[str, Any]:
    path = cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=False)
    content = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    if not isinstance(content, dict):
        raise TypeError(f"{file} holds a {type(content).__name__} where settings by name are needed")
    return content


def _found(name: str, revision: str | None, load: Callable[[], Any]) -> Any:  # noqa: ANN401
    try:
        return load()
    except UNREADABLE as error:
        at = f" at revision={revision!r}" if revision else ""
        reason, remedy = _reason(error), _remedy(name, revision)
        raise ModelError(f"backbone={name!r}{at} could not be opened: {reason}; {remedy}") from error


@contextmanager
def _without_conversion_requests() -> Iterator[None]:
    """Keep transformers from posting the model's name to a conversion service."""
    before = os.environ.get(NO_CONVERSION)
    os.environ[NO_CONVERSION] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[NO_CONVERSION]
        else:
            os.environ[NO_CONVERSION] = before


def _remedy(name: str, revision: str | None) -> str:
    if Path(name).exists():
        return "the folder needs config.json and model.safetensors (WavLM, HuBERT or wav2vec2)"
    if Path(name).is_absolute() or name.startswith((".", "~")):
        return "there is no such folder; check the path"
    fetch = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    return (
        f"check the name; without network, run '{fetch}' on a machine that has it and copy the folder over, "
        "or use backbone='tiny', which is embedded"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, UnpicklingError):
        return "its weights file is damaged or carries pickled code, which is never run"
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
