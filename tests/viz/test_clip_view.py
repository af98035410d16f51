"""The view of a clip says the same of an explanation and of its files, and finds where the evidence lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.viz.clip_view import ClipView, Units

NAMES = ("frames", "waveform", "layers", "bands", "layer_frame", "layer_neuron", "band_frame")


def frames(values, half_widths=None):
    half_widths = half_widths and [*map(float, half_widths)]
    return replace(Units.of([*map(float, values)], half_widths), times=TimeGrid(len(values), 1, 1, 0, 1))


@pytest.mark.parametrize("with_errors", [True, False])
def test_a_view_of_files_is_that_of_the_explanation(build_explanation, waveform, with_errors):
    explanation = build_explanation(with_errors=with_errors)
    direct = ClipView.from_explanation(explanation, waveform, label="sad")
    saved = ClipView.from_saved(explanation.to_saved_clip(label="sad"), "A waveform", waveform)
    for name in NAMES:
        one, other = direct.units(name), saved.units(name)
        np.testing.assert_array_equal(one.values, other.values)
        assert one.times == other.times
        np.testing.assert_allclose(one.half_widths, other.half_widths, rtol=1e-6)
        assert np.isnan(one.half_widths).any() != with_errors
    assert direct.facts == saved.facts
    assert direct.headline == saved.headline
    assert direct.times["stft"] == saved.times["stft"]


@pytest.mark.parametrize("stage", ["frames", "layers", "waveform"])
def test_what_was_not_explained_is_none(build_explanation, waveform, stage):
    view = ClipView.from_explanation(build_explanation(paths=(stage,)), waveform)
    known = {
        "frames": {"frames"},
        "layers": {"layers", "layer_frame", "layer_neuron"},
        "waveform": {"waveform", "bands", "band_frame"},
    }[stage]
    assert {name for name in NAMES if view.units(name) is not None} == known
    assert (view.frames is None) == (stage == "layers")


def test_a_waveform_may_have_one_channel(explanation, waveform):
    assert np.array_equal(ClipView.from_explanation(explanation, waveform[None]).waveform, waveform)


def test_nothing_is_unresolved_without_errors():
    assert not Units.of([0.0, 1.0]).unresolved.any()
    some = Units.of([0.0, 1.0, -1.0, 2.0], [0.0, 1.0, 0.5, None])
    assert some.unresolved.tolist() == [True, True, False, True]
    assert some.signs.tolist() == [0, 0, -1, 0]
    assert some.reach.tolist() == [0.0, 1.0, 0.5, 0.0]


def test_the_strongest_units_are_the_explanations(explanation, waveform):
    view = ClipView.from_explanation(explanation, waveform)
    expected = [(frame["start_s"], frame["end_s"]) for frame in explanation.top("frames", 4)]
    np.testing.assert_allclose(view.frames.strongest(4), expected)


def test_the_shortest_stretch_is_that_of_all_stretches():
    rng = np.random.default_rng(1)
    for _ in range(50):
        values = rng.standard_normal(12)
        start_s, end_s, share = frames(values).shortest_stretch()
        gain = np.maximum(values, 0)
        lengths = [
            j - i for i in range(12) for j in range(i + 1, 13) if gain[i:j].sum() >= 0.5 * gain.sum() - 1e-9
        ]
        assert end_s - start_s == min(lengths)
        inside = gain[int(start_s) : int(end_s)].sum() / gain.sum()
        assert share == pytest.approx(inside)
        assert inside >= 0.5 - 1e-9


def test_unresolved_frames_are_no_evidence():
    assert frames([1, 1], [2, 2]).shortest_stretch() is None
    assert frames([-1, -2]).shortest_stretch() is None
    assert frames([5, 1], [6, 0.5]).shortest_stretch() == (1.0, 2.0, 1.0)


def test_the_headline_states_the_prediction_and_where_the_evidence_lies(build_clip):
    view = build_clip(label="sad")
    held = view.numbers["frames"]
    peak = [10.0 if 4 <= place < 7 else 0.0 for place in range(len(held["attribution"]))]

    def headline(attribution, half):
        changed = {**held, "attribution": attribution, "half_width": [half] * len(peak)}
        return replace(view, numbers={**view.numbers, "frames": changed}).headline

    expected = "Predicted happy (64 %), labeled sad; most of the evidence between 0.08 and 0.12 s."
    assert headline(peak, 0.1) == expected
    assert "no frame is resolved: use more draws" in headline(peak, 11.0)
    assert "no resolved frame is evidence for happy" in headline([-value for value in peak], 0.1)


def test_the_headline_states_values_without_a_prediction(build_clip):
    view = build_clip(label=None, task="dimensions", logits=(0.5, 0.62, -12.3, 40.0))
    assert view.headline.startswith("neutral 0.5, happy 0.62 (explained), sad \N{MINUS SIGN}12.3, angry 40; ")
    assert view.score_name() == "value of happy"
    margin = replace(view, numbers={**view.numbers, "target": "sad-vs-happy"})
    assert margin.score_name() == "value of sad minus happy"
    assert [cell[0] for cell in view.cells] == ["neutral", "happy", "sad", "angry"]


def test_the_headline_of_labels_names_the_most_probable(build_clip):
    view = build_clip(label=None, task="labels")
    assert view.headline.startswith("Top label happy (88 %); ")  # 1 / (1 + exp(-2))
    assert view.score_name() == "logit of happy"
    assert sum(view.outputs.values()) > 2


def test_a_margin_is_named_by_both_classes(build_clip):
    view = build_clip()
    assert view.score_name() == "log-odds of happy"
    margin = replace(view, numbers={**view.numbers, "target": "sad-vs-happy"})
    assert margin.score_name(str.upper) == "logit of SAD above HAPPY"
    assert "\N{BLACK CIRCLE}\N{BLACK DIAMOND} SAD" in margin.classes(str.upper)[0]
