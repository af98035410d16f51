"""Checkpoints: what is trained, and enough to find the rest again.

A frozen backbone is not stored. Its name, revision and fingerprint are, and the fingerprint is
checked when the checkpoint is opened. Nothing is ever unpickled: files open with
`weights_only=True`.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavshap_lightning.errors import CheckpointError
from wavshap_lightning.models.backbone import BackboneSettings, build_backbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.models.record import TrainingProvenance

CLASSIFIER_KEY = "wavshap_classifier"
REQUIRED_KEYS = (CLASSIFIER_KEY, "state_dict")
FORMAT_VERSION = 1

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


@dataclass(frozen=True)
class ClassifierRecord:
    """Everything about a classifier but its weights, in plain types.

    Args:
        labels: The classes, in the order of the logits.
        sample_rate: Samples per second of its waveforms.
        backbone: Name of the backbone and the way it is run.
        backbone_fingerprint: SHA-256 of the backbone's weights and preprocessing.
        head: The head's shape.
        protocol: The split it was trained on, as `Protocol.to_dict()` gives it, with its fold.
        versions: Versions of the libraries that trained it.
        scores: Its scores, as in [`TrainingProvenance`][wavshap_lightning.models.record.TrainingProvenance].
        format_version: Version of this layout.
    """

    labels: list[str]
    sample_rate: int
    backbone: BackboneSettings
    backbone_fingerprint: str
    head: HeadSettings
    protocol: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_dict(self) -> dict[str, Any]:
        """The record in plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassifierRecord:
        """The record that `to_dict` gave.

        Raises:
            CheckpointError: If it was written by a newer version, or lacks a field.
        """
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"format_version={version!r} is not {FORMAT_VERSION}, which this version reads; "
                "update wavshap-lightning"
            )
        try:
            backbone, head = BackboneSettings(**values["backbone"]), HeadSettings(**values["head"])
            return cls(**{**values, "backbone": backbone, "head": head})
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"the classifier's record is incomplete: {error}") from error


def describe_classifier(
    classifier: EmotionClassifier,
    *,
    protocol: Mapping[str, Any],
    versions: Mapping[str, str],
    scores: Mapping[str, Any] | None = None,
) -> ClassifierRecord:
    """The record of a classifier."""
    return ClassifierRecord(
        labels=list(classifier.labels),
        sample_rate=classifier.sample_rate,
        backbone=classifier.backbone.settings,
        backbone_fingerprint=classifier.backbone.fingerprint,
        head=classifier.head.settings,
        protocol=dict(protocol),
        versions=dict(versions),
        scores=dict(scores or {}),
    )


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """The part of `module`'s state dict that no frozen backbone can give back.

    That is every parameter that takes a gradient and everything outside backbones.
    """
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    return {
        name: value
        for name, value in module.state_dict().items()
        if name in trained or not _of_backbone(name)
    }


def load_trained_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what `trained_state` gave, and nothing less.

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
            "labels, or by a version whose head was another; train the head again"
        )
    damaged = [name for name in expected if not state[name].isfinite().all()]
    if damaged:
        raise CheckpointError(
            f"the checkpoint's weights are not finite ({', '.join(damaged[:5])}); training diverged, so take "
            "an earlier checkpoint, or train with a lower learning rate"
        )
    module.load_state_dict(dict(state), strict=False)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint file without running anything in it.

    Raises:
        CheckpointError: If it is missing, corrupt, or carries pickled code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint={path} is not a file; give a .ckpt such as runs/NAME/version_0/checkpoints/best.ckpt"
        )
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"checkpoint={path} is not a checkpoint, or a damaged one; "
            "give a .ckpt such as runs/NAME/version_0/checkpoints/best.ckpt"
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
            f"checkpoint={path} is corrupt: {_first_line(error)}; copy or train it again"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in REQUIRED_KEYS):
        raise CheckpointError(
            f"checkpoint={path} was not written by wavshap-lightning: "
            f"it lacks {' or '.join(map(repr, REQUIRED_KEYS))}"
        )
    return content


def load_checkpoint(path: str | Path) -> EmotionClassifier:
    """The classifier of a checkpoint, in evaluation mode on the CPU.

    Raises:
        CheckpointError: If the file cannot be used, or the backbone found under the recorded
            name is not the one it was trained on.
        ModelError: If the backbone cannot be opened.
    """
    content = read_checkpoint(path)
    record = ClassifierRecord.from_dict(content[CLASSIFIER_KEY])
    prefix = "classifier."
    state = {
        name.removeprefix(prefix): v for name, v in content["state_dict"].items() if name.startswith(prefix)
    }
    return restore_classifier(record, state)


def restore_classifier(record: ClassifierRecord, state: Mapping[str, Tensor]) -> EmotionClassifier:
    """The classifier that a record describes, in evaluation mode on the CPU.

    Args:
        record: Everything but the weights.
        state: What `trained_state` gave.

    Raises:
        CheckpointError: If the two do not fit together, or the backbone found under the recorded name is
            not the one it was trained on.
        ModelError: If the backbone cannot be opened.
    """
    classifier = _build(record)
    check_backbone(record, classifier)
    load_trained_state(classifier, state)
    return classifier.eval()


def check_backbone(record: ClassifierRecord, classifier: EmotionClassifier) -> None:
    """Compare the recorded backbone with the one at hand.

    Raises:
        CheckpointError: If they differ; the message names both.
    """
    found = classifier.backbone
    if found.fingerprint != record.backbone_fingerprint:
        raise CheckpointError(
            f"the checkpoint was trained on backbone={record.backbone.name!r} "
            f"revision={record.backbone.revision!r} fingerprint={record.backbone_fingerprint[:12]}, "
            f"but backbone={found.settings.name!r} revision={found.settings.revision!r} "
            f"has fingerprint={found.fingerprint[:12]}; use the very same weights"
        )


def _build(record: ClassifierRecord) -> EmotionClassifier:
    """The recorded classifier before its weights; the global random state is as it was afterwards."""
    try:
        provenance = TrainingProvenance(record.protocol, record.versions, record.scores)
        with torch.random.fork_rng(devices=[]):
            return EmotionClassifier(
                build_backbone(record.backbone), record.labels, record.head, provenance=provenance
            )
    except (TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"the classifier's record describes no classifier: {error}") from error


def _check_sums(path: Path) -> None:
    """Compare the checksums inside the file, which torch does not."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the checksum of {damaged} does not fit")


def _of_backbone(name: str) -> bool:
    return "backbone" in name.split(".")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
