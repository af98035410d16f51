from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.labels import allocate, draw_stratified
from wavshap_lightning.errors import SettingError

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
