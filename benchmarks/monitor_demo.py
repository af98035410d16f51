"""The cost of the monitor: the demo with it against the demo without, and the weights of both.

Whole commands with an empty cache, as a newcomer runs them. Runs alternate, and the ratio is taken pair by
pair: of the seconds on the clock, and of those of the processor, which suffer less from what else the machine
does.

    python benchmarks/monitor_demo.py
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import torch
from _common import ROOT, Measurement, over_repeats, ratios, read_arguments, report
from _runs import run_training

BAR = 1.5
DEMO = ("fit", f"--config={ROOT / 'configs/demo.yaml'}")
QUICK = (
    "--trainer.max_epochs=2",
    "--data.options={num_speakers: 3, clips_per_speaker_and_label: 2, labels: [neutral, happy]}",
)
WITHOUT = "--trainer.callbacks=null"


def main() -> None:
    """Time both, compare their weights, and report."""
    arguments = read_arguments(__doc__, needs=["repeats"])
    more = QUICK if arguments.quick else ()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        flags = (*DEMO, *more)
        pairs = [
            (run(flags, here / f"with-{repeat}"), run((*flags, WITHOUT), here / f"without-{repeat}"))
            for repeat in range(1 if arguments.quick else arguments.repeats)
        ]
        differing = compare(here / "with-0", here / "without-0")
    monitored, plain = (list(runs) for runs in zip(*pairs, strict=True))
    report(
        "monitor_demo",
        [
            over_repeats(
                "the demo with its monitor, against without",
                ratios([wall for wall, _ in monitored], [wall for wall, _ in plain]),
                unit="x",
                at_most=BAR,
            ),
            over_repeats(
                "the same in seconds of the processor",
                ratios([cpu for _, cpu in monitored], [cpu for _, cpu in plain]),
                unit="x",
                at_most=BAR,
            ),
            over_repeats("with the monitor", [wall for wall, _ in monitored], unit="s"),
            over_repeats("without the monitor", [wall for wall, _ in plain], unit="s"),
            Measurement("tensors of last.ckpt that differ", float(differing), at_most=0.0),
        ],
        arguments,
    )


def run(flags: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    before = _processor_s()
    seconds = run_training(flags, folder).seconds
    return seconds, _processor_s() - before


def compare(first: Path, second: Path) -> int:
    """How many tensors of weights and optimiser are not the same, bit by bit."""
    kept = []
    for folder in (first, second):
        (path,) = folder.glob("runs/demo/version_0/checkpoints/last.ckpt")
        content = torch.load(path, weights_only=True)
        states = content["optimizer_states"][0]["state"].values()
        kept.append(
            [*content["state_dict"].values(), *(value for state in states for value in state.values())]
        )
    pairs = zip(*kept, strict=True)
    return sum(not torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs)


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
