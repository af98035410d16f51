"""Positions of units in time and frequency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers.audio_utils import hertz_to_mel, mel_to_hertz

from wavshap_lightning.attribution.views.spectral import NUM_BINS, STFT_HOP, STFT_WINDOW, num_windows
from wavshap_lightning.audio.frames import FrameGrid

SILENT_DB = -120.0

MEL_SCALE = "slaney"
"""Linear up to 1 kHz, logarithmic from there."""


@dataclass(frozen=True)
class TimeGrid:
    """Equally spaced spans of time.

    Args:
        count: Number of spans.
        hop_samples: Samples between the starts of two neighboring spans.
        size_samples: Length of each span, in samples.
        first_sample: Sample at which the first span begins; negative if before the clip.
        sample_rate: Samples per second.
    """

    count: int
    hop_samples: int
    size_samples: int
    first_sample: int
    sample_rate: int

    def start_s(self) -> Float[np.ndarray, " units"]:
        """Start of each unit, in seconds."""
        return (np.arange(self.count) * self.hop_samples + self.first_sample) / self.sample_rate

    def end_s(self) -> Float[np.ndarray, " units"]:
        """End of each unit, in seconds."""
        return self.start_s() + self.size_samples / self.sample_rate

    def center_s(self) -> Float[np.ndarray, " units"]:
        """Center of each unit, in seconds."""
        return (self.start_s() + self.end_s()) / 2

    def num_within(self, duration_s: float) -> int:
        """Number of units whose cell begins before the end of the clip; the others are silence added to it.

        A cell is a hop wide and around the center.
        """
        begins = self.center_s() - self.hop_samples / self.sample_rate / 2
        return int((begins < duration_s - 1e-9).sum())  # rounding adds none


def times_of(grid: FrameGrid, num_samples: int) -> dict[str, TimeGrid]:
    """Positions of units in time, by stage, and of the columns of `band_frame` as `"stft"`.

    A frame of the paths that begin at frames or layers spans what the backbone sees in it; one of the
    waveform's path spans the backbone's hop, from the first sample on, the last one perhaps cut short.
    """
    hop = grid.hop_samples
    count, size = grid.num_frames(num_samples), grid.receptive_field_samples
    seen = TimeGrid(count, hop, size, -grid.padding[0], grid.sample_rate)
    hops = TimeGrid(-(-num_samples // hop), hop, hop, 0, grid.sample_rate)
    return {
        "frames": seen,
        "layers": seen,
        "waveform": hops,
        "stft": stft_times(num_samples, grid.sample_rate),
    }


def stft_times(num_samples: int, sample_rate: int) -> TimeGrid:
    """Windows of the Fourier transform behind the bands, the first of which begins before the clip."""
    return TimeGrid(num_windows(num_samples), STFT_HOP, STFT_WINDOW, STFT_HOP - STFT_WINDOW, sample_rate)


def mel_band_edges(num_bands: int, sample_rate: int) -> Int[np.ndarray, " edges"]:
    """Edges of bands from 0 to half the sample rate, evenly spaced in mel, in bins of the Fourier transform.

    Low bands narrower than a bin are widened to one bin, so that no band is empty.

    >>> mel_band_edges(4, 16_000)
    array([  0,  24,  54, 118, 257])
    """
    top_mel = hertz_to_mel(sample_rate / 2, MEL_SCALE)
    hertz = mel_to_hertz(np.linspace(0.0, top_mel, num_bands + 1), MEL_SCALE)
    edges = np.rint(hertz * STFT_WINDOW / sample_rate).astype(int)
    edges = np.maximum.accumulate(np.maximum(edges - np.arange(num_bands + 1), 0)) + np.arange(num_bands + 1)
    edges[-1] = NUM_BINS
    return np.minimum(edges, NUM_BINS - np.arange(num_bands, -1, -1))


def band_edges_hz(num_bands: int, sample_rate: int) -> list[float]:
    """The same edges in hertz.

    >>> band_edges_hz(4, 16_000)
    [0.0, 750.0, 1687.5, 3687.5, 8000.0]
    """
    edges = mel_band_edges(num_bands, sample_rate) * sample_rate / STFT_WINDOW
    return np.minimum(edges, sample_rate / 2).tolist()


def seen_by_frames(waveform: Float[Tensor, " samples"], grid: FrameGrid) -> Float[Tensor, "frames size"]:
    """Samples that each frame sees, with zeros where it begins before the clip or ends after it."""
    size = (grid.num_frames(len(waveform)) - 1) * grid.hop_samples + grid.receptive_field_samples
    before = grid.padding[0]
    padded = F.pad(waveform, (before, size - before - len(waveform)))  # cuts what fills no frame
    return padded.unfold(0, grid.receptive_field_samples, grid.hop_samples)


def frame_level_db(waveform: Float[Tensor, " samples"], grid: FrameGrid) -> Float[Tensor, " frames"]:
    """How loud what each frame sees is, in decibels relative to full scale, not below -120."""
    return (10 * torch.log10(seen_by_frames(waveform, grid).square().mean(1))).clamp(min=SILENT_DB)


def segment_membership(
    times: TimeGrid, segments: Sequence[Sequence[float]]
) -> Float[Tensor, "segments_and_rest units"]:
    """Membership of units in segments, by their centers; units in no segment belong to the last row.

    Each unit belongs to one row, so that sums are conserved.

    >>> segment_membership(TimeGrid(3, 1, 1, 0, 1), ((0.0, 2.0),))
    tensor([[1., 1., 0.],
            [0., 0., 1.]])
    """
    centers_s = torch.from_numpy(times.center_s())
    inside = [(centers_s >= start_s) & (centers_s < end_s) for start_s, end_s in segments]
    membership = torch.stack(inside).float()
    return torch.cat([membership, 1 - membership.sum(0, keepdim=True)])
