"""How long until the first clip is explained, from a cold start? Imports included.

A process of its own each time: the demo's classifier, a clip of two seconds that is given or made first,
all views, 64 draws, figure, sounds and page.

    python benchmarks/explain_start.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import ROOT, Measurement, over_repeats, read_arguments, report
from _runs import demo_checkpoint

BAR_S = 12.0


def main() -> None:
    """Explain a clip as often as asked for and report."""
    arguments = read_arguments(__doc__, needs=["repeats", "cache_dir", "checkpoint"])
    checkpoint = demo_checkpoint(arguments)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        explain_once(checkpoint, out=out)  # so that all files have been read once; leaves the clip it made
        clips = {"a clip that is given": [out / "sounds" / "example.wav"], "a clip that is made first": []}
        measurements = [
            one for name, clip in clips.items() for one in _measure(name, checkpoint, clip, arguments.repeats)
        ]
    report("explain_start", measurements, arguments)


def _measure(name: str, checkpoint: Path, clip: list[Path], repeats: int) -> list[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        seconds = [explain_once(checkpoint, *clip, out=Path(folder)) for _ in range(repeats)]
    wall_s, processor_s = zip(*seconds, strict=True)
    return [
        over_repeats(name, wall_s, unit="s", at_most=BAR_S),
        over_repeats("in seconds of the processor", processor_s, unit="s"),
    ]


def explain_once(checkpoint: Path, *clip: Path, out: Path) -> tuple[float, float]:
    """Seconds of one command, and those that its processor was busy."""
    command = [sys.executable, str(ROOT / "explain.py"), str(checkpoint), *map(str, clip), "--out", str(out)]
    start, busy_before_s = time.perf_counter(), _busy_s()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, _busy_s() - busy_before_s


def _busy_s() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
