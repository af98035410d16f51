"""Lists of what counts most: frames, layers and neurons with their times, attributions and errors."""

from __future__ import annotations

from typing import NamedTuple


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
