"""Tasks of a training: how targets are made of a clip, the loss of each, and several of them on one head."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wavshap_lightning.corpora.clip import Clip, Scale, normalized
from wavshap_lightning.corpora.labels import NO_AGREEMENT, UNLABELED
from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.head import SOFTMAX_TASKS, Outputs, Task
from wavshap_lightning.training import losses
from wavshap_lightning.training.losses import LossSettings

VOTED_TASKS = ("distribution", "labels")


@dataclass(frozen=True)
class TaskSettings:
    """Settings of one task.

    Args:
        task: Meaning of its outputs: `classes`, `distribution` (of the listeners' votes), `labels` (all that
            a listener named) or `dimensions` (such as arousal).
        weight: Weight of its loss in the sum over all tasks.
        labels: Names of its outputs; the classes if None, of dimensions those declared for the corpus.
        scale: Lowest and highest value of dimensions; that declared for the corpus if None.
    """

    task: Task = "classes"
    weight: float = 1.0
    labels: list[str] | None = None
    scale: Scale | None = None

    def with_outputs(self, classes: Sequence[str], scales: Mapping[str, Scale]) -> TaskSettings:
        """These settings with labels and scale filled in.

        Args:
            classes: Classes of the run.
            scales: Scale of each dimension of the corpus.

        Raises:
            SettingError: If dimensions have no names or no scale, the classes are not those of the run, or
                the weight is negative or not finite.
        """
        losses.check_range("weight", self.weight, torch.finfo(torch.float32).max)
        is_values = self.task == "dimensions"
        names = [*map(normalized, self.labels)] if self.labels else [*(scales if is_values else classes)]
        declared = {scales.get(name) for name in names}
        scale = self.scale or (declared.pop() if is_values and len(declared) == 1 else None)
        if is_values and scale is None:
            raise SettingError(f"model.tasks: dimensions={names} scale=None: none is declared; give both")
        if self.task == "classes" and names != [*classes]:
            raise SettingError(f"model.tasks: labels={names} of classes: set data.labels instead")
        return replace(self, labels=names, scale=scale)

    @property
    def outputs(self) -> Outputs:
        """Outputs of a classifier for this task."""
        return Outputs(self.task, tuple(self.labels or ()), self.scale)


class TaskLoss(nn.Module):
    """Weighted loss of one task.

    Args:
        task: The task, with its outputs.
        settings: Settings of all losses.
    """

    class_weights: Tensor | None
    adjustment: Tensor | None

    def __init__(self, task: TaskSettings, settings: LossSettings) -> None:
        super().__init__()
        self.task, self.settings = task, settings
        self.register_buffer("class_weights", None, persistent=False)
        self.register_buffer("adjustment", None, persistent=False)

    @property
    def needs_counts(self) -> str:
        """The setting that needs the frequencies of the classes in training; empty if none does."""
        names = ("class_weights", "class_balance", "logit_adjustment")
        used = (f"{name}={value}" for name in names if (value := getattr(self.settings, name)))
        return next(used, "") if self.task.task in SOFTMAX_TASKS else ""

    def count(self, targets: Float[Tensor, "clips outputs"]) -> None:
        """Take the frequencies of the classes from the targets of the training clips.

        Raises:
            SettingError: If a class has none.
        """
        counts, settings = targets.nansum(0), self.settings
        absent = [label for label, count in zip(self.task.labels or (), counts, strict=True) if not count]
        if absent:
            raise SettingError(f"{self.needs_counts}: labels={absent} have no training clip; leave them out")
        if settings.class_weights or settings.class_balance:
            self.class_weights = losses.class_weights(counts, settings.class_balance or 1.0)
        if settings.logit_adjustment:
            self.adjustment = settings.logit_adjustment * losses.log_prior(counts)

    def forward(self, logits: Float[Tensor, "batch outputs"], targets: Tensor) -> Float[Tensor, ""]:
        """Loss of one batch.

        Args:
            logits: Logits, or values on the scale.
            targets: Targets `(batch, outputs)`, NaN where they are missing; of `classes` their indices.
        """
        return self.task.weight * TASKS[self.task.task].loss(self, logits, targets)


# Targets of a clip


def _class(clip: Clip, labels: Sequence[str]) -> list[float]:
    """One for its class; nothing where it has none."""
    return [float(clip.label == label) if clip.label in labels else math.nan for label in labels]


def _votes(clip: Clip, labels: Sequence[str]) -> list[float]:
    """Shares of the votes for these classes; without any votes its label counts as one."""
    votes = dict(clip.votes) or {clip.label: 1.0}
    counts = [votes.get(label, 0.0) for label in labels]
    total = sum(counts)
    return [count / total if total else math.nan for count in counts]


def _labels(clip: Clip, labels: Sequence[str]) -> list[float]:
    """One for each label that a listener named, or without votes for its own; nothing if all named others."""
    voted = {label for label, count in clip.votes if count > 0.0}
    named = (voted & {*labels} if voted else {clip.label}) - {NO_AGREEMENT, UNLABELED}
    return [float(label in named) if named else math.nan for label in labels]


def _values(clip: Clip, labels: Sequence[str]) -> list[float]:
    return [dict(clip.values).get(label, math.nan) for label in labels]


def targets_of(clips: Sequence[Clip], outputs: Sequence[Outputs]) -> Float[Tensor, "clips outputs"]:
    """Target of each clip for each output, NaN where it is missing.

    Args:
        clips: The clips.
        outputs: Outputs of all tasks, whose columns stand one after the other.
    """
    rows = [[x for one in outputs for x in TASKS[one.task].targets(clip, one.labels)] for clip in clips]
    return torch.tensor(rows, dtype=torch.float32)


def check_targets(split: str, clips: Sequence[Clip], outputs: Sequence[Outputs]) -> None:
    """Raise SettingError if no clip has a target for a task, or none to train on for one of its outputs.

    Args:
        split: `train`, `validation` or `test`.
        clips: Its clips, if it has any.
        outputs: Outputs of all tasks.
    """
    for one in outputs if clips else ():
        known = (~targets_of(clips, [one]).isnan()).any(0).tolist()
        if not (all(known) if split == "train" else any(known)):
            without = [label for label, is_known in zip(one.labels, known, strict=True) if not is_known]
            told = f"task={one.task}: labels={without} have no target in the {split} clips"
            raise SettingError(f"{told}; annotate some of these clips, or change model.tasks")


# Loss of a batch


def _softmax_loss(of: TaskLoss, logits: Tensor, targets: Tensor) -> Tensor:
    given = of.settings
    options: dict[str, Any] = {"label_smoothing": given.label_smoothing, "gamma": given.focal_gamma}
    options |= {"weight": of.class_weights, "adjustment": of.adjustment}
    kl = of.task.task == "distribution" and given.votes == "kl"
    return losses.cross_entropy(logits, targets, **options, kl=kl)


def _label_loss(of: TaskLoss, logits: Tensor, targets: Tensor) -> Tensor:
    return losses.binary_cross_entropy(logits, targets, gamma=of.settings.focal_gamma)


def _value_loss(of: TaskLoss, values: Tensor, targets: Tensor) -> Tensor:
    low, high = of.task.scale or (0.0, 1.0)
    by_name = {"ccc": losses.ccc_loss, "mse": losses.squared_error}
    return by_name[of.settings.values](values / (high - low), targets / (high - low))


class _Row(NamedTuple):
    targets: Callable[[Clip, Sequence[str]], list[float]]
    loss: Callable[[TaskLoss, Tensor, Tensor], Tensor]


TASKS: Mapping[Task, _Row] = {
    "classes": _Row(_class, _softmax_loss),
    "distribution": _Row(_votes, _softmax_loss),
    "labels": _Row(_labels, _label_loss),
    "dimensions": _Row(_values, _value_loss),
}
"""Targets of a clip and loss of a batch for each task; its scores are in `SCORES`."""
