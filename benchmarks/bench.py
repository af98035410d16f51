"""How long does a nested study of RAVDESS take, does it survive a kill, and what does Whisper tiny reach?

The study of the bar: the embedded backbone and Whisper tiny, every layer and the mix, 2 poolings, 5 learning
rates, 5 seeds, 6 folds, all chosen on validation speakers. Features are extracted before the clock starts. A
smaller study is run to its end, and once more with a kill -9 on its way; both `study.json` must be equal.

    python benchmarks/bench.py --root DIR --backbones DIR/whisper-tiny.en

`--folds OUT` reports a study that was run before, without its time, and runs the small one alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _common import ROOT, Measurement, read_arguments, report

BAR_S, BAR_UAR = 20 * 60.0, 0.70
SMALL = {"layers": [0, "learned"], "seeds": 2, "learning_rates": [0.002, 0.01], "max_epochs": 4}
KILLED_AFTER = 5
"""Cells of the small study that are finished when it is killed."""


def main() -> None:
    """Run the studies and report."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir", "backbones", "folds"])
    with tempfile.TemporaryDirectory() as folder:
        small = write_study(Path(folder) / "small.yaml", arguments, **SMALL)
        run_study(small, Path(folder) / "whole")
        killed_after = kill_study(small, Path(folder) / "killed")
        run_study(small, Path(folder) / "killed")
        whole, killed = (Path(folder, name, "study.json").read_text() for name in ("whole", "killed"))
        same = whole.replace("/whole", "/killed") == killed
        if arguments.folds is None:
            full = write_study(Path(folder) / "full.yaml", arguments, **(SMALL if arguments.quick else {}))
            seconds = run_study(full, Path(folder) / "full")
            study = json.loads(Path(folder, "full", "study.json").read_text())
        else:
            study = json.loads((arguments.folds / "study.json").read_text())
            seconds = None
    note = "as run, features extracted before" if seconds is not None else "run apart from this script"
    lines = [
        Measurement("whole study", seconds, unit="s", at_most=BAR_S, note=note),
        Measurement(
            "same study.json after kill -9", float(same), at_least=1.0, note=f"{killed_after} cells kept"
        ),
        *(system_line(one) for one in study["systems"]),
    ]
    report("bench", lines, arguments, systems=study["systems"], layers=study["layers"])


def system_line(system: dict[str, Any]) -> Measurement:
    """Nested UAR of a system."""
    bar = BAR_UAR if system["name"].startswith("whisper") else None
    layers = ", ".join(str(one["layer"]) for one in system["chosen"])
    ends, note = (
        (system["uar_low"], system["uar_high"]),
        f"range: 95 % over speakers; layers chosen: {layers}",
    )
    return Measurement(f"{system['name']}: nested UAR", system["uar"], *ends, at_least=bar, note=note)


def write_study(path: Path, arguments: Any, **changes: object) -> Path:  # noqa: ANN401 - of argparse
    """The settings of a study as a file."""
    named = [{"name": str(one.resolve()), "pad_to_window": False} for one in arguments.backbones or ()]
    corpora = [{"corpus": "ravdess", "root": str(arguments.root.resolve())}]
    study = {"name": path.stem, "corpora": corpora, "backbones": [{"name": "tiny"}, *named], **changes}
    path.write_text(json.dumps({**study, "cache_dir": str(arguments.cache_dir.resolve())}))
    return path


def begin_study(study: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "train.py"), "bench", str(study), "--out", str(out)]
    return subprocess.Popen(command, env=environment)


def run_study(study: Path, out: Path) -> float:
    """Run a study to its end; seconds that it took."""
    start = time.perf_counter()
    if begin_study(study, out).wait():
        raise SystemExit(f"{study} failed")
    return time.perf_counter() - start


def kill_study(study: Path, out: Path) -> int:
    """Kill a study once some cells are finished; their number."""
    process = begin_study(study, out)
    while len(found := [*(out / "cells").glob("*.safetensors")]) < KILLED_AFTER and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return len(found)


if __name__ == "__main__":
    main()
