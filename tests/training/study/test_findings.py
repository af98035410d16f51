"""Each fault of a study is named, and a study without faults is not accused."""

import json

import pytest

from wavshap_lightning.training.study.findings import find_faults, limits_of


def named(study, severity=None):
    return [one["name"] for one in find_faults(study) if severity in (None, one["severity"])]


def audit_of(check, severity, **where):
    return {"severity": severity, "check": check, "count": len(where), "where": where}


def test_a_study_without_faults_has_no_finding(study):
    assert find_faults(study) == []


SHARED = "3 clips in train and 2 clips in test"
CROSSING = [
    ("shared speaker", "error", SHARED, "leaked speaker"),
    ("shared speaker", "warning", SHARED, "leaked speaker"),
    (
        "similar speakers",
        "error",
        "they differ only in how they are written, in train and test",
        "leaked speaker",
    ),
    ("duplicate audio", "error", "the same sound, in train and test, labeled sad", "leaked speaker"),
    (
        "duplicate audio",
        "error",
        "the same sound, in validation and test, labeled sad",
        "chosen on the test clips",
    ),
]


@pytest.mark.parametrize(("check", "severity", "detail", "expected"), CROSSING)
def test_what_the_audit_found_across_splits_is_an_error_even_where_the_run_was_told_to_go_on(
    study, check, severity, detail, expected
):
    study["corpora"][0]["audit"]["findings"] = [audit_of(check, severity, ann=detail)]
    (fault,) = find_faults(study)
    assert (fault["severity"], fault["name"]) == ("error", expected)
    assert f"ann ({detail})" in fault["detail"]


def test_names_that_may_be_two_people_are_a_warning(study):
    detail = "they differ only in how they are written, in train and test"
    study["corpora"][0]["audit"]["findings"] = [audit_of("similar speakers", "warning", ann=detail)]
    assert named(study, "warning") == ["leaked speaker"]


@pytest.mark.parametrize(
    "finding",
    [
        audit_of("clipped", "warning", a="2 % at full scale"),
        audit_of("duplicate audio", "warning", a="the same sound, in train, labeled sad"),
        audit_of("duplicate audio", "error", a="the same sound, in train, labeled sad and happy"),
        audit_of("similar speakers", "warning", a="they differ only in how they are written, in test"),
    ],
)
def test_what_the_audit_found_within_a_split_is_no_leak(study, finding):
    study["corpora"][0]["audit"]["findings"] = [finding]
    assert find_faults(study) == []


def test_a_leak_of_training_speakers_in_some_folds_is_one_leak(study):
    """Where folds rotate, a shared speaker is once in train and test and once in validation and test."""
    study["corpora"][0]["audit"]["findings"] = [
        audit_of("shared speaker", "error", ann="2 clips in validation and 1 clips in test"),
        audit_of("shared speaker", "error", ann="2 clips in train and 1 clips in test"),
    ]
    assert named(study) == ["leaked speaker"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"chosen_on": "test"}, "chosen on the test clips"),
        ({"recall": {"angry": 0.9, "happy": 0.9, "sad": 0.0}}, "class never predicted"),
    ],
)
def test_a_system_that_was_chosen_or_tested_wrongly_is_an_error(study, change, expected):
    study["systems"][1] |= change
    assert named(study, "error") == [expected]
    assert "small" in find_faults(study)[0]["detail"]


def test_rows_of_inflation_are_meant_to_leak(study):
    study["inflation"][0] |= {"chosen_on": "test"}
    assert find_faults(study) == []


def test_random_clips_are_a_leak(study):
    study["corpora"][0]["protocol"]["unit"] = "clip"
    assert named(study, "error") == ["leaked speaker"]


def test_a_condition_that_tells_a_class_is_named_with_the_class(study):
    study["corpora"][0]["conditions"][2] |= {"tells": True, "area": 0.98, "median": 23.4, "p": 0.002}
    (fault,) = find_faults(study)
    assert (fault["severity"], fault["name"]) == ("error", "recording condition")
    assert "the hum tells sad" in fault["detail"]
    assert "23.4 dB" in fault["detail"]


@pytest.mark.parametrize(
    ("difference", "half", "found"),
    [(0.12, 0.05, True), (-0.12, 0.05, True), (0.12, 0.11, False), (0.04, 0.01, False), (0.12, None, False)],
)
def test_gaps_are_named_that_are_large_and_certain(study, difference, half, found):
    """0.12 with a 95 % interval of 0.11 to each side excludes 0, and that of 99 % does not."""
    ends = [None, None] if half is None else [difference - half, difference + half]
    gap = {"kind": "gender", "a": "female", "b": "male", "difference": difference}
    study["stress"]["gaps"] = [gap | dict(zip(("low", "high"), ends, strict=True))]
    assert named(study) == ["gap between groups"] * found
    study["stress"]["gaps"][0]["kind"] = "speaker"
    assert find_faults(study) == []


def test_more_gaps_need_more_certainty(study):
    gap = {"kind": "gender", "a": "f", "b": "m", "difference": 0.1, "low": 0.03, "high": 0.17}
    study["stress"]["gaps"] = []
    study["systems"][0]["gaps"] = [gap]
    assert named(study) == ["gap between groups"]
    study["systems"][0]["gaps"] = [gap] * 10
    assert find_faults(study) == []
    study["systems"][0] |= {"gaps": [gap], "speakers": 6}
    assert find_faults(study) == []


def test_few_speakers_and_scores_by_chance_are_warnings(study):
    study["corpora"][0]["speakers"] = 4
    study["systems"][1]["uar_low"] = 0.31
    assert named(study, "warning") == ["too few speakers", "not above chance"]
    assert any("fewer than ten" in one for one in limits_of(study))


def test_a_best_system_that_is_not_certain_and_seeds_that_differ_more_are_notes(study):
    study["comparisons"][0] |= {"different": False, "difference": 0.004, "p_corrected": 0.6}
    assert named(study, "note") == ["best not certain", "seeds differ more"]
    study["comparisons"][0] |= {"a": "small", "b": "large", "difference": -0.004}
    assert named(study, "note") == ["best not certain", "seeds differ more"]
    study["comparisons"][0]["corpus"] = "another"
    assert find_faults(study) == []


def test_errors_come_first(study):
    study["comparisons"][0]["different"] = False
    study["corpora"][0]["speakers"] = 2
    study["systems"][0]["chosen_on"] = "test"
    assert [one["severity"] for one in find_faults(study)] == ["error", "warning", "note"]


def test_limits_name_what_was_not_run(study):
    every = limits_of(study)
    assert "Only 82 clips were tested." in every
    study |= {"transfer": [], "inflation": [], "stress": None, "attributions": []}
    added = [one for one in limits_of(study) if one not in every]
    assert len(added) == 5
    assert ["train.py stress" in one for one in added] == [False, False, True, False, False]
    assert "Genders and languages were not compared" in added[4]
    json.dumps(find_faults(study))
