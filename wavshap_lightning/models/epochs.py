"""The epochs of a run of which a checkpoint was kept."""

from __future__ import annotations

import re
from pathlib import Path

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.checkpoint import read_checkpoint
from wavshap_lightning.models.open import checkpoint_of

ALL = "all"
ALIASES = frozenset({"best", "last"})
"""Checkpoints that are of some epoch too, and taken where that epoch has no other."""

KEPT = re.compile(r"epoch_\d+(-v\d+)?")
"""Names of the checkpoints that were kept on the way; a second one of an epoch is numbered."""

REMEDY = "keep more of them with --run.keep_every 10 of train.py"


def choose_epochs(model: str, wanted: str) -> dict[int, Path]:
    """The checkpoints beside that of a model, by epoch.

    Args:
        model: A checkpoint, or the folder of a run.
        wanted: `"all"` but the model's own, or some, such as `"9,19,29"`, in this order.

    Raises:
        SettingError: If the model lies in no run, or one of the epochs was not kept.
        CheckpointError: If a file beside it is damaged.
    """
    own = checkpoint_of(Path(model).expanduser())
    if own is None:
        raise SettingError(
            f"epochs={wanted!r}: model={model} is no checkpoint of a run here, beside which others lie; "
            "give a run, or one of its checkpoints"
        )
    kept = _epochs_in(own.parent)
    chosen = [epoch for epoch in kept if epoch != _epoch_of(own)] if wanted == ALL else _numbers(wanted)
    missing = [str(epoch) for epoch in chosen if epoch not in kept]
    if missing or not chosen:
        known = ", ".join(map(str, kept)) or "none"
        raise SettingError(
            f"epochs={wanted!r}: {own.parent} has checkpoints of the epochs {known}, and "
            f"{'of ' + ', '.join(missing) + ' none' if missing else 'no other'}; {REMEDY}"
        )
    return {epoch: kept[epoch] for epoch in chosen}


def epoch_of_model(model: str) -> int | None:
    """The epoch of the checkpoint that a path stands for; None where it is none of a run."""
    own = checkpoint_of(Path(model).expanduser())
    return None if own is None else _epoch_of(own)


def _epochs_in(folder: Path) -> dict[int, Path]:
    """By epoch, from the first on; other files that lie there are left alone."""
    kept = [path for path in folder.glob("*.ckpt") if path.stem in ALIASES or KEPT.fullmatch(path.stem)]
    found: dict[int, Path] = {}
    for path in sorted(kept, key=lambda path: (path.stem in ALIASES, path.name)):
        epoch = _epoch_of(path)
        if epoch is not None:
            found.setdefault(epoch, path)
    return dict(sorted(found.items()))


def _epoch_of(checkpoint: Path) -> int | None:
    """None where the checkpoint does not say."""
    epoch = read_checkpoint(checkpoint).get("epoch")
    return epoch if isinstance(epoch, int) else None


def _numbers(wanted: str) -> list[int]:
    try:
        return [int(word) for word in wanted.split(",")]
    except ValueError as error:
        raise SettingError(f"epochs={wanted!r} must be {ALL}, or numbers such as 9,19,29") from error
