"""How alike two explanations are, and how much of one is more than chance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def correlation(first: Float[Tensor, " units"], second: Float[Tensor, " units"]) -> float:
    """Pearson's correlation of two lists of attributions; NaN where one of them is constant.

    Between epochs of a training, or between epochs and the first one, it says how far an explanation has
    drifted. Take both with the same draws, or chance counts as drift.

    Args:
        first: Attributions of some units.
        second: Of the same units.

    >>> correlation(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([-2.0, -4.0, -8.0]))
    -1.0
    """
    both = torch.stack([first, second]).double()
    centred = both - both.mean(1, keepdim=True)
    products = centred @ centred.T
    spread = (products[0, 0] * products[1, 1]).sqrt()
    return float((products[0, 1] / spread).clamp(-1, 1)) if spread > 0 else float("nan")


def reliability(values: Float[Tensor, " units"], stderr: Float[Tensor, " units"]) -> float:
    """What part of the scatter of the attributions is not the estimator's chance.

    `1 - mean(SE^2) / var(values)`, not below 0: the correlation to be expected between two runs with other
    draws. NaN where the attributions are constant or an error is not known yet.

    Source: the reliability coefficient of classical test theory (Lord and Novick 1968, section 3.3).

    >>> round(reliability(torch.tensor([1.0, -1.0]), torch.tensor([0.2, 0.4])), 3)
    0.9
    """
    variance = float(values.double().var(unbiased=False))
    by_chance = float(stderr.double().square().mean())
    if not (variance > 0 and by_chance < float("inf")):
        return float("nan")
    return max(0.0, 1.0 - by_chance / variance)
