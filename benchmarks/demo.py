"""How long does a newcomer's first command take? `python train.py`, empty cache, no network, no keys.

Prints the seconds from start to end, the scores, and the files written. The network is really off
where Linux lets a process leave it; else only the settings of the libraries say so.

    python benchmarks/demo.py
"""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

from _common import ROOT, read_arguments
from _report import Measurement, report
from _training import Training, network_off, run_training

BAR_S = 120.0
QUICK = (
    "fit",
    f"--config={ROOT / 'configs/demo.yaml'}",
    "--trainer.max_epochs=2",
    "--data.options={num_speakers: 3, clips_per_speaker_and_label: 2}",
)


def main() -> None:
    """Run the demo once and report."""
    arguments = read_arguments(__doc__)
    prefix = network_off()
    with tempfile.TemporaryDirectory() as folder:
        training = run_training(QUICK if arguments.quick else (), Path(folder), prefix=prefix)
        (run,) = Path(folder).glob("runs/demo/version_0")
        measurements = [
            Measurement(
                "python train.py",
                training.seconds,
                unit="s",
                at_most=BAR_S,
                note="" if prefix else "the network could not be cut off",
            ),
            *read_scores(run),
        ]
    _print_files(training)
    report("demo", measurements, arguments, files=training.files)


def read_scores(run: Path) -> list[Measurement]:
    """The best validation recall, that of the test, and chance."""
    with (run / "metrics.csv").open(newline="") as file:
        recalls = [float(row["val/uar"]) for row in csv.DictReader(file) if row.get("val/uar")]
    test = json.loads((run / "test.json").read_text())
    with (run / "test_confusion.csv").open(newline="") as file:
        num_classes = len(next(csv.reader(file))) - 1
    return [
        Measurement("best validation UAR", max(recalls), note=f"of {len(recalls)} epochs"),
        Measurement("test UAR", test["uar"], note="of the best checkpoint"),
        Measurement("chance", 1 / num_classes),
    ]


def _print_files(training: Training) -> None:
    for name, size in training.files.items():
        print(f"{size:>10} {name}")


if __name__ == "__main__":
    main()
