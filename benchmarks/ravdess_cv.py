"""How good is a head on the embedded backbone, on RAVDESS? All six folds, by speaker.

Runs `train.py cv` with the tiny backbone and prints the folds, their mean, and its interval over speakers.
There is no bar: the number is a finding.

    python benchmarks/ravdess_cv.py --root DIR
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from _common import Measurement, read_arguments, report
from _runs import run_training
from ravdess_epochs import ravdess_flags

from wavshap_lightning.corpora.catalogue import CORPORA


def main() -> None:
    """Run the folds and report."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir"])
    flags = ravdess_flags(arguments.root, arguments.cache_dir, quick=arguments.quick, command="cv")
    if arguments.quick:
        flags.append("--trainer.max_epochs=1")
    with tempfile.TemporaryDirectory() as folder:
        training = run_training(flags, Path(folder))
        (path,) = Path(folder).glob("runs/**/cv.json")
        summary = json.loads(path.read_text())
    seconds = Measurement("the whole command", training.seconds, unit="s")
    report("ravdess_cv", [*fold_lines(summary), seconds], arguments, summary=summary)


def fold_lines(summary: dict[str, Any]) -> list[Measurement]:
    """One line a fold, then the mean with its interval."""
    folds = [
        Measurement(
            f"fold {fold['fold']}: UAR",
            fold["uar"],
            note=f"{fold['clips']} clips of speakers {fold['test_speakers']}, WA {fold['wa']:.3f}",
        )
        for fold in summary["folds"]
    ]
    note = f"range: {summary['confidence']:.0%} interval over {summary['resampled']}; WA {summary['wa']:.3f}"
    mean = Measurement("mean UAR", summary["uar"], summary["uar_low"], summary["uar_high"], note=note)
    return [*folds, mean, Measurement("chance", 1 / len(CORPORA["ravdess"].labels))]


if __name__ == "__main__":
    main()
