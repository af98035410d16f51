"""Loggers of a run: `metrics.csv` always, W&B and TensorBoard where wanted."""

from __future__ import annotations

import csv
import logging
import netrc
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from wavshap_lightning.errors import SettingError, first_line
from wavshap_lightning.files import from_here

_warn = rank_zero_only(logging.getLogger(__name__).warning)

WandbMode = Literal["auto", "online", "offline", "off", False]
WANDB_URL = "https://api.wandb.ai"
INIT_TIMEOUT_S = 15.0
"""Seconds that W&B may take to answer before a run goes offline."""


@dataclass(frozen=True)
class RunSettings:
    """Folder, loggers and checkpoints of a run.

    Args:
        name: Name of the run; runs of one name are numbered: `DIRECTORY/NAME/version_0`, `version_1`, ...
        directory: Folder of all runs.
        wandb: `"auto"` logs online if there is an API key and a network, otherwise offline, and prints
            which; the environment variable WANDB_MODE has priority. False is `"off"`.
        project: Name of the W&B project.
        tensorboard: Write TensorBoard event files too.
        patience: Number of epochs without a rise of validation UAR after which training stops; 0 to train
            to the last epoch.
        test: Test the best checkpoint after `fit`.
        keep_every: Number of epochs between weights that are kept, such as `checkpoints/epoch_009.ckpt`;
            0 keeps only the best and the last.
        temperature: Fit a temperature on the validation clips before the test, and score the calibration of
            the first task, classes or votes, at it; `test.json` has it.

    Raises:
        SettingError: If the name would leave the directory, or a number is negative.
    """

    name: str = "emotion"
    directory: str = "runs"
    wandb: WandbMode = "auto"
    project: str = "wavshap-lightning"
    tensorboard: bool = False
    patience: int = 0
    test: bool = False
    keep_every: int = 0
    temperature: bool = False

    def __post_init__(self) -> None:
        path = Path(self.name)
        if not path.parts or path.is_absolute() or ".." in path.parts:
            raise SettingError(f"run.name={self.name!r} must be a folder name below run.directory")
        for name in ("patience", "keep_every"):
            if getattr(self, name) < 0:
                raise SettingError(f"run.{name}={getattr(self, name)} must be at least 0 (0 turns it off)")

    @property
    def home(self) -> Path:
        """The folder of all runs of this name."""
        return Path(os.path.expandvars(self.directory)).expanduser() / self.name


def claim_run_folder(home: Path) -> Path:
    """Make the next free `version_N`; runs that start at the same moment get one each.

    Only the first process makes it; the others are told by the trainer.

    Raises:
        SettingError: If the folder cannot be made.
    """
    number = max(map(run_number, home.glob("version_*")), default=-1) + 1
    while True:
        folder = home / f"version_{number}"
        try:
            rank_zero_only(folder.mkdir)(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise SettingError(
                f"run.directory: {home} cannot be made ({error.strerror}); name another"
            ) from error
        else:
            return folder


def run_number(folder: Path) -> int:
    """The number N of a run's folder `version_N`; -1 for a folder of another name."""
    digits = folder.name.removeprefix("version_")
    return int(digits) if digits.isdigit() else -1


def build_loggers(settings: RunSettings, folder: Path, *, resumed_step: int = 0) -> list[Logger]:
    """Loggers of a run; the first writes `metrics.csv` into the run's folder.

    Args:
        settings: Settings of the run, which choose the loggers.
        folder: Folder of the run.
        resumed_step: Step from which an earlier run in this folder is resumed; rows before it are kept.

    Raises:
        ModuleNotFoundError: If TensorBoard is asked for but not installed.
    """
    loggers: list[Logger] = [_csv(folder, resumed_step)]
    if settings.tensorboard:
        place = str(folder.parent)
        loggers.append(TensorBoardLogger(place, name="", version=folder.name, default_hp_metric=False))
    mode, reason = choose_wandb_mode(settings.wandb)
    if mode != "off":
        loggers.append(_wandb(settings, folder, mode))
    if reason:
        _warn(f"W&B is {mode}: {reason}")
    return loggers


def choose_wandb_mode(wanted: WandbMode) -> tuple[Literal["online", "offline", "off"], str]:
    """Resolve the mode `"auto"`, with the reason if it is not online; other modes are returned unchanged."""
    if wanted != "auto":
        return wanted or "off", ""
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("offline", "dryrun"):
        return "offline", f"WANDB_MODE={mode}"
    if mode == "disabled":
        return "off", f"WANDB_MODE={mode}"
    if not (os.environ.get("WANDB_API_KEY") or _has_login()):
        return "offline", "there is no API key (wandb login)"
    return "online", ""


@contextmanager
def wandb_session(loggers: Sequence[Logger]) -> Iterator[None]:
    """Finish the W&B run at the end of the block, so that the next run of this process starts a new one.

    Raises:
        SettingError: If W&B refuses the run.
    """
    if not any(isinstance(logger, WandbLogger) for logger in loggers):
        yield
        return
    import wandb  # noqa: PLC0415 - slow, and needed only where it is used

    exit_code = 1
    try:
        yield
        exit_code = 0
    except wandb.Error as error:
        reason = first_line(error)
        raise SettingError(f"W&B refused the run: {reason}; log in again or set run.wandb=offline") from error
    finally:
        wandb.finish(exit_code=exit_code)


def where_on_wandb(loggers: Sequence[Logger]) -> str:
    """Address of the W&B run, or the command that uploads it; empty without W&B."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            folder = from_here(logger.save_dir or "")
            return logger.experiment.url or f"wandb sync {folder}/wandb/offline-run-*"
    return ""


def log_report(loggers: Sequence[Logger], split: str, numbers: Mapping[str, Any], pngs: list[Path]) -> None:
    """Put the ends of the intervals of scores, as in `test/uar_low`, into the summary of the W&B run.

    Figures, such as `test_reliability.png`, become images such as `test/reliability`.
    """
    known = {name: x for name, x in numbers.items() if x is not None and name.endswith(("_low", "_high"))}
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update({f"{split}/{name}": x for name, x in known.items()})
            for path in pngs:
                logger.log_image(path.stem.replace("_", "/", 1), [str(path)])


def _csv(folder: Path, resumed_step: int) -> CSVLogger:
    """`metrics.csv`; Lightning's logger would begin it again when a run is resumed, and lose its rows."""
    table, rows = folder / "metrics.csv", []
    if resumed_step and table.is_file():
        with table.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) < resumed_step]
    logger = CSVLogger(folder.parent, name="", version=folder.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the rows that are deleted
        writer = logger.experiment
    for row in rows:
        known = {name: float(value) for name, value in row.items() if value and name not in ("step", "epoch")}
        writer.log_metrics({"epoch": int(row["epoch"]), **known}, int(row["step"]))
    return logger


def _wandb(settings: RunSettings, folder: Path, mode: Literal["online", "offline"]) -> WandbLogger:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no telemetry
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb  # noqa: PLC0415 - slow, and needed only where it is used

    # Read its settings now: W&B complains of an argument of Lightning's before it has read them.
    rank_zero_only(wandb.setup)()
    logger = WandbLogger(
        name=f"{settings.name}/{folder.name}",
        save_dir=folder.absolute(),  # W&B's own process may stand in another folder
        project=settings.project,
        log_model=False,
        settings={"console": "off", "init_timeout": INIT_TIMEOUT_S},
        mode=mode,  # and not offline=True, which would put every later run of this process offline
    )
    if settings.wandb == "auto" and mode == "online":
        try:
            logger.experiment  # noqa: B018 - begins the run
        except wandb.errors.CommError:
            _warn("W&B is offline: it does not answer")
            return _wandb(settings, folder, "offline")
    return logger


def _has_login() -> bool:
    """Tell if `wandb login` left a key for the server."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL", WANDB_URL)).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
