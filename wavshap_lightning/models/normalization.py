"""Normalisation over the valid part of padded waveforms, so that padding changes nothing.

WavLM Base, HuBERT Base and wav2vec2 Base normalize the first convolution's output over the whole
padded length: padding a clip changes its features by tens of per cent, attention mask or not.
Computed over each clip's own samples, a padded batch equals the clips one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class ChannelStatistics:
    """What a group norm with one channel a group needs to know of a whole clip.

    Args:
        mean: Of each channel over all steps.
        variance: Likewise, divided by the number of steps.
    """

    mean: Float[Tensor, "batch channels"]
    variance: Float[Tensor, "batch channels"]

    def normalize(
        self, states: Float[Tensor, "batch channels time"], norm: nn.GroupNorm
    ) -> Float[Tensor, "batch channels time"]:
        """The model's group norm on some of the steps, as if all of them were there."""
        scale = norm.weight * (self.variance + norm.eps).rsqrt().to(norm.weight)
        return (states - self.mean.to(norm.weight)[:, :, None]) * scale[:, :, None] + norm.bias[:, None]


def channel_statistics(
    waveforms: Float[Tensor, "batch samples"], convolution: nn.Conv1d
) -> ChannelStatistics:
    """The statistics of what a convolution of one channel makes of waveforms, without running it.

    With patches `p_t` of the waveform and a filter `w`, the channel is `w . p_t`: its mean is `w . mean(p)`,
    its variance `w . cov(p) w`. The covariance is a few numbers, however long the clip is, and it can be
    differentiated. In double precision, because a filter may take most of the variance away.
    """
    size, stride = convolution.kernel_size[0], convolution.stride[0]
    patches = waveforms.double().unfold(1, size, stride)
    middle = patches.mean(1, keepdim=True)
    centred = patches - middle
    covariance = centred.mT @ centred / patches.shape[1]
    filters = convolution.weight[:, 0].double()
    mean = middle[:, 0] @ filters.T
    if convolution.bias is not None:
        mean = mean + convolution.bias.double()
    return ChannelStatistics(mean, ((filters @ covariance) * filters).sum(2))


def _group_norm(states: Float[Tensor, "batch channels time"], norm: nn.GroupNorm) -> Tensor:
    return F.group_norm(states, norm.num_groups, norm.weight, norm.bias, norm.eps)


def _valid_mean(
    masked: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch 1"]:
    return masked.sum(1, keepdim=True) / lengths[:, None]
