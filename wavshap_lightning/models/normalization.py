"""Normalization over the valid part of padded waveforms, so that padding changes nothing.

WavLM Base, HuBERT Base and wav2vec2 Base normalize the first convolution's output over the whole
padded length: padding a clip changes its features by tens of per cent, attention mask or not.
Computed over each clip's own samples, a padded batch equals the clips one by one.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

WAVEFORM_EPSILON = 1e-7  # what the models' own feature extractors add to the variance


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
