"""The LightningModule: trains an emotion head on a speech backbone."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import lightning as L  # noqa: N812
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from wavshap_lightning.corpora.clip import Scale, normalized
from wavshap_lightning.errors import CheckpointError, DivergenceError, SettingError
from wavshap_lightning.models.backbone import BackboneSettings, SpeechBackbone
from wavshap_lightning.models.checkpoint import CLASSIFIER_KEY, load_trained_state, trained_state
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import HeadSettings, Outputs, split_outputs
from wavshap_lightning.models.record import ClassifierRecord, TrainingProvenance
from wavshap_lightning.training.checkpoints import check_same_training, check_unseen
from wavshap_lightning.training.data.datamodule import STAGE_SPLITS, datamodule_of
from wavshap_lightning.training.data.dataset import Batch
from wavshap_lightning.training.data.extraction import cache_features
from wavshap_lightning.training.losses import LossSettings, check_range
from wavshap_lightning.training.scores import SCORES, PredictionLog, Predictions, score_predictions
from wavshap_lightning.training.tasks import TaskLoss, TaskSettings, check_targets, targets_of

UNDECAYED = "_undecayed"
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
DIVERGED_LOSS = 1e6
"""Cross-entropy, in nats, that no training recovers from; guessing costs less than ten."""


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with a linear warm-up and a cosine to zero.

    Args:
        learning_rate: Peak learning rate of the head.
        backbone_learning_rate: Peak learning rate of the unfrozen part of the backbone.
        weight_decay: Weight decay of weight matrices; biases and layer weights have none.
        warmup_share: Share of the training steps in which the learning rate rises, 0 to 1.

    Raises:
        SettingError: If a number is out of range.
    """

    learning_rate: float = 2e-3
    backbone_learning_rate: float = 2e-5
    weight_decay: float = 1e-2
    warmup_share: float = 0.1

    def __post_init__(self) -> None:
        for name in ("learning_rate", "backbone_learning_rate", "weight_decay"):
            check_range(name, getattr(self, name))
        check_range("warmup_share", self.warmup_share, 1.0)


def parameter_groups(classifier: EmotionClassifier, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Trained parameters grouped by learning rate and by decay: biases and layer weights do not decay."""
    rates = {"head": settings.learning_rate, "backbone": settings.backbone_learning_rate}
    groups = []
    for part, rate in rates.items():
        trained = [p for p in getattr(classifier, part).parameters() if p.requires_grad]
        matrices, vectors = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
        groups += [
            {"name": part, "params": matrices, "lr": rate, "weight_decay": settings.weight_decay},
            {"name": part + UNDECAYED, "params": vectors, "lr": rate, "weight_decay": 0.0},
        ]
    return [group for group in groups if group["params"]]


def learning_rates(optimizer: Optimizer) -> dict[str, float]:
    """Present learning rate of each trained part, `head` and `backbone`."""
    return {group["name"].removesuffix(UNDECAYED): group["lr"] for group in optimizer.param_groups}


def warmup_cosine(num_steps: int, warmup_share: float) -> Callable[[int], float]:
    """Factor of the learning rate by step: a line up to one, then half a cosine down to zero.

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


PACKAGES = ("wavshap-lightning", "torch", "lightning", "transformers", "librosa", "soundfile", "soxr")


def check_precision(trainer: L.Trainer) -> None:
    """Refuse a precision in which weights and cached features would not be of one type.

    Raises:
        SettingError: If it is not one of `PRECISIONS`.
    """
    if trainer.precision not in PRECISIONS:
        raise SettingError(f"trainer.precision={trainer.precision} must be one of {', '.join(PRECISIONS)}")


class EmotionModule(L.LightningModule):
    """Trains an emotion head on frozen speech layers.

    Batches hold waveforms, or statistics of the layers from the feature cache; the logits are the same.
    Checkpoints hold the trained weights and a record of the rest. They open with `load_from_checkpoint`, and
    without Lightning with [`load_classifier`][wavshap_lightning.models.loading.load_classifier].

    Args:
        labels: The classes, in the order of the logits.
        backbone: Name of the backbone, and how it is run.
        head: Settings of the head.
        optimizer: Learning rates and weight decay.
        loss: Settings of the losses, such as class weights and label smoothing.
        tasks: Tasks trained together, on one head; classes alone if None. The first decides about the
            checkpoint.
        opened: A backbone that is already loaded, used instead of `backbone`.
        scales: Scale of each dimension, as the corpus declares it.

    Raises:
        SettingError: If a task has no labels, or there are two of a kind.
    """

    def __init__(
        self,
        labels: Sequence[str] = (),
        backbone: BackboneSettings = BackboneSettings(),  # noqa: B008 - frozen
        head: HeadSettings = HeadSettings(),  # noqa: B008 - frozen
        optimizer: OptimizerSettings = OptimizerSettings(),
        loss: LossSettings = LossSettings(),  # noqa: B008 - frozen
        *,
        tasks: list[TaskSettings] | None = None,
        opened: SpeechBackbone | None = None,
        scales: Mapping[str, Scale] | None = None,
    ) -> None:
        super().__init__()
        if tasks == []:
            raise SettingError("model.tasks=[] must name a task; leave it out for classes")
        if not labels and not tasks:
            raise SettingError("labels=(): label some clips, set model.tasks, or use load_classifier to open")
        complete = [one.with_outputs(labels, scales or {}) for one in tasks or [TaskSettings()]]
        outputs = [one.outputs for one in complete]
        self.classifier = EmotionClassifier(opened or SpeechBackbone(backbone), outputs, head)
        self.optimizer_settings = optimizer
        self.losses = nn.ModuleList(TaskLoss(one, loss) for one in complete)
        self.collected = PredictionLog(self.classifier.outputs if tasks else ())
        self.validation_predictions: Predictions | None = None
        self.test_predictions: Predictions | None = None
        self.temperature: float | None = None
        self.save_hyperparameters(  # plain JSON types, so that checkpoints open with weights_only=True
            {
                "labels": list(labels),
                "backbone": asdict(self.classifier.backbone.settings),
                "head": asdict(head),
                "optimizer": asdict(optimizer),
                "loss": loss.to_dict(),
                **({"tasks": [*map(asdict, complete)]} if tasks else {}),
                "_instantiator": "lightning.pytorch.cli.instantiate_module",  # builds the dataclasses again
            },
            logger=False,
        )

    def setup(self, stage: str) -> None:
        """Audit the clips of an `EmotionDataModule` for this model, and cache features of a frozen backbone.

        Raises:
            AuditError: If the audit of the clips found what must not be ignored.
            CacheError: If the cache cannot be used, or differs from the values of the model.
            SettingError: If a task has no targets, classes are to be weighted whose frequencies are unknown
                or of which one does not occur, or the precision of the trainer cannot be used.
        """
        check_precision(self.trainer)
        data = datamodule_of(self.trainer)
        if data is not None:
            data.match(self.classifier.backbone.frame_grid, self.classifier.outputs)
            for split in STAGE_SPLITS.get(stage, ()):
                check_targets(split, data.clips(split), self.classifier.outputs)
            if data.cached and self.classifier.backbone.settings.frozen:
                cache_features(self.trainer, self.classifier, data, stage)
        for one in self.losses if stage == "fit" else ():
            if isinstance(one, TaskLoss) and one.needs_counts:
                if data is None:
                    raise SettingError(f"{one.needs_counts} needs an EmotionDataModule; or leave it out")
                one.count(targets_of(data.clips("train"), [one.task.outputs]).to(self.device))

    def on_fit_start(self) -> None:
        """Record the clips and the library versions that the classifier is trained with.

        Raises:
            CheckpointError: If the run is resumed from a checkpoint that was trained on other clips.
        """
        data = datamodule_of(self.trainer)
        protocol, voice = ({}, {}) if data is None else (data.protocol_record, data.voice)
        if self.trainer.ckpt_path:
            check_same_training(self.classifier.provenance.protocol, protocol)
        versions = {name: version(name) for name in PACKAGES}
        versions["python"] = platform.python_version()
        self.classifier.provenance = TrainingProvenance(protocol, versions, voice=voice)

    def on_validation_start(self) -> None:
        """Refuse to evaluate on validation speakers that were used for training.

        Raises:
            CheckpointError: If there are such speakers.
        """
        self.collected.reset()  # of an evaluation that broke off
        if self.trainer.state.fn == "validate":
            self._check_unseen("validation")

    def on_test_start(self) -> None:
        """Refuse to test on speakers that were used for training or validation.

        Raises:
            CheckpointError: If there are such speakers.
        """
        self.collected.reset()
        self._check_unseen("test")

    def training_step(self, batch: Batch) -> Float[Tensor, ""]:
        """Loss of one batch, summed over the tasks."""
        outputs = self.classifier.outputs
        logits, columns = (split_outputs(x, outputs) for x in (batch.logits(self.classifier), batch.targets))
        by_task = zip(self.losses, outputs, logits, columns, strict=True)
        found = [of(x, batch.labels if one.task == "classes" else y) for of, one, x, y in by_task]
        loss = torch.stack(found).sum()
        count = len(batch.labels)
        self.log(
            "train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=count, sync_dist=True
        )
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the learning rates, before a checkpoint of the epoch is written.

        Raises:
            DivergenceError: If the loss or a weight has overflowed or is not a number.
        """
        loss = float(self.trainer.callback_metrics.get("train/loss", 0.0))
        finite = all(weight.isfinite().all() for weight in self.parameters() if weight.requires_grad)
        if not (loss < DIVERGED_LOSS and finite):  # no comparison with NaN is true
            raise self._divergence(f"train/loss={loss:g}, weights {'' if finite else 'not '}finite")
        for part, rate in learning_rates(self.trainer.optimizers[0]).items():
            self.log(f"learning_rate/{part}", rate, sync_dist=True)

    def validation_step(self, batch: Batch) -> None:
        """Collect the predictions of one batch."""
        self.collected.update(batch.logits(self.classifier), batch.labels, batch.positions, batch.targets)

    def on_validation_epoch_end(self) -> None:
        """Score all validation clips and keep the predictions for the report."""
        self.validation_predictions = self._log_scores("val")

    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        """Score all test clips and keep the predictions for the report."""
        self.test_predictions = self._log_scores("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW over the trained parameters, warmed up and annealed step by step.

        Raises:
            SettingError: If training has no end to anneal to.
        """
        num_steps = self.trainer.estimated_stepping_batches
        if math.isinf(num_steps):
            raise SettingError("max_epochs=-1: training would not end; set trainer.max_epochs or max_steps")
        settings = self.optimizer_settings
        optimizer = AdamW(parameter_groups(self.classifier, settings))
        scheduler = LambdaLR(optimizer, warmup_cosine(int(num_steps), settings.warmup_share))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the trained weights, and a record of everything else."""
        checkpoint["state_dict"] = trained_state(self)
        checkpoint[CLASSIFIER_KEY] = self.classifier.record.to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise if labels, backbone or head differ from those of the checkpoint.

        Raises:
            CheckpointError: If they differ, or the file was written by another program.
        """
        if CLASSIFIER_KEY not in checkpoint:
            raise CheckpointError(f"the checkpoint has no {CLASSIFIER_KEY!r}: give one of wavshap-lightning")
        record = ClassifierRecord.from_dict(checkpoint[CLASSIFIER_KEY])
        self.classifier.check_backbone(record)
        found, wanted = (_described(of.outputs) for of in (self.classifier, record))
        if found != wanted:
            advice = "those of the checkpoint: set data.labels and model.tasks"
            raise CheckpointError(f"outputs={found} must be {wanted}, {advice}")
        own, recorded = self.classifier.head.settings, record.head  # dropout leaves no mark on the weights
        if replace(own, dropout=recorded.dropout, frame_dropout=recorded.frame_dropout) != recorded:
            raise CheckpointError(f"head={own} must be that of the checkpoint, head={recorded}")
        load_trained_state(self, checkpoint["state_dict"])
        self.classifier.provenance = record.provenance

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Load trained weights; the frozen backbone, which checkpoints lack, stays as it was opened."""
        trained = trained_state(self)
        frozen = {name: value for name, value in self.state_dict().items() if name not in trained}
        return super().load_state_dict({**frozen, **state_dict}, *args, **options)

    def checked_predictions(self) -> Predictions:
        """The predictions collected so far, the same on every rank.

        Raises:
            DivergenceError: If logits have overflowed or are not numbers.
        """
        predictions = self.collected.predictions()
        largest = predictions.logits.abs().amax(dim=1)  # a loss of 0 may hide overflow
        if num_failed := int((~(largest < DIVERGED_LOSS)).sum()):
            raise self._divergence(f"logits of {num_failed} of {len(largest)} clips are huge or not finite")
        return predictions

    @property
    def chosen_by(self) -> tuple[str, str]:
        """Name of the validation score that chooses the checkpoint, and its best end, `min` or `max`."""
        row = SCORES[self.classifier.task]
        return f"val/{row.main}", row.mode

    def _divergence(self, finding: str) -> DivergenceError:
        advice = f"and check trainer.precision={self.trainer.precision} and the sound of the clips"
        if self.trainer.state.fn != "fit":
            return DivergenceError(f"{finding}; take another checkpoint, {advice}")
        rate = self.optimizer_settings.learning_rate
        return DivergenceError(
            f"{finding} in epoch {self.trainer.current_epoch + 1}: training diverged, and no checkpoint of "
            f"this epoch is kept; lower model.optimizer.learning_rate={rate:g}, {advice}"
        )

    def _log_scores(self, split: str) -> Predictions:
        """Log the scores of the collected predictions."""
        predictions, main = self.checked_predictions(), SCORES[self.classifier.task].main
        for name, value in score_predictions(predictions).items():
            self.log(f"{split}/{name}", value, prog_bar=name == main, sync_dist=True)
        return predictions

    def _check_unseen(self, split: str) -> None:
        data = datamodule_of(self.trainer)
        if data is not None and not data.allow_shared_speakers:
            check_unseen(self.classifier.provenance.protocol, data.protocol_record, split)


def _described(outputs: Sequence[Outputs]) -> str:
    """Outputs of each task in a line."""
    named = ((one, ", ".join(map(normalized, one.labels))) for one in outputs)
    return ", ".join(f"{one.task} ({names}) {one.scale or ''}".strip() for one, names in named)
