"""Do attributions predict, up to one factor, what a change of the input does to the score?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from wavshap_lightning.evaluation.faithfulness import Score, replaced, scores_of

NUM_PERTURBATIONS = 64
CHANGED = 0.5


@dataclass(frozen=True)
class Perturbations:
    """What some changes of a clip did to the score; any number of explanations can be held against it.

    Args:
        changed: Which units each one replaced.
        effect: How much the score lost.
    """

    changed: Bool[Tensor, "perturbations time"]
    effect: Float64[Tensor, " perturbations"]


def perturb(
    score: Score,
    frames: Float[Tensor, "time channels"],
    fills: Float[Tensor, "fills time channels"],
    generator: torch.Generator,
    *,
    count: int = NUM_PERTURBATIONS,
) -> Perturbations:
    """Replace a random half of the units, again and again, and ask for the score.

    Always as many, so that how many they are tells nothing of what they do: attributions that are all alike
    would otherwise do well.

    Args:
        score: The explained score; called without gradients on a few inputs at a time.
        frames: The clip.
        fills: What stands for absence, in turn; two kinds at least.
        generator: Draws which units.
        count: How many perturbations.
    """
    ranks = torch.rand(count, len(frames), generator=generator).argsort(1).argsort(1)
    changed = ranks < round(CHANGED * len(frames))
    where = changed.to(frames.device)
    filled = torch.cat([replaced(frames, fill, where[i :: len(fills)]) for i, fill in enumerate(fills)])
    order = torch.cat([torch.arange(count)[i :: len(fills)] for i in range(len(fills))])
    scores = scores_of(score, torch.cat([frames[None], filled]))
    return Perturbations(changed[order], (scores[0] - scores[1:]).cpu())


def infidelity(values: Float[Tensor, " time"], perturbations: Perturbations) -> float:
    """`min_beta E[(beta I.phi - df)^2] / Var df`: the lower the better, 0 if every change is predicted.

    With `I` the replaced units and `df` what the score lost. Who knows but the mean of `df` comes to 1; as
    `beta I.phi` has no constant, more is possible. Source: Yeh et al. (2019), section 2.1; where we depart:
    the factor, and relative to the variance, so that neither the unit of the attributions nor that of the
    score counts. NaN where the score does not change.

    Args:
        values: Attributions of units.
        perturbations: What `perturb` found.
    """
    predicted = perturbations.changed.double() @ values.double().cpu()
    effect = perturbations.effect
    variance = float(effect.var(unbiased=False))
    if not variance > 0:
        return float("nan")
    square = float(predicted.square().mean())
    explained = float((predicted * effect).mean()) ** 2 / square if square > 0 else 0.0
    return max(0.0, float(effect.square().mean()) - explained) / variance
