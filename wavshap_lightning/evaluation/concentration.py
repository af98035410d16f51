"""Whether attribution lies in few units or in many, and in which."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def magnitude_shares(values: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
    """Each unit's share of the sum of magnitudes; all 0 where there is none.

    >>> magnitude_shares(torch.tensor([3.0, -1.0]))
    tensor([0.7500, 0.2500])
    """
    magnitudes = values.abs()
    return magnitudes / magnitudes.sum().clamp(min=torch.finfo(magnitudes.dtype).tiny)


def evenness(values: Float[Tensor, " units"]) -> float:
    """Entropy of the shares, relative to the largest there can be.

    `-sum p log p / log n`: 1 where all units count the same, 0 where one has all. NaN for a single unit, or
    where nothing is attributed.

    >>> evenness(torch.tensor([2.0, -2.0])), evenness(torch.tensor([0.0, 1.0, 0.0]))
    (1.0, 0.0)
    """
    shares = magnitude_shares(values.double())
    if len(shares) < 2 or not shares.sum() > 0:
        return float("nan")
    return max(0.0, -float(torch.special.xlogy(shares, shares).sum()) / math.log(len(shares)))
