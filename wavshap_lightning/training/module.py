"""The LightningModule: trains an emotion head on a speech backbone."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import lightning as L  # noqa: N812
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from wavshap_lightning.errors import CheckpointError, SettingError
from wavshap_lightning.models.backbone import BackboneSettings, SpeechBackbone, build_backbone
from wavshap_lightning.models.checkpoint import (
    CLASSIFIER_KEY,
    ClassifierRecord,
    check_backbone,
    describe_classifier,
    load_trained_state,
    trained_state,
)
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.training.dataset import Batch, StatisticsBatch
from wavshap_lightning.training.scores import PredictionLog, Predictions, score_predictions

RECORDED_PACKAGES = ("wavshap-lightning", "torch", "lightning", "transformers", "librosa")


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with a linear warm-up and a cosine to zero.

    Args:
        learning_rate: Peak learning rate of the head.
        backbone_learning_rate: Peak learning rate of what is unfrozen of the backbone.
        weight_decay: Of the head's and the backbone's matrices; biases and layer weights are spared.
        warmup_share: Share of all steps that warm up.
    """

    learning_rate: float = 2e-3
    backbone_learning_rate: float = 2e-5
    weight_decay: float = 1e-2
    warmup_share: float = 0.1


@dataclass(frozen=True)
class LossSettings:
    """Cross-entropy.

    Args:
        class_weights: Weigh each class by the inverse of its frequency in training.
        label_smoothing: Probability mass spread over all classes.
    """

    class_weights: bool = False
    label_smoothing: float = 0.0


class EmotionModule(L.LightningModule):
    """Trains an emotion head on frozen speech layers.

    Batches hold waveforms, or statistics of the layers from the feature cache; the logits are the same.
    Checkpoints hold what is trained and a record of the rest, and open with
    [`load_classifier`][wavshap_lightning.models.checkpoint.load_classifier].

    Args:
        labels: The classes, in the order of the logits.
        backbone: Which backbone, and how it is run. A backbone already opened is taken as it is.
        head: The head's shape.
        optimizer: How it is trained.
        loss: What is minimised.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        labels: Sequence[str],
        backbone: BackboneSettings | SpeechBackbone = BackboneSettings(),  # noqa: B008 - frozen
        head: HeadSettings = HeadSettings(),  # noqa: B008 - frozen
        optimizer: OptimizerSettings = OptimizerSettings(),
        loss: LossSettings = LossSettings(),
    ) -> None:
        super().__init__()
        opened = build_backbone(backbone) if isinstance(backbone, BackboneSettings) else backbone
        self.classifier = EmotionClassifier(opened, labels, head)
        self.optimizer_settings = optimizer
        self.loss_settings = loss
        self.register_buffer("class_weights", None, persistent=False)
        self.validation_log, self.test_log = PredictionLog(), PredictionLog()
        self.test_predictions: Predictions | None = None
        self.strict_loading = False  # checkpoints lack the frozen backbone

    def setup(self, stage: str) -> None:
        """Weigh the classes by their frequency, where asked for."""
        if stage == "fit" and self.loss_settings.class_weights:
            self.class_weights = _inverse_frequencies(self._class_counts()).to(self.device)

    def logits(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        """The logits of a batch of either kind."""
        if isinstance(batch, StatisticsBatch):
            return self.classifier.head.classify_statistics(batch.statistics)
        return self.classifier(batch.waveforms, batch.lengths)

    def training_step(self, batch: Batch) -> Float[Tensor, ""]:
        """Cross-entropy of one batch."""
        loss = F.cross_entropy(
            self.logits(batch),
            batch.labels,
            weight=self.class_weights,
            label_smoothing=self.loss_settings.label_smoothing,
        )
        self.log(
            "train/loss", loss, on_epoch=True, on_step=False, prog_bar=True, batch_size=len(batch.labels)
        )
        return loss

    def validation_step(self, batch: Batch) -> None:
        """Collect the predictions of one batch."""
        self.validation_log.update(self.logits(batch), batch.labels, batch.positions)

    def on_validation_epoch_end(self) -> None:
        """Score all validation clips."""
        scores = score_predictions(self.validation_log.predictions())
        self.validation_log.reset()
        self._log_scores("val", scores)

    def test_step(self, batch: Batch) -> None:
        """Collect the predictions of one batch."""
        self.test_log.update(self.logits(batch), batch.labels, batch.positions)

    def on_test_epoch_end(self) -> None:
        """Score all test clips and keep the predictions for the report."""
        self.test_predictions = self.test_log.predictions()
        self.test_log.reset()
        self._log_scores("test", score_predictions(self.test_predictions))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW over what is trained, warmed up and annealed step by step."""
        optimizer = AdamW(self._parameter_groups())
        shape = warmup_cosine(
            int(self.trainer.estimated_stepping_batches), self.optimizer_settings.warmup_share
        )
        scheduler = LambdaLR(optimizer, shape)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what is trained, and a record of everything else."""
        checkpoint["state_dict"] = trained_state(self)
        protocol = getattr(getattr(self.trainer, "datamodule", None), "protocol_record", {})
        versions = {name: version(name) for name in RECORDED_PACKAGES} | {"python": platform.python_version()}
        record = describe_classifier(self.classifier, protocol=protocol, versions=versions)
        checkpoint[CLASSIFIER_KEY] = record.to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other labels, another backbone or another head."""
        if CLASSIFIER_KEY not in checkpoint:
            raise CheckpointError(
                f"the checkpoint was not written by wavshap-lightning: it has no {CLASSIFIER_KEY!r}"
            )
        record = ClassifierRecord.from_dict(checkpoint[CLASSIFIER_KEY])
        check_backbone(record, self.classifier)
        if tuple(record.labels) != self.classifier.labels:
            raise CheckpointError(
                f"the checkpoint knows labels={record.labels}, this run has {list(self.classifier.labels)}; "
                "use the corpus and label map it was trained with"
            )
        load_trained_state(self, checkpoint["state_dict"])

    def _log_scores(self, split: str, scores: dict[str, Tensor]) -> None:
        for name, value in scores.items():
            self.log(f"{split}/{name}", value, prog_bar=name == "uar", rank_zero_only=False, sync_dist=False)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        settings = self.optimizer_settings
        rates = {"head": settings.learning_rate, "backbone": settings.backbone_learning_rate}
        groups = []
        for part, rate in rates.items():
            trained = [p for p in getattr(self.classifier, part).parameters() if p.requires_grad]
            for decay, wanted in ((settings.weight_decay, True), (0.0, False)):
                chosen = [parameter for parameter in trained if (parameter.ndim > 1) == wanted]
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
        return [group for group in groups if group["params"]]

    def _class_counts(self) -> dict[str, int]:
        counts = getattr(getattr(self.trainer, "datamodule", None), "class_counts", None)
        if counts is None:
            raise SettingError(
                "class_weights=True needs a datamodule that counts its classes; use EmotionDataModule, "
                "or set loss.class_weights to false"
            )
        return {label: counts.get(label, 0) for label in self.classifier.labels}


def warmup_cosine(num_steps: int, warmup_share: float) -> Any:  # noqa: ANN401 - a function of the step
    """The learning rate's course, as a factor: a line up to one, then half a cosine down to zero.

    >>> shape = warmup_cosine(10, 0.2)
    >>> [round(shape(step), 2) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    num_warmup = round(num_steps * warmup_share)

    def factor(step: int) -> float:
        if step < num_warmup:
            return (step + 1) / num_warmup
        progress = (step - num_warmup) / max(1, num_steps - num_warmup)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    return factor


def _inverse_frequencies(counts: dict[str, int]) -> Float[Tensor, " classes"]:
    """Weights with a mean of one over the training clips."""
    absent = [label for label, count in counts.items() if count == 0]
    if absent:
        raise SettingError(
            f"class_weights=True: no training clip has label {', '.join(absent)}; leave it out of labels"
        )
    values = torch.tensor(list(counts.values()), dtype=torch.float32)
    return values.sum() / (len(values) * values)
