"""Spans of a clip are edited once, and maps are held against what that did."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from wavshap_lightning.attribution.shapley.game import equal_spans
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.evaluation.edits import (
    EDITS,
    SHORTEST_SAMPLES,
    _divide,
    _spans_of,
    edit_span,
    edit_spans,
)
from wavshap_lightning.explainer.time_grid import times_of

SAD = Target("log_odds", (1,))
GRID = FrameGrid.from_convolutions((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), 16_000)


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


@pytest.mark.parametrize("num_samples", [*range(3000, 10_000, 97), 16_000])
def test_every_span_holds_two_windows_and_more_spans_would_not(num_samples):
    """At hops as long as WavLM's a span may fall a third short of its share of the clip."""
    times = times_of(GRID, num_samples)["frames"]

    def shortest(spans):
        return min(round(span.end_s * 16_000) - round(span.start_s * 16_000) for span in spans)

    divided = _divide(times, num_samples, 16_000)
    count = 2 if divided is None else divided[0].count
    assert divided is None or shortest(divided[1]) >= SHORTEST_SAMPLES == 1024
    more = equal_spans(times.count, count + 1)
    assert count == 8 or shortest(_spans_of(more, times, num_samples / 16_000)) < SHORTEST_SAMPLES


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
