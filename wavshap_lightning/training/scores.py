"""How good the predictions are: recall averaged over classes, accuracy, F1, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_recall,
)
from torchmetrics.utilities import dim_zero_cat

CALIBRATION_BINS = 15
ALMOST_CERTAIN = 1.0 - 2.0**-24  # torchmetrics would give a certainty of one a bin of its own


@dataclass(frozen=True)
class Predictions:
    """Predictions of a classifier for some clips, in the order of their positions.

    Args:
        logits: Logits `(clips, classes)`.
        labels: Class indices.
        positions: Index of each clip in its split.
    """

    logits: Float[Tensor, "clips classes"]
    labels: Int[Tensor, " clips"]
    positions: Int[Tensor, " clips"]

    def select(self, chosen: Bool[Tensor, " clips"] | Int[Tensor, " chosen"]) -> Predictions:
        """Some of the predictions."""
        return Predictions(self.logits[chosen], self.labels[chosen], self.positions[chosen])


class PredictionLog(Metric):
    """Collects predictions over batches and ranks, each clip once.

    Distributed evaluation repeats some clips so that all ranks get equally many; here each clip counts once.
    """

    full_state_update = False
    logits: list[Tensor]
    labels: list[Tensor]
    positions: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("logits", "labels", "positions"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        logits: Float[Tensor, "batch classes"],
        labels: Int[Tensor, " batch"],
        positions: Int[Tensor, " batch"],
    ) -> None:
        """Add a batch."""
        self.logits.append(logits.detach().float())
        self.labels.append(labels)
        self.positions.append(positions)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, labels and positions of all clips so far, on all ranks, in the order of the clips."""
        logits, labels, positions = map(dim_zero_cat, (self.logits, self.labels, self.positions))
        _, first = np.unique(positions.cpu().numpy(), return_index=True)
        return logits[first], labels[first], positions[first]

    def predictions(self) -> Predictions:
        """Result of `compute` as a record; torchmetrics would squeeze a single clip."""
        logits, labels, positions = self.compute()
        return Predictions(logits, labels.reshape(-1), positions.reshape(-1))


def score_predictions(predictions: Predictions) -> dict[str, Tensor]:
    """Scalar scores of some predictions.

    Returns:
        `loss` (cross-entropy in nats), `uar` (unweighted average recall: each class that occurs counts
        the same), `wa` (weighted accuracy: each clip counts the same), `macro_f1` (over the classes
        that occur), `ece` (expected calibration error, 15 bins).
    """
    logits, labels = predictions.logits, predictions.labels
    num_classes = logits.shape[1]
    occurring = torch.bincount(labels, minlength=num_classes) > 0
    probabilities = logits.softmax(1).clamp(max=ALMOST_CERTAIN)
    return {
        "loss": F.cross_entropy(logits, labels),
        "uar": multiclass_recall(logits, labels, num_classes, average="none")[occurring].mean(),
        "wa": multiclass_accuracy(logits, labels, num_classes, average="micro"),
        "macro_f1": multiclass_f1_score(logits, labels, num_classes, average="none")[occurring].mean(),
        "ece": multiclass_calibration_error(probabilities, labels, num_classes, CALIBRATION_BINS),
    }


def confusion_counts(predictions: Predictions) -> Int[Tensor, "label prediction"]:
    """Confusion matrix: number of clips by label and prediction."""
    logits = predictions.logits
    return multiclass_confusion_matrix(logits, predictions.labels, num_classes=logits.shape[1])
