"""What happens to clean speech on its way to the backbone: level, room, band, other voices, noise.

A batch at a time and from one generator, so that a step is the same whenever it is run; augmentation
libraries draw clip by clip from global generators.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.audio.io import SAMPLE_RATE

LEVEL_DB = (-62.0, -12.0)
_REVERB_SHARE, _REVERB_S, _REVERB_DB = 0.5, (0.1, 0.8), (-12.0, 3.0)
_EQUALISER_SHARE, _EQUALISER_DB = 0.5, 5.0
_LOW_PASS_SHARE, _LOW_PASS_HZ = 0.25, (2_500.0, 7_500.0)
_HIGH_PASS_SHARE, _HIGH_PASS_HZ = 0.25, (60.0, 350.0)
_MIX_SHARE, _MIX_DB = 0.2, (-20.0, -3.0)
_NOISE_DB = (-50.0, -3.0)

Waveforms = Float[Tensor, "batch time"]


def set_levels(waveforms: Waveforms, generator: torch.Generator) -> Waveforms:
    """Give each waveform an RMS level drawn uniformly in decibels."""
    level_db = _uniform(len(waveforms), LEVEL_DB, generator)
    return waveforms * (10 ** (level_db / 20) / _rms(waveforms))[:, None]


def degrade(clean: Waveforms, generator: torch.Generator) -> Waveforms:
    """Reverberation and filters, then at times another voice, and noise of any colour."""
    heard = _filter(clean, generator)
    others = heard.roll(1, 0)
    heard = heard + _mixing_gain(heard, others, generator)[:, None] * others
    noise = _coloured_noise(heard.shape, generator)
    noise_db = _uniform(len(heard), _NOISE_DB, generator)
    return heard + (10 ** (noise_db / 20) * _rms(heard) / _rms(noise))[:, None] * noise


def _filter(clean: Waveforms, generator: torch.Generator) -> Waveforms:
    """A room and a frequency response, in one multiplication of spectra."""
    num_samples = clean.shape[1]
    size = 2 ** math.ceil(math.log2(num_samples + SAMPLE_RATE // 2))
    room = torch.fft.rfft(_impulse_responses(len(clean), generator), size)
    response = _equaliser(len(clean), room.shape[1], generator)
    heard = torch.fft.irfft(torch.fft.rfft(clean, size) * room * response, size)[:, :num_samples]
    return heard * (_rms(clean) / _rms(heard))[:, None]


def _impulse_responses(count: int, generator: torch.Generator) -> Float[Tensor, "batch taps"]:
    """The direct sound, and for some a tail of decaying noise."""
    time_s = torch.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    decay_s = _uniform(count, _REVERB_S, generator)[:, None]
    tail = torch.randn(count, len(time_s), generator=generator) * 10 ** (-3 * time_s / decay_s)
    tail[:, :80] = 0.0
    gain = 10 ** (_uniform(count, _REVERB_DB, generator) / 20) * _chosen(count, _REVERB_SHARE, generator)
    tail *= (gain / tail.norm(dim=1))[:, None]
    tail[:, 0] = 1.0
    return tail


def _equaliser(count: int, num_bins: int, generator: torch.Generator) -> Float[Tensor, "batch bins"]:
    """A smooth curve over log frequency, and for some a low-pass or high-pass slope."""
    frequency = torch.linspace(1.0, SAMPLE_RATE / 2, num_bins)
    octave = torch.log2(frequency / 50.0).clamp(min=0.0)
    ripples = torch.arange(1, 4)
    phase = torch.rand(count, 3, 1, generator=generator)
    waves = torch.cos(2 * math.pi * (octave * ripples[:, None] / 8 + phase))
    height_db = _EQUALISER_DB * torch.randn(count, 3, 1, generator=generator)
    curve_db = (height_db * waves).sum(1) * _chosen(count, _EQUALISER_SHARE, generator)[:, None]
    low_hz = _uniform(count, _LOW_PASS_HZ, generator)
    low_hz = torch.where(_chosen(count, _LOW_PASS_SHARE, generator) > 0, low_hz, 1e6)[:, None]
    high_hz = _uniform(count, _HIGH_PASS_HZ, generator)
    high_hz = torch.where(_chosen(count, _HIGH_PASS_SHARE, generator) > 0, high_hz, 1e-3)[:, None]
    slopes = (1 + (frequency / low_hz) ** 8).rsqrt() * (1 + (high_hz / frequency) ** 6).rsqrt()
    return 10 ** (curve_db / 20) * slopes


def _mixing_gain(heard: Waveforms, others: Waveforms, generator: torch.Generator) -> Float[Tensor, " batch"]:
    gain = 10 ** (_uniform(len(heard), _MIX_DB, generator) / 20) * _rms(heard) / _rms(others)
    return gain * _chosen(len(heard), _MIX_SHARE, generator)


def _coloured_noise(shape: torch.Size, generator: torch.Generator) -> Waveforms:
    """Noise whose power falls with frequency to the power of 0 to 2."""
    spectrum = torch.fft.rfft(torch.randn(shape, generator=generator))
    exponent = _uniform(shape[0], (0.0, 1.0), generator)[:, None]
    bins = torch.arange(spectrum.shape[1]).clamp(min=20)
    return torch.fft.irfft(spectrum * (20.0 / bins) ** exponent, shape[1])


def _rms(waveforms: Waveforms) -> Float[Tensor, " batch"]:
    return waveforms.square().mean(1).sqrt().clamp(min=1e-7)


def _uniform(count: int, bounds: tuple[float, float], generator: torch.Generator) -> Float[Tensor, " batch"]:
    return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(count, generator=generator)


def _chosen(count: int, share: float, generator: torch.Generator) -> Float[Tensor, " batch"]:
    return (torch.rand(count, generator=generator) < share).float()
