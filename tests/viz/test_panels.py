"""Panels over time: where things lie, and which colour they have."""

from __future__ import annotations

import librosa
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.viz.estimates import Estimates, cell_edges_s, estimates_of
from wavshap_lightning.viz.hearing import NUM_MELS, hz_to_mel, log_mel
from wavshap_lightning.viz.margins import plot_bands, plot_classes, plot_layers
from wavshap_lightning.viz.panels import (
    plot_bands_over_time,
    plot_frames,
    plot_layers_over_time,
    plot_spectrogram,
    plot_strip,
    plot_waveform,
)
from wavshap_lightning.viz.theme import AGAINST_PALE, FOR_PALE, UNRESOLVED, UNRESOLVED_PALE, signed_norm


@pytest.fixture
def axes():
    return Figure().add_axes((0, 0, 1, 1))


def rgba(color):
    return np.array(mpl.colors.to_rgba(color))


def middles(mesh):
    """Middle of each column of a map, in seconds."""
    edges = np.asarray(mesh.get_coordinates())[0, :, 0]
    return (edges[:-1] + edges[1:]) / 2


@pytest.mark.parametrize("path", ["frames", "waveform"])
def test_bars_stand_at_the_records_seconds(path, axes, explanation):
    times, frames = explanation.times[path], estimates_of(explanation, path, "frames")
    bars = plot_frames(axes, frames, times)
    corners = np.stack([bar.vertices[:4] for bar in bars.get_paths()])
    np.testing.assert_allclose(corners[:, :, 0].mean(1), times.center_s())
    np.testing.assert_allclose(corners[:, 1, 1], frames.values)


def test_bars_are_grey_exactly_where_the_interval_contains_zero(axes, explanation):
    frames = estimates_of(explanation, "frames", "frames")
    colours = plot_frames(axes, frames, explanation.times["frames"]).get_facecolor()
    contains = (frames.values - frames.half_widths <= 0) & (frames.values + frames.half_widths >= 0)
    assert contains.any()
    assert not contains.all()
    expected = [
        UNRESOLVED_PALE if grey else FOR_PALE if value > 0 else AGAINST_PALE
        for grey, value in zip(contains, frames.values, strict=True)
    ]
    np.testing.assert_allclose(colours, [rgba(color) for color in expected])


def test_the_axis_holds_every_interval(axes, explanation):
    frames = estimates_of(explanation, "frames", "frames")
    plot_frames(axes, frames, explanation.times["frames"])
    low, high = axes.get_ylim()
    assert low < frames.low.min() < 0 < frames.high.max() < high


def test_maps_lie_at_the_records_seconds_and_are_grey_where_unresolved(axes, explanation):
    layers, times = estimates_of(explanation, "layers", "layer_frame"), explanation.times["layers"]
    mesh = plot_layers_over_time(axes, layers, times, signed_norm(layers.values))
    np.testing.assert_allclose(middles(mesh), times.center_s())
    mesh.update_scalarmappable()
    colours = mesh.get_facecolor()
    colours = (colours if len(colours) else mesh.to_rgba(mesh.get_array()).reshape(-1, 4)).reshape(-1, 4)
    grey = np.isclose(colours, rgba(UNRESOLVED)).all(1)
    np.testing.assert_array_equal(grey, layers.unresolved.ravel())


def test_bands_lie_at_the_records_seconds_and_hertz(axes, explanation):
    bands, times = estimates_of(explanation, "waveform", "band_frame"), explanation.times["stft"]
    norm = signed_norm(bands.values)
    mesh = plot_bands_over_time(axes, bands, times, explanation.band_edges_hz, norm)
    np.testing.assert_allclose(middles(mesh), times.center_s())
    edges_mel = np.asarray(mesh.get_coordinates())[:, 0, 1]
    np.testing.assert_allclose(edges_mel, hz_to_mel(np.array(explanation.band_edges_hz)))
    hidden = mesh.to_rgba(mesh.get_array()).reshape(*bands.values.shape, 4)[..., 3] == 0
    assert hidden[bands.unresolved].all()
    axes.clear()
    plot_bands(axes, estimates_of(explanation, "waveform", "bands"), explanation.band_edges_hz)
    assert axes.get_ylim() == (edges_mel[0], edges_mel[-1])


def test_the_strip_lies_below_the_spectrogram(axes, explanation, waveform):
    windows, times = explanation.times["stft"], explanation.times["frames"]
    plot_spectrogram(axes, log_mel(waveform, windows), windows)
    before = axes.get_ylim()
    frames = estimates_of(explanation, "frames", "frames")
    strip = plot_strip(axes, frames, times, signed_norm(frames.values))
    np.testing.assert_allclose(middles(strip), times.center_s())
    coordinates = np.asarray(strip.get_coordinates())
    assert axes.get_ylim()[0] == coordinates[..., 1].min() < coordinates[..., 1].max() < before[0]
    assert axes.get_ylim()[1] == before[1]


def test_a_tone_and_a_click_are_seen_where_they_are():
    times = TimeGrid(130, 128, 512, 128 - 512, 16_000)
    waveform = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    levels = log_mel(waveform, times)
    assert levels.shape == (NUM_MELS, times.count)
    mels = np.linspace(0, hz_to_mel(np.array([8000.0]))[0], NUM_MELS + 2)
    loudest = mels[1 + int(levels[:, 60].argmax())]
    assert abs(loudest - hz_to_mel(np.array([1000.0]))[0]) < mels[1]
    click = np.zeros(16_000)
    click[8000] = 1.0
    middle_s = times.center_s()[int(log_mel(click, times).sum(0).argmax())]
    assert middle_s == pytest.approx(0.5, abs=0.005)


def test_levels_are_those_of_librosa(waveform):
    num_samples, size, hop = len(waveform), 512, 128
    times = TimeGrid(1 + (num_samples - size) // hop, hop, size, 0, 16_000)
    power = librosa.feature.melspectrogram(
        y=np.pad(waveform.astype(np.float64), size // 2),
        sr=16_000,
        n_fft=2 * size,
        win_length=size,
        hop_length=hop,
        center=False,
        n_mels=NUM_MELS,
    )
    expected = librosa.power_to_db(power, ref=np.max, top_db=70.0)
    np.testing.assert_allclose(log_mel(waveform.astype(np.float64), times), expected, atol=1e-5)


def test_the_waveforms_envelope_holds_every_sample(axes, waveform):
    plot_waveform(axes, waveform, 16_000)
    drawn = axes.collections[0].get_paths()[0].vertices
    assert drawn[:, 1].max() == waveform.max()
    assert drawn[:, 1].min() == waveform.min()
    assert drawn[:, 0].max() <= len(waveform) / 16_000


def test_layers_have_their_intervals(axes, explanation):
    layers = estimates_of(explanation, "layers", "layers")
    plot_layers(axes, layers)
    segments = np.array(axes.collections[1].get_segments())
    np.testing.assert_allclose(segments[:, 0, 0], layers.low)
    np.testing.assert_allclose(segments[:, 1, 0], layers.high)
    np.testing.assert_allclose(segments[:, 0, 1], np.arange(len(layers.values)))


def test_of_many_classes_the_marked_ones_are_always_shown(axes):
    probabilities = {f"class{index}": (index + 1) / 210 for index in range(20)}
    plot_classes(axes, probabilities, target="class0", prediction="class19", label="class1")
    shown = [text.get_text() for text in axes.texts]
    assert {"class0", "class1", "class19"} <= set(shown)
    assert "class5" not in shown
    assert "10 more" in axes.get_title()


def test_what_says_when(build_explanation):
    assert build_explanation().time_stage == "frames"
    assert build_explanation(paths=("waveform",)).time_stage == "waveform"
    assert build_explanation(paths=("layers",)).time_stage is None


def test_cells_of_overlapping_frames_touch():
    times = TimeGrid(4, 320, 400, 0, 16_000)
    edges_s = cell_edges_s(times)
    np.testing.assert_allclose((edges_s[:-1] + edges_s[1:]) / 2, times.center_s())
    np.testing.assert_allclose(np.diff(edges_s), 0.02)


def test_nothing_is_unresolved_without_errors():
    assert not Estimates(np.array([0.0, 1.0])).unresolved.any()
    assert Estimates(np.array([0.0, 1.0, -1.0]), np.array([0.0, 1.0, 0.5])).unresolved.tolist() == [
        True,
        True,
        False,
    ]


def test_intervals_without_end_are_grey_and_leave_the_axis_alone(axes):
    endless = Estimates(np.array([1.0, -2.0]), np.full(2, np.inf))
    assert endless.unresolved.all()
    plot_frames(axes, endless, TimeGrid(2, 1, 1, 0, 1))
    low, high = axes.get_ylim()
    assert (low, high) == pytest.approx((-2.18, 1.18))
