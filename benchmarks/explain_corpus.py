"""How much faster do two processes explain a corpus than one?

The command line itself, on noise of 2 to 4 seconds, with the embedded backbone under a head of chance; each
process computes on one thread. Clips a second are counted from the first record written to the last: programs
that start and a page that is built are not what is asked here. Both must write the same files.

    python benchmarks/explain_corpus.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from _common import ROOT, Measurement, draw_waveforms, over_repeats, ratios, read_arguments, report

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.manifest import save_manifest
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.checkpoint import CLASSIFIER_KEY, trained_state
from wavshap_lightning.models.classifier import EmotionClassifier

SHORTEST_S, LONGEST_S = 2.0, 4.0
NUM_CLIPS, QUICK_CLIPS = 32, 8
LABELS = ("angry", "happy", "sad")
BAR = 1.8


def main() -> None:
    """Run one process and two in turn, and report."""
    arguments = read_arguments(__doc__, needs=["repeats"])
    num_clips = QUICK_CLIPS if arguments.quick else NUM_CLIPS
    rates: dict[int, list[float]] = {1: [], 2: []}
    walls: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest, model = write_corpus(folder, num_clips), write_model(folder)
        for repeat in range(1 if arguments.quick else arguments.repeats):
            for devices in (1, 2) if repeat % 2 == 0 else (2, 1):
                out = folder / f"out-{devices}-{repeat}"
                walls[devices].append(_seconds(lambda: explain(model, manifest, out, devices)))  # noqa: B023
                rates[devices].append(clips_per_second(out))
            same = _files(folder / f"out-1-{repeat}") == _files(folder / f"out-2-{repeat}")
    measurements = [
        over_repeats("one process", rates[1], unit="clips per s"),
        over_repeats("two processes", rates[2], unit="clips per s"),
        over_repeats("two, times one", ratios(rates[2], rates[1]), unit="x", at_least=BAR),
        over_repeats("two, times one, whole command", ratios(walls[1], walls[2]), unit="x"),
        Measurement("the same files", float(same), at_least=1.0, unit="yes = 1"),
    ]
    report("explain_corpus", measurements, arguments, num_clips=num_clips)


def write_corpus(folder: Path, count: int) -> Path:
    """A manifest of clips of noise."""
    clips = []
    for index, waveform in enumerate(draw_waveforms(np.linspace(SHORTEST_S, LONGEST_S, count).tolist())):
        path = folder / "clips" / f"{index:03d}.flac"
        save_audio(path, waveform.numpy())
        clips.append(Clip(path, LABELS[index % len(LABELS)]))
    save_manifest(folder / "clips.csv", clips)
    return folder / "clips.csv"


@torch.no_grad()
def write_model(folder: Path) -> Path:
    """A checkpoint of the embedded backbone under a head that was drawn, not trained."""
    classifier = EmotionClassifier(SpeechBackbone("tiny"), LABELS).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in classifier.head.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    state = {f"classifier.{name}": value for name, value in trained_state(classifier).items()}
    record = classifier.record.to_dict()
    torch.save({"state_dict": state, CLASSIFIER_KEY: record}, folder / "model.ckpt")
    return folder / "model.ckpt"


def explain(model: Path, manifest: Path, out: Path, devices: int) -> None:
    """Run the command."""
    words: Sequence[object] = (
        *(sys.executable, ROOT / "explain.py", "corpus", model, "--corpus", "manifest", "--root", manifest),
        *("--split", "all", "--out", out, "--num_draws", "16", "--report=false"),
        *("--accelerator", "cpu", "--devices", devices),
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [str(word) for word in words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{words} ended with {done.returncode}:\n{done.stderr}")


def clips_per_second(out: Path) -> float:
    """From the first record to the last."""
    times_s = sorted(path.stat().st_mtime for path in (out / "records").iterdir())
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])


def _files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def _seconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
