"""Reading what transformers and the Hub keep: a folder or a Hub name, with reasons where that fails."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import ERROR
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, TypeVar

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import logging
from transformers.utils.hub import cached_file

from wavshap_lightning.errors import ModelError

Read = TypeVar("Read")

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

    def model(
        self, model_class: type[PreTrainedModel], config: PretrainedConfig
    ) -> tuple[PreTrainedModel, list[str]]:
        """Its weights in single precision, and the names of those that it lacks, which are random.

        The global random state is as it was afterwards.

        Raises:
            ModelError: If they cannot be read, or carry pickled code.
        """
        options: dict[str, Any] = {"config": config, "revision": self.revision, "dtype": torch.float32}
        # transformers draws weights before it loads them, asks a server to convert what is not safetensors,
        # and lists what it leaves out, such as the head where a backbone is wanted
        with torch.random.fork_rng(devices=[]), _without_conversion_requests(), _without_reports():
            loaded: Any = self.read(
                lambda: model_class.from_pretrained(self.name, output_loading_info=True, **options)
            )
        model, report = loaded
        return model, sorted(key for key in report["missing_keys"] if not is_unused(key))

    def json(self, file: str) -> dict[str, Any]:
        """One of its JSON files; empty where there is none.

        Raises:
            ModelError: If it cannot be read.
        """
        return self.read(lambda: self._json(file))

    def file(self, file: str) -> Path | None:
        """Where one of its files lies on this machine, after fetching it; None where it has none.

        Raises:
            ModelError: If it is not there, or nobody can tell.
        """
        path = self.read(lambda: self._cached(file))
        return None if path is None else Path(path)

    def commit(self) -> str | None:
        """The commit on the Hub that was fetched, which a branch may have left since; None for a folder.

        Raises:
            ModelError: If it is not there.
        """
        config = None if Path(self.name).exists() else self.file("config.json")
        return None if config is None else config.parent.name  # so the cache of the Hub is laid out

    def is_kept(self, file: str) -> bool:
        """Whether one of its files was fetched before."""
        kept = self.read(lambda: try_to_load_from_cache(self.name, file, revision=self.revision))
        return isinstance(kept, str)

    def read(self, load: Callable[[], Read]) -> Read:
        """What `load` gives.

        Raises:
            ModelError: If it fails, with the reason and what to do.
        """
        try:
            return load()
        except UNREADABLE as error:
            raise ModelError(f"{self} could not be opened: {_reason(error)}; {self._remedy()}") from error

    def _json(self, file: str) -> dict[str, Any]:
        path = self._cached(file)
        content = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
        if not isinstance(content, dict):
            raise TypeError(f"{file} holds a {type(content).__name__} where settings by name are needed")
        return content

    def _cached(self, file: str) -> str | None:
        return cached_file(
            self.name, file, revision=self.revision, _raise_exceptions_for_missing_entries=False
        )

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
    """Whether no forward pass reads the weight of this name."""
    return key.rpartition(".")[2] in UNUSED_KEYS


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


def _reason(error: Exception) -> str:
    if isinstance(error, UnpicklingError):
        return "its weights file is damaged or carries pickled code, which is never run"
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
