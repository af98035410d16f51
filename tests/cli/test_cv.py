"""Cross-validation from the command line: a run a fold, and finished folds are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wavshap_lightning.cli.train import main

# Lightning calls jsonargparse by a name that is going to change.
pytestmark = [
    pytest.mark.usefixtures("surroundings"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


def test_every_fold_of_a_cross_validation_is_a_run(flags, read_csv, capsys):
    main(flags("cv", "--data.protocol", "leave-one-speaker-out", "--run.name", "all/folds"))
    home = Path("runs/all/folds/version_0")
    summary = json.loads((home / "cv.json").read_text())
    assert {"folds", "uar", "uar_low", "uar_high", "wa", "macro_f1", "protocol"} <= summary.keys()
    assert [fold["fold"] for fold in summary["folds"]] == [0, 1, 2]
    assert summary["uar"] == pytest.approx(sum(fold["uar"] for fold in summary["folds"]) / 3)
    rows = read_csv(home / "cv.csv")
    assert [row["folder"] for row in rows] == [f"{home}/fold_{fold}" for fold in range(3)]
    assert len({row["test_speakers"] for row in rows}) == 3
    for fold, row in enumerate(rows):
        folder = Path(row["folder"])
        protocol = json.loads((folder / "protocol.json").read_text())
        groups = protocol["folds"][fold]
        assert protocol["fold"] == fold
        assert groups["test"] == row["test_speakers"].split()
        assert not set(groups["validation"]) & set(groups["test"])
        assert not set(groups["train"]) & {*groups["test"], *groups["validation"]}
        assert json.loads((folder / "test.json").read_text())["uar"] == pytest.approx(float(row["uar"]))
        assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert f"Written to       {home}/cv.json and cv.csv" in capsys.readouterr().out
