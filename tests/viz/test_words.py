"""Words and phones in figures and pages: colored, in the order of time, and with their texts as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wavshap_lightning.attribution.record import ViewEstimate
from wavshap_lightning.audio.segments import Segment, with_pauses
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.figures import plot
from wavshap_lightning.viz.report.page import build_report
from wavshap_lightning.viz.theme import literal

WORDS = [Segment("a<b>$x$", 0.1, 0.4, 0.9), Segment("talk", 0.4, 0.7, 0.1)]
PHONES = [Segment("AH", 0.1, 0.4), Segment("T", 0.4, 0.404), Segment("AO", 0.404, 0.7)]


@pytest.fixture(scope="module")
def spoken(explanation):
    """An explanation with words and phones; the first word is for the class, the second is not resolved."""
    tiers = {
        "words": with_pauses(WORDS, explanation.duration_s),
        "phones": with_pauses(PHONES, explanation.duration_s),
    }
    attributions = {}
    for stage, found in explanation.attributions.items():
        views = dict(found.views)
        for name, tier in tiers.items():
            values = torch.zeros(1, len(tier) + 1, dtype=torch.float64)
            values[0, 1:3] = torch.tensor([2.0, 0.1])
            views[name] = ViewEstimate(values, torch.full_like(values, 0.2))
        attributions[stage] = replace(found, views=views)
    return replace(explanation, attributions=attributions, tiers=tiers)


def test_the_figure_has_a_line_of_words_and_one_of_phones(spoken, waveform, assert_texts_are_apart):
    figure = plot(spoken, waveform)
    (axes,) = [one for one in figure.axes if one.get_label() == "words"]
    boxes = [(one.get_y() + 0.45, one.get_x(), one.get_x() + one.get_width()) for one in axes.patches]
    assert np.allclose([one for one in boxes if one[1] == 0.1], [(0, 0.1, 0.4), (1, 0.1, 0.4)])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["words", "phones"]
    shown = [text.get_text() for text in axes.texts]
    words, phones = [literal("a<b>$x$"), "talk?"], ["AH", "AO"]  # T is too short
    assert shown == ["pause", *words, "pause", "pause", *phones, "pause"]
    assert "?" in axes.get_title(loc="left")
    assert_texts_are_apart(figure)


def test_the_page_has_chips_that_the_cursor_follows(spoken, waveform):
    page = build_report([ClipView.from_explanation(spoken, waveform)], title="words")
    assert 'aria-label="Words, colored by attribution"' in page
    assert "a&lt;b&gt;$x$<small>" in page
    assert 'data-seek="0.1" data-end="0.4"' in page
    assert "talk?<small>" in page
    assert "its times are uncertain" in page
