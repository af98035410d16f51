"""Frontends: from waveforms to frames, inside the graph, so that gradients reach the waveform.

WavLM Base, HuBERT Base and wav2vec2 Base normalize the first convolution's output over the whole
padded length: padding a clip changes its features by tens of per cent, attention mask or not.
Computed over each clip's own samples, a padded batch equals the clips one by one.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.audio.frames import FrameGrid

TransformersModule = Any  # transformers' submodules are untyped

WAVEFORM_EPSILON = 1e-7  # what the models' own feature extractors add to the variance


class Frontend(Protocol):
    """First stage of a backbone.

    Attributes:
        grid: Position of the frames in time.
        num_channels: Size of each frame.
    """

    grid: FrameGrid
    num_channels: int

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time channels"]:
        """Frames of each clip; any values beyond its last whole frame.

        Args:
            waveforms: Clips in [-1, 1], zero-padded at the end.
            lengths: Valid samples of each clip.
        """


class Convolutions:
    """Strided convolutions, as in wav2vec2 and its relatives.

    Args:
        model: The speech transformer that they belong to.
        sample_rate: Samples per second of its waveforms.
        normalize: Scale each waveform to zero mean and unit variance first.
    """

    def __init__(self, model: TransformersModule, *, sample_rate: int, normalize: bool) -> None:
        config = model.config
        self.grid = FrameGrid(tuple(config.conv_kernel), tuple(config.conv_stride), sample_rate)
        self.num_channels: int = config.conv_dim[-1]
        self._layers = model.feature_extractor.conv_layers
        self._normalize = normalize

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time channels"]:
        """Output of the convolutions, unmasked."""
        states = normalize_waveforms(waveforms, lengths) if self._normalize else waveforms
        first, *rest = self._layers
        norm, states = getattr(first, "layer_norm", None), states[:, None]
        if isinstance(norm, nn.GroupNorm):  # over the whole clip: the padding must not count
            kernel, stride = first.conv.kernel_size[0], first.conv.stride[0]
            steps = (lengths - kernel).div(stride, rounding_mode="floor") + 1
            states = first.activation(valid_group_norm(first.conv(states), steps, norm))
        else:
            states = first(states)
        for convolution in rest:
            states = convolution(states)
        return states.transpose(1, 2)


def valid_mask(lengths: Int[Tensor, " batch"], size: int) -> Bool[Tensor, "batch size"]:
    """True at the first `lengths[i]` of `size` positions.

    >>> valid_mask(torch.tensor([1, 3]), 3).int().tolist()
    [[1, 0, 0], [1, 1, 1]]
    """
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def normalize_waveforms(
    waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch samples"]:
    """Scale each clip's valid samples to zero mean and unit variance; padding becomes zero.

    The differentiable twin of `Wav2Vec2FeatureExtractor(do_normalize=True)`.
    """
    mask = valid_mask(lengths, waveforms.shape[1])
    centred = (waveforms - _valid_mean(waveforms * mask, lengths)) * mask
    return centred / torch.sqrt(_valid_mean(centred.square(), lengths) + WAVEFORM_EPSILON)


def valid_group_norm(
    states: Float[Tensor, "batch channels time"], lengths: Int[Tensor, " batch"], norm: nn.GroupNorm
) -> Float[Tensor, "batch channels time"]:
    """The model's group norm, its statistics taken over each clip's valid steps alone.

    Each clip goes through the very kernel it would go through by itself, so that the result is the
    same in any precision and at any length.

    Args:
        states: Output of the first convolution.
        lengths: Valid steps of each clip.
        norm: The model's own group norm.

    Returns:
        The normalized states, zero in the padding.
    """
    if bool((lengths == states.shape[2]).all()):
        return _group_norm(states, norm)
    alone = (
        _group_norm(clip[None, :, :length], norm)
        for clip, length in zip(states, lengths.tolist(), strict=True)
    )
    return torch.cat([F.pad(clip, (0, states.shape[2] - clip.shape[2])) for clip in alone])


def _group_norm(states: Float[Tensor, "batch channels time"], norm: nn.GroupNorm) -> Tensor:
    return F.group_norm(states, norm.num_groups, norm.weight, norm.bias, norm.eps)


def _valid_mean(
    masked: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch 1"]:
    return masked.sum(1, keepdim=True) / lengths[:, None]
