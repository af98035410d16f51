"""One table of all epochs, whole at any time."""

from __future__ import annotations

import csv

import pytest

from wavshap_lightning.training.monitoring.writer import ExplanationTable, Notes


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_columns_are_those_of_all_rows_and_known_ones_come_first(tmp_path):
    table = ExplanationTable(tmp_path / "explanations.csv")
    table.write("validation", 0, [{"clip": "a", "gap/frames": 0.5}])
    table.write("validation", 1, [{"clip": "a", "drift/first": 0.9}])
    rows = read(table.path)
    assert list(rows[0])[:4] == ["part", "epoch", "scope", "clip"]
    assert [(row["gap/frames"], row["drift/first"]) for row in rows] == [("0.5", ""), ("", "0.9")]


def test_an_epoch_that_is_repeated_takes_the_place_of_what_was_there_and_after(tmp_path):
    path = tmp_path / "explanations.csv"
    before = ExplanationTable(path)
    for epoch in range(3):
        before.write("validation", epoch, [{"clip": f"old {epoch}"}])
    before.write("test", 3, [{"clip": "tested"}])
    ExplanationTable(path).write("validation", 1, [{"clip": "new"}])
    assert [row["clip"] for row in read(path)] == ["old 0", "tested", "new"]


def test_what_went_wrong_is_told_once_with_its_name_and_never_without_words():
    notes = Notes()
    for _ in range(2):
        with notes.instead_of_raising("a clip"):
            raise OSError("disk\nfull")
    with notes.instead_of_raising("another"):
        raise ValueError
    with pytest.warns(UserWarning, match="explanations, epoch 3") as told:
        notes.tell("epoch 3")
    (warning,) = told
    assert str(warning.message) == (
        "explanations, epoch 3: a clip: OSError: disk full; another: ValueError: without a message. "
        "Training goes on"
    )


def test_of_many_the_first_are_told_and_the_others_counted():
    notes = Notes()
    for number in range(8):
        notes.add(f"note {number}")
    with pytest.warns(UserWarning, match=r"note 4; and 3 more\. Training goes on"):
        notes.tell("test")


def test_nothing_is_said_of_nothing_and_an_interruption_is_passed_on(recwarn):
    notes = Notes()
    notes.tell("epoch 0")
    assert not recwarn
    with pytest.raises(KeyboardInterrupt), notes.instead_of_raising("a clip"):
        raise KeyboardInterrupt
