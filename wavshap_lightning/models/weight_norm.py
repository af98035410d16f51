"""Weight norm, computed once and for all where nothing is trained."""

from __future__ import annotations

from copy import deepcopy

from torch import nn


def without_weight_norm(conv: nn.Conv1d) -> nn.Conv1d:
    """The same convolution with its weight computed once and for all.

    In double precision: in single, its last bit depends on where in memory the sums are done.
    """
    plain = nn.Conv1d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size[0],
        padding=int(conv.padding[0]),
        groups=conv.groups,
        device="meta",
    )
    weight = deepcopy(conv).double().weight.detach().to(conv.weight)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = conv.bias
    return plain
