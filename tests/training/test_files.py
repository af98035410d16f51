"""JSON and CSV as they are read back."""

from __future__ import annotations

import csv
import json

import pytest

from wavshap_lightning.files import from_here, write_csv, write_json


def test_json_is_read_back(tmp_path):
    content = {"name": "Grüße", "values": [1, 2.5, None]}
    write_json(tmp_path / "deep" / "a.json", content)
    text = (tmp_path / "deep" / "a.json").read_text("utf-8")
    assert json.loads(text) == content
    assert "Grüße" in text


def test_csv_is_read_back(tmp_path):
    rows = [["label", "a, b"], ["x", "1"], ["ü", ""]]
    write_csv(tmp_path / "a.csv", rows)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == rows


def test_csv_lines_end_alike_on_every_system(tmp_path):
    write_csv(tmp_path / "a.csv", [["clip", "wa"], ["one, two", 0.5]])
    assert (tmp_path / "a.csv").read_bytes() == b'clip,wa\n"one, two",0.5\n'


def test_what_json_cannot_say_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"fine": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"bad": object()})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"fine": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_path_is_named_as_one_would_type_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(from_here(tmp_path / "runs" / "demo")) == "runs/demo"
    assert str(from_here("runs/demo")) == "runs/demo"
    assert from_here(tmp_path.parent) == tmp_path.parent
