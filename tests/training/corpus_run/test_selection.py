"""Clips that are explained: the test split of the protocol that the model was trained with."""

from __future__ import annotations

import pytest

from wavshap_lightning.corpora.manifest import read_manifest
from wavshap_lightning.corpora.protocols import build_protocol, split_digest
from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.training.corpus_run.selection import select_clips


@pytest.fixture
def choose(corpus, tmp_path):
    """`(trained={}, **wanted) -> ClipSelection` of the usual corpus."""

    def choose(trained=None, **wanted):
        asked = {"corpus": "manifest", "root": str(corpus), "options": {}, **wanted}
        return select_clips(**asked, trained=trained or {}, cache_directory=tmp_path)

    return choose


@pytest.fixture
def trained(corpus):
    """The record of a model that was trained on the third of four folds by speaker."""
    clips = read_manifest(corpus)
    protocol = build_protocol("leave-one-speaker-out", clips)
    split = protocol.split(clips, 2)
    more = {"hash": protocol.hash, "fold": 2, "digest": split_digest(split), "clips": {}}
    return {**protocol.to_dict(), **more}, split


def chosen_clips(chosen):
    return [chosen.clips[position] for position in chosen.positions]


def test_without_a_protocol_of_the_model_the_corpus_has_its_own(choose):
    chosen = choose()
    assert {clip.speaker for clip in chosen_clips(chosen)} == {"di"}
    assert (len(chosen.clips), len(chosen.positions)) == (25, 6)
    assert chosen.description == "the test clips of manifest (small-official, official)"


@pytest.mark.parametrize("split_name", ["train", "validation", "test"])
def test_the_protocol_and_fold_of_the_model_decide(choose, trained, split_name):
    record, split = trained
    chosen = choose(record, split=split_name)
    assert tuple(chosen_clips(chosen)) == split[split_name]
    assert not chosen.warning


def test_another_fold_can_be_asked_for(choose, trained):
    speakers = [
        {clip.speaker for clip in chosen_clips(choose(trained[0], fold=fold))} for fold in (None, 2, 0)
    ]
    assert speakers[0] == speakers[1] != speakers[2]


def test_a_model_of_another_corpus_says_nothing_of_this_one(choose, trained):
    record, _ = trained
    chosen = choose({**record, "corpus": "elsewhere"})
    assert {clip.speaker for clip in chosen_clips(chosen)} == {"di"}


def test_everything(choose):
    assert choose(split="all").positions == tuple(range(25))


def test_a_limit_is_drawn_class_by_class_in_the_order_of_the_corpus(choose):
    chosen = choose(split="all", limit=6)
    assert (
        sorted(clip.label for clip in chosen_clips(chosen)) == ["happy"] * 2 + ["neutral"] * 2 + ["sad"] * 2
    )
    assert list(chosen.positions) == sorted(chosen.positions)
    assert (
        chosen.positions
        == choose(split="all", limit=6).positions
        != choose(split="all", limit=6, seed=1).positions
    )
    assert len(choose(limit=1).positions) == 1  # fewer than there are classes
    assert len(choose(limit=99).positions) == 6
    assert chosen.description.startswith("6 of all clips")


def test_clips_that_are_divided_otherwise_are_told(choose, corpus):
    clips = read_manifest(corpus)
    protocol = build_protocol("official", clips)
    record = {**protocol.to_dict(), "fold": 0, "digest": split_digest(protocol.split(clips[:-1], 0))}
    assert "it may have been trained on some of them" in choose(record).warning
    assert not choose({**record, "digest": split_digest(protocol.split(clips, 0))}).warning


@pytest.mark.parametrize(
    ("wanted", "error", "said"),
    [
        ({"limit": 0}, SettingError, "limit=0 must be at least 1"),
        ({"root": None}, SettingError, "root=None: say where corpus='manifest' lies"),
        ({"fold": 3}, CorpusError, "fold=3 must lie in"),
        ({"corpus": "nowhere"}, CorpusError, "must be one of ravdess"),
    ],
)
def test_what_cannot_be_is_refused(choose, wanted, error, said):
    with pytest.raises(error, match=said):
        choose(**wanted)


def test_a_split_without_clips_is_refused(choose, corpus):
    clips = read_manifest(corpus)
    protocol = build_protocol("leave-one-speaker-out", clips).without_validation()
    with pytest.raises(SettingError, match="split='validation': no clip of manifest is in it"):
        choose({**protocol.to_dict(), "fold": 0}, split="validation")
