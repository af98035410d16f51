"""Intervals from resampled clips or speakers: closed forms, and how often they hold the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.intervals import Units, interval, units_of
from wavshap_lightning.evaluation.scorecard import compare, table

NUM_RESAMPLES = 1000


def covered(num_speakers, clips_each, speaker_spread, *, known, trials=300):
    """How often the interval holds the true mean 0, with or without knowing who speaks."""
    rng = np.random.default_rng(7)
    speakers = np.repeat(np.arange(num_speakers), clips_each)
    units = units_of(len(speakers), [str(speaker) for speaker in speakers] if known else ())
    counts = units.resample(0, NUM_RESAMPLES)
    inside = 0
    for _ in range(trials):
        of_speakers = speaker_spread * rng.normal(size=num_speakers)
        low, high = interval(
            of_speakers[speakers] + rng.normal(size=len(speakers)), np.array(units.owner), counts
        )
        inside += low <= 0 <= high
    return inside / trials


def test_where_speakers_differ_only_resampled_speakers_cover():
    """Eight speakers of ten clips each; the standard error of clips alone is 2.3 times too small."""
    assert covered(8, 10, 1.0, known=True) > 0.91
    assert covered(8, 10, 1.0, known=False) < 0.70


@pytest.mark.parametrize("num_speakers", [5, 25])
def test_resampled_speakers_cover_where_speakers_are_all_alike(num_speakers):
    assert 0.87 < covered(num_speakers, 4, 0.0, known=True) < 0.995


def test_one_clip_a_speaker_is_the_bootstrap_over_clips():
    values, each = np.random.default_rng(1).normal(size=12).tolist(), [f"s{k}" for k in range(12)]
    of_clips, of_speakers = (
        compare({"one": {"auc": values}}, speakers=known).estimates["one", "auc"] for known in ((), each)
    )
    assert of_clips == replace(of_speakers, resampled="clips")


def test_the_half_width_is_students_for_the_means_of_balanced_speakers():
    """Closed form: the mean over clips is the mean of the speakers' means, normal where these are many."""
    rng = np.random.default_rng(2)
    speakers = np.repeat(np.arange(30), 3)
    values = rng.normal(size=30)[speakers] + 0.3 * rng.normal(size=90)
    units = units_of(90, [str(speaker) for speaker in speakers])
    low, high = interval(values, np.array(units.owner), units.resample(0, 20_000))
    means = values.reshape(30, 3).mean(1)
    expected = stats.t.ppf(0.975, 29) * means.std(ddof=1) / 30**0.5
    assert (high - low) / 2 == pytest.approx(expected, rel=0.04)


def test_a_speaker_with_many_clips_counts_for_as_many():
    values = np.array([0.0, 1.0, 1.0, 1.0])
    low, high = interval(values, np.array([0, 1, 1, 1]), np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
    assert (low, high) == pytest.approx((0, 1), abs=0.01)
    assert interval(values, np.array([0, 1, 1, 1]), np.array([[1.0, 1.0]])) == (0.75, 0.75)


def test_what_is_resampled_is_said():
    assert units_of(3).kind == "clips"
    assert "not known of every clip" in units_of(3, ["a", "b", ""]).note
    few = units_of(6, ["a", "b", "c", "d", "a", "b"])
    assert (few.kind, few.count) == ("clips", 6)
    assert few.note.startswith("speakers are only 4, too few to resample")
    assert units_of(6, ["a", "b", "c", "d", "e", "b"]) == Units("speakers", (0, 1, 2, 3, 4, 1))
    with pytest.raises(SettingError, match="there are 2, of 3 clips"):
        units_of(3, ["a", "b"])


def of_first_speakers(count, num_clips=28, num_speakers=7):
    """Who speaks, and values of the clips of the first speakers alone."""
    speakers = [f"s{index % num_speakers}" for index in range(num_clips)]
    owners = [index % num_speakers for index in range(num_clips)]
    return speakers, [float(owner) if owner < count else float("nan") for owner in owners]


def test_the_card_resamples_speakers_and_counts_those_with_a_value():
    speakers, values = of_first_speakers(5)
    card = compare({"one": {"auc": values}}, speakers=speakers)
    found = card.estimates["one", "auc"]
    assert (found.num_clips, found.num_units, found.resampled) == (20, 5, "speakers")
    assert card.note == ""
    clips = compare({"one": {"auc": values}}).estimates["one", "auc"]
    assert found.high - found.low > 1.8 * (clips.high - clips.low)


@pytest.mark.parametrize("count", [1, 4])
def test_a_metric_known_of_too_few_speakers_is_resampled_by_clips(count):
    """One speaker alone would have an interval without any width."""
    speakers, few = of_first_speakers(count)
    few = [value + 0.01 * index for index, value in enumerate(few)]
    all_known = [float(index) for index in range(28)]
    values = {"one": {"auc": few, "deletion": all_known}, "two": {"auc": all_known}}
    card = compare(values, controls=("two",), speakers=speakers)
    alone = compare(values, controls=("two",))
    assert card.estimates["one", "auc"] == alone.estimates["one", "auc"]
    assert card.differences["one", "two", "auc"] == alone.differences["one", "two", "auc"]
    assert card.estimates["one", "auc"].low < card.estimates["one", "auc"].high
    said = {(row["method"], row["metric"]): (row["resampled"], row["units"]) for row in table(card)}
    assert said["one", "auc"] == ("clips", 4 * count)
    assert said["one", "deletion"] == said["two", "auc"] == ("speakers", 7)
    assert card.note.startswith("metrics known of fewer than 5 speakers are resampled by clips")
