from collections import Counter
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.protocols import (
    balanced_speaker_folds,
    leave_one_speaker_out,
    official_split,
    random_clip_folds,
    speaker_folds,
    two_speaker_folds,
)
from wavshap_lightning.errors import CorpusError

FIXED = settings(derandomize=True, deadline=None)


def clips_of(counts, corpus="toy"):
    return [
        Clip(Path(f"{who}/{index}.wav"), "sad", speaker=who, corpus=corpus, text=str(index))
        for who, count in counts.items()
        for index in range(count)
    ]


speaker_counts = st.dictionaries(
    st.sampled_from([f"s{index}" for index in range(20)]), st.integers(1, 9), min_size=3
)


@FIXED
@given(counts=speaker_counts, seed=st.integers(0, 5), data=st.data())
def test_every_speaker_is_tested_once_and_never_on_two_sides(counts, seed, data):
    num_folds = data.draw(st.integers(3, len(counts)))
    clips = clips_of(counts)
    protocol = balanced_speaker_folds(clips, num_folds=num_folds, seed=seed)
    tested = Counter(chain.from_iterable(fold.test for fold in protocol.folds))
    assert tested == Counter(list(counts))
    for index in range(num_folds):
        parts = [{clip.speaker for clip in part} for _, part in protocol.split(clips, index).items()]
        assert sum(len(part) for part in parts) == len(set.union(*parts)) == len(counts)


@FIXED
@given(counts=speaker_counts)
def test_balanced_groups_differ_by_one_speaker_at_most_in_clips(counts):
    protocol = balanced_speaker_folds(clips_of(counts), num_folds=3, seed=0)
    sizes = [sum(counts[who] for who in fold.test) for fold in protocol.folds]
    assert max(sizes) - min(sizes) <= max(counts.values())


def test_a_speaker_with_many_clips_gets_a_group_alone():
    counts = {"big": 9} | {f"s{index}": 1 for index in range(9)}
    protocol = balanced_speaker_folds(clips_of(counts), num_folds=3, seed=0)
    assert sorted(sum(counts[who] for who in fold.test) for fold in protocol.folds) == [4, 5, 9]


def test_balanced_folds_do_not_depend_on_the_order_and_do_on_the_seed():
    clips = clips_of({f"s{index}": 10 for index in range(12)})
    protocols = {balanced_speaker_folds(clips, num_folds=4, seed=seed).hash for seed in range(5)}
    assert len(protocols) == 5
    assert balanced_speaker_folds(clips[::-1], num_folds=4, seed=2).hash in protocols


def test_validation_follows_test_cyclically():
    protocol = leave_one_speaker_out(clips_of({"cat": 1, "ann": 2, "bob": 1, "dan": 1}))
    assert protocol.name == "toy-leave-one-speaker-out"
    assert [(fold.test, fold.validation, fold.train) for fold in protocol.folds[2:]] == [
        (("cat",), ("dan",), ("ann", "bob")),
        (("dan",), ("ann",), ("bob", "cat")),
    ]


@pytest.mark.parametrize(
    "groups", [[["a"], ["b"]], [["a"], ["b"], []], [["a"], ["b"], ["c", "a"]], [["a", "a"], ["b"], ["c"]]]
)
def test_groups_that_make_no_folds_are_refused(groups):
    with pytest.raises(CorpusError, match="at least three groups, none empty, no speaker in two"):
        speaker_folds("toy", "toy", groups)


@pytest.mark.parametrize("num_folds", [2, 5])
def test_too_few_or_many_folds_are_refused(num_folds):
    with pytest.raises(
        CorpusError, match=f"num_folds={num_folds} must be at least 3 and at most.* 4, of corpus='toy'"
    ):
        balanced_speaker_folds(clips_of(dict.fromkeys("abcd", 1)), num_folds=num_folds, seed=0)


def test_two_speakers_take_turns_and_share_validation():
    clips = clips_of({"OAF": 20, "YAF": 20})
    protocol = two_speaker_folds(clips)
    assert [(fold.train, fold.validation, fold.test) for fold in protocol.folds] == [
        (("OAF",), ("OAF",), ("YAF",)),
        (("YAF",), ("YAF",), ("OAF",)),
    ]
    assert protocol.shared_validation
    assert [len(part) for _, part in protocol.split(clips, 1).items()] == [18, 2, 20]
    with pytest.raises(CorpusError, match=r"speakers=\['a', 'b', 'c'\] must be exactly two"):
        two_speaker_folds(clips_of(dict.fromkeys("abc", 1)))


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        ({"ann": (None,), "bob": ("x", "y")}, "some clips have text=None"),
        ({"ann": ("x", "y"), "bob": (None, "y")}, "some clips have text=None"),
        ({"ann": ("x", "y"), "bob": ("z", "z")}, "every clip has text='z'"),
    ],
)
def test_two_speakers_whose_texts_cannot_be_held_out_are_shown_the_ways_out(texts, fault):
    clips = [
        Clip(Path(f"{who}/{index}.wav"), "sad", speaker=who, text=text)
        for who, said in texts.items()
        for index, text in enumerate(said)
    ]
    with pytest.raises(
        CorpusError, match=rf'{fault}.*column text.*\(\?P<text>\.\.\.\).*protocol="random-clips"'
    ):
        two_speaker_folds(clips)


@pytest.mark.parametrize(
    "build", [leave_one_speaker_out, partial(balanced_speaker_folds, num_folds=5, seed=0)]
)
def test_too_few_speakers_are_shown_the_ways_out(build):
    with pytest.raises(
        CorpusError, match=r"speakers=\['ann'\] are 1, .* at least 3; .* choose protocol=\"random-clips\" and"
    ):
        build(clips_of({"ann": 9}))
    with pytest.raises(CorpusError, match='choose protocol="two-speakers" or protocol="random-clips"'):
        build(clips_of({"ann": 9, "bob": 9}))


def test_a_missing_speaker_or_split_is_counted():
    clips = [*clips_of({"ann": 2}), Clip(Path("x.wav"), "sad")]
    for build in (leave_one_speaker_out, two_speaker_folds):
        with pytest.raises(CorpusError, match=r"1 of 3 clips have no speaker, the first is path=x\.wav"):
            build(clips)
    with pytest.raises(CorpusError, match="3 of 3 clips have no split"):
        official_split(clips)


def test_random_folds_test_every_clip_once_and_say_what_they_are():
    clips = [Clip(Path(f"sad/{index}.wav"), "sad", corpus="toy") for index in range(200)]
    protocol = random_clip_folds(clips, num_folds=4, seed=7)
    tested = Counter(clip.path for index in range(4) for clip in protocol.split(clips, index).test)
    assert tested == Counter(clip.path for clip in clips)
    assert all(30 < len(protocol.split(clips, index).test) < 70 for index in range(4))
    assert "not-speaker-independent" in protocol.name
    assert protocol.unit == "clip"
    with pytest.raises(CorpusError, match="num_folds=2 must be at least 3"):
        random_clip_folds(clips, num_folds=2)


def test_the_corpus_of_mixed_clips_names_all():
    mixed = [*clips_of({"ann": 1, "bob": 1}, "b"), *clips_of({"cat": 1}, "a")]
    assert leave_one_speaker_out(mixed).corpus == "a+b"
