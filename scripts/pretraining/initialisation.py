"""Where training starts: the first convolution as a bank of band-pass filters."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.audio.io import SAMPLE_RATE
from wavshap_lightning.models.frontends import TransformersModule

_LOWEST_HZ, _HIGHEST_HZ = 60.0, 7_600.0


@torch.no_grad()
def start_as_filter_bank(model: TransformersModule) -> None:
    """Set the first convolution to Gabor filters, evenly spaced in mel; two phases each."""
    weight = model.feature_extractor.conv_layers[0].conv.weight
    weight.copy_(gabor_filters(weight.shape[0], weight.shape[2])[:, None])


def gabor_filters(count: int, num_samples: int) -> Float[Tensor, "filters samples"]:
    """Pairs of cosine and sine under Gaussian windows, of unit norm.

    A filter lasts for about three periods of its frequency, at most the whole kernel, at least 2.5 ms.
    """
    mel = torch.linspace(_to_mel(_LOWEST_HZ), _to_mel(_HIGHEST_HZ), count // 2, dtype=torch.float64)
    frequency = (700 * (10 ** (mel / 2595) - 1)).repeat_interleave(2)[:, None]
    time_s = (torch.arange(num_samples, dtype=torch.float64) - (num_samples - 1) / 2) / SAMPLE_RATE
    spread_s = (1.5 / frequency).clamp(0.0012, num_samples / SAMPLE_RATE / 5)
    phase = (torch.arange(len(frequency)) % 2 * math.pi / 2)[:, None]
    filters = torch.exp(-0.5 * (time_s / spread_s) ** 2) * torch.cos(2 * math.pi * frequency * time_s + phase)
    return (filters / filters.norm(dim=1, keepdim=True)).float()


def _to_mel(frequency_hz: float) -> float:
    return 2595 * math.log10(1 + frequency_hz / 700)
