"""A corpus run: its clips are those of the model's protocol, and each is explained once and recorded."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from wavshap_lightning.corpora.manifest import read_manifest
from wavshap_lightning.corpora.protocols import build_protocol, split_digest
from wavshap_lightning.errors import CorpusError, SettingError
from wavshap_lightning.training.corpus_run import (
    COLUMNS,
    ClipRecord,
    ClipRecords,
    CorpusRun,
    emotion_rows,
    select_clips,
)
from wavshap_lightning.viz.report.summary import summarize

SHARES = {
    "target": "sad",
    "labels": ["happy", "sad"],
    "parts": {"thirds": {"start": 0.1, "middle": 0.2, "end": 0.7}},
    "edges_hz": [0.0, 1e3],
}


@pytest.fixture
def records(tmp_path):
    return ClipRecords(tmp_path)


@pytest.fixture
def written(records, tmp_path):
    """The record of a clip called `a`, whose numbers are there."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.json").write_text("{}")
    np.savez(tmp_path / "clips" / "a.npz", frames=np.zeros(3))
    record = ClipRecord("key", {"clip": "a \udcff.wav"}, SHARES)
    records.write("a", record)
    return record


def test_what_is_written_is_read(records, written):
    assert records.read("a") == written
    assert list(records.read("a").shares["parts"]["thirds"]) == ["start", "middle", "end"]
    assert records.read("b") is None


def test_a_clip_is_finished_if_its_key_is_the_same_and_its_numbers_are_there(records, written, tmp_path):
    assert records.is_finished("a", "key")
    assert not records.is_finished("a", "another")
    assert not records.is_finished("b", "key")
    arrays = tmp_path / "clips" / "a.npz"
    arrays.write_bytes(arrays.read_bytes()[:-1])
    assert not records.is_finished("a", "key")
    (tmp_path / "clips" / "a.json").unlink()
    assert not records.is_finished("a", "key")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"key": "key"}', b"\xff\xfe"])
def test_what_is_no_record_is_none(records, written, tmp_path, content):
    (tmp_path / "records" / "a.json").write_bytes(content)
    assert records.read("a") is None


def test_a_record_of_another_version_is_none(records, written, tmp_path):
    path = tmp_path / "records" / "a.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mood": "good"}))
    assert records.read("a") is None


def test_a_failure_is_never_finished(records, tmp_path):
    records.write("a", ClipRecord("", {"status": "failed"}))
    assert records.read("a").row == {"status": "failed"}
    assert not records.is_finished("a", "")
    records.remove("a")
    records.remove("a")
    assert records.read("a") is None


def test_partly_written_files_are_removed_and_nothing_else(records, written, tmp_path):
    draft = tmp_path / "clips" / ".0123.unfinished"
    draft.write_bytes(b"num")
    records.remove_unfinished()
    assert not draft.exists()
    assert records.is_finished("a", "key")


@pytest.fixture(scope="module")
def clips(corpus):
    return read_manifest(corpus)


@pytest.fixture
def set_up(build_trainer):
    """`(run, number, world_size, told) -> run` on one process, which is told what the first one found."""

    def set_up(run, number, world_size, told):
        trainer = build_trainer()
        trainer._accelerator_connector.strategy = SimpleNamespace(
            broadcast=lambda found: told if number else found,
            global_rank=number,
            is_global_zero=number == 0,
            world_size=world_size,
        )
        run.trainer = trainer
        run.setup("predict")
        return run

    return set_up


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("num_pending", [0, 1, 5, 25])
def test_every_pending_clip_falls_to_one_process(clips, build_module, set_up, world_size, num_pending):
    pending, classifier = list(range(num_pending)), build_module().classifier
    calls, told = [], []

    def find_pending():
        calls.append(1)
        return pending

    shares = []
    for number in range(world_size):
        run = CorpusRun(classifier, clips, find_pending, lambda position: None)
        told = set_up(run, number, world_size, told).pending
        shares.append(list(run.predict_dataloader()))
    assert sorted(position for share in shares for position in share) == pending
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert len(calls) == 1  # the others are told


def test_the_longest_come_first_and_what_cannot_be_read_last(clips, tmp_path, build_module, set_up):
    clips = [*clips, replace(clips[0], path=tmp_path / "gone.wav"), replace(clips[1], start_s=0.1, end_s=5.0)]
    run = CorpusRun(build_module().classifier, clips, lambda: list(range(len(clips))), lambda position: None)
    order = set_up(run, 0, 1, None).pending
    assert (order[0], order[-1]) == (26, 25)
    seconds = [soundfile.info(clips[position].path).duration for position in order[1:-1]]
    assert seconds == sorted(seconds, reverse=True)


@pytest.fixture
def build_step(build_module, build_trainer):
    """`(explain, local_rank=0) -> predict_step` on a process of that number."""

    def build_step(explain, local_rank=0):
        run = CorpusRun(build_module().classifier, [], list, explain)
        run.trainer = build_trainer()
        run.trainer.strategy.local_rank = local_rank
        return run.predict_step

    return build_step


def test_a_clip_is_explained_on_one_thread_with_gradients(build_step, threads):
    found = []

    def explain(position):
        assert threads == [1]
        weight = torch.ones(1, requires_grad=True)
        found.append(torch.autograd.grad((position * weight).sum(), weight)[0].item())

    with torch.inference_mode():
        build_step(explain)(3)
    assert found == [3.0]
    assert threads == [4]


def test_a_process_that_was_left_alone_stops(build_step, monkeypatch):
    """The first process may well outlive the shell that it was started from."""
    monkeypatch.setattr(os, "getppid", lambda: 2)
    steps = [build_step(lambda position: None, local_rank) for local_rank in (0, 1)]
    assert [step(3) for step in steps] == [3, 3]
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert steps[0](3) == 3
    with pytest.raises(SystemExit, match="is gone"):
        steps[1](3)


def clip(start, target="sad"):
    thirds = {"start": start, "middle": 0.5 - start, "end": 0.5}
    return {"target": target, "labels": ["happy", "sad"], "parts": {"thirds": thirds}, "edges_hz": []}


def test_a_row_a_part_with_its_interval():
    heard = summarize([*[clip(0.1 * (1 + index % 3)) for index in range(6)], clip(0.25, "happy")])
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in emotion_rows(heard)]
    assert [(row["target"], row["part"]) for row in rows] == [
        (target, part) for target in ("happy", "sad") for part in ("start", "middle", "end")
    ]
    alone, first = rows[0], rows[3]
    assert alone == {
        "target": "happy", "clips": "1", "kind": "thirds", "part": "start",
        "share": "0.25", "low": "", "high": "", "n": "1",
    }  # fmt: skip
    assert (first["share"], first["clips"], first["n"]) == ("0.2", "6", "6")
    assert 0.1 < float(first["low"]) < 0.2 < float(first["high"]) < 0.3
    (shares,) = heard[1].shares.values()
    assert float(first["low"]) == round(float(shares.low[0]), 6)


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
        ({"root": None}, SettingError, "root=None: corpus='manifest' needs its folder"),
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
    with pytest.raises(SettingError, match="split='validation': empty under protocol="):
        choose({**protocol.to_dict(), "fold": 0}, split="validation")
