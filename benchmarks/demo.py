"""How long does a newcomer's first command take? `python train.py`, empty cache, no network, no keys.

Prints the seconds from start to end, the scores, how well GradientSHAP at the frames finds the evidence in
clips of the test speakers (after the clock has stopped), and the files written. The network is really off
where Linux lets a process leave it; else only the settings of the libraries say so.

    python benchmarks/demo.py
"""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

from _common import ROOT, Measurement, read_arguments, report
from _runs import Training, evidence_auc, network_off, run_training

from wavshap_lightning.corpora.manifest import read_manifest

BAR_S, BAR_UAR, BAR_AUC = 120.0, 0.95, 0.9
NUM_EXPLAINED = 50
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
            find_evidence(Path(folder), run),
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
        Measurement("best validation UAR", max(recalls), at_least=BAR_UAR, note=f"of {len(recalls)} epochs"),
        Measurement("test UAR", test["uar"], note="of the best checkpoint"),
        Measurement("chance", 1 / num_classes),
    ]


def find_evidence(folder: Path, run: Path) -> Measurement:
    """Frames inside against frames outside what was planted."""
    clips = read_manifest(next(folder.glob("cache/planted/*/manifest.jsonl")))
    tested = [clip for clip in clips if clip.split == "test" and clip.evidence]
    spread = tested[:: max(1, len(tested) // NUM_EXPLAINED)]
    auc = evidence_auc(run / "checkpoints/best.ckpt", spread)
    return Measurement("AUC of the evidence", auc, at_least=BAR_AUC, note=f"{len(spread)} test clips")


def _print_files(training: Training) -> None:
    for name, size in training.files.items():
        print(f"{size:>10} {name}")


if __name__ == "__main__":
    main()
