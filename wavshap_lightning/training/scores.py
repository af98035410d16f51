"""How good the predictions of each task are, and how well they are calibrated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchmetrics import Metric
from torchmetrics.functional import classification as metrics
from torchmetrics.utilities import dim_zero_cat

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.head import Outputs, Task, split_outputs
from wavshap_lightning.training.losses import MISSING_CLASS, binary_cross_entropy, cross_entropy

CALIBRATION_BINS = 15
ROUNDED = 1e-12  # relative variance of sums of a constant, by rounding
ALMOST_CERTAIN = 1.0 - 2.0**-24  # torchmetrics would give a certainty of one a bin of its own
AGREEMENTS = {"low": 0.5, "medium": 0.75, "high": 1.0}
"""Levels of agreement of the listeners: up to this share of the votes is for the majority."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of a classifier for some clips, in the order of their positions.

    Args:
        logits: Logits `(clips, outputs)`; of dimensions, values on their scale.
        labels: Class indices, below zero for clips without a class.
        positions: Index of each clip in its split.
        targets: Targets `(clips, outputs)`, NaN where they are missing: shares of the votes, which add up to
            one, labels that are present (1) or absent (0), values. Columns of `classes` are not used. Empty
            if `outputs` is.
        outputs: The outputs of each task, in order; empty for classes alone.
    """

    logits: Float[Tensor, "clips outputs"]
    labels: Int[Tensor, " clips"]
    positions: Int[Tensor, " clips"]
    targets: Float[Tensor, "rows columns"] = torch.empty(0, 0)  # noqa: RUF009 - never changed
    outputs: tuple[Outputs, ...] = ()

    @property
    def task(self) -> Task:
        """The first task."""
        return self.outputs[0].task if self.outputs else "classes"

    def select(self, chosen: Bool[Tensor, " clips"] | Int[Tensor, " chosen"]) -> Predictions:
        """Some of the predictions."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in _columns(self.outputs)})

    def parts(self) -> dict[str, Predictions]:
        """Predictions of each task by the prefix of its scores: none for the first, `TASK_` for others."""
        if len(self.outputs) < 2:
            return {"": self}
        found: dict[str, Predictions] = {}
        columns = (split_outputs(one, self.outputs) for one in (self.logits, self.targets))
        for one, x, y in zip(self.outputs, *columns, strict=True):
            found[f"{one.task}_" if found else ""] = replace(self, logits=x, targets=y, outputs=(one,))
        return found

    def at_temperature(self, temperature: float) -> Predictions:
        """Predictions of the first task with its logits divided by a temperature."""
        part = self.parts()[""]
        return replace(part, logits=part.logits / temperature)


def _columns(outputs: Sequence[Outputs]) -> tuple[str, ...]:
    return ("logits", "labels", "positions", *(["targets"] if outputs else []))


class PredictionLog(Metric):
    """Collects predictions over batches and ranks, each clip once.

    Distributed evaluation repeats some clips so that all ranks get equally many; here each clip counts once.

    Args:
        outputs: Those of [`Predictions`][].
    """

    full_state_update = False

    def __init__(self, outputs: tuple[Outputs, ...] = ()) -> None:
        super().__init__()
        self.outputs, self.columns = outputs, _columns(outputs)
        for name in self.columns:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        logits: Float[Tensor, "batch outputs"],
        labels: Int[Tensor, " batch"],
        positions: Int[Tensor, " batch"],
        targets: Float[Tensor, "batch outputs"] | None = None,
    ) -> None:
        """Add a batch; targets are kept unless there are classes alone."""
        batch = (logits.detach().float(), labels, positions, targets)
        for name, column in zip(self.columns, batch, strict=False):
            getattr(self, name).append(column)

    def compute(self) -> tuple[Tensor, ...]:
        """Logits, labels, positions and targets of all clips so far, on all ranks, in order of the clips."""
        columns = [dim_zero_cat(getattr(self, name)) for name in self.columns]
        _, first = np.unique(columns[2].cpu().numpy(), return_index=True)
        return tuple(column[first] for column in columns)

    def predictions(self) -> Predictions:
        """Result of `compute` as a record; torchmetrics would squeeze a single clip or output."""
        logits, labels, positions, *targets = self.compute()
        size = positions.numel()
        table = targets[0].reshape(size, -1) if targets else logits.new_empty(0, 0)
        columns = labels.reshape(size), positions.reshape(size)
        return Predictions(logits.reshape(size, -1), *columns, table, self.outputs)


def score_predictions(predictions: Predictions) -> dict[str, Tensor]:
    """Scalar scores of some predictions; those of further tasks begin with the task, as in `labels_macro_f1`.

    See [`class_scores`][], [`distribution_scores`][], [`label_scores`][] and [`dimension_scores`][]. A score
    is NaN where no clip has a target for it.
    """
    return {
        prefix + name: value.to(part.logits)  # where and as precise as other numbers that are logged
        for prefix, part in predictions.parts().items()
        for name, value in SCORES[part.task].scores(part).items()
    }


def class_scores(predictions: Predictions) -> dict[str, Tensor]:
    """Scores of `classes`, over the clips that have a class.

    Returns:
        `loss` (cross-entropy in nats), `uar` (unweighted average recall: each class that occurs counts
        the same), `wa` (weighted accuracy: each clip counts the same), `macro_f1` (over the classes
        that occur), `ece` (expected calibration error, 15 bins).
    """
    predictions = with_class(predictions)
    logits, labels = predictions.logits, predictions.labels
    num_classes = logits.shape[1]
    if not len(labels):
        return dict.fromkeys(("loss", "uar", "wa", "macro_f1", "ece"), torch.tensor(torch.nan))
    occurring = torch.bincount(labels, minlength=num_classes) > 0
    probabilities = logits.softmax(1).clamp(max=ALMOST_CERTAIN)
    return {
        "loss": F.cross_entropy(logits, labels),
        "uar": metrics.multiclass_recall(logits, labels, num_classes, average=None)[occurring].mean(),
        "wa": metrics.multiclass_accuracy(logits, labels, num_classes, average="micro"),
        "macro_f1": metrics.multiclass_f1_score(logits, labels, num_classes, average=None)[occurring].mean(),
        "ece": metrics.multiclass_calibration_error(probabilities, labels, num_classes, CALIBRATION_BINS),
    }


def distribution_scores(predictions: Predictions) -> dict[str, Tensor]:
    """Scores of `distribution`.

    Returns:
        `loss` (cross-entropy of the votes in nats), `log_likelihood` (its negative: mean over the votes of a
        clip, then over clips), `jsd` (mean of [`divergences`][]), the other scores of `classes` against the
        class of most votes, without clips where several have most, and of these the accuracy where listeners
        agree little (`wa_low_agreement`: at most half of the votes are for that class), fairly
        (`wa_medium_agreement`: up to three quarters) and well (`wa_high_agreement`).
    """
    voted, loss = with_class(predictions), cross_entropy(predictions.logits, predictions.targets)
    jsd = divergences(predictions).nanmean().float()
    scores = {**class_scores(voted), "loss": loss, "log_likelihood": -loss, "jsd": jsd}
    levels = torch.bucketize(voted.targets.amax(1).cpu(), torch.tensor([*AGREEMENTS.values()]))
    correct = (voted.logits.argmax(1) == voted.labels).float().cpu()
    return scores | {f"wa_{name}_agreement": correct[levels == i].mean() for i, name in enumerate(AGREEMENTS)}


def divergences(predictions: Predictions) -> Float64[Tensor, " clips"]:
    """Jensen-Shannon divergence of prediction and votes of each clip, in bits, 0 (equal) to 1.

    Source: Lin 1991, "Divergence Measures Based on the Shannon Entropy", section 4.
    """
    p, q = predictions.targets.cpu().double(), predictions.logits.cpu().double().softmax(1)
    entropy = torch.special.entr
    return (entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2).sum(1) / math.log(2)


def label_scores(predictions: Predictions) -> dict[str, Tensor]:
    """Scores of `labels`.

    Returns:
        `loss` (cross-entropy in nats), `macro_f1` (mean over labels of `f1_LABEL`, with the threshold 0.5; a
        label that neither occurs nor is predicted has none), `map` (mean over the labels that occur of
        `ap_LABEL`, their average precision).
    """
    logits, targets = predictions.logits, predictions.targets
    f1 = torch.from_numpy(_f1(_label_sums(predictions)))
    ap, occurring = torch.full_like(f1, torch.nan), (targets > 0.5).any(0).cpu()
    for index in occurring.nonzero().flatten().tolist():
        known = ~targets[:, index].isnan()
        x, y = logits[known, index].sigmoid(), targets[known, index].long()
        ap[index] = metrics.binary_average_precision(x, y)
    means = {"loss": binary_cross_entropy(logits, targets), "macro_f1": f1.nanmean(), "map": ap.nanmean()}
    return means | _by_output(predictions, f1=f1, ap=ap)


def dimension_scores(predictions: Predictions) -> dict[str, Tensor]:
    """Scores of `dimensions`: means over the dimensions and, as in `ccc_arousal`, those of each.

    Returns:
        `loss` (1 - `ccc`), `ccc` (see [`concordance`][wavshap_lightning.training.losses.concordance]), `pcc`
        (Pearson's correlation), `rmse` (root mean squared error, in the unit of the scale). Where predictions
        or targets are constant, `ccc` and `pcc` are 0.
    """
    found = {name: one.values(one.sums(predictions)) for name, one in _VALUES.items()}
    columns = {name: torch.from_numpy(x) for name, x in found.items()}
    means = {name: values.nanmean() for name, values in columns.items()}
    return {"loss": 1.0 - means["ccc"], **means} | _by_output(predictions, **columns)


def with_class(predictions: Predictions) -> Predictions:
    """Predictions for the clips that have a class: in `distribution`, that of most votes, if it is one."""
    labels = predictions.labels
    if predictions.task == "distribution":
        shares = predictions.targets
        single = (shares == shares.amax(1, keepdim=True)).sum(1) == 1
        labels = torch.where(single, shares.argmax(1), MISSING_CLASS)
    return replace(predictions, labels=labels).select(labels >= 0)


def confusion_counts(predictions: Predictions) -> Int[Tensor, "label prediction"]:
    """Confusion matrix: number of clips by label and prediction."""
    found = with_class(predictions)
    return metrics.multiclass_confusion_matrix(found.logits, found.labels, num_classes=found.logits.shape[1])


def reliability_table(predictions: Predictions) -> list[tuple[float, float, float, float, int]]:
    """Reliability diagram: ends, mean confidence, accuracy and clips of each bin of confidence with clips.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.
    """
    found = with_class(predictions)
    confidence, predicted = found.logits.softmax(1).clamp(max=ALMOST_CERTAIN).max(1)
    bins, correct, rows = (confidence * CALIBRATION_BINS).long(), (predicted == found.labels).float(), []
    for index in sorted({*bins.tolist()}):
        own = bins == index
        means = float(confidence[own].mean()), float(correct[own].mean())
        rows.append((index / CALIBRATION_BINS, (index + 1) / CALIBRATION_BINS, *means, int(own.sum())))
    return rows


def fit_temperature(predictions: Predictions) -> float:
    """Temperature of least cross-entropy for the first task, that calibrates it best.

    Raises:
        SettingError: If no clip has a target for it.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """

    def loss(log_temperature: float) -> float:
        return float(score_predictions(predictions.at_temperature(math.exp(log_temperature)))["loss"])

    if score_predictions(predictions)[SCORES[predictions.task].main].isnan():
        raise SettingError("temperature: none of the clips has a class or votes; give some that have")
    return math.exp(minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x)


def _by_output(predictions: Predictions, **columns: Float[Tensor, " outputs"]) -> dict[str, Tensor]:
    """Scores of single outputs, as in `ccc_arousal`."""
    labels = [*enumerate(predictions.outputs[0].labels)]
    return {f"{name}_{label}": values[i] for name, values in columns.items() for i, label in labels}


# Main scores from numbers that are added over clips, so that speakers can be resampled


Sums = Float64[np.ndarray, "... outputs sums"]
Numbers = Float64[np.ndarray, "... outputs"]


def ratio(sums: Sums) -> Numbers:
    """First by second number; NaN where the second is zero."""
    above, below = sums[..., 0], sums[..., 1]
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)


def _class_sums(predictions: Predictions) -> Float64[np.ndarray, "outputs 3"]:
    """Of each class, clips that are recognized, clips, and clips that are predicted so."""
    counts = confusion_counts(predictions).cpu().numpy()
    return np.stack([counts.diagonal(), counts.sum(1), counts.sum(0)], axis=1).astype(float)


def _f1(sums: Sums) -> Numbers:
    return ratio(np.stack([2.0 * sums[..., 0], sums[..., 1] + sums[..., 2]], axis=-1))


def _vote_sums(predictions: Predictions) -> Float64[np.ndarray, "2 2"]:
    """Sum of the divergences, and of the log-likelihoods, over the clips with votes, and these clips."""
    shares, logs = predictions.targets.cpu().double(), predictions.logits.cpu().double().log_softmax(1)
    found = torch.stack([divergences(predictions), (shares * logs).sum(1)]).numpy()
    return np.stack([np.nansum(found, axis=1), np.isfinite(found).sum(axis=1)], axis=1)


def _label_sums(predictions: Predictions) -> Float64[np.ndarray, "outputs 3"]:
    """Of each label, clips where it is rightly predicted, clips with it, and clips that are predicted so."""
    present = predictions.targets > 0.5
    predicted = (predictions.logits > 0.0) & ~predictions.targets.isnan()
    counts = [one.sum(0) for one in (predicted & present, present, predicted)]
    return torch.stack(counts, 1).cpu().double().numpy()


def _value_sums(predictions: Predictions) -> Float64[np.ndarray, "outputs 6"]:
    """Of each dimension, clips, and sums of values, targets, their squares and their product."""
    y = predictions.targets.cpu().double()
    x = predictions.logits.cpu().double() + 0.0 * y
    return torch.stack([one.nansum(0) for one in (0.0 * y + 1.0, x, y, x * x, y * y, x * y)], 1).numpy()


def _agreement(of: str, sums: Sums) -> Numbers:
    """CCC, Pearson's correlation or root mean squared error from such sums; NaN without clips."""
    with np.errstate(invalid="ignore"):
        x, y, xx, yy, xy = np.moveaxis(sums[..., 1:] / sums[..., :1], -1, 0)
    covariance, variances = xy - x * y, np.stack([xx - x * x, yy - y * y])
    constant = (variances <= ROUNDED * np.stack([xx, yy])).any(0)
    covariance, (var_x, var_y) = np.where(constant, 0.0, covariance), np.where(constant, 1.0, variances)
    ccc = 2.0 * covariance / (var_x + var_y + (x - y) ** 2)
    rmse = np.sqrt(np.maximum(xx + yy - 2.0 * xy, 0.0))
    return {"ccc": ccc, "pcc": covariance / np.sqrt(var_x * var_y), "rmse": rmse}[of]


class Interval(NamedTuple):
    """How a score follows from numbers that are added over clips.

    Args:
        sums: Such numbers of each output.
        values: Of these, numbers whose mean over the outputs that have one is the score.
        of_output: Name of the same score of a single output, if it has one.
    """

    sums: Callable[[Predictions], Sums]
    values: Callable[[Sums], Numbers]
    of_output: str = ""


class TaskScores(NamedTuple):
    """Scores of a task.

    Args:
        main: Score that chooses the best epoch.
        mode: Direction in which it is better.
        more: Further scores to print.
        by_output: Scores that each output has too.
        scores: All scalar scores.
        intervals: Scores that have an interval. The calibration error has none: resamples have a larger one.
    """

    main: str
    mode: Literal["max", "min"]
    more: tuple[str, ...]
    by_output: tuple[str, ...]
    scores: Callable[[Predictions], dict[str, Tensor]]
    intervals: Mapping[str, Interval]


_CLASSES = {
    "uar": Interval(_class_sums, lambda sums: ratio(sums[..., :2])),
    "wa": Interval(_class_sums, lambda sums: ratio(sums[..., :2].sum(-2, keepdims=True))),
    "macro_f1": Interval(_class_sums, lambda sums: np.where(sums[..., 1] > 0, _f1(sums), np.nan)),
}
_VOTES = {
    "jsd": Interval(_vote_sums, lambda sums: ratio(sums[..., :1, :])),
    "log_likelihood": Interval(_vote_sums, lambda sums: ratio(sums[..., 1:, :])),
    **_CLASSES,
}
_LABELS = {"macro_f1": Interval(_label_sums, _f1, "f1")}
_VALUES = {name: Interval(_value_sums, partial(_agreement, name), name) for name in ("ccc", "pcc", "rmse")}
SCORES: dict[Task, TaskScores] = {
    "classes": TaskScores("uar", "max", ("wa", "macro_f1", "ece"), (), class_scores, _CLASSES),
    "distribution": TaskScores("jsd", "min", ("uar", "log_likelihood"), (), distribution_scores, _VOTES),
    "labels": TaskScores("macro_f1", "max", ("map",), ("f1", "ap"), label_scores, _LABELS),
    "dimensions": TaskScores("ccc", "max", ("pcc", "rmse"), (*_VALUES,), dimension_scores, _VALUES),
}
