"""Protocols: splits and hashes, folds by speaker, ways out where speakers are few, folds in common use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavshap_lightning.corpora.clip import SPLITS, Clip
from wavshap_lightning.corpora.filename_schemes import RAVDESS as SCHEME
from wavshap_lightning.corpora.protocols import (
    ESD_5_FOLDS,
    IEMOCAP_5_SESSIONS,
    PROTOCOLS,
    RAVDESS_6_FOLDS,
    Fold,
    Protocol,
    balanced_speaker_folds,
    build_protocol,
    default_protocol,
    leave_one_speaker_out,
    official_split,
    random_clip_folds,
    speaker_folds,
    split_digest,
    stable_hash,
    two_speaker_folds,
)
from wavshap_lightning.errors import CorpusError


def clips_by(*speakers, texts=("one",), split=None):
    return [
        Clip(Path(f"{speaker}/{text}.wav"), "sad", speaker=speaker, corpus="toy", split=split, text=text)
        for speaker in speakers
        for text in texts
    ]


FOLD = Fold("fold-0", ("ann", "bob"), ("cat",), ("dan",))
PROTOCOL = Protocol("toy-1-fold", "toy", (FOLD,))


def test_a_split_gives_each_group_its_part_in_the_order_of_the_clips():
    clips = clips_by("dan", "bob", "cat", "ann")
    split = PROTOCOL.split(clips, 0)
    assert [(name, [clip.speaker for clip in members]) for name, members in split.items()] == [
        ("train", ["bob", "ann"]),
        ("validation", ["cat"]),
        ("test", ["dan"]),
    ]


def test_official_splits_are_groups_too():
    fold = Fold("official", ("train",), ("validation",), ("test",))
    clips = [clip for name in ("test", "train", "validation") for clip in clips_by("ann", split=name)]
    split = Protocol("toy-official", "toy", (fold,), unit="split").split(clips, 0)
    assert split == {"train": (clips[1],), "validation": (clips[2],), "test": (clips[0],)}


def test_a_fold_out_of_range_names_the_range():
    for fold in (-1, 1):
        with pytest.raises(CorpusError, match=rf"fold={fold} must lie in 0\.\.0 for protocol='toy-1-fold'"):
            PROTOCOL.split(clips_by("ann", "cat", "dan"), fold)


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_group_in_two_splits_is_refused(name):
    shared = replace(FOLD, **{name: (*getattr(FOLD, name), "cat" if name != "validation" else "dan")})
    with pytest.raises(CorpusError, match=r"speakers=\['(cat|dan)'\] appear more than once"):
        replace(PROTOCOL, folds=(shared,)).split(clips_by("ann", "cat", "dan"), 0)


def test_an_unknown_speaker_is_named():
    with pytest.raises(
        CorpusError, match=r"1 of 4 clips have speakers=\['eve'\].*eve/one\.wav.*it has \['ann'"
    ):
        PROTOCOL.split(clips_by("ann", "cat", "dan", "eve"), 0)


def test_a_clip_without_speaker_is_unknown():
    with pytest.raises(CorpusError, match=r"speakers=\[''\]"):
        PROTOCOL.split([*clips_by("ann", "cat", "dan"), Clip(Path("x.wav"), "sad")], 0)


@pytest.mark.parametrize(
    ("speakers", "name"), [("ann cat", "test"), ("ann dan", "validation"), ("cat dan", "train")]
)
def test_an_empty_split_is_named(speakers, name):
    with pytest.raises(CorpusError, match=f"{name} is empty, since no clip belongs to its speakers="):
        PROTOCOL.split(clips_by(*speakers.split()), 0)


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_that_nobody_needs_may_be_empty(name):
    clips = [Clip(Path(f"{split}.wav"), "sad", split=split) for split in SPLITS if split != name]
    official = official_split(clips)
    needed = set(SPLITS) - {name}
    assert [len(members) for members in official.split(clips, 0, needed=needed).values()].count(0) == 1
    with pytest.raises(CorpusError, match=f"{name} is empty, since no clip belongs to its splits="):
        official.split(clips, 0, needed=[name])


def test_without_validation_those_who_would_choose_train():
    protocol = PROTOCOL.without_validation()
    split = protocol.split(clips_by("ann", "bob", "cat", "dan"), 0)
    assert [clip.speaker for clip in split["train"]] == ["ann", "bob", "cat"]
    assert split["validation"] == ()
    assert [clip.speaker for clip in split["test"]] == ["dan"]
    assert protocol.hash != PROTOCOL.hash
    assert Protocol.from_dict(protocol.to_dict()) == protocol


def test_without_validation_no_text_is_held_out():
    shared = Protocol("two", "toy", (Fold("f", ("ann",), ("ann",), ("bob",)),), shared_validation=True)
    clips = clips_by("ann", "bob", texts=("one", "two"))
    split = shared.without_validation().split(clips, 0)
    assert [len(name) for _, name in split.items()] == [2, 0, 2]


def test_shared_validation_holds_out_whole_texts_of_the_training_speaker():
    texts = [f"word{index}" for index in range(30)]
    clips = clips_by("ann", "bob", texts=texts)
    protocol = Protocol(
        "toy", "toy", (Fold("f", ("ann",), ("ann",), ("bob",)),), shared_validation=True, seed=3
    )
    split = protocol.split(clips, 0)
    assert len(split["validation"]) == 3
    assert {clip.text for clip in split["validation"]}.isdisjoint({clip.text for clip in split["train"]})
    assert {clip.speaker for clip in (*split["train"], *split["validation"])} == {"ann"}
    assert [clip.speaker for clip in split["test"]] == ["bob"] * 30
    assert protocol.split(clips[::-1], 0)["validation"] == split["validation"][::-1]
    assert replace(protocol, seed=4).split(clips, 0)["validation"] != split["validation"]


def test_shared_validation_needs_texts_and_the_same_speakers():
    protocol = Protocol("toy", "toy", (Fold("f", ("ann",), ("ann",), ("bob",)),), shared_validation=True)
    with pytest.raises(CorpusError, match=r"text=None, and at least two texts.* Give every clip its text"):
        protocol.split([Clip(Path("a.wav"), "sad", speaker="ann"), *clips_by("bob")], 0)
    with pytest.raises(CorpusError, match="every clip has text='one', and at least two texts"):
        protocol.split(clips_by("ann", "bob"), 0)
    with pytest.raises(CorpusError, match="train is empty"):
        protocol.split(clips_by("bob"), 0)
    with pytest.raises(CorpusError, match="needs the same speakers in train"):
        replace(protocol, folds=(FOLD,)).split(clips_by("ann", "cat", "dan"), 0)


def test_the_bucket_of_a_clip_depends_on_itself_alone():
    fold = Fold("f", ("bucket-0",), ("bucket-1",), ("bucket-2",))
    protocol = Protocol("toy", "toy", (fold,), unit="clip", seed=1)
    clips = [Clip(Path(f"/here/sad/{index}.wav"), "sad") for index in range(60)]
    moved = [replace(clip, path=Path("/there") / clip.path.relative_to("/here")) for clip in clips]
    whole, fewer = protocol.split(clips, 0), protocol.split(clips[::2], 0)
    names = {name: [clip.name for clip in members] for name, members in whole.items()}
    assert names == {
        name: [clip.name for clip in members] for name, members in protocol.split(moved, 0).items()
    }
    assert all(set(members) <= set(whole[name]) for name, members in fewer.items())
    assert sorted(chain.from_iterable(names.values())) == sorted(clip.name for clip in clips)


def test_spans_of_one_file_are_different_clips():
    fold = Fold("f", ("bucket-0",), ("bucket-1",), ("bucket-2",))
    spans = [Clip(Path("a.wav"), "sad", start_s=float(at), end_s=at + 1.0) for at in range(60)]
    split = Protocol("toy", "toy", (fold,), unit="clip").split(spans, 0)
    assert all(5 < len(members) < 40 for _, members in split.items())


def test_the_hash_covers_every_field():
    changed = [
        replace(PROTOCOL, name="other"),
        replace(PROTOCOL, corpus="other"),
        replace(PROTOCOL, folds=(FOLD, FOLD)),
        replace(PROTOCOL, folds=(replace(FOLD, train=FOLD.train[::-1]),)),
        replace(PROTOCOL, unit="clip"),
        replace(PROTOCOL, folds=(replace(FOLD, validation=FOLD.train),), shared_validation=True),
        replace(PROTOCOL, seed=1),
    ]
    assert len({PROTOCOL.hash, *(protocol.hash for protocol in changed)}) == 1 + len(changed)


OFFICIAL = Protocol("official", "toy", (Fold("f", ("train",), ("validation",), ("test",)),), unit="split")


def test_one_rule_over_other_clips_is_another_split():
    """Two test sets of one corpus, or two manifests that name no corpus, share a protocol's hash."""
    names = ("train", "validation", "test")
    clips = [clip for name in names for clip in clips_by(name, texts=("one", "two"), split=name)]
    first = OFFICIAL.split(clips, 0)
    others = [
        {**first, "test": first["test"][:1]},
        {**first, "validation": first["test"], "test": first["validation"]},
        {**first, "test": (first["test"][0], replace(first["test"][1], path=Path("other/x.wav")))},
        {**first, "test": (first["test"][0], replace(first["test"][1], end_s=1.0))},
        {**first, "test": (first["test"][0], replace(first["test"][1], corpus="other"))},
    ]
    assert len({split_digest(first), *map(split_digest, others)}) == 1 + len(others)


def test_the_digest_depends_neither_on_the_order_nor_on_where_the_corpus_lies():
    clips = clips_by("ann", "bob", "cat", "dan", texts=("one", "two"))
    moved = [replace(clip, path=Path("/data/toy") / clip.path) for clip in clips[::-1]]
    digest = split_digest(PROTOCOL.split(clips, 0))
    assert digest == split_digest(PROTOCOL.split(moved, 0))
    assert len(digest) == 64


def test_the_hash_is_the_same_in_another_process():
    code = (
        "from wavshap_lightning.corpora.protocols import Fold, Protocol;"
        "print(Protocol('toy-1-fold', 'toy', (Fold('fold-0', ('ann', 'bob'), ('cat',), ('dan',)),)).hash)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == PROTOCOL.hash
    assert len(PROTOCOL.hash) == 64


def test_a_protocol_survives_json():
    stored = json.loads(json.dumps(PROTOCOL.to_dict()))
    assert Protocol.from_dict(stored) == PROTOCOL
    assert Protocol.from_dict({**stored, "hash": PROTOCOL.hash}) == PROTOCOL


def test_a_protocol_that_was_edited_or_is_none_is_refused():
    stored = PROTOCOL.to_dict()
    with pytest.raises(CorpusError, match="was edited by hand"):
        Protocol.from_dict({**stored, "seed": 9, "hash": PROTOCOL.hash})
    for broken in (
        {"name": "x"},
        {**stored, "colour": "red"},
        {**stored, "folds": [{"name": "f"}]},
        {**stored, "folds": 3},
    ):
        with pytest.raises(CorpusError, match="not a stored protocol"):
            Protocol.from_dict(broken)
    with pytest.raises(CorpusError, match="unit='actor' must be one of speaker, split, clip"):
        replace(PROTOCOL, unit="actor")
    with pytest.raises(CorpusError, match="give it at least one fold"):
        replace(PROTOCOL, folds=())


def test_stable_hash_never_changes():
    # Stored protocols depend on it: another number here silently changes their splits.
    assert stable_hash(0, "word", "toy") == 14310141887067498679


# Folds for the clips at hand

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
    ("groups", "message"),
    [
        ([["a"], ["b"]], "three groups or more, none empty"),
        ([["a"], ["b"], []], "three groups or more, none empty"),
        ([["a"], ["b"], ["c", "a"]], r"speakers=\['a'\] appear more than once"),
        ([["a", "a"], ["b"], ["c"]], r"speakers=\['a'\] appear more than once"),
    ],
)
def test_groups_that_make_no_folds_are_refused(groups, message):
    with pytest.raises(CorpusError, match=message):
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
    tested = Counter(clip.path for index in range(4) for clip in protocol.split(clips, index)["test"])
    assert tested == Counter(clip.path for clip in clips)
    assert all(30 < len(protocol.split(clips, index)["test"]) < 70 for index in range(4))
    assert "not-speaker-independent" in protocol.name
    assert protocol.unit == "clip"
    with pytest.raises(CorpusError, match="must be three groups or more"):
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
        tested += split["test"]
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
            len({clip.speaker for clip in split["test"]})
            == len({clip.speaker for clip in split["validation"]})
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


CHALLENGES = ("odyssey-2024", "interspeech-2025")


@pytest.mark.parametrize("name", CHALLENGES)
def test_a_challenge_has_training_and_development_clips_of_msp_podcast_alone(name):
    clips = [
        replace(clip, corpus="msp-podcast")
        for clip in (*toy_clips("a", split="train"), *toy_clips("b", split="validation"))
    ]
    protocol = build_protocol(name, clips)
    assert protocol.name == name
    assert protocol.split(clips, 0) == {"train": tuple(clips[:4]), "validation": tuple(clips[4:]), "test": ()}
    tested = replace(clips[0], path=Path("t.wav"), split="test")
    for others in ([*clips, tested], toy_clips("a", split="train")):
        with pytest.raises(CorpusError, match=rf"protocol='{name}'.* must be msp-podcast without a test set"):
            build_protocol(name, others)


def test_every_protocol_can_be_asked_for_by_name():
    clips = [
        *toy_clips("a", split="train"),
        *toy_clips("b", split="validation"),
        *toy_clips("c", "d", "e", split="test"),
    ]
    for name in PROTOCOLS.keys() - CHALLENGES:
        chosen = clips[:8] if name == "two-speakers" else clips
        protocol = build_protocol(name, chosen, seed=1)
        expected = {"official": 1, "two-speakers": 2, "leave-one-speaker-out": 5}.get(name, 5)
        assert len(protocol.folds) == expected
    assert (
        build_protocol("random-clips", clips, seed=1).hash
        != build_protocol("random-clips", clips, seed=2).hash
    )
    with pytest.raises(CorpusError, match="protocol='mine' must be one of official, balanced-speakers"):
        build_protocol("mine", clips)
