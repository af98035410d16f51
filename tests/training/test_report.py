"""The report says in files and on the screen what the scores say."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from wavshap_lightning.training.cross_validation import Report, bootstrap_uar, confusions_by_speaker
from wavshap_lightning.training.scores import (
    Predictions,
    confusion_counts,
    score_predictions,
    score_speakers,
)

LABELS = ("angry", "happy", "wütend", "absent")
SPEAKERS = ("ann", "bob", "", "ann", "bob", "")
PREDICTED = torch.tensor([0, 1, 2, 1, 0, 2])


@pytest.fixture
def report():
    logits = 3.0 * torch.eye(4)[PREDICTED] - 1.0
    predictions = Predictions(logits, torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))
    return Report("test", LABELS, predictions, SPEAKERS, {"name": "toy", "fold": 2})


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_scores_are_read_back_with_the_protocol(report, tmp_path):
    report.save(tmp_path / "new")
    read = json.loads((tmp_path / "new" / "test.json").read_text(encoding="utf-8"))
    expected = {name: float(value) for name, value in score_predictions(report.predictions).items()}
    unknown = {"uar_low": None, "uar_high": None}  # nobody knows who speaks two of the clips
    assert read == {**expected, **unknown, "protocol": {"name": "toy", "fold": 2}}


def test_the_interval_is_over_speakers(report, tmp_path):
    speakers = ("ann", "bob", "cid", "ann", "bob", "cid")
    Report("test", LABELS, report.predictions, speakers, {}).save(tmp_path)
    read = json.loads((tmp_path / "test.json").read_text(encoding="utf-8"))
    matrices = confusions_by_speaker(report.predictions, speakers)
    expected = bootstrap_uar([matrices], np.random.default_rng(0))
    assert (read["uar"], read["uar_low"], read["uar_high"]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert expected.low < expected.value < expected.high


def test_one_speaker_has_no_interval(report, tmp_path):
    Report("test", LABELS, report.predictions, ("ann",) * 6, {}).save(tmp_path)
    read = json.loads((tmp_path / "test.json").read_text(encoding="utf-8"))
    assert (read["uar_low"], read["uar_high"]) == (None, None)


def test_the_confusion_matrix_is_read_back(report, tmp_path):
    report.save(tmp_path)
    header, *rows = read_csv(tmp_path / "test_confusion.csv")
    assert header == ["label", *LABELS]
    assert [row[0] for row in rows] == list(LABELS)
    assert [[int(count) for count in row[1:]] for row in rows] == confusion_counts(
        report.predictions
    ).tolist()


def test_the_speakers_are_read_back_worst_first(report, tmp_path):
    report.save(tmp_path)
    header, *rows = read_csv(tmp_path / "test_speakers.csv")
    assert header == ["speaker", "num_clips", "uar", "wa"]
    expected = score_speakers(report.predictions, SPEAKERS)
    assert [(row[0], int(row[1]), float(row[2]), float(row[3])) for row in rows] == [
        (score.speaker, score.num_clips, score.uar, score.wa) for score in expected
    ]
    assert rows[-1][0] == ""


def test_parts_do_not_overwrite_each_other(report, tmp_path):
    report.save(tmp_path)
    Report("validation", LABELS, report.predictions, SPEAKERS, {}).save(tmp_path)
    kinds = (".json", "_confusion.csv", "_speakers.csv")
    assert {path.name for path in tmp_path.iterdir()} == {
        part + kind for part in ("test", "validation") for kind in kinds
    }


def shown_by(report):
    console = Console(file=io.StringIO(), width=100)
    report.show(console)
    return console.file.getvalue()


def cells_of(line):
    return [cell.strip() for cell in line.strip(" │┃").replace("┃", "│").split("│")]


def test_the_screen_shows_scores_confusion_and_speakers(report):
    lines = shown_by(report).splitlines()
    rows = {cells[0]: cells for cells in map(cells_of, lines) if len(cells) > 1}
    assert rows["angry"] == ["angry", "1", "1", ".", ".", "0.50"]
    assert rows["wütend"] == ["wütend", ".", ".", "2", ".", "1.00"]
    assert rows["absent"] == ["absent", ".", ".", ".", ".", "-"]
    assert rows["ann"] == ["ann", "2", "0.500", "0.500"]
    assert rows["unknown"] == ["unknown", "2", "1.000", "1.000"]
    assert lines[-1].startswith("Test ")
    assert "UAR 0.667  WA 0.667  macro F1 0.667  ECE 0." in lines[-1]


def test_names_with_brackets_are_shown_as_they_are(report):
    labels = ("[/]", "[red]happy", *LABELS[2:])
    speakers = ("[bold]ann", "[/x]", "", "[bold]ann", "[/x]", "")
    shown = shown_by(Report("test", labels, report.predictions, speakers, {}))
    for name in (*labels, "[bold]ann", "[/x]"):
        assert shown.count(name) >= 1, name
