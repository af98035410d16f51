"""Flags of Lightning's trainer: each does what it says, or is refused in a line before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavshap_lightning.cli.terminal import EXIT_USAGE
from wavshap_lightning.cli.train import main

pytestmark = pytest.mark.usefixtures("surroundings")

STOPPING = "--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor"


def test_a_run_that_diverges_ends_with_a_line_and_without_a_checkpoint(flags, run_main, capsys):
    run_main(flags("fit", "--model.optimizer.learning_rate", "1e30"), code=EXIT_USAGE)
    shown = capsys.readouterr()
    (line,) = [line for line in shown.err.splitlines() if "diverged" in line]
    assert "lower model.optimizer.learning_rate=1e+30" in line
    assert "Next" not in shown.out
    assert not list(Path("runs").rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--trainer.precision", "bf16-true"], "precision=bf16-true must be one of 32-true, 16-mixed"),
        (["--trainer.precision", "64"], "precision=64-true must be one of 32-true"),
        (["--trainer.limit_val_batches", "0"], ": set data.validation=false"),
        (["--trainer.limit_test_batches", "0"], ": set run.test=false"),
        (
            ["--trainer.accumulate_grad_batches", "0"],
            "trainer.accumulate_grad_batches=0: it must be above 0",
        ),
        (
            [
                "--trainer.callbacks=EarlyStopping",
                "--trainer.callbacks.monitor=val/loss",
                "--trainer.callbacks.mode=up",
            ],
            "`mode` can be",
        ),
        (
            ["--trainer.enable_checkpointing", "false"],
            "Trainer was configured with `enable_checkpointing=False`",
        ),
        (["--trainer.barebones", "true"], "`Trainer(barebones=True, logger="),
        ([*STOPPING, "val_loss"], "Early stopping conditioned on metric `val_loss` which is not available"),
        (["--trainer.val_check_interval", "100"], "ValueError: `val_check_interval` (100)"),
        (["--trainer.devices", "9999"], "trainer.devices=9999: this computer has"),
        (["--trainer.check_val_every_n_epoch", "0"], "check_val_every_n_epoch=0: it must be above 0"),
        (["--trainer.accelerator", "abacus"], "abacus"),
        (
            ["--trainer.strategy", "ddp_spawn"],
            "trainer.strategy=ddp_spawn: what such processes train is lost; set ddp",
        ),
        (["--trainer.strategy", "luck"], "luck"),
    ],
)
def test_what_cannot_be_done_is_a_line(flags, run_main, capsys, more, said):
    run_main(flags("fit", *more), code=EXIT_USAGE)
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert not list(Path("runs").rglob("*.ckpt"))


def test_a_run_that_has_ended_is_not_resumed_for_fewer_epochs(flags, run_main, capsys):
    main(flags(epochs=3))
    run_main(flags("fit", "--ckpt_path", "last", epochs=1), code=EXIT_USAGE)
    assert (
        "MisconfigurationException: You restored a checkpoint with current_epoch=" in capsys.readouterr().err
    )


def test_a_run_without_any_validation_says_why_it_has_no_best_checkpoint(flags, run_main, capsys):
    run_main(flags("fit", "--trainer.check_val_every_n_epoch", 3), code=EXIT_USAGE)
    assert "or none with a validation, so there is no best.ckpt" in capsys.readouterr().err
    main(flags("fit", "--trainer.check_val_every_n_epoch", 3, "--data.validation", "false"))
    assert Path("runs/demo/version_1/checkpoints/best.ckpt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        "overfit_batches=2 max_epochs=2",
        "overfit_batches=0.5",
        "limit_train_batches=1 limit_val_batches=1 limit_test_batches=1",
        "val_check_interval=1 num_sanity_val_steps=2",
        "val_check_interval=0.5 check_val_every_n_epoch=2",
        "accumulate_grad_batches=2 gradient_clip_val=0.5",
        "max_steps=3 min_epochs=1",
        "max_time=00:00:10:00",
        "fast_dev_run=2",
        "precision=bf16-mixed",
        "deterministic=true detect_anomaly=true inference_mode=false",
        "reload_dataloaders_every_n_epochs=1 use_distributed_sampler=false",
        "profiler=simple benchmark=true sync_batchnorm=true callbacks=TQDMProgressBar",
    ],
)
def test_each_flag_of_the_trainer_runs_to_the_end(flags, more):
    main(flags("fit", "--data.batch_size", 2, *(f"--trainer.{one}" for one in more.split())))
    assert Path("runs/demo/version_0/test.json").is_file() or "fast_dev_run" in more
