"""Opening a pretrained speech transformer: by Hub name, from a folder, or the embedded one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from logging import ERROR
from operator import attrgetter
from os.path import isdir
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, TypeVar

import torch
import transformers
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, WavLMConfig, WavLMModel
from transformers.modeling_utils import load_state_dict
from transformers.utils import logging
from transformers.utils.hub import cached_file

from wavshap_lightning.errors import ModelError, WavshapError, first_line
from wavshap_lightning.models.families import FAMILIES, KINDS, WAVEFORMS, WHOLE, Family
from wavshap_lightning.models.frontends import Frontend, TransformersModule
from wavshap_lightning.models.layouts import PROGRAMS, is_pointer, names_in, recognize

Read = TypeVar("Read")
State = dict[str, Tensor]

# Settings that change the model, and are ignored by transformers or need a library of their own.
REFUSED_KEYS = {
    "quantization_config": "it is quantized; save it in full precision",
    "auto_map": "it brings code of its own, which is never run; give a model of the classes of transformers",
}

# In the order in which transformers looks for them; then those of SpeechBrain.
WEIGHT_FILES = (["model.safetensors"], ["pytorch_model.bin"], ["wav2vec2.ckpt", "model.ckpt"])

COMMIT = re.compile("[0-9a-f]{40}")
NO_CONVERSION = "DISABLE_SAFETENSORS_CONVERSION"


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

    def config(self, known: Mapping[str, Any] | None = None) -> PretrainedConfig:
        """Its `config.json`.

        Args:
            known: Geometry of the backbone of a model that is built without its own code; what its
                `config.json` says of the geometry counts more.

        Raises:
            ModelError: If it is not there or cannot be read, or announces what the stock classes ignore.
        """
        self._check_there()
        given = self.json("config.json")
        for key, words in REFUSED_KEYS.items():
            if given.get(key) and not (known and key == "auto_map"):
                raise ModelError(f"{self} has {key} in its config.json: {words}")
        if given and self.file("adapter_config.json"):
            raise ModelError(f"{self} has an adapter_config.json: it is {PROGRAMS['adapter_config.json']}")
        if "model_type" not in given and not known:
            lacking = "no model_type in its config.json" if given else "no config.json"
            raise ModelError(f"{self} could not be opened: it has {lacking}; {self._remedy(reached=True)}")
        if known:
            config = self.read(
                lambda: AutoConfig.for_model(**{**known, **given, "model_type": known["model_type"]})
            )
        else:
            config = self.read(
                lambda: AutoConfig.from_pretrained(self.name, revision=self.revision, trust_remote_code=False)
            )
        config.return_dict, config.torchscript = True, False  # records, not tuples
        return config

    def model(
        self, class_name: str, config: PretrainedConfig, state: State | None = None
    ) -> TransformersModule:
        """Its weights in single precision.

        The global random state is as it was afterwards.

        Args:
            class_name: Name of the class of transformers to open it as.
            config: Its configuration.
            state: The weights by the names that the class has for them; None for those of its files.

        Raises:
            ModelError: If they cannot be read, carry pickled code, are not complete, have other shapes, are
                quantized, or if the class has no place for some of them.
        """
        options: dict[str, Any] = {"config": config, "revision": self.revision, "dtype": torch.float32}
        options |= {} if state is None else {"state_dict": state}
        options |= {"attn_implementation": "eager", "ignore_mismatched_sizes": True}  # told below
        renamed = FAMILIES[config.model_type].renamed if self.role == "backbone" else {}
        options |= {"key_mapping": dict(renamed)} if renamed else {}
        # transformers draws weights before it loads them, asks a server to convert what is not safetensors,
        # and lists what it leaves out, such as the head where a backbone is wanted
        with torch.random.fork_rng(devices=[]), _without_conversion_requests(), _without_reports():
            loaded: Any = self.read(
                lambda: attrgetter(class_name)(transformers).from_pretrained(
                    self.name if state is None else None, output_loading_info=True, **options
                )
            )
        model, report = loaded
        self._check_weights(model, report, self.weights() if state is None else state)
        return model

    def _check_weights(self, model: TransformersModule, report: Mapping[str, Any], stored: State) -> None:
        """Refuse weights that are integers, of other shapes, missing or left over."""
        if integers := [key for key, value in stored.items() if _is_integer(key, value)]:
            raise ModelError(
                f"{self} holds {listed(integers)} as integers: it is quantized; save it in full precision"
            )
        for key, found, wanted in sorted(report["mismatched_keys"]):
            raise ModelError(
                f"{self} could not be opened: {key} has shape {tuple(found)}, but its config.json asks for "
                f"{tuple(wanted)}; correct the config.json (a classifier has as many outputs as id2label)"
            )
        base = f"{model.base_model_prefix}."
        missing = sorted(key for key in report["missing_keys"] if not is_unused(key))
        other = sorted(key for key in report["unexpected_keys"] if not is_unused(key))
        # a backbone may come with a head, which is left out, but not with other parts of its own
        is_part = bool(FAMILIES.get(model.config.model_type, WHOLE).renamed)
        within = not is_part and any(key.startswith(base) for key in stored)
        children = {name for name, _ in model.named_children()} - {"projector", "classifier"}
        inside = tuple(f"{name}." for name in children)
        parts = (base,) if within else inside
        left_over = [key for key in other if self.role == "model" or key.startswith(parts)]
        if not missing and not left_over:
            return
        ends = sorted(key.removeprefix(base) for key in missing)[:1]
        prefix = next((key.removesuffix(end) for key in other for end in ends if key.endswith(f".{end}")), "")
        advice = f"it is not a complete {type(model).__name__}; give a complete folder or revision"
        if prefix:
            advice = f"its names begin with {prefix!r}; save it without this prefix"
        elif self.role == "model" and not any(key.startswith(inside) for key in missing + left_over):
            advice = f"it has another head than a {type(model).__name__}. {train_on(self.name)}"
        found = [f"lacks {listed(missing)}, which would stay random"] if missing else []
        found += [f"holds {listed(left_over or other)}, which nothing would use"] if other else []
        raise ModelError(f"{self} {', and '.join(found)}: {advice}")

    def weights(self, device: str = "meta") -> State:
        """Its weights by name; on the device `"meta"`, only their shapes and types."""
        for find in (self._kept, self.file):  # what is here needs no network
            for names in WEIGHT_FILES:
                index = None if find(names[0]) else find(f"{names[0]}.index.json")
                shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index else {}
                files = sorted({*shards.values()} or names)
                paths = [path for file in files if (path := find(file))]
                if len(paths) == len(files):
                    return {
                        k: v for path in paths for k, v in load_state_dict(path, map_location=device).items()
                    }
        return {}

    def json(self, file: str) -> dict[str, Any]:
        """Content of a JSON file of the model; empty if it has no such file.

        Raises:
            ModelError: If it cannot be read.
        """
        path = self.file(file)
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8")) if path else {}
        except ValueError as error:  # not JSON, or no text
            reason = f"its {file} is damaged: {first_line(error)}"
            raise ModelError(f"{self} could not be opened: {reason}; get this file again") from error
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
        # what was fetched of a commit, or was not there, stays so
        commit = self.revision if COMMIT.fullmatch(self.revision or "") else None
        options: dict[str, Any] = {"_commit_hash": commit, "_raise_exceptions_for_missing_entries": False}
        path = self.read(lambda: cached_file(self.name, file, revision=self.revision, **options))
        return None if path is None else Path(path)

    def pinned(self, file: str) -> Source:
        """The same source at the commit that was fetched, which a branch may have left since.

        Args:
            file: One of its files.

        Raises:
            ModelError: If it is not there.
        """
        if self._is_path:
            return self
        path: Any = self.read(lambda: cached_file(self.name, file, revision=self.revision))
        return replace(self, revision=Path(path).parent.name)  # so the cache is laid out

    def is_kept(self, file: str) -> bool:
        """True if one of its files is in its folder, or was fetched before."""
        return self._kept(file) is not None

    def _kept(self, file: str) -> Path | None:
        """Local path of one of its files, without asking the Hub."""
        if self._is_path:
            path = Path(self.name, file)
            return path if path.is_file() else None
        kept = self.read(lambda: try_to_load_from_cache(self.name, file, revision=self.revision))
        return Path(kept) if isinstance(kept, str) else None

    def read(self, load: Callable[[], Read]) -> Read:
        """Call `load` and translate its failure into a `ModelError`.

        Raises:
            ModelError: If `load` fails, with the reason and the remedy.
        """
        try:
            return load()
        except WavshapError:
            raise
        except Exception as error:  # on broken folders transformers and its readers raise any
            self._check_there()
            told = error.__cause__ if isinstance(error, StrictDataclassError) else None
            reason = first_line(told or error)
            if isinstance(error, UnpicklingError):
                reason = "its weights file is damaged or carries pickled code, which is never run"
            elif not isinstance(error, OSError | ValueError | ImportError | RuntimeError):
                reason = f"{type(error).__name__}: {reason}"
            remedy = self._remedy(reached="does not appear to have" in reason)
            raise ModelError(f"{self} could not be opened: {reason}; {remedy}") from error

    def _check_there(self) -> None:
        if self._is_path and not is_folder(self.name):
            raise ModelError(f"{self} could not be opened: there is no such folder; check the path")

    @property
    def _is_path(self) -> bool:
        """True for the name of a folder, whether it is there or not; a name on the Hub is `user/name`."""
        first, *rest = Path(self.name).parts or ("",)
        return len(rest) > 1 or self.name.startswith(("/", ".", "~")) or is_folder(first)

    def _remedy(self, *, reached: bool = False) -> str:
        names = names_in(Path(self.name)) if self._is_path else []
        if reached and not self._is_path:
            with suppress(Exception):  # the network may be gone since
                names = HfApi().list_repo_files(self.name, revision=self.revision)
        if layout := recognize(names):
            return f"it is {layout}"
        if pointers := [name for name in names if is_pointer(Path(self.name, name))]:
            return f"{pointers[0]} is only a pointer of Git LFS; fetch the file itself with 'git lfs pull'"
        if reached or self._is_path:
            return f"the folder needs config.json and model.safetensors of one {KINDS}, both undamaged"
        fetch = f"hf download {self.name}" + (f" --revision {self.revision}" if self.revision else "")
        embedded = ", or use backbone='tiny', which is embedded" if self.role == "backbone" else ""
        return (
            f"check the name; without network, run '{fetch}' on a machine that has it and copy the folder "
            f"over{embedded}"
        )


def listed(keys: Sequence[str]) -> str:
    """The number of weights, and the names of the first."""
    return f"{len(keys)} weights ({', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''})"


def _is_integer(key: str, value: Tensor) -> bool:
    """True for an integer in place of a weight; batch norms count their batches in one."""
    is_number = not value.is_floating_point() and value.dtype != torch.bool
    return is_number and not key.endswith("num_batches_tracked")


def absolute(name: str) -> str:
    """The absolute path of a folder, so that it is found from anywhere; another name as it is."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if is_folder(folder) else name


def is_folder(path: str | Path) -> bool:
    """True for a folder; `Path.is_dir` raises for a name that is too long."""
    return isdir(path)  # noqa: PTH112


def train_on(name: str) -> str:
    """The command that trains a head, as a sentence."""
    return f"On its backbone a head can be trained: python train.py fit --model.backbone.name {name}"


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
        model: A speech transformer of one of the families, without a task head; or a classifier of waveforms
            with its head, of which nothing but the outputs is used.
        name: `"tiny"`, a folder, or a Hub name.
        revision: The Hub commit asked for.
        normalize: True if each waveform is scaled to zero mean and unit variance first.
        sample_rate: Samples per second it was trained on.
        followed: Other settings of its feature extractor that its frontend takes.
        row: Its row of the table, if not that of its kind.
    """

    model: PreTrainedModel
    name: str
    revision: str | None = None
    normalize: bool = False
    sample_rate: int = 16_000
    followed: Mapping[str, float] = field(default_factory=dict)
    row: Family | None = None

    @property
    def family(self) -> Family:
        """Its row of the table, or that of classifiers known as a whole."""
        has_head = self.model.base_model is not self.model
        return self.row or (WHOLE if has_head else FAMILIES.get(self.model.config.model_type, WHOLE))

    def frontend(self) -> Frontend:
        """First stage of the model."""
        build = self.family.frontend
        return build(self.model, sample_rate=self.sample_rate, normalize=self.normalize, **self.followed)

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
        geometry = {name: getattr(config, name, None) for name in (*names, *self.family.geometry)}
        # the key keeps its old spelling: the fingerprints in existing checkpoints are made with it
        return {**geometry, "normalise": self.normalize, "sample_rate": self.sample_rate, **self.followed}


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
    source = Source(absolute(name), revision).pinned("config.json")
    return source.read(lambda: _open(source, revision))


def _open(source: Source, revision: str | None) -> PretrainedSpeechModel:
    config = source.config()
    if config.model_type not in FAMILIES:
        raise ModelError(
            f"{source} is of kind {config.model_type!r}; need one of {', '.join(FAMILIES)}, "
            "such as 'microsoft/wavlm-base-plus'"
        )
    model = source.model(FAMILIES[config.model_type].backbone, config)
    return PretrainedSpeechModel(model, source.name, revision, **preprocessing(source, config))


def preprocessing(source: Source, config: PretrainedConfig) -> dict[str, Any]:
    """Settings of the model's feature extractor, as arguments of a `PretrainedSpeechModel`.

    Args:
        source: The folder or Hub name.
        config: Configuration of the model.

    Warns:
        UserWarning: If there is no `preprocessor_config.json`, so that the usual values are assumed.
    """
    # of the published models only WavLM Base and Base+ take waveforms as they are
    as_they_are = config.model_type == "wavlm" and config.feat_extract_norm == "group"
    family = FAMILIES.get(config.model_type, WHOLE)
    needed = family.extractor(config)
    takes_waveforms = needed == WAVEFORMS
    usual = {"do_normalize": takes_waveforms and not as_they_are, "sampling_rate": 16_000} | needed
    found = _extractor_settings(source, usual)
    if not found:
        warnings.warn(
            f"{source} has no preprocessor_config.json; assuming {usual}, as published "
            "models of its kind have; add the file if that is wrong",
            stacklevel=4,
        )
    settings = usual | found
    followed = {name: float(settings[name]) for name in family.followed}
    for name, value in needed.items():
        if name not in followed and settings[name] != value:
            raise ModelError(f"{source}: {name}={settings[name]!r} of its preprocessor must be {value!r}")
    normalize, rate = settings["do_normalize"], settings["sampling_rate"]
    if normalize not in (True, False) or not isinstance(rate, int | float) or rate < 1:
        raise ModelError(
            f"{source}: do_normalize={normalize!r}, sampling_rate={rate!r} of its preprocessor must be true "
            "or false, and samples per second"
        )
    # an extractor of spectrograms does not heed the do_normalize of its file
    return {"normalize": bool(normalize) and takes_waveforms, "sample_rate": int(rate), "followed": followed}


def _extractor_settings(source: Source, known: Collection[str]) -> dict[str, Any]:
    """A model saved together with its processor keeps them in the processor's file."""
    nested = source.json("processor_config.json").get("feature_extractor", {})
    settings = nested or source.json("preprocessor_config.json")
    return {key: settings[key] for key in known if settings.get(key) is not None}
