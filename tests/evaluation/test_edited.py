"""Spans of a clip are edited once, and maps are held against what that did."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.evaluation.counterfactual import EDITS, edit_span
from wavshap_lightning.evaluation.edited import _spans_of, edit_spans
from wavshap_lightning.explainer.grids import times_of

SAD = Target("log_odds", (1,))


@pytest.fixture(scope="module")
def clip():
    drawn = torch.randn(4000, generator=torch.Generator().manual_seed(1))
    return torch.linspace(0.02, 0.2, 4000) * drawn


@pytest.fixture(scope="module")
def edited(classifier, clip):
    return edit_spans(classifier, clip, SAD)


def test_spans_are_the_whole_clip_and_frames_lie_in_their_own(classifier, clip, edited):
    times = times_of(classifier.backbone.frame_grid, len(clip))["frames"]
    spans = _spans_of(edited.spans, times, len(clip) / 16_000)
    assert len(spans) == edited.spans.count == 3  # two windows of the vocoder each
    assert (spans[0].start_s, spans[-1].end_s) == (0.0, 0.25)
    assert all(first.end_s == second.start_s for first, second in pairwise(spans))
    for owner, at_s in zip(edited.spans.owner.tolist(), times.center_s(), strict=True):
        assert spans[owner].start_s <= at_s < spans[owner].end_s


def test_what_an_edit_does_is_what_the_classifier_says_of_the_edited_clip(classifier, clip, edited):
    times = times_of(classifier.backbone.frame_grid, len(clip))["frames"]
    span = _spans_of(edited.spans, times, len(clip) / 16_000)[1]
    changed = edit_span(clip, span, EDITS["tilt"], 16_000)
    with torch.no_grad():
        before, after = (SAD(classifier(sound[None]))[0, 0] for sound in (clip, changed))
    assert edited.observed["tilt"][1] == pytest.approx(float(before - after), abs=1e-5)


def test_a_map_of_the_sizes_observed_agrees_and_its_reverse_disagrees(edited):
    sizes = torch.tensor(edited.observed["pitch"]).abs()
    frames = edited.spans.spread(sizes[None].double())[0]
    assert edited.agreements(-frames)["consistency_pitch"] == pytest.approx(1)
    turned = edited.spans.spread((sizes.max() - sizes)[None].double())[0]
    assert edited.agreements(turned)["consistency_pitch"] == pytest.approx(-1)


def test_a_clip_too_short_for_three_spans_is_not_edited(classifier, clip):
    assert edit_spans(classifier, clip[:3000], SAD) is None
