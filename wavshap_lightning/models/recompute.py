"""Memory for time: what a gradient needs is computed again instead of kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

First = TypeVar("First")


def sparingly(compute: Callable[..., Tensor], first: First, *tensors: Tensor) -> Tensor:
    """What `compute` makes of its arguments; nothing within is kept for gradients, but computed again.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".

    Args:
        compute: The same whenever it is asked, so without dropout.
        first: Its first argument, whatever it is.
        tensors: Those that follow, through which gradients flow.
    """
    if not (torch.is_grad_enabled() and any(one.requires_grad for one in tensors)):
        return compute(first, *tensors)
    return checkpoint(compute, first, *tensors, use_reentrant=False, preserve_rng_state=False)
