"""How much longer does a run take to start because its clips are audited, when their facts are cached?

The audit alone, in a process that has everything loaded: it lists RAVDESS, reads every file to hash it, takes
its facts from the cache and compares the clips. Then a whole run of one epoch over cached features, from the
command to its end, of which the audit is a part. The ratio is the run with the audit to the run without.

    python benchmarks/audit.py --root DIR
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import ROOT, over_repeats, ratios, read_arguments, report

from wavshap_lightning.training.data.datamodule import EmotionDataModule

BAR_RATIO = 1.2
QUICK_CLIPS = 48


def main() -> None:
    """Time both and report."""
    arguments = read_arguments(__doc__, needs=["repeats", "root", "cache_dir"])
    repeats = 1 if arguments.quick else arguments.repeats
    with tempfile.TemporaryDirectory() as folder:
        runs_s = [run_once(arguments, Path(folder)) for _ in range(repeats + 1)][1:]  # the first fills caches
    audits_s = [audit_once(arguments) for _ in range(repeats)]
    without_s = [run_s - audit_s for run_s, audit_s in zip(runs_s, audits_s, strict=True)]
    measurements = [
        over_repeats("audit with cached facts", audits_s, unit="s"),
        over_repeats("run of one epoch, with the audit", runs_s, unit="s"),
        over_repeats("with / without", ratios(runs_s, without_s), unit="x", at_most=BAR_RATIO),
    ]
    report("audit", measurements, arguments)


def audit_once(arguments: argparse.Namespace) -> float:
    """Seconds of the audit of all clips."""
    limit = QUICK_CLIPS if arguments.quick else None
    data = EmotionDataModule(
        "ravdess", str(arguments.root), max_samples=limit, cache_dir=str(arguments.cache_dir)
    )
    start = time.perf_counter()
    _ = data.audited
    return time.perf_counter() - start


def run_once(arguments: argparse.Namespace, folder: Path) -> float:
    """Seconds of a run with the embedded backbone, from the command to its end."""
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "fit",
        f"--config={ROOT / 'configs/ravdess.yaml'}",
        f"--config={ROOT / 'configs/backbones/tiny.yaml'}",
        f"--data.root={arguments.root.resolve()}",
        f"--data.cache_dir={arguments.cache_dir.resolve()}",
        "--trainer.max_epochs=1",
        "--run.wandb=off",
        *([f"--data.max_samples={QUICK_CLIPS}"] if arguments.quick else []),
    ]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
