"""Model-agnostic controls: maps that are independent of the model, which every explanation has to beat."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.explainer.time_grid import frame_level_db, seen_by_frames

CONTROLS = ("random", "energy", "edges")
QUIETEST = 1e-12
EDGE_RANGE = 1e-5
"""Frames more than 50 dB below the loudest of a clip are no edges."""

Frames = Float[Tensor, " frames"]


def control_maps(
    waveform: Float[Tensor, " samples"], grid: FrameGrid, generator: torch.Generator
) -> dict[str, Frames]:
    """Normal noise; the level of each frame in decibels above the quietest; and its [`edge_map`][].

    Args:
        waveform: Samples of the clip.
        grid: Positions of the frames.
        generator: Draws the noise.
    """
    level_db = frame_level_db(waveform, grid)
    return {
        "random": torch.randn(grid.num_frames(len(waveform)), generator=generator, dtype=torch.float32),
        "energy": level_db - level_db.min(),
        "edges": edge_map(waveform, grid),
    }


def edge_map(waveform: Float[Tensor, " samples"], grid: FrameGrid) -> Frames:
    """Spectral change at each frame: an edge detector along time.

    It is the Euclidean norm of the difference between the log-magnitude spectra after and before the frame.
    Adebayo et al. (2018) found that explanations of images may resemble the output of an edge detector.
    """
    seen = seen_by_frames(waveform, grid)
    hann = torch.hann_window(grid.receptive_field_samples, dtype=torch.float32).to(seen)
    power = torch.fft.rfft(seen * hann).abs().square()
    loudness = power.clamp(min=max(QUIETEST, EDGE_RANGE * float(power.max()))).log()
    padded = torch.cat([loudness[:1], loudness, loudness[-1:]])
    return (padded[2:] - padded[:-2]).norm(dim=1)
