"""What a checkpoint was trained on, against what it is about to meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wavshap_lightning.errors import CheckpointError

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
