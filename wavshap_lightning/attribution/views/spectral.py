"""Views of a waveform in time and frequency: bands by frames.

A short-time Fourier transform whose analysis `A` is a Parseval tight frame, `A^T A = 1`, may be inserted
before the model, synthesis after analysis, without changing anything; and then the attributions of its
coefficients are `Re(conj(A g) A d)`, whose sum is the waveform's `<g, d>` exactly. Source: the virtual
inspection layers of Vielhaben, Lapuschkin, Montavon and Samek (2024). Differences: one scaled Hann window
serves analysis and synthesis, which makes the frame tight and its adjoint its inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from wavshap_lightning.attribution.views.frames import View
from wavshap_lightning.errors import AttributionError

STFT_WINDOW, STFT_HOP = 512, 128
"""Windows of 32 ms every 8 ms at 16 kHz; four cover each sample, and squared Hann windows add up to 3/2."""

NUM_BINS = STFT_WINDOW // 2 + 1


def num_windows(num_samples: int) -> int:
    """Number of windows that touch a waveform of this length.

    >>> num_windows(48_000)
    378
    """
    return (num_samples - 1) // STFT_HOP + STFT_WINDOW // STFT_HOP


def analyze(waveforms: Float[Tensor, "*batch samples"]) -> Tensor:
    """`A`: complex coefficients `(*batch, windows, bins)`, those of both signs of a frequency in one.

    Windows begin before the first sample and end after the last, so that all samples are covered alike. All
    bins but the first and the last stand for two of the full transform and carry a factor `sqrt 2`.
    """
    before, num_samples = STFT_WINDOW - STFT_HOP, waveforms.shape[-1]
    after = num_windows(num_samples) * STFT_HOP - num_samples
    spans = pad(waveforms, (before, after)).unfold(-1, STFT_WINDOW, STFT_HOP)
    hann = torch.hann_window(STFT_WINDOW, dtype=waveforms.dtype, device=waveforms.device)
    hann = hann / (3 / 8 * STFT_WINDOW / STFT_HOP) ** 0.5
    doubling = torch.full_like(hann[:NUM_BINS], 2.0)
    doubling[[0, -1]] = 1
    spectra: Tensor = torch.fft.rfft(spans * hann, norm="ortho")
    return spectra * doubling.sqrt()


def band_frame(band_edges: Sequence[int]) -> View:
    """Bands by windows of a waveform's attributions; their sum is that of the waveform's.

    Args:
        band_edges: Bins at which bands begin, and the number of bins at the end: `(0, 4, 16, 257)` are three
            bands.

    Raises:
        AttributionError: If the edges leave bins out or do not rise, or what is explained is no waveform.

    >>> view = band_frame((0, 4, 16, 257))
    >>> view.project(torch.ones(1, 1, 1000), torch.ones(1, 1000)).shape
    torch.Size([1, 1, 3, 11])
    """
    edges = tuple(band_edges)
    rising = all(low < high for low, high in pairwise(edges))
    if len(edges) < 2 or (edges[0], edges[-1]) != (0, NUM_BINS) or not rising:
        raise AttributionError(f"band_edges={edges} must rise from 0 to the number of bins, {NUM_BINS}")

    def project(gradients: Tensor, directions: Tensor) -> Tensor:
        if directions.ndim != 2:
            raise AttributionError(f"input: shape {tuple(directions.shape[1:])} must be that of a waveform")
        moved = analyze(directions)
        found = []
        for of_target in gradients.unbind(1):  # one target at a time, to need little memory
            own = analyze(of_target)
            products = own.real * moved.real + own.imag * moved.imag  # Re(conj(A g) A d)
            found.append(torch.stack([products[..., low:high].sum(-1) for low, high in pairwise(edges)], -2))
        return torch.stack(found, 1)

    return View("band_frame", project, smooth_variance=True)
