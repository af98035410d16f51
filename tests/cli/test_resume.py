"""Stopping and going on: a run that was cut off ends as one that was not."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from wavshap_lightning.cli.terminal import EXIT_INTERRUPTED
from wavshap_lightning.cli.train import main
from wavshap_lightning.training import module
from wavshap_lightning.training.callbacks import ReproducibleEpochs

pytestmark = pytest.mark.usefixtures("surroundings")


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(flags, run_program, weights):
    program = """
        import os, signal, sys
        from wavshap_lightning.cli.train import main
        from wavshap_lightning.training.callbacks import ReproducibleEpochs

        def kill(self, trainer, *_):
            if trainer.current_epoch == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        ReproducibleEpochs.on_train_batch_end = kill
        main(sys.argv[1:])
    """
    options = {"clips_per_speaker_and_label": 3}
    main(flags("fit", "--run.name", "straight", epochs=4, **options))
    assert run_program(program, *flags("fit", epochs=4, **options)).returncode == -signal.SIGKILL
    killed = Path("runs/demo/version_0")
    assert torch.load(killed / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    main(flags("fit", "--ckpt_path", "last", epochs=4, **options))
    assert [path.name for path in Path("runs/demo").iterdir()] == ["version_0"]
    straight = Path("runs/straight/version_0")
    for name in ("last", "best"):
        expected, found = (weights(run / "checkpoints" / f"{name}.ckpt") for run in (straight, killed))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected), name
    assert (killed / "metrics.csv").read_text() == (straight / "metrics.csv").read_text()


def test_an_interrupted_run_says_how_to_go_on(flags, read_csv, run_main, monkeypatch, capsys):
    def interrupt(self, trainer, *_):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ReproducibleEpochs, "on_train_batch_start", interrupt)
        run_main(flags("fit", "--run.name", "other"), code=EXIT_INTERRUPTED)
    shown = capsys.readouterr().err
    (advice,) = [line.split(maxsplit=4)[4] for line in shown.splitlines() if line.startswith("Resume with")]
    run = "runs/other/version_0"
    assert advice == f"fit --config {run}/config.yaml --ckpt_path {run}/checkpoints/last.ckpt"
    main(advice.split())
    assert [row["epoch"] for row in read_csv(f"{run}/metrics.csv") if row["val/uar"]] == ["0", "1"]
    assert not Path("runs/other/version_1").exists()


def test_a_run_interrupted_at_once_has_nothing_to_go_on_from(flags, run_main, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ReproducibleEpochs, "on_train_batch_start", interrupt)
    run_main(flags(), code=EXIT_INTERRUPTED)
    assert "Resume with" not in capsys.readouterr().err


def test_the_configuration_of_a_run_that_went_on_repeats_it_from_its_start(flags, read_csv):
    main(flags(epochs=1))
    run = "runs/demo/version_0"
    main(["fit", "--config", f"{run}/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "2"])
    main(["fit", "--config", f"{run}/config.yaml"])
    rows = read_csv("runs/demo/version_1/metrics.csv")
    assert [row["epoch"] for row in rows if row["val/uar"]] == ["0", "1"]


def test_a_run_that_was_moved_keeps_its_best_checkpoint(flags, weights, monkeypatch):
    """What it knows of the best epoch stands under the folder's old name."""
    main(flags(epochs=2))
    best = weights("runs/demo/version_0/checkpoints/best.ckpt")
    Path("runs").rename("moved")
    score = module.score_predictions
    monkeypatch.setattr(module, "score_predictions", lambda found: dict.fromkeys(score(found), -1.0))
    last = "moved/demo/version_0/checkpoints/last.ckpt"
    main(flags("fit", "--run.directory", "moved", "--ckpt_path", last, epochs=3))
    found = weights("moved/demo/version_0/checkpoints/best.ckpt")
    assert all(torch.equal(best[name], found[name]) for name in best)


@pytest.mark.filterwarnings(
    "ignore:The dirpath has changed"
)  # Lightning's, and true: the best one lies elsewhere
def test_a_checkpoint_from_elsewhere_begins_a_new_run(flags):
    main(flags(epochs=1))
    Path("runs/demo/version_0/checkpoints/last.ckpt").rename("last.ckpt")
    main(flags("fit", "--ckpt_path", "last.ckpt"))
    assert sorted(path.name for path in Path("runs/demo").iterdir()) == ["version_0", "version_1"]
