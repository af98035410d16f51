"""The per-class summary: mean shares over clips, with intervals where there are enough clips."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from wavshap_lightning.viz.report.page import build_report
from wavshap_lightning.viz.report.summary import ENOUGH_CLIPS, clip_shares, sentence, summarize


@pytest.fixture(scope="module")
def clips(build_clip):
    return [build_clip(seed=seed) for seed in range(6)]


def summarized(clips):
    return summarize([clip_shares(clip) for clip in clips])


def test_one_summary_a_target_in_the_order_of_the_labels(build_clip):
    sad, happy = build_clip(classes=(2,)), build_clip(classes=(1,))
    found = summarized([sad, happy, sad])
    assert [(one.target, one.num_clips) for one in found] == [("happy", 1), ("sad", 2)]


def test_shares_sum_to_one_and_are_means_over_clips(clips):
    (found,) = summarized(clips)
    assert set(found.shares) == {"bands", "layers", "places", "thirds"}
    for shares in found.shares.values():
        assert shares.mean.sum() == pytest.approx(1)
    layers = np.abs([view.numbers["layers"]["attribution"] for view in clips])
    np.testing.assert_allclose(found.shares["layers"].mean, (layers / layers.sum(1, keepdims=True)).mean(0))


def test_intervals_are_scipys(clips):
    (found,) = summarized(clips)
    layers = np.abs([view.numbers["layers"]["attribution"] for view in clips])
    rows = layers / layers.sum(1, keepdims=True)
    expected = stats.ttest_1samp(rows, 0).confidence_interval(0.95)
    np.testing.assert_allclose(found.shares["layers"].low, np.maximum(expected.low, 0))
    np.testing.assert_allclose(found.shares["layers"].high, expected.high)


def test_thirds_follow_the_clock(clips):
    (found,) = summarized(clips[:1])
    held = clips[0].numbers["frames"]
    centers = (np.array(held["start_s"]) + np.array(held["end_s"])) / 2 / clips[0].numbers["duration_s"]
    magnitude = np.abs(held["attribution"])
    start = magnitude[centers < 1 / 3].sum() / magnitude.sum()
    assert found.shares["thirds"].mean[0] == pytest.approx(start)


def test_too_few_clips_have_no_interval_and_it_is_said(clips):
    (found,) = summarized(clips[: ENOUGH_CLIPS - 1])
    assert all(shares.low is None for shares in found.shares.values())
    assert sentence(found).startswith("Too few clips for intervals")
    (enough,) = summarized(clips[:ENOUGH_CLIPS])
    assert sentence(enough).startswith("Attributed most to: band ")


def test_clips_without_a_view_do_not_count_for_it(build_clip, clips):
    (found,) = summarized([*clips, build_clip(paths=("frames",))])
    assert found.num_clips == 7
    assert found.shares["bands"].num_clips == 6
    assert found.shares["thirds"].num_clips == 7


def test_a_page_of_some_clips_can_sum_up_others(clips, build_clip):
    shown = [build_clip(seed=seed) for seed in range(2)]
    page = build_report(shown, title="t", note="2 of <6> clips", summaries=summarized(clips))
    assert "2 of &lt;6&gt; clips" in page
    assert "6 clips</small>" in page
    assert "clips</small>" in build_report(shown, title="t")
    assert "of <" not in build_report(shown, title="t")


@pytest.mark.parametrize("annotated", [True, False])
def test_a_dimension_is_summarized_by_thirds_of_its_values(annotated, build_clip):
    values = np.random.default_rng(0).permutation(3 * ENOUGH_CLIPS).astype(float)
    clips = [
        build_clip(
            seed=seed,
            task="dimensions",
            logits=(0.0, -value if annotated else value, 0.0, 0.0),
            annotated_values={"happy": value} if annotated else {},
        )
        for seed, value in enumerate(values)
    ]
    whole, *thirds = summarized(clips)
    kind = "annotated" if annotated else "predicted"
    assert (whole.target, whole.num_clips) == ("happy", len(clips))
    names = [f"happy {level} ({kind} {ends})" for level, ends in LEVELS.items()]
    assert [one.target for one in thirds] == names
    for third, found in enumerate(thirds):
        chosen = [clip for clip, value in zip(clips, values, strict=True) if value // ENOUGH_CLIPS == third]
        (expected,) = summarized(chosen)
        np.testing.assert_allclose(found.shares["layers"].mean, expected.shares["layers"].mean)


LEVELS = {"low": "0 to 4", "middle": "5 to 9", "high": "10 to 14"}


@pytest.mark.parametrize(
    ("values", "names"),
    [([1.0, 2.0] * 8, ["low (annotated 1)", "high (annotated 2)"]), ([3.0] * 16, []), ([1.0, 2.0] * 7, [])],
)
def test_equal_values_stay_together_and_few_clips_are_not_divided(values, names, build_clip):
    """As for the two intensities of RAVDESS."""
    given = [build_clip(task="dimensions", annotated_values={"happy": value}) for value in set(values)]
    by_value = {view.annotated["happy"]: clip_shares(view) for view in given}
    found = summarize([by_value[value] for value in values])
    assert [one.target for one in found] == ["happy", *(f"happy {name}" for name in names)]
