"""Panels: the positions and colors of what they draw."""

from __future__ import annotations

from dataclasses import replace

import librosa
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.viz.clip_view import PREDICTED, ClipView, Rows, Units
from wavshap_lightning.viz.panels import (
    plot_colored_spectrogram,
    plot_frames,
    plot_layers_over_time,
    plot_proportions,
    plot_reliability,
    plot_sums,
    plot_values,
    plot_waveform,
)
from wavshap_lightning.viz.theme import AGAINST, AGAINST_PALE, FOR, FOR_PALE, UNRESOLVED, UNRESOLVED_PALE


@pytest.fixture
def axes():
    return Figure().add_axes((0, 0, 1, 1))


@pytest.fixture(scope="module")
def view(explanation, waveform):
    return ClipView.from_explanation(explanation, waveform)


def rgba(color):
    return np.array(mpl.colors.to_rgba(color))


def middles(mesh):
    """Middle of each column of a map, in seconds."""
    edges = np.asarray(mesh.get_coordinates())[0, :, 0]
    return (edges[:-1] + edges[1:]) / 2


@pytest.mark.parametrize("stage", ["frames", "waveform"])
def test_bars_stand_at_the_seconds_of_the_frames(stage, axes, explanation, view):
    plot_frames(axes, view.units(stage), "")
    line = axes.patches[-1].get_data()
    np.testing.assert_allclose((line.edges[:-1] + line.edges[1:]) / 2, explanation.times[stage].center_s())
    np.testing.assert_allclose(line.values, explanation.values(stage, "frames"))


@pytest.mark.parametrize(
    ("sign", "pale", "full"),
    [(1, FOR_PALE, FOR), (-1, AGAINST_PALE, AGAINST), (0, UNRESOLVED_PALE, UNRESOLVED)],
)
def test_bars_and_intervals_have_the_color_of_their_sign(axes, view, sign, pale, full):
    """They are gray exactly where the interval contains 0."""
    frames = view.units("frames")
    contains = (frames.values - frames.half_widths <= 0) & (frames.values + frames.half_widths >= 0)
    here = contains if sign == 0 else ~contains & (np.sign(frames.values) == sign)
    assert here.any()
    plot_frames(axes, frames, "")
    drawn = {mpl.colors.to_hex(patch.get_facecolor()): patch.get_data() for patch in axes.patches[:-1]}
    np.testing.assert_allclose(drawn[pale].values, np.where(here, frames.values, 0))
    np.testing.assert_allclose(drawn[full].values, np.where(here, frames.values + frames.reach, 0))
    np.testing.assert_allclose(drawn[full].baseline, np.where(here, frames.values - frames.reach, 0))


def test_the_axis_holds_every_interval(axes, view):
    frames = view.units("frames")
    plot_frames(axes, frames, "")
    low, high = axes.get_ylim()
    assert low < (frames.values - frames.reach).min() < 0 < (frames.values + frames.reach).max() < high


def test_intervals_without_end_are_gray_and_leave_the_axis_alone(axes):
    endless = replace(Units.of([1.0, -2.0], [None, np.inf]), times=TimeGrid(2, 1, 1, 0, 1))
    assert endless.unresolved.all()
    plot_frames(axes, endless, "")
    low, high = axes.get_ylim()
    assert -3 < low < -2
    assert 1 < high < 2


def test_maps_lie_at_the_seconds_of_the_frames_and_are_gray_where_unresolved(axes, explanation, view):
    layers = view.units("layer_frame")
    plot_layers_over_time(axes, layers)
    (mesh,) = axes.collections
    np.testing.assert_allclose(middles(mesh), explanation.times["layers"].center_s())
    colors = mesh.to_rgba(mesh.get_array()).reshape(-1, 4)
    np.testing.assert_array_equal(np.isclose(colors, rgba(UNRESOLVED)).all(1), layers.unresolved.ravel())
    assert axes.get_ylim() == (-0.5, len(layers.values) - 0.5)


def test_a_single_layer_is_not_called_the_input(axes, view):
    layers = view.units("layer_frame")
    plot_layers_over_time(axes, layers)
    assert "layer 0: input of the transformer" in axes.get_title()
    last = replace(layers, values=layers.values[-1:], half_widths=layers.half_widths[-1:])
    plot_layers_over_time(axes, last)
    assert axes.get_title() == "Attribution of each layer and frame"


def test_bands_lie_at_their_seconds_and_frequencies(axes, explanation, view, waveform):
    bands = view.units("band_frame")
    plot_colored_spectrogram(axes, view, waveform, bands)
    mesh = axes.collections[-1]
    np.testing.assert_allclose(middles(mesh), explanation.times["stft"].center_s())
    edges_mel = np.asarray(mesh.get_coordinates())[:, 0, 1]
    np.testing.assert_allclose(edges_mel, librosa.hz_to_mel(np.array(explanation.band_edges_hz)))
    hidden = mesh.to_rgba(mesh.get_array()).reshape(*bands.values.shape, 4)[..., 3] == 0
    assert hidden[bands.unresolved].all()


def test_sums_have_their_intervals(axes, view):
    layers = view.units("layers")
    plot_sums(axes, layers, np.arange(len(layers.values) + 1) - 0.5, "Sum of each layer")
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], layers.values)
    segments = np.array(axes.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, 0, 0], layers.values - layers.reach)
    np.testing.assert_allclose(segments[:, 1, 0], layers.values + layers.reach)
    np.testing.assert_allclose(segments[:, 0, 1], np.arange(len(layers.values)))


def test_the_waveforms_envelope_holds_every_sample(axes, waveform):
    plot_waveform(axes, waveform, 16_000)
    drawn = axes.collections[0].get_paths()[0].vertices
    assert drawn[:, 1].max() == waveform.max()
    assert drawn[:, 1].min() == waveform.min()
    assert drawn[:, 0].max() <= len(waveform) / 16_000


def test_proportions_are_written_beside_their_bars(axes):
    plot_proportions(axes, Rows(["sad", f"{PREDICTED} happy"], [0.25, 0.75]), "Classes")
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0.75]
    assert [text.get_text() for text in axes.texts] == ["25 %", "75 %"]
    weights = {tick.get_text(): tick.get_weight() for tick in axes.get_yticklabels()}
    assert weights == {"sad": "normal", f"{PREDICTED} happy": "bold"}


@pytest.mark.parametrize("values", [[0.62, 0.48], [-3.0, 40.0], [-1.0, -0.2], [0.0, 0.0], [7.0]])
def test_values_are_dots_on_an_axis_of_their_own_that_includes_0(values, axes):
    """No bar whose length would be a share of something, and no per cent."""
    plot_values(axes, Rows([f"value {place}" for place in range(len(values))], values), "")
    dots = np.asarray(axes.collections[-1].get_offsets())
    np.testing.assert_allclose(dots, np.stack([values, np.arange(len(values))], 1))
    low, high = axes.get_xlim()
    assert low <= min(0, *values) < high
    assert low < high >= max(0, *values)
    assert not axes.patches
    assert not any("%" in text.get_text() for text in axes.texts)


def test_a_reliability_diagram_has_the_errors_of_its_bins(axes):
    before, after = [(0.4, 0.6, 0.5, 0.7, 3), (0.8, 1.0, 0.9, 0.5, 1)], [(0.6, 0.8, 0.7, 0.6, 4)]
    plot_reliability(axes, {"as trained": before, "at temperature 2.00": after}, "Test clips")
    drawn = [part.get_offsets().data.tolist() for part in axes.collections[1::2]]
    assert drawn == [[[0.5, 0.7], [0.9, 0.5]], [[0.7, 0.6]]]
    larger, smaller = axes.collections[1].get_sizes()
    assert larger > smaller
    assert axes.get_title() == "Test clips: ECE 0.250 as trained, 0.100 at temperature 2.00"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "as trained",
        "at temperature 2.00",
    ]
