"""Labels are renamed, dropped, selected and subsampled explicitly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.labels import (
    EMOTIONS,
    agreed_label_map,
    allocate,
    apply_label_map,
    draw_stratified,
    ordered_labels,
    select_labels,
)
from wavshap_lightning.errors import CorpusError, SettingError

CLIPS = [Clip(Path(f"{index}.wav"), label) for index, label in enumerate(["exc", "sad", "hap", "xxx", "sad"])]


def test_a_map_renames_merges_and_leaves_out_in_order():
    mapped = apply_label_map(
        CLIPS, {"exc": "happy", "hap": "happy", "sad": "sad", "xxx": None, "unused": "bored"}
    )
    assert [(clip.path.stem, clip.label) for clip in mapped] == [
        ("0", "happy"),
        ("1", "sad"),
        ("2", "happy"),
        ("4", "sad"),
    ]


def test_labels_are_asked_for_as_numbers_and_in_any_unicode_form():
    clips = [Clip(Path("0.wav"), "0"), Clip(Path("1.wav"), "1"), Clip(Path("2.wav"), "Ärger")]
    mapped = apply_label_map(clips, {0: "neg", 1: 7, "A\u0308rger": "angry"})
    assert [clip.label for clip in mapped] == ["neg", "7", "angry"]
    assert select_labels(clips, [0, "A\u0308rger"]) == [clips[0], clips[2]]


def test_a_map_that_lacks_a_label_lists_found_and_missing():
    with pytest.raises(
        CorpusError, match=r"lacks labels=\['hap', 'xxx'\]; found exc \(1\), hap \(1\), sad \(2\), xxx \(1\)"
    ):
        apply_label_map(CLIPS, {"exc": "happy", "sad": "sad"})


def test_selection_keeps_the_clips_of_the_labels():
    assert [clip.path.stem for clip in select_labels(CLIPS, ["hap", "sad"])] == ["1", "2", "4"]


@pytest.mark.parametrize("labels", [[], ["sad", "bored"], ["sad", "sad"]])
def test_a_selection_that_cannot_be_made_is_refused(labels):
    with pytest.raises(CorpusError, match=r"must name each wanted class once.*found exc \(1\)"):
        select_labels(CLIPS, labels)


def test_labels_are_ordered_as_emotions():
    names = [name for emotion, others in EMOTIONS.items() for name in (emotion, *others)]
    assert len(set(names)) == len(names)
    assert ordered_labels(["zeal", "angry", "awe", "neutral", "angry"]) == ("neutral", "angry", "awe", "zeal")


# Votes and clips without agreement

VOTED = Clip(Path("v.wav"), "excited", votes=(("excited", 2.0), ("happy", 1.0), ("other", 1.0)))


def test_votes_follow_the_map_and_those_for_labels_left_out_stay():
    (clip,) = apply_label_map([VOTED], {"excited": "happy", "happy": "happy", "other": None})
    assert (clip.label, clip.votes) == ("happy", (("happy", 3.0), ("other", 1.0)))


WAYS = {
    "drop": ["sad"],
    "soft": ["sad", "no-agreement"],
    "other": ["sad", "other", "other"],
}


@pytest.mark.parametrize("label_map", [None, {"sad": "sad", "other": None, "no-agreement": None}])
@pytest.mark.parametrize("way", WAYS)
def test_clips_without_agreement_are_dropped_kept_without_a_class_or_other(way, label_map):
    labels = ["sad", "other", "no-agreement"]
    clips = [Clip(Path(f"{label}.wav"), label, votes=(("sad", 1.0),)) for label in labels]
    kept = apply_label_map(clips, agreed_label_map(label_map, labels, way))
    expected = [*WAYS[way]]
    if label_map is None and way != "other":
        expected.insert(1, "other")
    assert [clip.label for clip in kept] == expected
    assert all(clip.votes == (("sad", 1.0),) for clip in kept)


def test_a_map_that_names_them_decides():
    named = {"sad": "sad", "no-agreement": "unclear", "other": "misc"}
    assert agreed_label_map(named, [], "drop") == named
    assert agreed_label_map(named, [], "other")["no-agreement"] == "misc"


# Subsets

FIXED = settings(derandomize=True, deadline=None)

sizes_of_classes = st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 40), min_size=1)


def clips_of(sizes):
    return [
        Clip(Path(f"{label}{index}.wav"), label) for label, count in sizes.items() for index in range(count)
    ]


@FIXED
@given(sizes=sizes_of_classes, data=st.data())
def test_quotas_sum_to_the_total_and_no_class_is_empty_or_overdrawn(sizes, data):
    total = data.draw(st.integers(len(sizes), sum(sizes.values())))
    quotas = allocate(sizes, total)
    assert sum(quotas.values()) == total
    assert all(1 <= quotas[label] <= size for label, size in sizes.items())
    exact = {
        label: (total - len(sizes)) * (size - 1) / max(1, sum(sizes.values()) - len(sizes))
        for label, size in sizes.items()
    }
    assert all(abs(quotas[label] - 1 - share) < 1 for label, share in exact.items())


@FIXED
@given(sizes=sizes_of_classes, seed=st.integers(0, 9), data=st.data())
def test_a_subset_is_stratified_ordered_and_repeatable(sizes, seed, data):
    clips = clips_of(sizes)
    total = data.draw(st.integers(len(sizes), len(clips)))
    subset = draw_stratified(clips, total, np.random.default_rng(seed))
    assert Counter(clip.label for clip in subset) == allocate(sizes, total)
    assert subset == [clip for clip in clips if clip in subset]
    assert subset == draw_stratified(clips, total, np.random.default_rng(seed))


def test_equal_classes_stay_equal_and_the_seed_chooses():
    clips = clips_of(dict.fromkeys("abcd", 100))
    subsets = [tuple(draw_stratified(clips, 20, np.random.default_rng(seed))) for seed in range(4)]
    assert len(set(subsets)) == 4
    assert all(set(Counter(clip.label for clip in subset).values()) == {5} for subset in subsets)


def test_more_than_there_are_is_all_and_too_few_is_an_error():
    clips = clips_of({"a": 2, "b": 3})
    assert draw_stratified(clips, 99, np.random.default_rng(0)) == clips
    for num_clips in (1, 0, -3):
        with pytest.raises(
            SettingError, match=f"max_samples={num_clips} must be at least 1.*number of classes, 2"
        ):
            draw_stratified(clips, num_clips, np.random.default_rng(0))
