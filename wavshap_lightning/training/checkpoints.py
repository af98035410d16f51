"""Checkpoints of a run: stored atomically, found by name, and compared with the clips at hand."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from wavshap_lightning.corpora.audit import plain_name
from wavshap_lightning.errors import CheckpointError, SettingError
from wavshap_lightning.files import write_atomically
from wavshap_lightning.models.checkpoint import read_checkpoint
from wavshap_lightning.training.loggers import run_number

ProtocolRecord = Mapping[str, Any]
"""Protocol, fold and digest of the clips (`EmotionDataModule.protocol_record`); empty if unknown."""


def check_same_training(recorded: ProtocolRecord, found: ProtocolRecord) -> None:
    """Check that a run is resumed with the fold and clips that it started with.

    Raises:
        CheckpointError: If the checkpoint was trained on another protocol, fold or set of clips.
    """
    names = ("hash", "fold", "digest")
    if recorded and found and any(recorded.get(name) != found.get(name) for name in names):
        raise CheckpointError(
            f"the checkpoint was trained on {_describe(recorded)}, this run has {_describe(found)}, and not "
            "the same clips; resume with the same data settings, or start again without a checkpoint"
        )


def check_unseen(recorded: ProtocolRecord, found: ProtocolRecord, split: str = "test") -> None:
    """Raise if speakers of an evaluation were trained on or, for a test, chose the checkpoint.

    Args:
        recorded: Protocol record of the checkpoint.
        found: Protocol record of the clips at hand.
        split: The split to evaluate on, `validation` or `test`.

    Raises:
        CheckpointError: If some do; the message names them.
    """
    if not recorded or not found or recorded["corpus"] != found["corpus"]:
        return
    if recorded["unit"] != found["unit"] or (found["unit"] == "clip" and recorded["hash"] != found["hash"]):
        return  # groups of the same name are not the same groups
    if split == "validation" and (recorded["hash"], recorded["fold"]) == (found["hash"], found["fold"]):
        return  # its own clips, which chose it whatever they are
    before, now = (record["folds"][record["fold"]] for record in (recorded, found))
    known = {*before["train"], *(before["validation"] if split == "test" else ())}
    spelled = {*map(plain_name, known)}
    seen = sorted(group for group in now[split] if plain_name(group) in spelled)
    if seen:
        raise CheckpointError(
            f"the checkpoint was trained on {_describe(recorded)}, which holds {found['unit']}s={seen} of "
            f"the {split} split of fold={found['fold']}; take its fold with data.fold={recorded['fold']}, "
            "or accept scores that are too high with data.allow_shared_speakers=true"
        )


def _describe(record: ProtocolRecord) -> str:
    protocol = f"protocol={record['name']!r} (hash {record['hash'][:12]})"
    return f"{protocol} fold={record['fold']} clips={record.get('clips')}"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that are written atomically and read without executing code in them.

    Lightning writes to the folder for temporary files and moves the result. If that folder is on another
    disk, the move is a copy and not atomic.
    """

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
                f"checkpoint={path}: {size_mb:.1f} MB cannot be written ({error.strerror or error}); free "
                "some space, or name another folder with run.directory"
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


def find_checkpoint(home: Path, wanted: str, configs: Sequence[Path] = ()) -> Path:
    """Path of the checkpoint meant by `"best"`, `"last"` or a path.

    Args:
        home: Folder of all runs of one name.
        wanted: A path, or `"best"` or `"last"` for that of the run whose stored configuration is given, else
            of the latest run that has one.
        configs: The configuration files given, of which the last one that lies in a run's folder counts.

    Raises:
        SettingError: If that run, or every run of that name, lacks it.
    """
    if wanted not in ("best", "last"):
        return Path(wanted).expanduser()
    given = [path.parent for path in configs if (path.parent / "checkpoints").is_dir()]
    runs = given[-1:] or sorted(home.glob("version_*"), key=run_number)
    found = [path for run in runs if (path := run / f"checkpoints/{wanted}.ckpt").is_file()]
    if not found:
        place = given[-1] if given else home
        raise SettingError(
            f"ckpt_path={wanted!r}: no {wanted}.ckpt in {place}; give its path, or its run.name"
        )
    return found[-1]


def run_of_checkpoint(home: Path, checkpoint: str | Path | None) -> Path | None:
    """Folder of the run below `home` to which a checkpoint belongs; None if it belongs to none."""
    if checkpoint is None:
        return None
    folder = Path(checkpoint).resolve().parent.parent
    return home / folder.name if folder.parent == home.resolve() else None
