"""Intervals from resampled clips or speakers: closed forms, and how often they hold the truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.intervals import Estimate, bootstrap_mean
from wavshap_lightning.evaluation.scorecard import Scorecard

NUM_RESAMPLES = 1000


def covered(num_speakers, clips_each, speaker_spread, *, known, trials=300):
    """How often the interval holds the true mean 0, with or without knowing who speaks."""
    rng = np.random.default_rng(7)
    owners = np.repeat(np.arange(num_speakers), clips_each)
    speakers = [str(owner) for owner in owners] if known else ()
    inside = 0
    for _ in range(trials):
        values = (speaker_spread * rng.normal(size=num_speakers))[owners] + rng.normal(size=len(owners))
        found = bootstrap_mean(values, speakers, num_resamples=NUM_RESAMPLES)
        inside += found.low <= 0 <= found.high
    return inside / trials


def test_where_speakers_differ_only_resampled_speakers_cover():
    """Eight speakers of ten clips each; the standard error of clips alone is 2.3 times too small."""
    assert covered(8, 10, 1.0, known=True) > 0.91
    assert covered(8, 10, 1.0, known=False) < 0.70


@pytest.mark.parametrize("num_speakers", [5, 25])
def test_resampled_speakers_cover_where_speakers_are_all_alike(num_speakers):
    assert 0.87 < covered(num_speakers, 4, 0.0, known=True) < 0.995


def test_one_clip_a_speaker_is_the_bootstrap_over_clips():
    values, each = np.random.default_rng(1).normal(size=12), [f"s{k}" for k in range(12)]
    assert bootstrap_mean(values) == replace(bootstrap_mean(values, each), resampled="clips")


def test_the_half_width_is_students_for_the_means_of_balanced_speakers():
    """Closed form: the mean over clips is the mean of the speakers' means, normal where these are many."""
    rng = np.random.default_rng(2)
    speakers = np.repeat(np.arange(30), 3)
    values = rng.normal(size=30)[speakers] + 0.3 * rng.normal(size=90)
    found = bootstrap_mean(values, [str(speaker) for speaker in speakers], num_resamples=20_000)
    means = values.reshape(30, 3).mean(1)
    expected = stats.t.ppf(0.975, 29) * means.std(ddof=1) / 30**0.5
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.04)


def test_a_speaker_with_many_clips_counts_for_as_many():
    values, speakers = [0.0] * 4 + [1.0] * 12, ["a", "b", "c", "d"] + ["e"] * 12
    found = bootstrap_mean(values, speakers)
    assert found.value == 0.75
    # Student's interval of five lies where "e" is drawn never, and four times of five.
    assert (found.low, found.high) == (0, 48 / 49)


def test_what_is_resampled_is_said():
    values = np.arange(6.0)
    assert bootstrap_mean(values).resampled == "clips"
    assert bootstrap_mean(values, ["a", "b", "c", "d", "e", ""]).resampled == "clips"
    assert bootstrap_mean(values, ["a", "b", "c", "d", "a", "b"]).resampled == "clips"
    found = bootstrap_mean(values, ["a", "b", "c", "d", "e", "b"])
    assert (found.resampled, found.num_resampled, found.num_clips) == ("speakers", 5, 6)
    with pytest.raises(SettingError, match="there are 2, of 6 clips"):
        bootstrap_mean(values, ["a", "b"])


def test_an_estimate_is_printed_with_its_interval_if_there_is_one():
    assert str(bootstrap_mean([1.0] * 6)) == "1.000 [1.000, 1.000]"
    assert str(Estimate(0.5, math.nan, math.nan, 3, "folds", 1)) == "0.500"


def of_first_speakers(count, num_clips=28, num_speakers=7):
    """Who speaks, and values of the clips of the first speakers alone."""
    speakers = [f"s{index % num_speakers}" for index in range(num_clips)]
    owners = [index % num_speakers for index in range(num_clips)]
    return speakers, [float(owner) if owner < count else float("nan") for owner in owners]


def test_the_card_resamples_speakers_and_counts_those_with_a_value():
    speakers, values = of_first_speakers(5)
    card = Scorecard({"one": {"auc": values}}, speakers=speakers)
    found = card.estimate("one", "auc")
    assert (found.num_clips, found.num_resampled, found.resampled) == (20, 5, "speakers")
    assert card.note == ""
    clips = Scorecard({"one": {"auc": values}}).estimate("one", "auc")
    assert found.high - found.low > 1.8 * (clips.high - clips.low)


@pytest.mark.parametrize("count", [1, 4])
def test_a_metric_known_of_too_few_speakers_is_resampled_by_clips(count):
    """One speaker alone would have an interval without any width."""
    speakers, few = of_first_speakers(count)
    few = [value + 0.01 * index for index, value in enumerate(few)]
    all_known = [float(index) for index in range(28)]
    values = {"one": {"auc": few, "deletion": all_known}, "two": {"auc": all_known}}
    card = Scorecard(values, controls=("two",), speakers=speakers)
    alone = Scorecard(values, controls=("two",))
    assert card.estimate("one", "auc") == alone.estimate("one", "auc")
    assert card.difference("one", "two", "auc") == alone.difference("one", "two", "auc")
    assert card.estimate("one", "auc").low < card.estimate("one", "auc").high
    said = {(row["method"], row["metric"]): (row["resampled"], row["units"]) for row in card.rows}
    assert said["one", "auc"] == ("clips", 4 * count)
    assert said["one", "deletion"] == said["two", "auc"] == ("speakers", 7)
    assert card.note.startswith("metrics known of fewer than 5 speakers are resampled by clips")


@pytest.mark.parametrize(
    ("speakers", "said"),
    [
        ((), "not known of every clip"),
        (("a", "b", ""), "not known of every clip"),
        ("abc", "speakers are only 3, too"),
    ],
)
def test_why_clips_are_resampled_is_said(speakers, said):
    assert said in Scorecard({"one": {"auc": [1.0, 2.0, 3.0]}}, speakers=speakers).note
