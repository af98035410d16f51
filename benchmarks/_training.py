"""Running `train.py` from a benchmark, as a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _common import ROOT

# Nothing of the user's account, and no question to anyone.
KEYS = ("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
OFFLINE = {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")


@dataclass(frozen=True, slots=True)
class Training:
    """What became of a training command.

    Args:
        seconds: From the start of the process to its end.
        folder: Where it wrote.
        files: What it wrote there, with sizes in bytes.
    """

    seconds: float
    folder: Path
    files: dict[str, int]


def run_training(arguments: Sequence[str], folder: Path, *, prefix: Sequence[str] = ()) -> Training:
    """Run `python train.py` with these arguments in a folder of its own, and wait for it.

    Args:
        arguments: What follows `train.py`.
        folder: Its working directory, whose new files are listed; its cache too, where they name none.
        prefix: A command to run it under.

    Exits with the end of the output if the command fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in KEYS}
    environment |= OFFLINE | {"WAVSHAP_CACHE": str(folder / "cache")}
    command = [*prefix, sys.executable, str(ROOT / "train.py"), *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    files = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (folder / "cache") not in path.parents
    }
    return Training(seconds, folder, files)


def network_off() -> Sequence[str]:
    """A command prefix under which there is no network but the machine's own; empty where there is none."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return ()
    tried = subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True, check=False)
    return WITHOUT_NETWORK if tried.returncode == 0 else ()
