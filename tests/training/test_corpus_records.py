"""Records of clips: finished means explained from the same content, with files that are whole."""

from __future__ import annotations

import json

import pytest

from wavshap_lightning.training.corpus_run.records import Record, Records, digest_of
from wavshap_lightning.viz.report.summary import ClipShares

SHARES = ClipShares(
    "sad", ("happy", "sad"), {"thirds": {"start": 0.1, "middle": 0.2, "end": 0.7}}, (0.0, 1e3)
)


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path)


@pytest.fixture
def written(records, tmp_path):
    """The record of a clip called `a`."""
    (tmp_path / "clips").mkdir()
    path = tmp_path / "clips" / "a.npz"
    path.write_bytes(b"numbers")
    record = Record("key", {"clip": "a \udcff.wav"}, 1.5, SHARES, records.digest_files([path]))
    records.write("a", record)
    return record


def test_what_is_written_is_read(records, written):
    assert records.read("a") == written
    assert list(records.read("a").shares.parts["thirds"]) == ["start", "middle", "end"]
    assert records.read("b") is None
    assert list(written.files) == ["clips/a.npz"]


def test_the_same_record_is_the_same_bytes(records, written, tmp_path):
    before = (tmp_path / "records" / "a.json").read_bytes()
    records.write("a", written)
    assert (tmp_path / "records" / "a.json").read_bytes() == before


def test_a_clip_is_finished_where_all_is_well(records, written):
    assert records.is_finished("a", lambda: "key")
    assert not records.is_finished("a", lambda: "another")
    assert not records.is_finished("b", lambda: "key")


def test_a_file_that_changed_is_not_finished(records, written, tmp_path):
    (tmp_path / "clips" / "a.npz").write_bytes(b"numberz")
    assert not records.is_finished("a", lambda: "key")
    (tmp_path / "clips" / "a.npz").unlink()
    assert not records.is_finished("a", lambda: "key")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"sha256": "0"}', b"\xff\xfe"])
def test_what_is_no_record_is_none(records, written, tmp_path, content):
    (tmp_path / "records" / "a.json").write_bytes(content)
    assert records.read("a") is None


def test_a_record_that_was_edited_is_none(records, written, tmp_path):
    path = tmp_path / "records" / "a.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "duration_s": 2.0}))
    assert records.read("a") is None


def test_a_record_of_another_version_is_none(records, written, tmp_path):
    path = tmp_path / "records" / "a.json"
    fields = {name: value for name, value in json.loads(path.read_text()).items() if name != "sha256"}
    fields["mood"] = "good"
    path.write_text(json.dumps({**fields, "sha256": digest_of(fields)}))
    assert records.read("a") is None


def test_a_failure_is_never_finished(records):
    records.write("a", Record("", {"status": "failed"}))
    assert records.read("a").row == {"status": "failed"}
    assert not records.is_finished("a", lambda: "")
    records.forget("a")
    records.forget("a")
    assert records.read("a") is None


def test_sweeping_removes_what_was_begun_and_nothing_else(records, written, tmp_path):
    draft = tmp_path / "clips" / ".0123.unfinished"
    draft.write_bytes(b"num")
    records.sweep()
    assert not draft.exists()
    assert records.is_finished("a", lambda: "key")
