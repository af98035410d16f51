"""The explanation in acoustic cues as it is drawn: its rows sum, doubts are gray, names are only text."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.cues import cue_rows, plot_cues, signed, sum_in_words
from wavshap_lightning.viz.figures import plot
from wavshap_lightning.viz.report.page import build_report
from wavshap_lightning.viz.theme import MINUS

CUES = ("pitch_level", "pitch_range", "loudness", "tempo", "spectrum")
VALUES = (2.0, -0.05, 0.5, -1.0, 0.3)
NAME = "<script>alert(1)</script>[red]$x^2$"


@pytest.mark.parametrize(
    ("value", "words"),
    [(-12.345, f"{MINUS}12.35"), (0.5, "+0.50"), (0.0123, "+0.01"), (0.00123, "+0.001")],
)
def test_small_numbers_keep_a_digit(value, words):
    assert signed(value) == words


@pytest.fixture
def cues():
    """Cues of a clip explained for sad; the sum is 1.75 - 0.25 + 0.5 = 2."""
    rows = [
        {"cue": cue, "value": value, "half_width": 0.2, "resolved": abs(value) > 0.2}
        | {"difference": value, "leave_one_out": 2 * value}
        for cue, value in zip(CUES, VALUES, strict=True)
    ]
    known = {
        "target": "sad",
        "score_kind": "log_odds",
        "labels": ["sad", "happy"],
        "reference": NAME,
        "reference_kind": "neutral",
    }
    scores = {"score": 3.0, "reference_score": 1.0, "resynthesis": -0.25, "remainder": 0.5}
    return {**known, **scores, "cues": rows}


def test_rows_sum_to_the_difference_of_the_scores(cues):
    assert sum(row.value for row in cue_rows(cues)) == pytest.approx(cues["score"] - cues["reference_score"])
    assert sum_in_words(cues).startswith("+2.00, from +1.00 (<script>")


def test_a_sound_is_told_with_the_score_it_has(cues):
    heard = {row.sound: row.heard for row in cue_rows(cues)}
    resynthesized = cues["score"] - cues["resynthesis"]
    moved = 1 / (1 + np.exp(-(resynthesized - 2 * VALUES[0])))
    assert heard["pitch_level"] == f"with neutral pitch level: sad {moved:.2f}"
    assert heard["resynthesis"] == f"resynthesized: sad {1 / (1 + np.exp(-resynthesized)):.2f}"


def test_unresolved_cues_are_gray_and_the_others_have_the_color_of_their_sign(cues):
    assert [row.sign for row in cue_rows(cues)] == [1, 0, 1, -1, 1, 0, 0]
    axes = Figure().subplots()
    plot_cues(axes, cues, "title")
    colors = [bar.get_facecolor() for bar in axes.patches if bar.get_height() == pytest.approx(0.62)]
    assert colors[0] == colors[2] == colors[4]
    assert len({*map(tuple, colors)}) == 4  # for, unresolved, against, other terms


def test_figure_and_page_show_the_cues_of_their_target_alone(build_explanation, waveform, cues):
    explanation = build_explanation(classes=(2,), paths=("frames",), cues=cues)
    assert "cues" in {axes.get_label() for axes in plot(explanation, waveform).axes}
    view = ClipView.from_explanation(explanation, waveform)
    assert "Acoustic cues" in build_report([view], title="t")
    other = build_explanation(classes=(1,), paths=("frames",), cues=cues)
    assert "cues" not in {axes.get_label() for axes in plot(other, waveform).axes}


def test_a_page_plays_the_sounds_and_escapes_the_reference(build_explanation, waveform, cues):
    explanation = build_explanation(classes=(2,), paths=("frames",), cues=cues)
    saved, sounds = explanation.to_saved_clip(), dict.fromkeys((*CUES, "resynthesis", "all_cues"), waveform)
    page = build_report([replace(ClipView.from_saved(saved, "a", waveform), sounds=sounds)], title="t")
    assert sorted(re.findall(r'data-cue="(\w+)"', page)) == sorted(sounds)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_a_page_shows_the_profile_of_each_class(build_explanation, waveform):
    row = {"target": "<b>", "clips": 8, "cue": "pitch_level", "value": 1.0, "low": 0.5, "high": 1.5}
    row |= {"resampled": "speakers", "n": 6, "difference": 2.0, "strongest": 0.75}
    view = ClipView.from_explanation(build_explanation(paths=("frames",)), waveform)
    page = build_report([view], title="t", profiles=[row])
    assert "8 clips, 6 speakers" in page
    assert "+1.00" in page
    assert "75 %" in page
    assert "<bdi><b>" not in page
