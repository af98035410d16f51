"""What the command line of training says: of mistakes in a few lines, of itself on a screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavshap_lightning.cli.terminal import EXIT_USAGE
from wavshap_lightning.cli.train import main

pytestmark = pytest.mark.usefixtures("surroundings")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--data.root", "/nowhere", "--data.corpus", "ravdess", "--data.options", "null"],
            "CorpusError: root='/nowhere' of corpus=",
        ),
        (["--data.corpus", "ravdess"], "SettingError: root=None: corpus='ravdess' needs its folder"),
        (["--data.batch_size", "1"], "SettingError: batch_size=1 must be at least 2"),
        (["--run.name", "../up"], "SettingError: run.name='../up' must be a folder name"),
        (["--model.optimizer.learning_rate", "-1"], "SettingError: learning_rate=-1.0 must be at least 0"),
        (["--ckpt_path", "last"], "SettingError: ckpt_path='last': no last.ckpt in runs/demo"),
        (["--ckpt_path", "missing.ckpt"], "CheckpointError: checkpoint=missing.ckpt is not a file"),
        (["--data.labels", "[happy, nothing]"], "CorpusError: "),
        (
            ["--data.validation", "false", "--run.patience", "3"],
            "SettingError: run.patience=3 needs validation clips",
        ),
    ],
)
def test_what_is_at_fault_is_told_without_a_traceback(flags, run_main, capsys, more, message):
    run_main(flags("fit", *more), code=EXIT_USAGE)
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("command", ["validate", "test"])
def test_an_evaluation_needs_a_checkpoint(flags, run_main, capsys, command):
    run_main(flags(command), code=EXIT_USAGE)
    assert f"ckpt_path=None: {command} needs a checkpoint" in capsys.readouterr().err


def test_what_does_without_validation_cannot_be_validated(flags, run_main, capsys):
    main(flags("fit", "--data.validation", "false"))
    run_main(flags("validate", "--data.validation", "false", "--ckpt_path", "best"), code=EXIT_USAGE)
    assert "data.validation=false: no validation clips" in capsys.readouterr().err


def test_weights_alone_are_nothing_to_go_on_from(flags, run_main, capsys):
    main(flags())
    before = Path("runs/demo/version_0/config.yaml").read_text()
    run_main(flags("fit", "--ckpt_path", "best"), code=EXIT_USAGE)
    shown = capsys.readouterr().err
    assert "best.ckpt holds only weights; resume from last.ckpt" in shown
    assert Path("runs/demo/version_0/config.yaml").read_text() == before


def test_a_damaged_checkpoint_is_told(flags, run_main, capsys):
    Path("bad.ckpt").write_bytes(b"PK nonsense")
    run_main(flags("test", "--ckpt_path", "bad.ckpt"), code=EXIT_USAGE)
    assert "CheckpointError: checkpoint=bad.ckpt is" in capsys.readouterr().err


def test_a_mistyped_flag_is_told_in_a_few_lines(flags, run_main, capsys):
    run_main(flags("fit", "--model.bckbone.name", "tiny"), code=EXIT_USAGE)
    shown = capsys.readouterr().err
    assert "unrecognized arguments: --model.bckbone.name tiny" in shown
    assert len(shown.splitlines()) <= 4


def test_a_value_of_the_wrong_kind_is_told(flags, run_main, capsys):
    run_main(flags("fit", "--data.batch_size", "many"), code=EXIT_USAGE)
    assert "data.batch_size" in capsys.readouterr().err


def test_help_fits_on_a_screen(run_main, capsys):
    run_main(["--help"], code=0)
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 30
    assert "Without arguments: the demo" in shown
    for command in ("fit", "validate", "test", "cv"):
        assert f"    {command} " in shown


def test_help_of_a_command_begins_with_what_is_ours(run_main, capsys):
    run_main(["fit", "--help"], code=0)
    shown = capsys.readouterr().out
    order = [
        shown.index(f"  --{name}") for name in ("data.corpus", "model.backbone.name", "run.name", "trainer")
    ]
    assert order == sorted(order)
    assert shown.index("Train a head") < 300
    for hidden in ("model.opened", "model.labels ", "data.seed ", "weights_only"):
        assert f"--{hidden}" not in shown
