"""Where a run is written: always to its folder, to W&B and TensorBoard where wanted."""

from __future__ import annotations

import csv
import logging
import netrc
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from wavshap_lightning.errors import SettingError
from wavshap_lightning.files import from_here, write_csv

log = logging.getLogger(__name__)

FIRST_COLUMNS = ("epoch", "step")


class MetricsTable(Logger):
    """Writes `metrics.csv` into a run's folder: what is logged at one step is one row.

    With one log an epoch, as here, that is a row an epoch. The file is whole at any time, and a run that is
    resumed goes on in it.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self._row_of_step = _read_rows(self.path)

    @property
    def name(self) -> str:
        """Name of the runs."""
        return self.path.parent.parent.name

    @property
    def version(self) -> str:
        """Which of them this is."""
        return self.path.parent.name

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Nothing: they are in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add to the row of a step."""
        self._row_of_step.setdefault(step or 0, {}).update(metrics)

    @rank_zero_only
    def save(self) -> None:
        """Write the table."""
        if not self._row_of_step:
            return
        rows = [{**row, "step": step} for step, row in sorted(self._row_of_step.items())]
        names = {name for row in rows for name in row}
        columns = [*FIRST_COLUMNS, *sorted(names - {*FIRST_COLUMNS})]
        write_csv(self.path, [columns, *([row.get(name, "") for name in columns] for row in rows)])


def _read_rows(path: Path) -> dict[int, dict[str, Any]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {int(row.pop("step")): row for row in csv.DictReader(file)}


CONNECT_TIMEOUT_S = 3.0
PORTS = {"http": 80, "https": 443}


def has_credentials(url: str) -> bool:
    """Whether `~/.netrc` (or `$NETRC`) knows the host."""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(_address(url)[0]) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def is_reachable(url: str) -> bool:
    """Whether the host, or the proxy on the way to it, accepts a connection within a few seconds.

    Asking for the address of a host has no time limit of its own, so it is done aside.
    """
    host, port = _address(_proxy(url) or url)
    answered = Event()

    def knock() -> None:
        with suppress(OSError), socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
            answered.set()

    thread = Thread(target=knock, daemon=True)
    thread.start()
    thread.join(CONNECT_TIMEOUT_S)
    return answered.is_set()


def _proxy(url: str) -> str | None:
    return None if proxy_bypass(_address(url)[0]) else getproxies().get(urlsplit(url).scheme)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url if "//" in url else f"//{url}")
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, 443)


WandbMode = Literal["auto", "online", "offline", "off"]
WANDB_URL = "https://api.wandb.ai"


@dataclass(frozen=True)
class RunSettings:
    """Where a run is written, and what is done at its end.

    Args:
        name: Runs of one name are numbered: `DIRECTORY/NAME/version_0`, `version_1`, ...
        directory: Folder of all runs.
        wandb: `"auto"` goes online with a key and a network and offline without, and says so.
        project: The W&B project.
        tensorboard: Write TensorBoard event files too.
        patience: Stop once validation recall has not risen for so many epochs; 0 never does.
        test: After `fit`, test the best checkpoint.
        keep_every: Keep the weights after every so many epochs, as `checkpoints/epoch_009.ckpt`; 0 keeps
            none but the best and the last.

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

    def __post_init__(self) -> None:
        parts = Path(self.name).parts
        if not parts or Path(self.name).is_absolute() or ".." in parts:
            raise SettingError(f"run.name={self.name!r} must be a folder name below run.directory")
        if self.patience < 0:
            raise SettingError(f"run.patience={self.patience} must be at least 0 (0 never stops early)")
        if self.keep_every < 0:
            raise SettingError(f"run.keep_every={self.keep_every} must be at least 0 (0 keeps none)")

    @property
    def home(self) -> Path:
        """The folder of all runs of this name."""
        return Path(self.directory) / self.name


def claim_run_folder(home: Path) -> Path:
    """Make the next free `version_N`; runs that start at the same moment get one each.

    Only the first process makes it; the others are told by the trainer.

    Raises:
        SettingError: If the folder cannot be made.
    """
    taken = [int(path.name[8:]) for path in home.glob("version_*") if path.name[8:].isdigit()]
    free = (home / f"version_{number}" for number in count(max(taken, default=-1) + 1))
    if getattr(rank_zero_only, "rank", 0) != 0:
        return next(free)
    try:
        return next(folder for folder in free if _was_made(folder))
    except OSError as error:
        raise SettingError(
            f"run.directory: no folder can be made in {home} ({error.strerror}); name another"
        ) from error


def _was_made(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def build_loggers(settings: RunSettings, folder: Path) -> list[Logger]:
    """The loggers of a run; the first is the table in the run's folder.

    Args:
        settings: Where to write.
        folder: The run's folder.

    Raises:
        SettingError: If TensorBoard is asked for but not installed.
    """
    loggers: list[Logger] = [MetricsTable(folder)]
    if settings.tensorboard:
        loggers.append(_tensorboard(folder))
    mode, reason = choose_wandb_mode(settings.wandb)
    if reason:
        rank_zero_only(log.warning)(f"W&B is {mode}: {reason}")
    if mode != "off":
        loggers.append(_wandb(settings, folder, mode))
    return loggers


def choose_wandb_mode(wanted: WandbMode) -> tuple[Literal["online", "offline", "off"], str]:
    """What becomes of `"auto"`, and why it is not online; any other mode stays as it is."""
    if wanted != "auto":
        return wanted, ""
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("offline", "dryrun"):
        return "offline", f"WANDB_MODE={mode}"
    if mode == "disabled":
        return "off", f"WANDB_MODE={mode}"
    url = os.environ.get("WANDB_BASE_URL", WANDB_URL)
    if not (os.environ.get("WANDB_API_KEY") or has_credentials(url)):
        return "offline", "there is no API key (wandb login)"
    if not is_reachable(url):
        return "offline", f"{url} cannot be reached"
    return "online", ""


@contextmanager
def wandb_session(loggers: Sequence[Logger]) -> Iterator[None]:
    """Ends the W&B run of the block with it, so that the next run of this process gets one of its own.

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
        raise SettingError(
            f"W&B refused the run: {error}; log in again (wandb login), or set run.wandb=offline"
        ) from error
    finally:
        wandb.finish(exit_code=exit_code)


def where_on_wandb(loggers: Sequence[Logger]) -> str:
    """The address of the run, or how to upload it; nothing without W&B."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            folder = from_here(logger.save_dir or "")
            return logger.experiment.url or f"wandb sync {folder}/wandb/offline-run-*"
    return ""


def _wandb(settings: RunSettings, folder: Path, mode: Literal["online", "offline"]) -> WandbLogger:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no telemetry
    os.environ.setdefault("WANDB_SILENT", "true")
    _set_up_wandb()
    return WandbLogger(
        name=f"{settings.name}/{folder.name}",
        save_dir=folder.absolute(),  # W&B's own process may stand in another folder
        project=settings.project,
        log_model=False,
        settings={"console": "off"},
        mode=mode,  # and not offline=True, which would put every later run of this process offline
    )


@rank_zero_only
def _set_up_wandb() -> None:
    """Let W&B read its settings now: it complains of an argument of Lightning's before it has read them."""
    import wandb  # noqa: PLC0415 - slow, and needed only where it is used

    wandb.setup()


def _tensorboard(folder: Path) -> TensorBoardLogger:
    try:
        return TensorBoardLogger(str(folder.parent), name="", version=folder.name, default_hp_metric=False)
    except ModuleNotFoundError as error:
        raise SettingError(
            "run.tensorboard=true needs tensorboard: pip install 'wavshap-lightning[tracking]'"
        ) from error
