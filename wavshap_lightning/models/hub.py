"""Exported classifiers: a folder with `model.safetensors`, `classifier.json` and a model card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from huggingface_hub import HfApi
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from wavshap_lightning.errors import CheckpointError, ModelError, SettingError
from wavshap_lightning.files import write_atomically
from wavshap_lightning.models.pretrained import Source
from wavshap_lightning.models.record import ClassifierRecord

RECORD_NAME = "classifier.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
NAMES = (CARD_NAME, WEIGHTS_NAME, RECORD_NAME)
DIGEST_KEY = "weights_sha256"
OF_THE_HUB = (".gitattributes", ".git", ".cache")
UNFINISHED = ".unfinished"


def write_export(folder: Path, record: ClassifierRecord, state: Mapping[str, Tensor]) -> None:
    """Write weights and record; equal classifiers give equal bytes.

    Args:
        folder: Where to; an earlier export in it is replaced.
        record: All but the weights.
        state: What `trained_state` gave.
    """
    weights = save(
        {name: state[name].detach().cpu().contiguous() for name in sorted(state)}, metadata={"format": "pt"}
    )
    values = {**record.to_dict(), DIGEST_KEY: hashlib.sha256(weights).hexdigest()}
    (folder / CARD_NAME).unlink(missing_ok=True)
    write_atomically(folder / WEIGHTS_NAME, weights)
    # the record last: beside half an export its digest does not fit
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / RECORD_NAME, text.encode())


def read_export(source: Source) -> tuple[ClassifierRecord, dict[str, Tensor]]:
    """Record and weights of an exported classifier.

    Args:
        source: The folder, or the repository on the Hub.

    Raises:
        CheckpointError: If a file is damaged or missing, or the two do not belong together.
        ModelError: If there is no exported classifier.
    """
    path = source.file(RECORD_NAME)
    if path is None:
        raise ModelError(
            f"{source} holds no {RECORD_NAME}, so it is not an exported classifier; use "
            "load_classifier() for checkpoints, runs and Hugging Face models"
        )
    record, digest = _read_record(path)
    weights = source.pinned(RECORD_NAME).file(WEIGHTS_NAME)
    if weights is None:
        raise CheckpointError(f"{source} has {RECORD_NAME} but no {WEIGHTS_NAME}; export or fetch it again")
    return record, _read_weights(weights, digest)


def _read_record(path: Path) -> tuple[ClassifierRecord, str]:
    """The record, and the digest of the weights it belongs to."""
    try:
        values = json.loads(path.read_bytes())
        digest = values.pop(DIGEST_KEY)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"model={path} is not the record of a classifier ({error!r}); export it again"
        ) from error
    return ClassifierRecord.from_dict(values), digest


def _read_weights(weights: Path, digest: str) -> dict[str, Tensor]:
    try:
        content = weights.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise CheckpointError(
                f"model={weights} has sha256={found[:12]}, but {RECORD_NAME} beside it belongs to weights of "
                f"sha256={digest[:12]}; one of them was changed, so copy or export both again"
            )
        return load(content)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"model={weights} cannot be read: {error}; copy or export it again") from error


def check_folder(folder: Path) -> None:
    """Refuse to export into a folder that holds anything but an earlier export.

    Raises:
        SettingError: If it does, or is a file.
    """
    if folder.is_dir():
        found = [path.name for path in folder.iterdir() if not path.name.endswith(UNFINISHED)]
        _check_names(f"folder={folder}", found, "give a new folder, or that of an earlier export")
    elif folder.exists():
        raise SettingError(f"folder={folder} is a file; give a folder to export to")


def check_repository(repo_id: str, token: str | None = None) -> None:
    """Refuse to export to a repository that holds anything but an earlier export.

    Args:
        repo_id: `"user/name"`.
        token: Of the one who exports; that of `hf auth login` if None.

    Raises:
        SettingError: If it does.
        HfHubHTTPError: If the Hub refuses.
    """
    api = HfApi(token=token)
    if api.repo_exists(repo_id):
        _check_names(
            f"repo_id={repo_id!r}", api.list_repo_files(repo_id), "give the name of a new repository"
        )


def _check_names(place: str, names: Collection[str], remedy: str) -> None:
    found = set(names) - {*OF_THE_HUB}
    others = sorted(found - {*NAMES}) or sorted(found if RECORD_NAME not in found else ())
    if others:
        raise SettingError(
            f"{place} holds other files ({', '.join(others[:4])}), which are not overwritten; {remedy}"
        )
