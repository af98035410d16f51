"""The folder of an exported classifier: what is in it, and how it is read back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from wavshap_lightning.errors import CheckpointError
from wavshap_lightning.models.checkpoint import ClassifierRecord, restore_classifier
from wavshap_lightning.models.classifier import EmotionClassifier

RECORD_NAME = "classifier.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
NAMES = (CARD_NAME, WEIGHTS_NAME, RECORD_NAME)
DIGEST_KEY = "weights_sha256"


@dataclass(frozen=True)
class Exported:
    """An exported classifier, before its backbone is looked for.

    Args:
        record: Everything but the weights.
        state: What is trained, as `trained_state` gave it.
    """

    record: ClassifierRecord
    state: dict[str, Tensor]

    def files(self) -> dict[str, bytes]:
        """The content of its two files by name; equal classifiers give equal bytes."""
        state = {name: self.state[name].detach().cpu().contiguous() for name in sorted(self.state)}
        weights = save(state, metadata={"format": "pt"})
        values = {**self.record.to_dict(), DIGEST_KEY: hashlib.sha256(weights).hexdigest()}
        record = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return {WEIGHTS_NAME: weights, RECORD_NAME: record.encode()}

    def open(self) -> EmotionClassifier:
        """The classifier, in evaluation mode on the CPU.

        Raises:
            CheckpointError: If record and weights do not fit together, or the backbone found under the
                recorded name is another one.
            ModelError: If the backbone cannot be opened.
        """
        return restore_classifier(self.record, self.state)


def read_exported(record: Path, weights: Path) -> Exported:
    """Read the two files.

    Raises:
        CheckpointError: If one is damaged, or they do not belong together.
    """
    try:
        values = json.loads(record.read_bytes())
        digest = values.pop(DIGEST_KEY)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"model={record} is not the record of a classifier ({error!r}); export it again"
        ) from error
    return Exported(ClassifierRecord.from_dict(values), _read_weights(weights, digest))


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
