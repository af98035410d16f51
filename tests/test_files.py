"""A file is written whole or not at all."""

from __future__ import annotations

import json
import os
import threading

import pytest

from wavshap_lightning.files import parse_csv, write_atomically, write_csv, write_json


def test_the_file_and_its_folder_appear(tmp_path):
    write_atomically(tmp_path / "new/folder/a.bin", b"first")
    write_atomically(tmp_path / "new/folder/a.bin", b"second")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "new/folder").iterdir()] == [
        ("a.bin", b"second")
    ]


def test_a_name_that_is_no_text_can_be_written(tmp_path):
    name = os.fsdecode(b"m\xfcde.wav")
    write_json(tmp_path / "a.json", {"path": name})
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": name}
    write_csv(tmp_path / "a.csv", [["path"], [name]])
    assert (tmp_path / "a.csv").read_text() == "path\nm\\udcfcde.wav\n"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    def break_off(*_args):
        raise OSError(28, "No space left on device")

    write_atomically(tmp_path / "a.bin", b"old")
    monkeypatch.setattr(os, step, break_off)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a.bin", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.bin", b"old")]


def test_the_bytes_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _number: seen.append((tmp_path / "a.bin").exists()))
    write_atomically(tmp_path / "a.bin", b"x")
    assert seen == [False]


def test_threads_that_write_one_file_do_not_disturb_each_other(tmp_path):
    start, faults = threading.Barrier(4), []

    def write(content):
        start.wait()
        for _ in range(20):
            try:
                write_atomically(tmp_path / "a.bin", content)
            except OSError as fault:
                faults.append(fault)

    threads = [threading.Thread(target=write, args=(bytes([index]) * 1_000,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(set((tmp_path / "a.bin").read_bytes())) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_long_name_leaves_room_for_the_draft(tmp_path):
    write_atomically(tmp_path / ("a" * 255), b"x")
    assert (tmp_path / ("a" * 255)).read_bytes() == b"x"


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1.5,x\n",
        "sep=;\r\na;b;;\r\n\r\n1,5; x ;;\r\n;;;\r\n",
        '"sep=,"\ra,b\r1.5,x',
        '"a"|"b"\n"1.5"|x\n',
        "a\tb\n1.5\tx\n",
    ],
)
def test_delimited_text_is_the_same_with_every_delimiter(text):
    assert [cells for _, cells in parse_csv(text)] == [["a", "b"], ["1.5", "x"]]


def test_signs_in_quotes_do_not_choose_the_delimiter_and_lines_are_counted():
    rows = [*parse_csv('a;"b, c, d"\n1;"two\nlines"\n2\n')]
    assert rows == [(1, ["a", "b, c, d"]), (2, ["1", "two\nlines"]), (4, ["2", ""])]
