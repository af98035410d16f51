"""Cross-validation from the command line: a run a fold, and finished folds are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wavshap_lightning.cli.terminal import EXIT_INTERRUPTED, EXIT_USAGE
from wavshap_lightning.cli.train import main
from wavshap_lightning.training.callbacks import ReproducibleEpochs
from wavshap_lightning.training.module import EmotionModule

pytestmark = pytest.mark.usefixtures("surroundings")


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


LEAVE_ONE_OUT = ("--data.protocol", "leave-one-speaker-out")


@pytest.fixture
def cut_off(flags, run_main, monkeypatch, capsys):
    """The folder of a cross-validation that was interrupted in the second epoch of its second fold."""

    def interrupt(self, trainer, *_):
        if trainer.datamodule.fold == 1 and trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ReproducibleEpochs, "on_train_batch_end", interrupt)
        run_main(flags("cv", *LEAVE_ONE_OUT), code=EXIT_INTERRUPTED)
    folder = "runs/demo/version_0"
    advice = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Resume with")]
    assert advice == [f"Resume with      python train.py cv --config {folder}/config.yaml --folder {folder}"]
    return Path(folder)


@pytest.mark.slow
def test_finished_folds_are_kept_and_the_end_is_that_of_a_straight_run(cut_off, flags, monkeypatch):
    trained, setup = [], EmotionModule.setup
    monkeypatch.setattr(
        EmotionModule, "setup", lambda self, stage: trained.append(stage) or setup(self, stage)
    )
    kept = (cut_off / "fold_0" / "checkpoints" / "last.ckpt").read_bytes()
    main(["cv", "--config", f"{cut_off}/config.yaml", "--folder", str(cut_off)])
    assert trained == ["fit", "test"] * 2
    assert (cut_off / "fold_0" / "checkpoints" / "last.ckpt").read_bytes() == kept
    main(flags("cv", *LEAVE_ONE_OUT, "--run.name", "straight"))
    straight = Path("runs/straight/version_0")
    found, expected = (json.loads((folder / "cv.json").read_text()) for folder in (cut_off, straight))
    for fold in (*found["folds"], *expected["folds"]):
        del fold["folder"]
    assert found == expected
    for fold in range(3):
        tables = [(folder / f"fold_{fold}" / "metrics.csv").read_text() for folder in (cut_off, straight)]
        assert tables[0] == tables[1]


@pytest.mark.slow
def test_with_all_folds_finished_nothing_is_run(flags, monkeypatch, capsys):
    main(flags("cv", *LEAVE_ONE_OUT, epochs=1))
    home = "runs/demo/version_0"
    before = Path(home, "cv.json").read_bytes()
    monkeypatch.setattr(EmotionModule, "setup", None)
    stored = Path(home, "config.yaml")
    lines = stored.read_text().splitlines()
    # An earlier version had no such option: it counts as the default.
    stored.write_text("\n".join(line for line in lines if line.split() != ["no_agreement:", "drop"]))
    main(["cv", "--config", f"{home}/config.yaml", "--folder", home])
    assert len(stored.read_text().splitlines()) == len(lines) - 1
    assert Path(home, "cv.json").read_bytes() == before
    assert f"{home}/cv.json and cv.csv" in capsys.readouterr().out


@pytest.mark.slow
def test_folds_of_other_settings_are_not_mixed(cut_off, flags, run_main, capsys):
    more = ("--folder", cut_off, "--model.head.dropout", 0.4)
    run_main(flags("cv", *LEAVE_ONE_OUT, *more), code=EXIT_USAGE)
    shown = capsys.readouterr().err
    assert f"folder={cut_off} has other settings" in shown
    assert "+ dropout: 0.4" in shown
    run_main(flags("cv", "--folder", "runs"), code=EXIT_USAGE)
    assert "folder=runs has no config.yaml" in capsys.readouterr().err
