"""The command line of training: what a person types, sees, gets and is told."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml

from wavshap_lightning.cli.configs import find_config
from wavshap_lightning.cli.train import EXIT_INTERRUPTED, EXIT_USAGE, main
from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.checkpoint import load_classifier
from wavshap_lightning.training.callbacks import ReproducibleEpochs

# Lightning calls jsonargparse by a name that is going to change.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

REPOSITORY = Path(__file__).parents[2]
LABELS = ["neutral", "happy"]
OPTIONS = json.dumps({"num_speakers": 3, "clips_per_speaker_and_label": 2, "labels": LABELS})


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch, tmp_path, cache_folder):
    """An empty folder to stand in, a cache of our own, and one thread; nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("WAVSHAP_CACHE", str(cache_folder))
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "WANDB_ERROR_REPORTING", "WANDB_SILENT"):
        monkeypatch.setenv(name, "0")  # so that it is taken away again
        monkeypatch.delenv(name)
    interrupt = signal.getsignal(signal.SIGINT)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)
    signal.signal(signal.SIGINT, interrupt)


def flags(command="fit", *more, wandb="off", epochs=2):
    """A small run of the demo, as flags."""
    settings = {
        "config": find_config("demo.yaml"),
        "data.options": OPTIONS,
        "data.batch_size": 4,
        "run.wandb": wandb,
        "trainer.max_epochs": epochs,
    }
    given = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [command, *given, *map(str, more)]


def read_csv(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_main(arguments, *, code):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == code


def run_program(program, *arguments):
    """A fresh process in the current folder; `program` is text, or None for `train.py` itself."""
    script = [str(REPOSITORY / "train.py")] if program is None else ["-c", textwrap.dedent(program)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    command = [sys.executable, *script, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def test_the_demo_leaves_a_whole_run(capsys):
    main(flags(wandb="offline"))
    run = Path("runs/demo/version_0")
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {path for path in files if not path.startswith("wandb/")} == {
        "config.yaml",
        "protocol.json",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "test.json",
        "test_confusion.csv",
        "test_speakers.csv",
    }
    assert any(path.startswith("wandb/offline-run-") and path.endswith(".wandb") for path in files)
    rows = read_csv(run / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert all(row["train/loss"] and row["val/uar"] and row["learning_rate/head"] for row in rows[:2])
    assert rows[2]["test/uar"]
    assert json.loads((run / "test.json").read_text())["uar"] == pytest.approx(float(rows[2]["test/uar"]))
    assert load_classifier(run / "checkpoints" / "best.ckpt").labels == tuple(LABELS)
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-4:] == [
        f"Best val UAR     {max(float(row['val/uar']) for row in rows[:2]):.3f}",
        "Run folder       runs/demo/version_0",
        "W&B              wandb sync runs/demo/version_0/wandb/offline-run-*",
        "Next             python explain.py runs/demo/version_0/checkpoints/best.ckpt CLIP.wav",
    ]
    assert "DataLoader 0" not in shown.out
    assert "WARNING" not in shown.err


def test_a_configuration_that_was_stored_runs_again():
    main(flags())
    main(["fit", "--config", "runs/demo/version_0/config.yaml"])
    first, second = (read_csv(f"runs/demo/version_{number}/metrics.csv") for number in (0, 1))
    assert first == second
    a, b = (weights(f"runs/demo/version_{number}/checkpoints/last.ckpt") for number in (0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_another_seed_gives_another_run():
    main(flags())
    main(flags("fit", "--seed_everything", 1))
    first, second = (read_csv(f"runs/demo/version_{number}/metrics.csv") for number in (0, 1))
    assert [row["train/loss"] for row in first] != [row["train/loss"] for row in second]


def test_every_fold_of_a_cross_validation_is_a_run(capsys):
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


def test_a_fresh_process_tests_the_best_checkpoint_quietly():
    main(flags())
    done = run_program(None, *flags("test", "--ckpt_path", "best"))
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(Path(f"runs/demo/version_{n}/test.json").read_text()) for n in (0, 1))
    assert first.pop("protocol") == second.pop("protocol")
    assert first == pytest.approx(second)
    lines = done.stderr.splitlines()
    assert [line.split("  ")[0] for line in lines if line.strip()] == ["Checking clips", "Testing"]
    assert done.stdout.splitlines()[-1].startswith("Test             UAR")


def test_a_killed_run_goes_on_as_if_nothing_had_happened():
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
    more = (
        "--data.options",
        OPTIONS.replace('"clips_per_speaker_and_label": 2', '"clips_per_speaker_and_label": 3'),
    )
    main(flags("fit", *more, "--run.name", "straight", epochs=4))
    assert run_program(program, *flags("fit", *more, epochs=4)).returncode == -signal.SIGKILL
    killed = Path("runs/demo/version_0")
    assert torch.load(killed / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    main(flags("fit", *more, "--ckpt_path", "last", epochs=4))
    assert [path.name for path in Path("runs/demo").iterdir()] == ["version_0"]
    straight = Path("runs/straight/version_0")
    for name in ("last", "best"):
        expected, found = (weights(run / "checkpoints" / f"{name}.ckpt") for run in (straight, killed))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected), name
    assert (killed / "metrics.csv").read_text() == (straight / "metrics.csv").read_text()


def test_an_interrupted_run_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(self, trainer, *_):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ReproducibleEpochs, "on_train_batch_start", interrupt)
        run_main(flags("fit", "--run.name", "other"), code=EXIT_INTERRUPTED)
    shown = capsys.readouterr().err
    (advice,) = [line.split(maxsplit=5)[5] for line in shown.splitlines() if line.startswith("Go on with")]
    run = "runs/other/version_0"
    assert advice == f"fit --config {run}/config.yaml --ckpt_path {run}/checkpoints/last.ckpt"
    main(advice.split())
    assert len(read_csv(f"{run}/metrics.csv")) == 3
    assert not Path("runs/other/version_1").exists()


def test_a_run_interrupted_at_once_has_nothing_to_go_on_from(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ReproducibleEpochs, "on_train_batch_start", interrupt)
    run_main(flags(), code=EXIT_INTERRUPTED)
    assert "Go on with" not in capsys.readouterr().err


def test_a_run_can_be_watched_and_cut_down():
    """Each of these once broke, or could."""
    main(flags("fit", "--trainer.enable_progress_bar", "false", "--trainer.logger", "false"))
    main(flags("fit", "--trainer.callbacks", "DeviceStatsMonitor", "--trainer.log_every_n_steps", 1))
    main(flags("fit", "--trainer.fast_dev_run", "true"))
    main(flags("fit", "--run.patience", 1, "--run.tensorboard", "true"))


def test_an_augmentation_can_be_named_on_the_command_line():
    pytest.importorskip("audiomentations", reason="the augment extra is not installed")
    main(flags("fit", "--data.transform", "audiomentations.Gain", "--data.transform.p", 1.0))
    config = yaml.safe_load(Path("runs/demo/version_0/config.yaml").read_text())
    assert config["data"]["transform"]["class_path"] == "audiomentations.Gain"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--data.root", "/nowhere", "--data.corpus", "ravdess", "--data.options", "null"],
            "CorpusError: root='/nowhere' of corpus=",
        ),
        (["--data.corpus", "ravdess"], "SettingError: root=None: say where"),
        (["--data.batch_size", "1"], "SettingError: batch_size=1 must be at least 2"),
        (["--run.name", "../up"], "SettingError: run.name='../up' must be a folder name"),
        (["--model.optimizer.learning_rate", "-1"], "SettingError: learning_rate=-1.0 must be at least 0"),
        (["--ckpt_path", "last"], "SettingError: ckpt_path='last': no run in runs/demo has a last.ckpt"),
        (["--ckpt_path", "missing.ckpt"], "CheckpointError: checkpoint=missing.ckpt is not a file"),
        (["--data.labels", "[happy, nothing]"], "CorpusError: "),
    ],
)
def test_what_is_at_fault_is_told_without_a_traceback(capsys, more, message):
    run_main(flags("fit", *more), code=EXIT_USAGE)
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("command", ["validate", "test"])
def test_an_evaluation_needs_a_checkpoint(capsys, command):
    run_main(flags(command), code=EXIT_USAGE)
    assert f"ckpt_path=None: say which checkpoint to {command}" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_told(capsys):
    Path("bad.ckpt").write_bytes(b"PK nonsense")
    run_main(flags("test", "--ckpt_path", "bad.ckpt"), code=EXIT_USAGE)
    assert "CheckpointError: checkpoint=bad.ckpt is" in capsys.readouterr().err


def test_a_mistyped_flag_is_told_in_a_few_lines(capsys):
    run_main(flags("fit", "--model.bckbone.name", "tiny"), code=EXIT_USAGE)
    shown = capsys.readouterr().err
    assert "unrecognized arguments: --model.bckbone.name tiny" in shown
    assert len(shown.splitlines()) <= 4


def test_a_value_of_the_wrong_kind_is_told(capsys):
    run_main(flags("fit", "--data.batch_size", "many"), code=EXIT_USAGE)
    assert "data.batch_size" in capsys.readouterr().err


def test_help_fits_on_a_screen(capsys):
    run_main(["--help"], code=0)
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 30
    assert "Without arguments: the demo" in shown
    for command in ("fit", "validate", "test", "cv"):
        assert f"    {command} " in shown


def test_help_of_a_command_begins_with_what_is_ours(capsys):
    run_main(["fit", "--help"], code=0)
    shown = capsys.readouterr().out
    order = [
        shown.index(f"  --{name}") for name in ("data.corpus", "model.backbone.name", "run.name", "trainer")
    ]
    assert order == sorted(order)
    assert shown.index("Train a head") < 300
    for hidden in ("model.opened", "model.labels ", "data.seed ", "weights_only"):
        assert f"--{hidden}" not in shown


def test_shipped_configurations_are_found_by_name():
    assert find_config("demo.yaml").is_file()
    with pytest.raises(SettingError, match=r"config='nothing\.yaml' must be one of .*demo\.yaml"):
        find_config("nothing.yaml")
