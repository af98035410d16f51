"""Attributions that know nothing of the model: what every explanation has to beat."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.audio.frames import FrameGrid

QUIETEST = 1e-12
UNHEARD = 1e-5
"""What lies further than 50 dB below the loudest of a clip is no edge."""

Frames = Float[Tensor, " frames"]


def random_map(num_frames: int, generator: torch.Generator) -> Frames:
    """Normal noise: no knowledge at all."""
    return torch.randn(num_frames, generator=generator)


def energy_map(waveform: Float[Tensor, " samples"], grid: FrameGrid) -> Frames:
    """How loud what each frame sees is, in decibels above the quietest frame.

    Args:
        waveform: The clip.
        grid: Where the frames lie.
    """
    level_db = 10 * torch.log10(_seen(waveform, grid).square().mean(1).clamp(min=QUIETEST))
    return level_db - level_db.min()


def edge_map(waveform: Float[Tensor, " samples"], grid: FrameGrid) -> Frames:
    """How much the spectrum changes around each frame: an edge detector along time.

    The Euclidean length of the difference between the log-magnitude spectra after and before the frame.
    Adebayo et al. (2018) found that explanations of images may look like an edge detector's output.
    """
    windowed = _seen(waveform, grid) * torch.hann_window(grid.receptive_field_samples).to(waveform)
    power = torch.fft.rfft(windowed).abs().square()
    loudness = power.clamp(min=max(QUIETEST, UNHEARD * float(power.max()))).log()
    padded = torch.cat([loudness[:1], loudness, loudness[-1:]])
    return (padded[2:] - padded[:-2]).norm(dim=1)


def _seen(waveform: Tensor, grid: FrameGrid) -> Float[Tensor, "frames samples"]:
    return waveform.unfold(0, grid.receptive_field_samples, grid.hop_samples)
