"""Does memory grow with the draws?

Each run is a process of its own: a small WavLM, 1.2 s of sound, the path in the waveform, from declared noise
and from a distribution of it, 64 draws and 4096. The number is the ratio of the processes' greatest resident
memory; beside it what the call itself added.

    python benchmarks/attribution_memory.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

from _common import Measurement, draw_waveforms, read_arguments, report

FEW, MANY, QUICK_MANY = 64, 4096, 128
KINDS = ("declared noise", "distribution of noise")
DURATION_S = 1.2
BAR = 1.05
RUN = "--run"


def main() -> None:
    """Measure and report."""
    arguments = read_arguments(__doc__)
    measurements = [line for kind in KINDS for line in kind_lines(kind, arguments)]
    report("attribution_memory", measurements, arguments)


def kind_lines(kind: str, arguments: argparse.Namespace) -> list[Measurement]:
    """The ratio, and what it is made of."""
    many = QUICK_MANY if arguments.quick else MANY
    before, few = _peaks_mb(kind, FEW)
    also_before, most = _peaks_mb(kind, many)
    note = f"{few:.0f} MB, {most:.0f} MB; the call added {few - before:.0f} and {most - also_before:.0f} MB"
    return [Measurement(f"{kind}, {many} draws / {FEW}", most / few, unit="x", at_most=BAR, note=note)]


def _peaks_mb(kind: str, num_draws: int) -> tuple[float, float]:
    command = [sys.executable, __file__, RUN, kind, str(num_draws)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def run_once(kind: str, num_draws: int) -> None:
    """Explain once and print the greatest resident memory before and after, in megabytes."""
    from _problems import baseline_kinds, build_classifier, stages_of

    from wavshap_lightning.attribution.targets import Target

    classifier = build_classifier(0).requires_grad_(False).eval()  # noqa: FBT003
    (waveform,) = draw_waveforms([DURATION_S])
    stage = stages_of(classifier, waveform)["waveform"]
    baselines = baseline_kinds(waveform, [waveform])[kind]
    stage.estimate(baselines, Target("log_odds", (0,)), 0, 2)  # what is made once, by the first call
    before = _peak_mb()
    stage.estimate(baselines, Target("log_odds", (0,)), 0, num_draws)
    print(json.dumps([before, _peak_mb()]))


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0**2 if sys.platform == "darwin" else 1024.0)


if __name__ == "__main__":
    if sys.argv[1:2] == [RUN]:
        run_once(sys.argv[2], int(sys.argv[3]))
    else:
        main()
