"""Checkpoint files: what is trained of a classifier, read without running anything in them.

A frozen backbone is not stored. Its name, revision and fingerprint are, and the fingerprint is checked when
the checkpoint is opened. Nothing is ever unpickled: files open with `weights_only=True`.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavshap_lightning.errors import CheckpointError, first_line
from wavshap_lightning.models.layouts import is_pointer

CLASSIFIER_KEY = "wavshap_classifier"
REQUIRED_KEYS = (CLASSIFIER_KEY, "state_dict")

# What torch.load raises on files that are not, or no longer, what torch.save wrote.
UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    zipfile.BadZipFile,
)


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """The part of a state dict that is not in the frozen backbone.

    That is every parameter that takes a gradient, and everything outside backbones.

    Args:
        module: A classifier, or a module around it.
    """
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    return {
        name: value
        for name, value in module.state_dict().items()
        if name in trained or "backbone" not in name.split(".")
    }


def load_trained_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what `trained_state` gave, and nothing less.

    Args:
        module: A classifier, or a module around it, built as when the state was taken.
        state: Trained weights by name.

    Raises:
        CheckpointError: If a weight is missing, unknown, of another shape or not finite.
    """
    expected = trained_state(module)
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError("the checkpoint's weights are not all tensors; train it again")
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise CheckpointError(
            f"the checkpoint's weights do not fit: missing={missing[:5]}, unknown={unknown[:5]}; "
            "build the same head and backbone as when it was written"
        )
    wrong = [name for name in expected if expected[name].shape != state[name].shape]
    if wrong:
        shapes = ", ".join(f"{n}: {tuple(state[n].shape)} for {tuple(expected[n].shape)}" for n in wrong[:5])
        raise CheckpointError(
            f"the checkpoint's weights have other shapes ({shapes}): they were trained with other "
            "labels, or by a version with another head; train the head again"
        )
    damaged = [name for name in expected if not state[name].isfinite().all()]
    if damaged:
        raise CheckpointError(
            f"the checkpoint's weights are not finite ({', '.join(damaged[:5])}); training diverged, so take "
            "an earlier checkpoint, or train with a lower learning rate"
        )
    module.load_state_dict(dict(state), strict=False)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint file: tensors and plain values.

    Args:
        path: A `.ckpt` file.

    Raises:
        CheckpointError: If it is missing, corrupt, or carries pickled code.
    """
    path = Path(path)
    if is_pointer(path):
        raise CheckpointError(f"checkpoint={path} is only a pointer of Git LFS; run 'git lfs pull' there")
    if not zipfile.is_zipfile(path):
        found = "not a checkpoint, or a damaged one" if path.is_file() else "not a file"
        raise CheckpointError(
            f"checkpoint={path} is {found}; give a .ckpt such as runs/NAME/version_0/checkpoints/best.ckpt"
        )
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint={path} carries pickled code and was refused; "
            "only tensors and plain values are ever read"
        ) from error
    except UNREADABLE as error:
        raise CheckpointError(
            f"checkpoint={path} is corrupt: {first_line(error)}; copy or train it again"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in REQUIRED_KEYS):
        raise CheckpointError(
            f"checkpoint={path} was not written by wavshap-lightning: "
            f"it lacks {' or '.join(map(repr, REQUIRED_KEYS))}"
        )
    return content


def _check_sums(path: Path) -> None:
    """Compare the checksums inside the file, which torch does not."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the checksum of {damaged} does not fit")
