"""The convolutions a backbone begins with: on whole clips, and on a part of a long one."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from wavshap_lightning.models.pretrained import TransformersModule

Normalise = Callable[[Float[Tensor, "batch channels steps"], nn.GroupNorm], Tensor]
"""What is done in place of the model's group norm."""


def convolve(
    model: TransformersModule, states: Float[Tensor, "batch 1 samples"], normalise_first: Normalise
) -> Float[Tensor, "batch channels time"]:
    """All convolutions in turn.

    Args:
        model: Whose.
        states: Waveforms.
        normalise_first: The first one's group norm, which looks at the whole clip; not asked where the model
            has none.
    """
    first, *rest = model.feature_extractor.conv_layers
    norm = group_norm_of(model)
    states = first(states) if norm is None else first.activation(normalise_first(first.conv(states), norm))
    for convolution in rest:
        states = convolution(states)
    return states


def group_norm_of(model: TransformersModule) -> nn.GroupNorm | None:
    """The first convolution's norm, if it looks at the whole clip; None where each frame has its own."""
    norm = getattr(model.feature_extractor.conv_layers[0], "layer_norm", None)
    return norm if isinstance(norm, nn.GroupNorm) else None


def steps_of(convolution: nn.Conv1d, num_samples: Tensor) -> Tensor:
    """How many steps a convolution without padding makes of so many samples."""
    return (num_samples - convolution.kernel_size[0]).div(convolution.stride[0], rounding_mode="floor") + 1
