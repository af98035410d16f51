"""What one fold of a cross-validation came to, in memory and on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wavshap_lightning.errors import SettingError
from wavshap_lightning.training.files import write_json
from wavshap_lightning.training.scores import Predictions

FILE_NAME = "fold.json"


@dataclass(frozen=True)
class FoldResult:
    """What one fold's best checkpoint said of the fold's test clips.

    Args:
        fold: Which fold.
        predictions: Of its test clips.
        speakers: The speaker of each of them.
        protocol: The fold's protocol record.
        folder: Where its run was written.
    """

    fold: int
    predictions: Predictions
    speakers: tuple[str, ...]
    protocol: dict[str, Any]
    folder: str

    def save(self) -> None:
        """Write `fold.json` into the fold's folder, as its last file: a fold that has it is finished."""
        clips = [
            {"speaker": self.speakers[position], "position": position, "label": label, "logits": logits}
            for position, label, logits in zip(
                self.predictions.positions.tolist(),
                self.predictions.labels.tolist(),
                self.predictions.logits.tolist(),
                strict=True,
            )
        ]
        write_json(
            Path(self.folder, FILE_NAME), {"fold": self.fold, "protocol": self.protocol, "clips": clips}
        )


def read_fold(folder: Path) -> FoldResult | None:
    """The result that was saved in a fold's folder, every number as it was; None if the fold is not finished.

    Raises:
        SettingError: If the file was changed and cannot be read.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        clips = sorted(content["clips"], key=lambda clip: int(clip["position"]))
        predictions = Predictions(
            torch.tensor([clip["logits"] for clip in clips], dtype=torch.float32),
            torch.tensor([clip["label"] for clip in clips]),
            torch.arange(len(clips)),
        )
        speakers = tuple(clip["speaker"] for clip in clips)
        return FoldResult(content["fold"], predictions, speakers, content["protocol"], str(folder))
    except (ValueError, TypeError, KeyError) as error:
        raise SettingError(
            f"fold={path} cannot be read ({error!r}); delete it, and the fold is run again"
        ) from error
