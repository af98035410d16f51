import json
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.splits import Fold, Protocol, Split, stable_hash
from wavshap_lightning.errors import CorpusError

FOLD = Fold("fold-0", ("ann", "bob"), ("cat",), ("dan",))
PROTOCOL = Protocol("toy-1-fold", "toy", (FOLD,))


def clips_of(*speakers, texts=("one",), split=None):
    return [
        Clip(Path(f"{speaker}/{text}.wav"), "sad", speaker=speaker, corpus="toy", split=split, text=text)
        for speaker in speakers
        for text in texts
    ]


def test_a_split_gives_each_group_its_part_in_the_order_of_the_clips():
    clips = clips_of("dan", "bob", "cat", "ann")
    split = PROTOCOL.split(clips, 0)
    assert [(name, [clip.speaker for clip in members]) for name, members in split.items()] == [
        ("train", ["bob", "ann"]),
        ("validation", ["cat"]),
        ("test", ["dan"]),
    ]


def test_official_splits_are_groups_too():
    fold = Fold("official", ("train",), ("validation",), ("test",))
    clips = [clip for name in ("test", "train", "validation") for clip in clips_of("ann", split=name)]
    split = Protocol("toy-official", "toy", (fold,), unit="split").split(clips, 0)
    assert split == Split((clips[1],), (clips[2],), (clips[0],))


def test_a_fold_out_of_range_names_the_range():
    for fold in (-1, 1):
        with pytest.raises(CorpusError, match=rf"fold={fold} must lie in 0\.\.0 for protocol='toy-1-fold'"):
            PROTOCOL.split(clips_of("ann", "cat", "dan"), fold)


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_group_in_two_splits_is_refused(name):
    shared = replace(FOLD, **{name: (*getattr(FOLD, name), "cat" if name != "validation" else "dan")})
    with pytest.raises(CorpusError, match=r"speakers=\['(cat|dan)'\] appear more than once"):
        replace(PROTOCOL, folds=(shared,)).split(clips_of("ann", "cat", "dan"), 0)


def test_an_unknown_speaker_is_named():
    with pytest.raises(
        CorpusError, match=r"1 of 4 clips have speakers=\['eve'\].*eve/one\.wav.*it knows \['ann'"
    ):
        PROTOCOL.split(clips_of("ann", "cat", "dan", "eve"), 0)


def test_a_clip_without_speaker_is_unknown():
    with pytest.raises(CorpusError, match=r"speakers=\[''\]"):
        PROTOCOL.split([*clips_of("ann", "cat", "dan"), Clip(Path("x.wav"), "sad")], 0)


@pytest.mark.parametrize(
    ("speakers", "name"), [("ann cat", "test"), ("ann dan", "validation"), ("cat dan", "train")]
)
def test_an_empty_split_is_named(speakers, name):
    with pytest.raises(CorpusError, match=f"{name} is empty, since no clip belongs to its speakers="):
        PROTOCOL.split(clips_of(*speakers.split()), 0)


def test_without_validation_those_who_would_choose_train():
    protocol = PROTOCOL.without_validation()
    split = protocol.split(clips_of("ann", "bob", "cat", "dan"), 0)
    assert [clip.speaker for clip in split.train] == ["ann", "bob", "cat"]
    assert split.validation == ()
    assert [clip.speaker for clip in split.test] == ["dan"]
    assert protocol.hash != PROTOCOL.hash
    assert Protocol.from_dict(protocol.to_dict()) == protocol


def test_without_validation_no_text_is_held_out():
    shared = Protocol("two", "toy", (Fold("f", ("ann",), ("ann",), ("bob",)),), shared_validation=True)
    clips = clips_of("ann", "bob", texts=("one", "two"))
    split = shared.without_validation().split(clips, 0)
    assert [len(name) for _, name in split.items()] == [2, 0, 2]


def test_shared_validation_holds_out_whole_texts_of_the_training_speaker():
    texts = [f"word{index}" for index in range(30)]
    clips = clips_of("ann", "bob", texts=texts)
    protocol = Protocol(
        "toy", "toy", (Fold("f", ("ann",), ("ann",), ("bob",)),), shared_validation=True, seed=3
    )
    split = protocol.split(clips, 0)
    assert len(split.validation) == 3
    assert {clip.text for clip in split.validation}.isdisjoint({clip.text for clip in split.train})
    assert {clip.speaker for clip in (*split.train, *split.validation)} == {"ann"}
    assert [clip.speaker for clip in split.test] == ["bob"] * 30
    assert protocol.split(clips[::-1], 0).validation == split.validation[::-1]
    assert replace(protocol, seed=4).split(clips, 0).validation != split.validation


def test_shared_validation_needs_texts_and_the_same_speakers():
    protocol = Protocol("toy", "toy", (Fold("f", ("ann",), ("ann",), ("bob",)),), shared_validation=True)
    with pytest.raises(CorpusError, match=r"text=None, and two texts.* Give every clip its text"):
        protocol.split([Clip(Path("a.wav"), "sad", speaker="ann"), *clips_of("bob")], 0)
    with pytest.raises(CorpusError, match="every clip has text='one', and two texts at least"):
        protocol.split(clips_of("ann", "bob"), 0)
    with pytest.raises(CorpusError, match="train is empty"):
        protocol.split(clips_of("bob"), 0)
    with pytest.raises(CorpusError, match="needs the same speakers in train"):
        replace(protocol, folds=(FOLD,)).split(clips_of("ann", "cat", "dan"), 0)


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
    assert all(set(members) <= set(dict(whole.items())[name]) for name, members in fewer.items())
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
        replace(PROTOCOL, shared_validation=True),
        replace(PROTOCOL, seed=1),
    ]
    assert len({PROTOCOL.hash, *(protocol.hash for protocol in changed)}) == 1 + len(changed)


OFFICIAL = Protocol("official", "toy", (Fold("f", ("train",), ("validation",), ("test",)),), unit="split")


def test_one_rule_over_other_clips_is_another_split():
    """Two test sets of one corpus, or two manifests that name no corpus, share a protocol's hash."""
    names = ("train", "validation", "test")
    clips = [clip for name in names for clip in clips_of(name, texts=("one", "two"), split=name)]
    first = OFFICIAL.split(clips, 0)
    others = [
        Split(first.train, first.validation, first.test[:1]),
        Split(first.train, first.test, first.validation),
        replace(first, test=(first.test[0], replace(first.test[1], path=Path("other/x.wav")))),
        replace(first, test=(first.test[0], replace(first.test[1], end_s=1.0))),
        replace(first, test=(first.test[0], replace(first.test[1], corpus="other"))),
    ]
    assert len({first.digest, *(split.digest for split in others)}) == 1 + len(others)


def test_the_digest_depends_neither_on_the_order_nor_on_where_the_corpus_lies():
    clips = clips_of("ann", "bob", "cat", "dan", texts=("one", "two"))
    moved = [replace(clip, path=Path("/data/toy") / clip.path) for clip in clips[::-1]]
    assert PROTOCOL.split(clips, 0).digest == PROTOCOL.split(moved, 0).digest
    assert len(PROTOCOL.split(clips, 0).digest) == 64


def test_the_hash_is_the_same_in_another_process():
    code = (
        "from wavshap_lightning.corpora.splits import Fold, Protocol;"
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
