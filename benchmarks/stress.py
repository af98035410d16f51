"""What does a head on the embedded backbone break on, and how long does it take to find out?

`train.py stress` runs over 100 clips of RAVDESS and all steps of the ladder, as a user would start it. The
model is a cross-validation: each of its six heads is tested on clips of actors that it did not see, so that
all 24 count. Intervals are over actors. Draws the figure of the page.

    python benchmarks/stress.py --root DIR                    # trains the folds, kept in --cache-dir
    python benchmarks/stress.py --root DIR --folds FOLDER     # takes those of a cross-validation

The time is that of the whole command; its note has the processor time, which does not count other work of the
machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from _common import ROOT, Measurement, read_arguments, report
from _runs import kept_run, run_training
from ravdess_epochs import ravdess_flags

LIMIT, QUICK_LIMIT = 100, 24
MOST_S = 300.0


def main() -> None:
    """Test and report."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir", "folds"])
    folds = (arguments.folds or trained(arguments)).absolute()
    flags = ["stress", str(folds), f"--root={arguments.root.absolute()}", "--out=stress"]
    flags += [f"--limit={QUICK_LIMIT}", "--maps=6"] if arguments.quick else [f"--limit={LIMIT}"]
    with tempfile.TemporaryDirectory() as folder:
        before = cpu_seconds()
        seconds = run_training(flags, Path(folder)).seconds
        note = f"{cpu_seconds() - before:.0f} s of processor time"
        found = json.loads((Path(folder) / "stress/stress.json").read_text())
        if not arguments.quick:
            shutil.copy(Path(folder) / "stress/stress.png", ROOT / "docs/figures/stress.png")
    time = Measurement("the whole command", seconds, unit="s", at_most=MOST_S, note=note)
    report("stress", [time, *lines(found)], arguments, found=found | {"run": folds.name})


def trained(arguments: argparse.Namespace) -> Path:
    """Folder of a cross-validation, which is trained unless it was before."""
    flags = ravdess_flags(arguments.root, arguments.cache_dir, quick=arguments.quick, command="cv")
    flags += ["--run.wandb=off", *(["--trainer.max_epochs=1"] if arguments.quick else [])]
    (path,) = kept_run(arguments.cache_dir, "ravdess-folds", flags).glob("runs/**/cv.json")
    return path.parent


def cpu_seconds() -> float:
    """Processor time of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def lines(found: dict[str, Any]) -> list[Measurement]:
    """The clean clips, the mildest and the severest level of each kind, and the gaps."""
    clean, *rows = found["ladder"]
    measured = [_line("clean clips", clean)]
    for kind, same in groupby(rows, itemgetter("kind")):
        levels = [*same]
        measured += [_line(f"{kind}, {one['level']:g} {one['unit']}", one) for one in (levels[0], levels[-1])]
    for gap in found["gaps"]:
        name = f"{gap['kind']}: {gap['a']} minus {gap['b']}"
        measured.append(Measurement(name, gap["difference"], gap["low"], gap["high"]))
    least = found["abstention"][5]
    measured.append(Measurement("UAR of the most certain half", least["value"]))
    calibration = found["calibration"]
    measured.append(Measurement("calibration error", calibration["ece"]))
    return [*measured, Measurement("best temperature", calibration["temperature"])]


def _line(name: str, row: dict[str, Any]) -> Measurement:
    maps, unlike = row["map_correlation"], row["out_of_distribution"]
    note = f"kept {row['kept']:.2f}, maps {maps:.2f}, unlikeness {unlike:.1f}"
    return Measurement(f"UAR, {name}", row["value"], row["low"], row["high"], note=note)


if __name__ == "__main__":
    main()
