"""Checkpoints of a run: stored so that a kill leaves the old one or the new one, and found by name."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import CheckpointIO

from wavshap_lightning.errors import CheckpointError, SettingError
from wavshap_lightning.files import write_atomically
from wavshap_lightning.models.checkpoint import read_checkpoint

ProtocolRecord = Mapping[str, Any]
"""What `PreparedCorpus.protocol_record` gives; empty where nobody knows."""


def check_same_training(recorded: ProtocolRecord, found: ProtocolRecord) -> None:
    """A run goes on only on the fold and the clips it began with.

    Raises:
        CheckpointError: If the checkpoint was trained on another protocol, fold or set of clips.
    """
    if not recorded or not found:
        return
    if _identity(recorded) == _identity(found) and recorded.get("digest") != found.get("digest"):
        raise CheckpointError(
            f"the checkpoint was trained on clips={recorded.get('clips')}, this run has {found.get('clips')} "
            "and not the same ones; go on with the same corpus and data settings, or begin anew without a "
            "checkpoint"
        )
    if _identity(recorded) != _identity(found):
        raise CheckpointError(
            f"the checkpoint was trained on {_describe(recorded)}, this run has {_describe(found)}; "
            "go on with the same data settings, or begin anew without a checkpoint"
        )


def check_unseen(recorded: ProtocolRecord, found: ProtocolRecord, part: str = "test") -> None:
    """No clip that judges a checkpoint may come from a speaker that trained it or, for a test, chose it.

    Args:
        recorded: What the checkpoint was trained on.
        found: What it is about to meet.
        part: The part it is judged by, `validation` or `test`.

    Raises:
        CheckpointError: If some do; the message names them.
    """
    if not recorded or not found or recorded["corpus"] != found["corpus"]:
        return
    if recorded["unit"] != found["unit"] or (found["unit"] == "clip" and recorded["hash"] != found["hash"]):
        return  # groups of the same name are not the same groups
    if part == "validation" and _identity(recorded) == _identity(found):
        return  # its own clips, which chose it whatever they are
    before, now = (record["folds"][record["fold"]] for record in (recorded, found))
    known = {*before["train"], *(before["validation"] if part == "test" else ())}
    seen = sorted(known & {*now[part]})
    if seen:
        raise CheckpointError(
            f"the checkpoint was trained on {_describe(recorded)}, which holds {found['unit']}s={seen} of "
            f"the {part} part of fold={found['fold']}; take its own fold with data.fold={recorded['fold']}, "
            "or accept scores that are too high with data.allow_shared_speakers=true"
        )


def _identity(record: ProtocolRecord) -> tuple[str, int]:
    return record["hash"], record["fold"]


def _describe(record: ProtocolRecord) -> str:
    return f"protocol={record['name']!r} (hash {record['hash'][:12]}) fold={record['fold']}"


class WholeCheckpoints(CheckpointIO):
    """Checkpoints appear whole or not at all, and nothing in them is ever run."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401, ARG002 - Lightning's signature
    ) -> None:
        """Write a checkpoint.

        Raises:
            CheckpointError: If the disk is full or read-only; the old checkpoint is as it was.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            write_atomically(Path(path), content.getvalue())
        except OSError as error:
            size_mb = content.getbuffer().nbytes / 1e6
            raise CheckpointError(
                f"checkpoint={path} cannot be written: {error.strerror or error} ({size_mb:.1f} MB were to "
                "be written); free some space, or name another folder with run.directory"
            ) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,  # noqa: ANN401, ARG002 - Lightning's signature
        weights_only: bool | None = None,  # noqa: ARG002, FBT001
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU.

        Raises:
            CheckpointError: If it is missing, corrupt, or carries pickled code.
        """
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint if it is there."""
        Path(path).unlink(missing_ok=True)


def find_checkpoint(home: Path, wanted: str) -> Path:
    """The checkpoint meant by `"best"`, `"last"` or a path.

    Args:
        home: The folder of all runs of one name.
        wanted: A path, or which checkpoint of the latest run that has one.

    Raises:
        SettingError: If no run of that name has one.
    """
    if wanted not in ("best", "last"):
        return Path(wanted)
    found = {_number(path): path for path in home.glob(f"version_*/checkpoints/{wanted}.ckpt")}
    if not found:
        raise SettingError(
            f"ckpt_path={wanted!r}: no run in {home} has a {wanted}.ckpt; give the path of a checkpoint, or "
            "the name and directory of its run with run.name and run.directory"
        )
    return found[max(found)]


def run_of_checkpoint(home: Path, checkpoint: str | Path | None) -> Path | None:
    """The run below `home` whose checkpoint this is; None where it is of no such run."""
    if checkpoint is None:
        return None
    folder = Path(checkpoint).resolve().parent.parent
    return home / folder.name if folder.parent == home.resolve() else None


def _number(checkpoint: Path) -> int:
    digits = checkpoint.parents[1].name.removeprefix("version_")
    return int(digits) if digits.isdigit() else -1
