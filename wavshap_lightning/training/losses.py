"""Losses of each task, with a mask for missing targets, and their settings.

Targets that are missing are NaN, or -100 where they are class indices. They count as if the clip, or the one
output, were not in the batch. A batch without any target has a loss of zero.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.errors import SettingError

MISSING_CLASS = -100
"""Class index of a clip without a class."""


def check_range(name: str, value: float, highest: float = math.inf) -> None:
    """Refuse a number below zero or above `highest`.

    Raises:
        SettingError: With the name and the value.
    """
    if not 0.0 <= value <= highest:
        limit = "at least 0" if math.isinf(highest) else f"from 0 to {highest:g}"
        raise SettingError(f"{name}={value!r} must be {limit}")


@dataclass(frozen=True)
class LossSettings:
    """Settings of the losses.

    Args:
        class_weights: Weight each class by the inverse of its frequency in training.
        label_smoothing: Label smoothing, the probability mass spread over all classes, 0 to 1.
        focal_gamma: Exponent of the focal loss, by which what is already predicted well counts less; 0: off.
        class_balance: Weight each class by the inverse of its effective number of training clips: beta, such
            as 0.999, at most 1; 0: off.
        logit_adjustment: Logarithms of the class frequencies in training are added to the logits, times this
            (tau, usually 1), in training alone; 0: off.
        votes: Loss of `distribution`, cross-entropy or Kullback-Leibler divergence. They have equal
            gradients; the divergence is zero where predictions and votes are equal.
        values: Loss of `dimensions`: concordance (1 - CCC), or squared error in shares of the scale.

    Raises:
        SettingError: If a number is out of range, there are two kinds of class weights, or the divergence is
            to be focal.
    """

    class_weights: bool = False
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    class_balance: float = 0.0
    logit_adjustment: float = 0.0
    votes: Literal["cross_entropy", "kl"] = "cross_entropy"
    values: Literal["ccc", "mse"] = "ccc"

    def __post_init__(self) -> None:
        for name in ("label_smoothing", "class_balance"):
            check_range(name, getattr(self, name), 1.0)
        for name in ("focal_gamma", "logit_adjustment"):
            check_range(name, getattr(self, name))
        if self.class_weights and self.class_balance:
            raise SettingError(f"class_balance={self.class_balance} or class_weights=True: give one of them")
        if self.votes == "kl" and self.focal_gamma:
            given = f"votes='kl' with focal_gamma={self.focal_gamma:g}"
            raise SettingError(f"{given} would be no divergence; use votes='cross_entropy'")

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON; later ones only where they are used, so that older files stay equal."""
        defaults = {field.name: field.default for field in fields(self)[2:]}
        return {name: value for name, value in asdict(self).items() if value != defaults.get(name)}


def cross_entropy(
    logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    *,
    weight: Float[Tensor, " classes"] | None = None,
    label_smoothing: float = 0.0,
    gamma: float = 0.0,
    adjustment: Float[Tensor, " classes"] | None = None,
    kl: bool = False,
) -> Float[Tensor, ""]:
    """Cross-entropy in nats: mean over clips, weighted by their classes.

    Shares of votes cost what single labels would, averaged over the votes.

    Args:
        logits: Logits.
        targets: Class indices, or the share of each class in a clip's votes; such rows sum to one.
        weight: Weight of each class.
        label_smoothing: Probability mass spread over all classes.
        gamma: Exponent of the focal loss: `-log p` counts `(1 - p) ** gamma` times.
        adjustment: Added to the logits: tau times [`log_prior`][].
        kl: Subtract the entropy of the targets, which leaves the Kullback-Leibler divergence.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4; Menon et al. 2021,
        "Long-tail Learning via Logit Adjustment", equation 10; Fayek et al. 2016, "Modeling Subjectiveness in
        Emotion Recognition with Deep Neural Networks: Ensembles vs Soft Labels" for shares of votes.
    """
    logits = logits if adjustment is None else logits + adjustment
    known = targets >= 0 if targets.ndim == 1 else ~targets.isnan().any(1)
    if not known.any():
        return 0.0 * logits.sum()
    if targets.ndim == 1 and not gamma:
        return F.cross_entropy(logits, targets, weight=weight, label_smoothing=label_smoothing)
    targets, num_classes = targets[known], logits.shape[1]
    # In mixed precision logits are half precise, and so would be a matrix product of losses and weights.
    losses = -logits[known].to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
    shares = (F.one_hot(targets, num_classes) if targets.ndim == 1 else targets).to(losses.dtype)
    smoothed = (1.0 - label_smoothing) * shares + label_smoothing / num_classes
    losses = smoothed * focal(losses, gamma) - kl * torch.special.entr(smoothed)
    weight = losses.new_ones(num_classes) if weight is None else weight
    return (losses * weight).sum() / (shares * weight).sum()


def binary_cross_entropy(
    logits: Float[Tensor, "batch labels"], targets: Float[Tensor, "batch labels"], *, gamma: float = 0.0
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of labels of which a clip may have several; focal if `gamma` is not zero.

    Source: Nam et al. 2014, "Large-scale Multi-label Text Classification - Revisiting Neural Networks",
        section 3; Lin et al. 2017, equation 4.
    """
    x, t = _known(logits, targets)
    present, absent = focal(-F.logsigmoid(x), gamma), focal(-F.logsigmoid(-x), gamma)
    return (t * present + (1.0 - t) * absent).mean() if len(t) else 0.0 * logits.sum()


def focal(losses: Float[Tensor, "*shape"], gamma: float) -> Float[Tensor, "*shape"]:
    """Losses `-log p`, each times `(1 - p) ** gamma`."""
    # For gamma below one the slope at p = 1 would be infinite.
    missed = (-torch.expm1(-losses)).clamp_min(torch.finfo(losses.dtype).tiny)
    return losses * missed**gamma


def ccc_loss(
    values: Float[Tensor, "batch dimensions"], targets: Float[Tensor, "batch dimensions"]
) -> Float[Tensor, ""]:
    """`1 - CCC` over the clips of the batch, averaged over the dimensions that have a target.

    Source: Weninger et al. 2016, "Discriminatively Trained Recurrent Neural Networks for Continuous
        Dimensional Emotion Recognition from Audio", section 2.
    """
    columns = [_known(*column) for column in zip(values.T, targets.T, strict=True)]
    found = [concordance(value, target) for value, target in columns if len(target)]
    return 1.0 - torch.stack(found).mean() if found else 0.0 * values.sum()


def concordance(values: Float[Tensor, " clips"], targets: Float[Tensor, " clips"]) -> Float[Tensor, ""]:
    """Concordance correlation coefficient `2 cov / (var + var + (mean - mean) ** 2)`, -1 to 1.

    Variances and covariance are divided by the number of clips, as in the source. Where values or targets are
    constant it is 0, with a finite gradient; without clips, NaN.

    Source: Lin 1989, "A Concordance Correlation Coefficient to Evaluate Reproducibility".
    """
    x, y = values - values[:1], targets - targets[:1]  # of constants exactly zero
    x, y, shift = x - x.mean(), y - y.mean(), values.mean() - targets.mean()
    apart = (x * x + y * y).mean() + shift * shift
    return 2.0 * (x * y).mean() / apart.clamp_min(torch.finfo(apart.dtype).tiny)


def squared_error(
    values: Float[Tensor, "batch dimensions"], targets: Float[Tensor, "batch dimensions"]
) -> Float[Tensor, ""]:
    """Mean squared error, in the squared unit of the values."""
    x, t = _known(values, targets)
    return F.mse_loss(x, t) if len(t) else 0.0 * values.sum()


def class_weights(counts: Float[Tensor, " classes"], beta: float = 1.0) -> Float[Tensor, " classes"]:
    """Weights of the classes, with a mean of one over the training clips.

    The weight of a class is the inverse of its effective number of clips, `(1 - beta ** n) / (1 - beta)`:
    with `beta=1` that of their number, and with `beta=0` one.

    Args:
        counts: Training clips of each class, above zero; of votes, the sums of their shares.
        beta: How much is new in a further clip, 0 to 1.

    Source: Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples", equation 2.
    """
    effective = counts if beta == 1.0 else (1.0 - beta ** counts.double()) / (1.0 - beta)
    return (counts.sum() / ((counts / effective).sum() * effective)).to(counts.dtype)


def log_prior(counts: Float[Tensor, " classes"]) -> Float[Tensor, " classes"]:
    """Logarithm of the share of each class in the training clips, whose counts must be above zero."""
    return (counts / counts.sum()).log()


def _known(outputs: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"]) -> tuple[Tensor, Tensor]:
    """Outputs and targets where there is a target, in a row; outputs at least as precise as targets."""
    known = ~targets.isnan()
    return outputs[known].to(torch.promote_types(outputs.dtype, targets.dtype)), targets[known]
