"""Where a run is written: a folder of its own, and W&B without waiting, asking or telling tales."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from matplotlib.image import imsave

from wavshap_lightning.errors import SettingError
from wavshap_lightning.training.loggers import (
    RunSettings,
    build_loggers,
    choose_wandb_mode,
    claim_run_folder,
    log_report,
    wandb_session,
    where_on_wandb,
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    """No key, no network, and whatever is set is unset afterwards."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("WANDB_ERROR_REPORTING", "WANDB_SILENT"):
        monkeypatch.setenv(name, "set")  # so that it is taken away again
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def test_the_table_is_always_there(tmp_path):
    (table,) = build_loggers(RunSettings(wandb="off"), tmp_path)
    assert isinstance(table, CSVLogger)
    assert table.log_dir == str(tmp_path)


def test_what_is_logged_before_a_checkpoint_is_kept_when_a_run_is_resumed(tmp_path):
    def log(first, last, **settings):
        table = build_loggers(RunSettings(wandb="off"), tmp_path, **settings)[0]
        for step in range(first, last):
            table.log_metrics({"epoch": step, "val/uar": 0.1 * step}, step)
            table.log_metrics({"epoch": step, "train/loss": 1 / (1 + step)}, step)
            table.save()
        return (tmp_path / "metrics.csv").read_text()

    whole = log(0, 4)
    log(0, 3)
    assert log(2, 4, resumed_step=2) == whole
    assert whole.splitlines()[:3] == ["epoch,step,train/loss,val/uar", "0,0,,0.0", "0,0,1.0,"]
    assert len(log(0, 1).splitlines()) == 3  # a run from its start begins the table again


def test_runs_of_one_name_are_numbered(tmp_path):
    assert [claim_run_folder(tmp_path / "demo").name for _ in range(3)] == [
        "version_0",
        "version_1",
        "version_2",
    ]
    (tmp_path / "demo" / "version_9").mkdir()
    (tmp_path / "demo" / "version_old").mkdir()
    assert claim_run_folder(tmp_path / "demo").name == "version_10"


def test_runs_that_start_together_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: claim_run_folder(tmp_path / "demo"), range(24)))
    assert len(set(folders)) == 24
    assert all(folder.is_dir() for folder in folders)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "demo").write_text("")
    with pytest.raises(SettingError, match=r"run\.directory: .* cannot be made"):
        claim_run_folder(tmp_path / "demo")


@pytest.mark.parametrize("name", ["", "../elsewhere", "/tmp/elsewhere", "a/../../b"])  # noqa: S108 - refused
def test_a_name_that_leaves_the_directory_is_refused(name):
    with pytest.raises(SettingError, match=r"run\.name=.*must be a folder name below"):
        RunSettings(name=name)


def test_a_negative_patience_is_refused():
    with pytest.raises(SettingError, match=r"run\.patience=-1 must be at least 0"):
        RunSettings(patience=-1)
    with pytest.raises(SettingError, match=r"run\.keep_every=-1 must be at least 0"):
        RunSettings(keep_every=-1)


@pytest.mark.parametrize("mode", ["online", "offline", "off"])
def test_a_mode_asked_for_is_kept(mode):
    assert choose_wandb_mode(mode) == (mode, "")


@pytest.mark.parametrize(
    ("environment", "mode", "reason"),
    [
        ({}, "offline", "there is no API key (wandb login)"),
        ({"WANDB_API_KEY": "x"}, "online", ""),
        ({"WANDB_API_KEY": "x", "WANDB_MODE": "offline"}, "offline", "WANDB_MODE=offline"),
        ({"WANDB_API_KEY": "x", "WANDB_MODE": "disabled"}, "off", "WANDB_MODE=disabled"),
    ],
)
def test_auto_goes_online_with_a_key(monkeypatch, environment, mode, reason):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert choose_wandb_mode("auto") == (mode, reason)


def test_a_key_of_wandb_login_counts(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert choose_wandb_mode("auto") == ("online", "")


def test_why_it_is_offline_is_said(tmp_path, caplog):
    with caplog.at_level("INFO"):
        build_loggers(RunSettings(), tmp_path)
    assert "W&B is offline: there is no API key (wandb login)" in caplog.text


def test_nothing_is_said_of_what_was_asked_for(tmp_path, caplog):
    with caplog.at_level("INFO"):
        build_loggers(RunSettings(wandb="offline"), tmp_path)
    assert not caplog.text


def log_a_run(settings, folder):
    loggers = build_loggers(settings, folder)
    with wandb_session(loggers):
        for logger in loggers:
            logger.log_metrics({"val/uar": 0.5}, step=1)
            logger.save()
        where = where_on_wandb(loggers)
        return next(logger for logger in loggers if isinstance(logger, WandbLogger)).experiment.id, where


def test_every_run_of_a_process_is_a_run_of_its_own_and_silent(tmp_path, capfd):
    runs = [log_a_run(RunSettings("demo", wandb="offline"), tmp_path / str(number)) for number in range(2)]
    assert runs[0][0] != runs[1][0]
    for number, (run_id, where) in enumerate(runs):
        assert where == f"wandb sync {tmp_path}/{number}/wandb/offline-run-*"
        (folder,) = (tmp_path / str(number) / "wandb").glob("offline-run-*")
        assert (folder / f"run-{run_id}.wandb").stat().st_size > 0
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
    assert "WANDB_MODE" not in os.environ
    assert capfd.readouterr() == ("", "")


def test_a_run_is_written_where_it_was_asked_for_whatever_folder_the_first_one_stood_in(
    tmp_path, monkeypatch
):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run_id, where = log_a_run(RunSettings("demo", wandb="offline"), Path("runs/demo/version_0"))
        assert where == "wandb sync runs/demo/version_0/wandb/offline-run-*"
        assert list(Path().glob(f"runs/demo/version_0/wandb/offline-run-*/run-{run_id}.wandb"))


def test_the_run_has_the_ends_of_intervals_and_the_figures(tmp_path):
    loggers = build_loggers(RunSettings(wandb="offline"), tmp_path)
    with wandb_session(loggers):
        png = tmp_path / "test_reliability.png"
        imsave(png, np.zeros((4, 4, 3)))
        log_report(loggers, "test", {"uar": 0.5, "uar_low": 0.4, "uar_high": None}, [png])
        summary = loggers[1].experiment.summary
        assert {name for name in summary.keys() if "uar" in name} == {"test/uar_low"}  # noqa: SIM118
        assert summary["test/uar_low"] == 0.4
        assert summary["test/reliability"]["count"] == 1


def test_a_refusal_of_wandb_is_told(tmp_path):
    import wandb

    with pytest.raises(SettingError, match=r"W&B refused the run: bad key; .*run\.wandb=offline"):  # noqa: SIM117
        with wandb_session([WandbLogger(save_dir=str(tmp_path), mode="offline")]):
            raise wandb.errors.AuthenticationError("bad key")


def test_other_errors_go_through(tmp_path):
    with pytest.raises(ValueError, match="mine"), wandb_session(build_loggers(RunSettings(), tmp_path)):
        raise ValueError("mine")


def test_tensorboard_writes_event_files_into_the_runs_folder(tmp_path):
    pytest.importorskip("tensorboard", reason="the tracking extra is not installed")
    folder = tmp_path / "demo" / "version_0"
    _, logger = build_loggers(RunSettings(wandb="off", tensorboard=True), folder)
    logger.log_metrics({"val/uar": 0.5}, step=1)
    logger.finalize("success")
    assert list(folder.glob("events.out.tfevents.*"))
