"""The short-time Fourier transform of attributions: a tight frame, and what follows from it."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from single_call import attribute

from wavshap_lightning.attribution.baselines import BaselineDistribution
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.attribution.views.frames import elements
from wavshap_lightning.attribution.views.spectral import (
    NUM_BINS,
    STFT_HOP,
    STFT_WINDOW,
    analyze,
    band_frame,
    num_windows,
)
from wavshap_lightning.errors import AttributionError

LENGTHS = [1, 7, 63, 64, 65, 511, 1000, 1537]


def _drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("num_samples", LENGTHS)
def test_inner_products_are_kept(num_samples):
    one, other = _drawn(1, num_samples), _drawn(2, num_samples)
    spectra = analyze(one), analyze(other)
    assert spectra[0].shape == (num_windows(num_samples), NUM_BINS)
    torch.testing.assert_close(
        (spectra[0].conj() * spectra[1]).real.sum(), one @ other, rtol=1e-10, atol=1e-10
    )
    single = analyze(one.float()).abs().double().square().sum()
    assert single.item() == pytest.approx((one @ one).item(), rel=1e-6)


def test_centers_lie_where_an_impulse_is_strongest():
    num_samples = 700
    first = STFT_HOP - STFT_WINDOW / 2
    centers = first + STFT_HOP * torch.arange(num_windows(num_samples), dtype=torch.float64)
    for place in (0, 333, 699):
        impulse = torch.zeros(num_samples, dtype=torch.float64)
        impulse[place] = 1.0
        energy = analyze(impulse).abs().square().sum(1)
        assert (energy @ centers).item() == pytest.approx(place, abs=1.0)


@pytest.mark.parametrize("num_samples", LENGTHS)
@pytest.mark.parametrize("edges", [(0, 1, 5, 20, 257), (0, 257)])
def test_bands_keep_the_total_of_every_draw_and_target(num_samples, edges):
    gradients, directions = _drawn(3, 4, 3, num_samples).float(), _drawn(4, 4, num_samples).float()
    units = band_frame(edges).project(gradients, directions)
    assert units.shape == (4, 3, len(edges) - 1, num_windows(num_samples))
    totals = (gradients * directions[:, None]).double().sum(2)
    allowed = 1e-6 * (gradients.norm(dim=2) * directions.norm(dim=1)[:, None])
    assert ((units.double().sum((2, 3)) - totals).abs() <= allowed).all()


def test_bands_are_sums_of_bins():
    gradients, directions = _drawn(3, 2, 1, 300), _drawn(4, 2, 300)
    edges = (0, 2, 3, 30, 257)
    bins = band_frame(range(258)).project(gradients, directions)
    bands = band_frame(edges).project(gradients, directions)
    for band, (low, high) in enumerate(pairwise(edges)):
        torch.testing.assert_close(bands[:, :, band], bins[:, :, low:high].sum(2))


def test_it_is_what_autograd_gives_for_the_coefficients():
    """The waveform as a function of its coefficients by torch's own synthesis, and a curved score of it."""
    num_samples = 900
    x, baseline = _drawn(5, num_samples), _drawn(6, num_samples)
    before = 512 - 128
    padded_length = (num_windows(num_samples) - 1) * 128 + 512
    window = torch.hann_window(512, dtype=torch.float64)

    def transform(waveform):
        padded = torch.nn.functional.pad(waveform, (before, padded_length - before - num_samples))
        return torch.stft(padded, 512, 128, window=window, center=False, return_complex=True)

    def synthesise(coefficients):  # overlap and add the adjoint, scaled: the frame is tight up to a constant
        spans = torch.fft.irfft(coefficients, 512, dim=0) * window[:, None]
        folded = torch.nn.functional.fold(spans[None], (1, padded_length), (1, 512), stride=(1, 128))
        return folded.flatten()[before : before + num_samples] / (3 / 8 * 512 / 128)

    torch.testing.assert_close(synthesise(transform(x)), x)

    def score(waveform):
        return torch.tanh(waveform[1:] * waveform[:-1]).sum() + waveform.pow(3).mean()

    parts = torch.view_as_real(transform((x + baseline) / 2)).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(synthesise(torch.view_as_complex(parts))), parts)
    expected = (gradient * torch.view_as_real(transform(x - baseline))).sum(2)

    position = ((x + baseline) / 2).requires_grad_()
    (own,) = torch.autograd.grad(score(position), position)
    found = band_frame(range(258)).project(own[None, None], (x - baseline)[None])[0, 0]
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def _tone_score(frequency):
    def score(waveforms):
        time_s = torch.arange(waveforms.shape[1]) / 16_000
        phases = 2 * math.pi * frequency * time_s
        heard = (waveforms @ phases.cos()).square() + (waveforms @ phases.sin()).square()
        return torch.stack([heard.sqrt(), waveforms.square().sum(1)], 1) / 100

    return score


@pytest.mark.parametrize("frequency", [500.0, 2000.0, 6000.0])
def test_a_tone_that_is_listened_for_lies_in_its_band(frequency):
    time_s = torch.arange(4000) / 16_000
    others = [f for f in (500.0, 2000.0, 6000.0) if f != frequency]
    clip = sum(torch.sin(2 * math.pi * f * time_s) for f in (frequency, *others))

    def stream(generator):
        while True:
            yield torch.randn(4000, generator=generator)

    edges = (0, 32, 96, 257)  # 0-1, 1-3 and 3-8 kHz
    views = (band_frame(edges), elements())
    found = attribute(
        gradient_shap,
        _tone_score(frequency),
        clip,
        Target("logit", (0,)),
        BaselineDistribution(stream).declare(8, torch.Generator().manual_seed(0)),
        generator=0,
        views=views,
    )
    bands = found.views["band_frame"].values[0].sum(1)
    own = (500.0, 2000.0, 6000.0).index(frequency)
    assert bands[own] > 0.98 * bands.sum()
    torch.testing.assert_close(found.sums("band_frame"), found.sums("elements"), rtol=1e-6, atol=1e-6)


def test_all_views_share_one_total(generator):
    weights = torch.randn(300, 3, generator=generator)
    clip = torch.randn(300, generator=generator)

    def stream(own):
        while True:
            yield torch.randn(300, generator=own)

    found = attribute(
        gradient_shap,
        lambda waveforms: torch.tanh(waveforms @ weights / 10),
        clip,
        every_class(3),
        BaselineDistribution(stream),
        generator=0,
        views=(band_frame(range(258)), elements()),
    )
    expected = torch.tensor(found.score) - torch.tensor(found.mean_baseline_score)
    torch.testing.assert_close(found.sums("band_frame").float(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("edges", [(), (0,), (0, 10), (1, 257), (0, 9, 9, 257), (0, 20, 10, 257)])
def test_edges_that_leave_bins_out(edges):
    with pytest.raises(
        AttributionError, match=r"band_edges=\(.*\) must rise from 0 to the number of bins, 257"
    ):
        band_frame(edges)


@pytest.mark.usefixtures("unchecked_types")
def test_what_is_no_waveform_is_refused():
    with pytest.raises(AttributionError, match=r"input: shape \(9, 999\) must be that of a waveform"):
        band_frame((0, 257)).project(torch.ones(1, 1, 9, 999), torch.ones(1, 9, 999))
