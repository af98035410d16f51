"""Make the figures of the docs again: train the demo's head, explain a clip, draw it.

    python docs/make_figures.py

Takes two minutes on one core and needs neither network nor data. With `--checkpoint FILE`, of the demo, the
training is left out.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from wavshap_lightning import explain, plot
from wavshap_lightning.planted.corpus import PlantedSettings, ensure_planted_speech

ROOT = Path(__file__).parents[1]
FIGURES = Path(__file__).parent / "figures"
CLIP = "s12-child_angry_01"
PROBE = "s19-male_angry_04"


def main() -> None:
    """Write `figures/explanation.png` and, where the demo is trained, `figures/epochs.png`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="of the demo: runs/demo/version_0/checkpoints/best.ckpt"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint or train_demo(Path(folder))
        draw_explanation(checkpoint, Path(folder) / "corpus")


def train_demo(folder: Path) -> Path:
    """Train as the demo does, with a probe clip explained every ten epochs; return the best checkpoint."""
    monitor = {"clips": f"[{PROBE}]", "every_n_epochs": 10, "num_draws": 32, "all_layers": "false"}
    flags = (
        "--run.wandb=off",
        "--run.test=false",
        *(f"--trainer.callbacks.{name}={value}" for name, value in monitor.items()),
    )
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "fit",
        f"--config={ROOT / 'configs/demo.yaml'}",
        *flags,
    ]
    subprocess.run(command, cwd=folder, check=True)
    run = folder / "runs/demo/version_0"
    shutil.copy(run / "figures/epochs" / f"{PROBE}.png", FIGURES / "epochs.png")
    return run / "checkpoints/best.ckpt"


def draw_explanation(checkpoint: Path, corpus: Path) -> None:
    """Explain a clip on all paths and draw it, with the evidence that was planted."""
    (clip,) = (clip for clip in ensure_planted_speech(corpus, PlantedSettings()) if clip.name == CLIP)
    explanation = explain(checkpoint, clip, target=clip.label, stages=("frames", "layers", "waveform"))
    figure = plot(explanation, label=clip.label, evidence=clip.evidence)
    figure.savefig(FIGURES / "explanation.png", metadata={"Software": None}, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
