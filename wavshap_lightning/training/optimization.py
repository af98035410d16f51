"""How a classifier is optimised: AdamW's parameter groups, and the course of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.classifier import EmotionClassifier

UNDECAYED = "_undecayed"


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with a linear warm-up and a cosine to zero.

    Args:
        learning_rate: Peak learning rate of the head.
        backbone_learning_rate: Peak learning rate of what is unfrozen of the backbone.
        weight_decay: Of the head's and the backbone's matrices; biases and layer weights are spared.
        warmup_share: Share of all steps that warm up.

    Raises:
        SettingError: If a number is out of range.
    """

    learning_rate: float = 2e-3
    backbone_learning_rate: float = 2e-5
    weight_decay: float = 1e-2
    warmup_share: float = 0.1

    def __post_init__(self) -> None:
        for name in ("learning_rate", "backbone_learning_rate", "weight_decay"):
            check_range(name, getattr(self, name), math.inf)
        check_range("warmup_share", self.warmup_share, 1.0)


def check_range(name: str, value: float, highest: float) -> None:
    """Refuse a number below zero or above `highest`.

    Raises:
        SettingError: With the name and the value.
    """
    if not 0.0 <= value <= highest:
        upper = "" if math.isinf(highest) else f" and at most {highest:g}"
        raise SettingError(f"{name}={value!r} must be at least 0{upper}")


def parameter_groups(classifier: EmotionClassifier, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """What is trained, by learning rate and by decay: matrices decay, biases and layer weights do not."""
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
    """The present learning rate of each part that is trained, `head` and `backbone`."""
    return {group["name"].removesuffix(UNDECAYED): group["lr"] for group in optimizer.param_groups}


def warmup_cosine(num_steps: int, warmup_share: float) -> Callable[[int], float]:
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
