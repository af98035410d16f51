"""Folds by speaker, ways out where speakers are few or unknown, and the folds in common use."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.filename_schemes import RAVDESS as SCHEME
from wavshap_lightning.corpora.protocols import (
    ESD_5_FOLDS,
    IEMOCAP_5_SESSIONS,
    PROTOCOLS,
    RAVDESS_6_FOLDS,
    balanced_speaker_folds,
    build_protocol,
    default_protocol,
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
        by_split = [{clip.speaker for clip in members} for _, members in protocol.split(clips, index).items()]
        assert sum(len(members) for members in by_split) == len(set.union(*by_split)) == len(counts)


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
    assert [len(members) for _, members in protocol.split(clips, 1).items()] == [18, 2, 20]
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


# By name, and in common use

RAVDESS = Path(__file__).parents[2].parent / "shared/data/ravdess"


def toy_clips(*speakers, split=None, count=4):
    return [
        Clip(Path(f"{who}/{index}.wav"), "sad", speaker=who, corpus="toy", split=split, text=str(index))
        for who in speakers
        for index in range(count)
    ]


def test_the_six_folds_of_ravdess():
    tested = [{int(actor) for actor in fold.test} for fold in RAVDESS_6_FOLDS.folds]
    assert tested == [
        {1, 11, 20, 21},
        {4, 10, 12, 14},
        {8, 9, 19, 23},
        {3, 5, 7, 24},
        {2, 15, 16, 18},
        {6, 13, 17, 22},
    ]
    assert [set(fold.validation) for fold in RAVDESS_6_FOLDS.folds] == [
        set(RAVDESS_6_FOLDS.folds[index].test) for index in (1, 2, 3, 4, 5, 0)
    ]


@pytest.mark.skipif(not RAVDESS.is_dir(), reason="the recordings of RAVDESS are not on this machine")
def test_all_of_ravdess_splits_without_sharing_a_speaker():
    clips = SCHEME.load(RAVDESS)
    tested = []
    for index in range(6):
        split = RAVDESS_6_FOLDS.split(clips, index)
        speakers = [{clip.speaker for clip in members} for _, members in split.items()]
        assert [len(members) for _, members in split.items()] == [960, 240, 240]
        assert sum(map(len, speakers)) == len(set.union(*speakers)) == 24
        tested += split.test
    assert sorted(tested, key=lambda clip: clip.path) == clips


def test_iemocap_validates_on_the_next_session():
    assert [(fold.test, fold.validation) for fold in IEMOCAP_5_SESSIONS.folds[3:]] == [
        (("Ses04F", "Ses04M"), ("Ses05F", "Ses05M")),
        (("Ses05F", "Ses05M"), ("Ses01F", "Ses01M")),
    ]


@pytest.mark.parametrize("numbers", [range(1, 21), range(1, 11), range(11, 21)])
def test_the_folds_of_esd_serve_either_language_and_both(numbers):
    clips = toy_clips(*(f"{number:04d}" for number in numbers))
    for index in range(5):
        split = ESD_5_FOLDS.split(clips, index)
        assert (
            len({clip.speaker for clip in split.test})
            == len({clip.speaker for clip in split.validation})
            == len(numbers) / 5
        )


def test_the_default_is_the_official_split_where_every_clip_has_one():
    clips = [
        *toy_clips("ann", split="train"),
        *toy_clips("bob", split="validation"),
        *toy_clips("cat", split="test"),
    ]
    assert default_protocol(clips).unit == "split"
    assert default_protocol([*clips, *toy_clips("dan")]).unit == "speaker"


@pytest.mark.parametrize(("num_speakers", "num_folds"), [(2, 2), (3, 3), (4, 4), (9, 5)])
def test_the_default_is_by_speaker_otherwise(num_speakers, num_folds):
    protocol = default_protocol(toy_clips(*"abcdefghi"[:num_speakers]))
    assert (protocol.unit, len(protocol.folds)) == ("speaker", num_folds)
    assert protocol.shared_validation == (num_speakers == 2)


def test_without_speakers_the_default_says_what_to_do():
    with pytest.raises(
        CorpusError, match=r"4 of 8 clips have no speaker.*speaker_pattern.*protocol=\"random-clips\""
    ):
        default_protocol([*toy_clips("ann"), *toy_clips("")])
    with pytest.raises(CorpusError, match=r"speakers=\['ann'\] are 1, .*protocol=\"random-clips\""):
        default_protocol(toy_clips("ann"))


def test_every_protocol_can_be_asked_for_by_name():
    clips = [
        *toy_clips("a", split="train"),
        *toy_clips("b", split="validation"),
        *toy_clips("c", "d", split="test"),
    ]
    for name in PROTOCOLS:
        chosen = clips[:8] if name == "two-speakers" else clips
        protocol = build_protocol(name, chosen, num_folds=4, seed=1)
        expected = {"official": 1, "two-speakers": 2}.get(name, 4)
        assert len(protocol.folds) == expected
    assert (
        build_protocol("random-clips", clips, seed=1).hash
        != build_protocol("random-clips", clips, seed=2).hash
    )
    with pytest.raises(CorpusError, match="protocol='mine' must be one of official, balanced-speakers"):
        build_protocol("mine", clips)
