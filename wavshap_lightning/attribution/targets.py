"""Targets: the scalars being explained, computed from logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.errors import AttributionError

TargetKind = Literal["logit", "value", "log_probability", "probability", "log_odds", "margin"]


@dataclass(frozen=True)
class Target:
    """Scalars to explain: one score for each of some classes, from the same forward passes.

    With logits `z` and probabilities `p = softmax(z)`, class `y` has

    - `logit`: `z_y`;
    - `value`: `z_y` too, where outputs are values instead of logits;
    - `log_probability`: `log p_y`;
    - `probability`: `p_y`, which saturates: its gradient vanishes for probabilities near 0 and 1;
    - `log_odds`: `log(p_y / (1 - p_y)) = z_y - log sum_{c != y} exp z_c`, which does not saturate and
      does not change when a number is added to all logits;
    - `margin`: `z_y - z_against`, with the same two properties.

    Args:
        kind: Kind of score, one of these.
        classes: The classes, as indices of the logits.
        against: Index of the second class of a margin; None for every other kind.

    Raises:
        AttributionError: If there is no class, a class is repeated, the kind is unknown, or a margin lacks
            its second class.

    >>> logits = torch.tensor([[2.0, 0.0, 1.0]])
    >>> Target("margin", (0,), against=2)(logits)
    tensor([[1.]])
    >>> Target("logit", (2, 0))(logits)
    tensor([[1., 2.]])
    """

    kind: TargetKind
    classes: tuple[int, ...]
    against: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(TargetKind):
            raise AttributionError(f"kind={self.kind!r} must be one of {', '.join(get_args(TargetKind))}")
        if not self.classes or len({*self.classes, self.against}) <= len(self.classes):
            raise AttributionError(f"classes={self.classes}, against={self.against}: one or more, none twice")
        if (self.kind == "margin") != (self.against is not None):
            raise AttributionError(
                f"kind={self.kind!r}, against={self.against}: only a margin has a second class"
            )

    @property
    def num_targets(self) -> int:
        """Number of scores of a draw."""
        return len(self.classes)

    def check(self, num_classes: int) -> None:
        """Check that the score has the target's classes.

        Raises:
            AttributionError: If a class is missing, or there is only one and the target compares classes.
        """
        asked = self.classes if self.against is None else (*self.classes, self.against)
        missing = [index for index in asked if not 0 <= index < num_classes]
        if missing:
            raise AttributionError(f"target: classes={missing} do not exist; use 0 to {num_classes - 1}")
        if num_classes == 1 and self.kind not in ("logit", "value"):
            raise AttributionError(f"target={self.kind}: the score has only one class; use kind='logit'")

    def __call__(self, logits: Float[Tensor, "draws classes"]) -> Float[Tensor, "draws targets"]:
        """Scores of each draw, one column for each class."""
        chosen = list(self.classes)
        match self.kind:
            case "logit" | "value":
                return logits[:, chosen]
            case "log_probability":
                return logits.log_softmax(1)[:, chosen]
            case "probability":
                return logits.softmax(1)[:, chosen]
            case "log_odds":
                # log p - log(1 - p) without ever forming 1 - p, which is 0 where the model is sure
                own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)[chosen]
                others = logits[:, None, :].masked_fill(own, -torch.inf).logsumexp(2)
                return logits[:, chosen] - others
            case "margin":
                assert self.against is not None  # noqa: S101 - checked when made; tells the type checker
                return logits[:, chosen] - logits[:, [self.against]]


def every_class(num_classes: int, kind: TargetKind = "log_odds") -> Target:
    """All classes at once, in the order of the logits.

    >>> every_class(3).classes
    (0, 1, 2)
    """
    return Target(kind, tuple(range(num_classes)))
