"""How long until the first clip is explained, from a cold start? `python explain.py MODEL`, imports included.

A process of its own each time: the demo's classifier, a synthetic clip of two seconds, all views, 64 draws,
figure, sounds and page.

    python benchmarks/explain_start.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import ROOT, read_arguments
from _demo_run import demo_checkpoint
from _report import over_repeats, report

BAR_S = 12.0


def main() -> None:
    """Explain a clip as often as asked for and report."""
    arguments = read_arguments(__doc__, needs=["repeats", "cache_dir", "checkpoint"])
    checkpoint = demo_checkpoint(arguments)
    seconds = [explain_once(checkpoint) for _ in range(arguments.repeats)]
    report("explain_start", [over_repeats("first clip", seconds, unit="s", at_most=BAR_S)], arguments)


def explain_once(checkpoint: Path) -> float:
    """Wall seconds of one command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "explain.py"), str(checkpoint), "--out", folder]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
