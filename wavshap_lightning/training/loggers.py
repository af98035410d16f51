"""Where a run is written: always to its folder, to W&B and TensorBoard where wanted."""

from __future__ import annotations

import netrc
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from wavshap_lightning.errors import SettingError

WandbMode = Literal["auto", "online", "offline", "off"]
WANDB_HOST = "https://api.wandb.ai"
CONNECT_TIMEOUT_S = 2.0


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
    """

    name: str = "emotion"
    directory: str = "runs"
    wandb: WandbMode = "auto"
    project: str = "wavshap-lightning"
    tensorboard: bool = False
    patience: int = 0
    test: bool = False


def build_loggers(settings: RunSettings, *, version: int | None = None) -> list[Logger]:
    """The loggers of a run; the first is the CSV logger, whose folder is the run's.

    Args:
        settings: Where to write.
        version: Number of the run; the next free one if None.

    Raises:
        SettingError: If the name would leave the directory, or TensorBoard is not installed.
    """
    if not settings.name or Path(settings.name).is_absolute() or ".." in Path(settings.name).parts:
        raise SettingError(f"run.name={settings.name!r} must be a folder name below run.directory")
    csv = CSVLogger(settings.directory, settings.name, version)
    folder = Path(csv.log_dir)
    loggers: list[Logger] = [csv]
    if settings.tensorboard:
        loggers.append(_tensorboard(folder))
    if settings.wandb != "off":
        loggers.append(_wandb(settings, folder))
    return loggers


def choose_wandb_mode() -> tuple[Literal["online", "offline"], str]:
    """Whether W&B can be reached, and why not."""
    mode = os.environ.get("WANDB_MODE")
    if mode in ("offline", "disabled", "dryrun"):
        return "offline", f"WANDB_MODE={mode}"
    url = urlsplit(os.environ.get("WANDB_BASE_URL", WANDB_HOST))
    host = url.hostname or ""
    if not _has_key(host):
        return "offline", "there is no API key (wandb login)"
    if not _answers(host, url.port or 443):
        return "offline", f"{host} cannot be reached"
    return "online", ""


def finish_wandb(loggers: Sequence[Logger]) -> None:
    """End the W&B run, so that the next run of this process gets one of its own."""
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb  # noqa: PLC0415 - slow, and needed only where it is used

        wandb.finish()


def _wandb(settings: RunSettings, folder: Path) -> WandbLogger:
    mode, reason = choose_wandb_mode() if settings.wandb == "auto" else (settings.wandb, "")
    if reason:
        rank_zero_info(
            f"W&B is offline: {reason}. Upload later with: wandb sync {folder}/wandb/offline-run-*"
        )
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no telemetry
    os.environ.setdefault("WANDB_SILENT", "true")
    folder.mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        name=f"{settings.name}/{folder.name}",
        save_dir=str(folder),
        project=settings.project,
        offline=mode == "offline",
        log_model=False,
    )


def _tensorboard(folder: Path) -> TensorBoardLogger:
    try:
        return TensorBoardLogger(str(folder.parent), name="", version=folder.name, default_hp_metric=False)
    except ModuleNotFoundError as error:
        raise SettingError(
            "run.tensorboard=true needs tensorboard: pip install 'wavshap-lightning[tracking]'"
        ) from error


def _has_key(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False
