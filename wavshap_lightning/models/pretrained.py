"""Opening a pretrained speech transformer: by Hub name, from a folder, or the embedded one."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from logging import ERROR
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, TypeVar

import torch
import transformers
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, WavLMConfig, WavLMModel
from transformers.utils import logging
from transformers.utils.hub import cached_file

from wavshap_lightning.errors import ModelError, first_line

Read = TypeVar("Read")

TransformersModule = Any  # transformers' submodules are untyped

# Prefix of transformers' classes by kind of model; a class is imported when one of its kind is opened.
FAMILIES = {"wavlm": "WavLM", "hubert": "Hubert", "wav2vec2": "Wav2Vec2"}

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


@dataclass(frozen=True)
class Source:
    """A folder or a Hub name.

    A Hub name is fetched once by transformers and found in its cache from then on; weights come
    as safetensors or through `weights_only=True`, never as pickled code.

    Args:
        name: The folder, or the name on the Hub.
        revision: The Hub commit, tag or branch.
        role: What it is to the one who asked for it; messages say so.
    """

    name: str
    revision: str | None = None
    role: Literal["backbone", "model"] = "backbone"

    def __str__(self) -> str:
        return f"{self.role}={self.name!r}" + (f" at revision={self.revision!r}" if self.revision else "")

    def config(self) -> PretrainedConfig:
        """Its `config.json`.

        Raises:
            ModelError: If it is not there or cannot be read.
        """
        return self.read(
            lambda: AutoConfig.from_pretrained(self.name, revision=self.revision, trust_remote_code=False)
        )

    def model(self, class_name: str, config: PretrainedConfig) -> TransformersModule:
        """Its weights in single precision.

        The global random state is as it was afterwards.

        Args:
            class_name: Name of the class of transformers to open it as.
            config: Its configuration.

        Raises:
            ModelError: If they cannot be read, carry pickled code, or are not complete.
        """
        options: dict[str, Any] = {"config": config, "revision": self.revision, "dtype": torch.float32}
        # transformers draws weights before it loads them, asks a server to convert what is not safetensors,
        # and lists what it leaves out, such as the head where a backbone is wanted
        with torch.random.fork_rng(devices=[]), _without_conversion_requests(), _without_reports():
            loaded: Any = self.read(
                lambda: getattr(transformers, class_name).from_pretrained(
                    self.name, output_loading_info=True, **options
                )
            )
        model, report = loaded
        missing = sorted(key for key in report["missing_keys"] if not is_unused(key))
        if missing:
            raise ModelError(
                f"{self} lacks {len(missing)} weights ({', '.join(missing[:3])} ...), which would stay "
                f"random: it is not a complete {class_name}; give a complete folder or revision"
            )
        return model

    def json(self, file: str) -> dict[str, Any]:
        """Content of a JSON file of the model; empty if it has no such file.

        Raises:
            ModelError: If it cannot be read.
        """
        path = self.file(file)
        content: Any = self.read(lambda: json.loads(path.read_text(encoding="utf-8"))) if path else {}
        if not isinstance(content, dict):
            raise ModelError(
                f"{self}: {file} holds a {type(content).__name__} but must hold an object of settings"
            )
        return content

    def file(self, file: str) -> Path | None:
        """Local path of a file of the model, fetched if needed; None if it has no such file.

        Raises:
            ModelError: If the file cannot be fetched.
        """
        path = self.read(
            lambda: cached_file(
                self.name, file, revision=self.revision, _raise_exceptions_for_missing_entries=False
            )
        )
        return None if path is None else Path(path)

    def pinned(self, file: str) -> Source:
        """The same source at the commit that was fetched, which a branch may have left since.

        Args:
            file: One of its files.

        Raises:
            ModelError: If it is not there.
        """
        path = None if Path(self.name).exists() else self.file(file)
        return self if path is None else replace(self, revision=path.parent.name)  # so the cache is laid out

    def is_kept(self, file: str) -> bool:
        """True if one of its files was fetched before."""
        kept = self.read(lambda: try_to_load_from_cache(self.name, file, revision=self.revision))
        return isinstance(kept, str)

    def read(self, load: Callable[[], Read]) -> Read:
        """Call `load` and translate its failure into a `ModelError`.

        Raises:
            ModelError: If `load` fails, with the reason and the remedy.
        """
        try:
            return load()
        except UNREADABLE as error:
            reason = first_line(error)
            if isinstance(error, UnpicklingError):
                reason = "its weights file is damaged or carries pickled code, which is never run"
            raise ModelError(f"{self} could not be opened: {reason}; {self._remedy()}") from error

    def _remedy(self) -> str:
        if Path(self.name).exists():
            return "the folder needs config.json and model.safetensors (WavLM, HuBERT or wav2vec2)"
        if Path(self.name).is_absolute() or self.name.startswith((".", "~")):
            return "there is no such folder; check the path"
        fetch = f"hf download {self.name}" + (f" --revision {self.revision}" if self.revision else "")
        embedded = ", or use backbone='tiny', which is embedded" if self.role == "backbone" else ""
        return (
            f"check the name; without network, run '{fetch}' on a machine that has it and copy the folder "
            f"over{embedded}"
        )


def is_unused(key: str) -> bool:
    """True if no forward pass uses the weight of this name."""
    return key.endswith("masked_spec_embed")  # of pretraining


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


@contextmanager
def _without_reports() -> Iterator[None]:
    before = logging.get_verbosity()
    logging.set_verbosity(ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


# Weights, configuration and model card; transformers opens it too.
TINY_FOLDER = Path(__file__).parent / "embedded" / "tiny"


def tiny_config() -> WavLMConfig:
    """The geometry of the embedded backbone.

    Hop 320 samples like every WavLM, receptive field 1080 samples (67.5 ms), three transformer
    layers of 128. The first convolution is long enough to act as a filter bank; layer norm
    makes it exact under padding and defined for silence.
    """
    return WavLMConfig.from_json_file(TINY_FOLDER / "config.json")


def open_tiny_model() -> WavLMModel:
    """The embedded backbone with its pretrained weights, in single precision."""
    model = build_tiny_model(seed=0)
    model.load_state_dict(load_file(TINY_FOLDER / "model.safetensors"))
    return model


def build_tiny_model(seed: int) -> WavLMModel:
    """A WavLM of the embedded backbone's size with random weights, drawn from `seed`.

    The global random state is not changed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every GPU too
        return WavLMModel(tiny_config()).float()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class PretrainedSpeechModel:
    """A speech transformer as it was found, before anything is changed.

    Args:
        model: WavLM, HuBERT or wav2vec2, without a task head.
        name: `"tiny"`, a folder, or a Hub name.
        revision: The Hub commit asked for.
        normalize: True if each waveform is scaled to zero mean and unit variance first.
        sample_rate: Samples per second it was trained on.
    """

    model: PreTrainedModel
    name: str
    revision: str | None = None
    normalize: bool = False
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
        # the key keeps its old spelling: the fingerprints in existing checkpoints are made with it
        return {**geometry, "normalise": self.normalize, "sample_rate": self.sample_rate}


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
    if config.model_type not in FAMILIES:
        raise ModelError(
            f"backbone={name!r} is of kind {config.model_type!r}; need one of {', '.join(FAMILIES)}, "
            "such as 'microsoft/wavlm-base-plus'"
        )
    model = source.model(f"{FAMILIES[config.model_type]}Model", config)
    return PretrainedSpeechModel(model, name, revision, **preprocessing(source, config))


def preprocessing(source: Source, config: PretrainedConfig) -> dict[str, Any]:
    """Sampling rate and normalization of the model's feature extractor, as arguments of a backbone.

    Args:
        source: The folder or Hub name.
        config: Configuration of the model.

    Warns:
        UserWarning: If there is no `preprocessor_config.json`, so that the usual values are assumed.
    """
    # of the published models only WavLM Base and Base+ take waveforms as they are
    as_they_are = config.model_type == "wavlm" and config.feat_extract_norm == "group"
    usual = {"do_normalize": not as_they_are, "sampling_rate": 16_000}
    found = _extractor_settings(source)
    if not found:
        warnings.warn(
            f"backbone={source.name!r} has no preprocessor_config.json; assuming {usual}, as published "
            "models of its kind have; add the file if that is wrong",
            stacklevel=4,
        )
    settings = usual | found
    return {"normalize": bool(settings["do_normalize"]), "sample_rate": int(settings["sampling_rate"])}


def _extractor_settings(source: Source) -> dict[str, Any]:
    """A model saved together with its processor keeps them in the processor's file."""
    nested = source.json("processor_config.json").get("feature_extractor", {})
    settings = nested or source.json("preprocessor_config.json")
    return {key: settings[key] for key in ("do_normalize", "sampling_rate") if settings.get(key) is not None}
