"""Where units lie: frames, spans, windows, bands and segments against their definitions."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from wavshap_lightning.attribution.views.spectral import NUM_BINS, STFT_HOP, num_windows
from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.explainer.explainer import explain
from wavshap_lightning.explainer.settings import MAX_BANDS
from wavshap_lightning.explainer.time_grid import (
    band_edges_hz,
    frame_level_db,
    mel_band_edges,
    segment_membership,
    times_of,
)

BASE = FrameGrid((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), 16_000)


def test_frames_of_wavlm_base_and_the_spans_of_its_hop():
    times = times_of(BASE, 16_000)
    assert (times["frames"].count, times["waveform"].count) == (49, 50)
    assert times["frames"].center_s()[0] == pytest.approx(0.0125)
    assert times["frames"].start_s()[3] == pytest.approx(0.06)
    assert times["frames"].end_s()[3] == pytest.approx(0.085)
    assert times["waveform"].end_s()[49] == pytest.approx(1.0)
    assert times["layers"] == times["frames"]


def test_the_windows_lie_where_the_transform_takes_them():
    times = times_of(BASE, 5000)["stft"]
    assert np.diff(times.center_s() * 16_000) == pytest.approx(STFT_HOP)
    assert times.count == num_windows(5000)


def test_frames_of_an_explanation_are_as_many_as_it_has_values(three_paths, classifier):
    for path, view in (("frames", "frames"), ("layers", "layer_frame"), ("waveform", "frames")):
        assert three_paths.values(path, view).shape[-1] == three_paths.times[path].count
    assert three_paths.values("waveform", "band_frame").shape == (24, three_paths.times["stft"].count)
    grid, count = classifier.backbone.frame_grid, three_paths.times["frames"].count
    assert count == grid.num_frames(three_paths.num_samples)
    assert three_paths.times["frames"].start_s() == pytest.approx(grid.start_s(count))
    assert three_paths.times["frames"].end_s() == pytest.approx(grid.end_s(count))


@pytest.mark.parametrize("num_bands", [1, 4, 24, 64, 257])
@pytest.mark.parametrize("sample_rate", [8000, 16_000])
def test_bands_cover_every_bin_and_none_is_empty(num_bands, sample_rate):
    edges = mel_band_edges(num_bands, sample_rate)
    assert num_bands <= MAX_BANDS == NUM_BINS
    assert (edges[0], edges[-1], len(edges)) == (0, NUM_BINS, num_bands + 1)
    assert (np.diff(edges) > 0).all()
    hertz = band_edges_hz(num_bands, sample_rate)
    assert (hertz[0], hertz[-1]) == (0.0, sample_rate / 2)


def test_wide_bands_lie_where_librosa_has_them():
    hertz = librosa.mel_frequencies(13, fmin=0.0, fmax=8000.0)
    np.testing.assert_allclose(band_edges_hz(12, 16_000), hertz, atol=8000 / 512)


@pytest.mark.parametrize("hertz", [300.0, 3000.0])
def test_what_differs_in_two_bands_is_found_in_these(hertz, build_classifier):
    """The clip is one tone, its only baseline, a recording, another."""
    time_s = torch.arange(4000) / 16_000
    clip, other = (0.2 * torch.sin(2 * torch.pi * tone * time_s) for tone in (hertz, 1500.0))
    settings = {"stages": ["waveform"], "baselines": "other_clips", "recordings": [other]}
    found = explain(build_classifier(), clip, target="sad", **settings)
    edges = torch.tensor(found.band_edges_hz)
    bands = found.values("waveform", "bands").abs()
    far = torch.ones(24, dtype=torch.bool)
    for tone in (hertz, 1500.0):
        index = int(torch.searchsorted(edges, tone, right=True)) - 1
        far[max(index - 1, 0) : index + 2] = False
        assert bands[index] > 0.02 * bands.sum()
    assert bands[far].sum() < 0.1 * bands.sum()


def test_levels_are_those_of_what_frames_see():
    waveform = torch.cat([torch.zeros(400), torch.full((400,), 0.5)])
    levels = frame_level_db(waveform, BASE)
    assert levels.shape == (2,)
    assert levels.tolist() == pytest.approx([-120.0, 10 * np.log10(0.25 * 320 / 400)], abs=1e-4)


def test_each_unit_counts_for_one_segment():
    times = times_of(BASE, 16_000)["frames"]
    membership = segment_membership(times, ((0.1, 0.3), (0.3, 0.55)))
    assert membership.sum(0).tolist() == [1.0] * 49
    assert membership[0].nonzero().flatten().tolist() == list(range(5, 15))


def test_segments_add_up_their_frames(three_paths):
    for path in ("frames", "waveform"):
        inside = torch.from_numpy(three_paths.times[path].center_s() < 0.05)
        values = three_paths.values(path, "frames")
        expected = [float(values[inside].sum()), float(values[~inside].sum())]
        assert three_paths.values(path, "segments").tolist() == pytest.approx(expected, abs=5e-3)
