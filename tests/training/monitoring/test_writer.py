"""One table of all epochs, whole at any time."""

from __future__ import annotations

import csv

from wavshap_lightning.training.monitoring.writer import write_rows


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_columns_are_those_of_all_rows_and_known_ones_come_first(tmp_path):
    path = tmp_path / "explanations.csv"
    write_rows(path, "validation", 0, [{"clip": "a", "gap/frames": 0.5}])
    write_rows(path, "validation", 1, [{"clip": "a", "drift/first": 0.9}])
    rows = read(path)
    assert list(rows[0])[:4] == ["part", "epoch", "scope", "clip"]
    assert [(row["gap/frames"], row["drift/first"]) for row in rows] == [("0.5", ""), ("", "0.9")]


def test_an_epoch_that_is_repeated_takes_the_place_of_what_was_there_and_after(tmp_path):
    path = tmp_path / "explanations.csv"
    for epoch in range(3):
        write_rows(path, "validation", epoch, [{"clip": f"old {epoch}"}])
    write_rows(path, "test", 3, [{"clip": "tested"}])
    write_rows(path, "validation", 1, [{"clip": "new"}])
    assert [row["clip"] for row in read(path)] == ["old 0", "tested", "new"]
