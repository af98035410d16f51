"""The command line of training: what a person types, sees and gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from wavshap_lightning.cli.train import main
from wavshap_lightning.models.loading import load_classifier

pytestmark = pytest.mark.usefixtures("surroundings")


def test_the_demo_leaves_a_whole_run(flags, read_csv, capsys):
    main(flags(wandb="offline"))
    run = Path("runs/demo/version_0")
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {path for path in files if not path.startswith("wandb/")} == {
        "config.yaml",
        "protocol.json",
        "hparams.yaml",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "test.json",
        "test_confusion.csv",
        "test_reliability.csv",
        "test_reliability.png",
        "test_speakers.csv",
    }
    assert any(path.startswith("wandb/offline-run-") and path.endswith(".wandb") for path in files)
    rows = read_csv(run / "metrics.csv")
    epochs = [row for row in rows if row["val/uar"]]
    assert [row["epoch"] for row in epochs] == ["0", "1"]
    assert len([row for row in rows if row["train/loss"]]) == 2
    assert len([row for row in rows if row["learning_rate/head"]]) == 2
    (tested,) = [row["test/uar"] for row in rows if row["test/uar"]]
    assert json.loads((run / "test.json").read_text())["uar"] == pytest.approx(float(tested))
    assert load_classifier(run / "checkpoints" / "best.ckpt").labels == ("neutral", "happy")
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-4:] == [
        f"Best val UAR     {max(float(row['val/uar']) for row in epochs):.3f}",
        "Run folder       runs/demo/version_0",
        "W&B              wandb sync runs/demo/version_0/wandb/offline-run-*",
        "Next             python explain.py runs/demo/version_0/checkpoints/best.ckpt CLIP.wav",
    ]
    assert "DataLoader 0" not in shown.out
    assert "WARNING" not in shown.err


def test_a_configuration_that_was_stored_runs_again(flags, read_csv, weights):
    main(flags())
    main(["fit", "--config", "runs/demo/version_0/config.yaml"])
    first, second = (read_csv(f"runs/demo/version_{number}/metrics.csv") for number in (0, 1))
    assert first == second
    a, b = (weights(f"runs/demo/version_{number}/checkpoints/last.ckpt") for number in (0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_without_validation_all_others_train_and_the_last_epoch_is_kept(flags, read_csv, weights, capsys):
    main(flags("fit", "--data.validation", "false"))
    run = Path("runs/demo/version_0")
    protocol = json.loads((run / "protocol.json").read_text())
    assert protocol["name"] == "planted-official-no-validation"
    assert protocol["clips"] == {"train": 8, "validation": 0, "test": 4}
    rows = read_csv(run / "metrics.csv")
    assert not any(name.startswith("val/") for name in rows[0])
    assert 0 <= float(rows[-1]["test/uar"]) <= 1
    best, last = (weights(run / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    assert all(torch.equal(best[name], last[name]) for name in last)
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].endswith(
        "explain.py runs/demo/version_0/checkpoints/best.ckpt CLIP.wav"
    )
    assert "Best val UAR" not in shown.out
    assert "WARNING" not in shown.err


def test_another_seed_gives_another_run(flags, read_csv):
    main(flags())
    main(flags("fit", "--seed_everything", 1))
    first, second = (read_csv(f"runs/demo/version_{number}/metrics.csv") for number in (0, 1))
    assert [row["train/loss"] for row in first] != [row["train/loss"] for row in second]


@pytest.mark.slow
def test_a_temperature_is_fitted_on_the_validation_clips(flags):
    main(flags("fit", "--run.temperature", "true", epochs=1))
    run = Path("runs/demo/version_0")
    test, validation = (json.loads((run / f"{split}.json").read_text()) for split in ("test", "validation"))
    assert test["temperature"] > 0.0
    assert {"ece", "scaled_ece"} <= test.keys()
    assert "temperature" not in validation  # it would be scored on the clips it was fitted on
    main(flags("fit", epochs=1))
    without = json.loads(Path("runs/demo/version_1/test.json").read_text())
    assert without == {
        name: value for name, value in test.items() if name not in ("temperature", "scaled_ece")
    }


def test_a_temperature_needs_validation_clips(flags, run_main, capsys):
    run_main(flags("fit", "--run.temperature", "true", "--data.validation", "false"), code=2)
    assert "run.temperature=true needs validation clips" in capsys.readouterr().err


@pytest.mark.slow
def test_a_fresh_process_tests_the_best_checkpoint_quietly(flags, run_program):
    main(flags())
    done = run_program(None, *flags("test", "--ckpt_path", "best"))
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(Path(f"runs/demo/version_{n}/test.json").read_text()) for n in (0, 1))
    assert first.pop("protocol") == second.pop("protocol")
    assert first == pytest.approx(second)
    lines = done.stderr.splitlines()
    assert [line.split(" ━")[0].rstrip() for line in lines if line.strip()] == ["Testing"]
    assert done.stdout.splitlines()[-4].startswith("Test             UAR")


def test_a_run_can_be_watched_and_cut_down(flags, capsys):
    """Each of these once broke, or could."""
    main(flags("fit", "--trainer.enable_progress_bar", "false", "--trainer.logger", "false"))
    main(flags("fit", "--trainer.callbacks", "DeviceStatsMonitor", "--trainer.log_every_n_steps", 1))
    capsys.readouterr()
    main(flags("fit", "--trainer.fast_dev_run", "true"))
    assert "nothing is tested" in capsys.readouterr().out
    main(flags("fit", "--run.patience", 1, "--run.tensorboard", "true"))


def test_a_run_without_loggers_has_its_folder_all_the_same(flags):
    main(flags("fit", "--trainer.logger", "false"))
    assert [path.name for path in Path().iterdir()] == ["runs"]
    names = {path.name for path in Path("runs/demo/version_0").iterdir()}
    assert {"checkpoints", "config.yaml", "protocol.json", "test.json"} <= names


def test_checkpoints_of_a_users_own_kind_replace_ours(flags):
    """Lightning refuses two."""
    main(flags("fit", "--trainer.plugins", "lightning.pytorch.plugins.AsyncCheckpointIO"))
    assert Path("runs/demo/version_0/checkpoints/last.ckpt").is_file()


def test_an_augmentation_can_be_named_on_the_command_line(flags):
    pytest.importorskip("audiomentations", reason="the augment extra is not installed")
    main(flags("fit", "--data.transform", "audiomentations.Gain", "--data.transform.p", 1.0))
    config = yaml.safe_load(Path("runs/demo/version_0/config.yaml").read_text())
    assert config["data"]["transform"]["class_path"] == "audiomentations.Gain"
