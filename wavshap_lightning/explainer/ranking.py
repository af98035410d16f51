"""Lists of what counts most: frames, layers and neurons with their times, attributions and errors."""

from __future__ import annotations

from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.errors import SettingError

Aggregation = Literal["sum", "mean", "max"]


class FrameRank(NamedTuple):
    """A frame.

    Args:
        start_s: Where what it hears begins, in seconds.
        end_s: Where that ends.
        attribution: Its attribution.
        half_width: Half the width of its 95 % interval; None where no error is known.
    """

    start_s: float
    end_s: float
    attribution: float
    half_width: float | None


class LayerRank(NamedTuple):
    """A layer; 0 is the projected frames. The rest as in [`FrameRank`][]."""

    layer: int
    attribution: float
    half_width: float | None


class NeuronRank(NamedTuple):
    """A neuron of a layer. The rest as in [`FrameRank`][]."""

    neuron: int
    attribution: float
    half_width: float | None


def largest(
    values: Float[Tensor, " units"], half_widths: Float[Tensor, " units"] | None, count: int
) -> list[tuple[int, float, float | None]]:
    """Index, attribution and half-width of the units with the largest magnitudes, largest first.

    Raises:
        SettingError: If none is asked for.

    >>> import torch
    >>> largest(torch.tensor([1.0, -3.0, 2.0]), None, 2)
    [(1, -3.0, None), (2, 2.0, None)]
    """
    if count < 1:
        raise SettingError(f"k={count} must be at least 1")
    order = values.abs().argsort(descending=True, stable=True)[:count].tolist()
    return [
        (index, float(values[index]), None if half_widths is None else float(half_widths[index]))
        for index in order
    ]


def peaks(detail: Float[Tensor, "time hidden"]) -> Float[Tensor, " hidden"]:
    """Each neuron's attribution in the frame where its magnitude is largest, with its sign.

    >>> import torch
    >>> peaks(torch.tensor([[1.0, -1.0], [-2.0, 0.5]]))
    tensor([-2., -1.])
    """
    return detail.gather(0, detail.abs().argmax(0, keepdim=True))[0]
