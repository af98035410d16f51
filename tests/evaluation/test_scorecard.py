"""The scorecard's intervals, differences, table and words, on values that are made up."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from scipy import stats

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.intervals import bootstrap_mean
from wavshap_lightning.evaluation.scorecard import METRICS, Scorecard, save_table, verdict

CLIPS = 40
RNG = np.random.default_rng(0)
HARD = RNG.normal(0, 1, CLIPS)  # how hard each clip is, for all methods


def column(better, spread=0.05, seed=0):
    return (HARD + better + np.random.default_rng(seed).normal(0, spread, CLIPS)).tolist()


VALUES = {
    "random": {"auc": column(0.0, seed=1), "deletion": column(0.0, seed=2)},
    "good": {
        "auc": column(0.5, seed=3),
        "deletion": column(-0.5, seed=4),
        "intraclass_correlation": [0.99] * CLIPS,
    },
    "same": {
        "auc": column(0.5, seed=5),
        "deletion": column(0.0, seed=6),
        "intraclass_correlation": [0.3] * CLIPS,
    },
}


@pytest.fixture(scope="module")
def card():
    return Scorecard(VALUES, controls=("random",))


def test_the_interval_is_scipys_bootstrap_of_expanded_percentiles(card):
    found = card.estimate("good", "auc")
    farther = stats.t.ppf(0.975, CLIPS - 1) * (CLIPS / (CLIPS - 1)) ** 0.5
    expected = stats.bootstrap(
        (np.array(VALUES["good"]["auc"]),),
        np.mean,
        method="percentile",
        n_resamples=10_000,
        rng=1,
        confidence_level=1 - 2 * stats.norm.cdf(-farther),
    ).confidence_interval
    assert found.value == pytest.approx(np.mean(VALUES["good"]["auc"]))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found.num_clips == CLIPS


def test_differences_are_paired_and_so_much_narrower_than_their_parts(card):
    alone, over = card.estimate("good", "auc"), card.difference("good", "random", "auc")
    assert over.low > 0.4
    assert over.high - over.low < 0.3 * (alone.high - alone.low)
    back = card.difference("random", "good", "auc")
    assert (back.value, back.low, back.high) == pytest.approx((-over.value, -over.high, -over.low))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        found = bootstrap_mean(rng.exponential(1.0, 60), num_resamples=1000)
        inside += found.low <= 1 <= found.high
    assert 0.88 <= inside / 200 <= 0.99


def test_clips_without_a_value_do_not_count():
    values = {"one": {"auc": [1.0, math.nan, 3.0]}, "two": {"auc": [0.0, 5.0, math.nan]}}
    found = Scorecard(values)
    assert (found.estimate("one", "auc").value, found.estimate("one", "auc").num_clips) == (2, 2)
    assert (
        found.difference("one", "two", "auc").value,
        found.difference("one", "two", "auc").num_clips,
    ) == (
        1,
        1,
    )


def test_metrics_without_any_value_are_left_out_and_controls_come_last(card):
    assert list(dict.fromkeys(row["metric"] for row in card.rows)) == [
        "auc",
        "deletion",
        "intraclass_correlation",
    ]
    assert list(dict.fromkeys(row["method"] for row in card.rows)) == ["good", "same", "random"]
    assert card.compared == ["good", "same"]


def test_the_same_values_give_the_same_rows(card):
    again = Scorecard(VALUES, controls=("random",))
    np.testing.assert_equal(again.rows, card.rows)


def test_the_table_is_tidy_and_is_read_again(card, tmp_path):
    save_table(card, tmp_path / "card.csv")
    with (tmp_path / "card.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert list(rows[0]) == [
        "method", "metric", "better", "mean", "low", "high", "clips",
        "resampled", "units", "minus_random", "minus_random_low", "minus_random_high",
    ]  # fmt: skip
    first = card.rows[0]
    assert (rows[0]["method"], rows[0]["metric"], rows[0]["better"]) == ("good", "auc", "higher")
    assert float(rows[0]["minus_random_low"]) == first["minus_random_low"]
    of_random = [
        row for row in rows if row["method"] == "random" and row["metric"] == "intraclass_correlation"
    ]
    assert of_random[0]["mean"] == of_random[0]["minus_random"] == ""


def test_the_verdict_says_what_is_beaten_and_what_is_not_told_apart(card):
    words = {method: verdict(card, method) for method in card.compared}
    assert list(words) == ["good", "same"]
    assert words["good"] == "resolved; on localization it beats random and is not distinguishable from same"
    assert words["same"].startswith(
        "not resolved (intraclass correlation 0.30); on localization it beats random"
    )
    assert verdict(card, "random") == "on localization it falls behind good, same"


def test_all_metrics_that_decide_must_agree_and_lower_may_be_better():
    names = [metric.name for metric in METRICS if metric.group == "faithfulness" and metric.decides]
    assert len(names) == 4

    def values(signs):
        return {
            "one": {name: column(sign, seed=8) for name, sign in zip(names, signs, strict=True)},
            "two": {name: column(0.0, seed=9) for name in names},
        }

    def said(signs):
        return verdict(Scorecard(values(signs)), "one")

    assert said((1, 1, -1, -1)).endswith("on faithfulness it beats two")
    assert said((1, 0, 0, 0)).endswith("on faithfulness it beats two")
    assert said((-1, -1, 1, 1)).endswith("on faithfulness it falls behind two")
    assert said((1, 1, 1, 1)).endswith("on faithfulness it wins some and loses some against two")
    assert said((0, 0, 0, 0)).endswith("on faithfulness it is not distinguishable from two")


@pytest.mark.parametrize(
    ("redrawn", "other", "said"),
    [
        (0.02, -0.3, "resolved; depends on what was learned (likeness with every parameter drawn anew 0.02)"),
        (0.4, -0.3, "resolved; does not depend enough on what was learned (likeness"),
        (0.12, -0.3, "resolved; may not depend enough on what was learned (likeness"),
        (0.08, -0.3, "resolved; may not depend enough on what was learned (likeness"),
        (0.02, 0.8, "drawn anew 0.02); shows much the same for another class (rank correlation 0.80)"),
    ],
)
def test_whether_maps_depend_on_what_they_should_is_said_of_each_by_itself(redrawn, other, said):
    scatter = 0.2 * (HARD - HARD.mean())
    of_one = {
        "intraclass_correlation": [0.99] * CLIPS,
        "all_redrawn": (redrawn + scatter).tolist(),
        "other_class": (other + scatter).tolist(),
    }
    assert said in verdict(Scorecard({"one": of_one}), "one")


def test_few_clips_give_no_verdict():
    assert "3 clips are too few" in verdict(Scorecard({"one": {"auc": [1.0, 2.0, 3.0]}}), "one")


@pytest.mark.parametrize(("num_known", "said"), [(9, ()), (10, ("learned", "another class", "localization"))])
def test_a_metric_of_few_clips_decides_nothing_on_a_card_of_many(num_known, said):
    def known(mean):
        return [mean + 0.01 * HARD[index] if index < num_known else math.nan for index in range(CLIPS)]

    one = {"auc": known(1.0), "all_redrawn": known(0.4), "other_class": known(0.9)}
    words = verdict(Scorecard({"one": one, "two": {"auc": known(0.0)}}), "one")
    assert tuple(about for about in ("learned", "another class", "localization") if about in words) == said


@pytest.mark.parametrize(
    ("values", "controls", "message"),
    [
        ({}, (), r"methods have \[\] clips"),
        ({"one": {"auc": [1.0]}}, ("random",), r"controls=\['random'\] were not measured; there are one"),
        ({"one": {"auc": [1.0]}, "two": {"auc": [1.0, 2.0]}}, (), r"methods have \[1, 2\] clips"),
        ({"one": {"auc": []}}, (), r"methods have \[0\] clips"),
    ],
)
def test_what_cannot_be_compared_is_refused(values, controls, message):
    with pytest.raises(SettingError, match=message):
        Scorecard(values, controls=controls)
