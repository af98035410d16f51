"""How the score falls while units are removed, the most attributed first or the least."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wavshap_lightning.evaluation.faithfulness import Score, replaced, scores_of

STEPS = 10


@dataclass(frozen=True)
class RemovalCurves:
    """The score while more and more is removed, as a share of the units from none to all.

    Args:
        deletion: Mean score along the way, the largest attributions removed first. The lower the better.
        insertion: Mean score along the way, the largest attributions put into the fill first; which is the
            way back of removing the smallest first. The higher the better.
    """

    deletion: float
    insertion: float

    @property
    def abpc(self) -> float:
        """Area between the perturbation curves, least first minus most first. The higher the better.

        0 for attributions that say nothing. Source: Simic et al. (2022).
        """
        return self.insertion - self.deletion


def removal_curves(
    score: Score,
    frames: Float[Tensor, "time channels"],
    attributions: Float[Tensor, " time"],
    fills: Float[Tensor, "fills time channels"],
    *,
    steps: int = STEPS,
) -> RemovalCurves:
    """Areas under the deletion and the insertion curve, in the unit of the score, averaged over fills.

    By the trapezoid rule over `steps` equal steps. Source: Petsiuk, Das and Saenko (2018); where we depart:
    the score, for the probability, and frames of the clip, for pixels.

    Args:
        score: The explained score of each input; called without gradients on a few at a time.
        frames: The clip.
        attributions: Of each frame.
        fills: What stands for absence; two kinds at least, as none is neutral.
        steps: Into how many steps the way from none to all is cut, at most.
    """
    steps = min(steps, len(frames))
    order = attributions.argsort(descending=True, stable=True)
    gone = torch.stack([removed_first(order, count, steps) for count in range(steps + 1)])
    least = torch.stack([removed_first(order.flip(0), count, steps) for count in range(steps + 1)])
    both = torch.cat([gone, least]).to(frames.device)
    changed = torch.stack([replaced(frames, fill, both) for fill in fills])
    curves = scores_of(score, changed.flatten(0, 1)).reshape(len(fills), 2, steps + 1).mean(0)
    areas = torch.trapezoid(curves, dim=1) / steps
    return RemovalCurves(float(areas[0]), float(areas[1]))


def removed_first(order: Tensor, step: int, steps: int) -> Bool[Tensor, " time"]:
    """Which units are gone after some of all equal steps of an order."""
    gone = torch.zeros(len(order), dtype=torch.bool)
    gone[order[: round(step * len(order) / steps)].cpu()] = True
    return gone
