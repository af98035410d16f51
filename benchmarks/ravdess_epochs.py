"""How long do thirty epochs on RAVDESS take from the cache, and how large are the checkpoints?

The whole command from process start to end, with the tiny backbone and a cache that an earlier command
filled. Then the checkpoints of a head on a frozen backbone of Base size, opened with `weights_only=True`.

    python benchmarks/ravdess_epochs.py --root DIR
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from _common import ROOT, SAMPLE_RATE, Measurement, build_wavlm, over_repeats, read_arguments, report
from _runs import run_training

BAR_S = 45.0
BAR_MB = 2.0
NUM_EPOCHS, QUICK_EPOCHS = 30, 2
REPEATS = 3
QUICK_CLIPS = 96
CHECKPOINTS = {
    "best.ckpt": "head, labels, protocol, backbone's name and fingerprint",
    "last.ckpt": "the same and the optimizer's state, to resume from",
}


def main() -> None:
    """Fill the cache, time the command, weigh the checkpoints, and report."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir"])
    flags = ravdess_flags(arguments.root, arguments.cache_dir, quick=arguments.quick)
    epochs = QUICK_EPOCHS if arguments.quick else NUM_EPOCHS
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        run_training([*flags, "--trainer.max_epochs=1"], here / "filling")
        seconds = [
            run_training([*flags, f"--trainer.max_epochs={epochs}"], here / f"timed-{repeat}").seconds
            for repeat in range(1 if arguments.quick else REPEATS)
        ]
        sizes = base_checkpoints(here / "base")
    report(
        "ravdess_epochs",
        [
            over_repeats(
                f"{epochs} cached epochs",
                seconds,
                unit="s",
                at_most=BAR_S,
                note="from process start to end, W&B offline",
            ),
            *sizes,
        ],
        arguments,
    )


def ravdess_flags(root: Path, cache_dir: Path, *, quick: bool, command: str = "fit") -> list[str]:
    """The arguments of a command on RAVDESS with the tiny backbone."""
    return [
        command,
        f"--config={ROOT / 'configs/ravdess.yaml'}",
        f"--config={ROOT / 'configs/backbones/tiny.yaml'}",
        f"--data.root={root.absolute()}",
        f"--data.cache_dir={cache_dir.absolute()}",
        "--trainer.accelerator=cpu",
        *([f"--data.max_samples={QUICK_CLIPS}"] if quick else []),
    ]


def base_checkpoints(folder: Path) -> list[Measurement]:
    """The checkpoints of a head trained for one epoch on a frozen random backbone of Base size."""
    backbone = folder / "backbone"
    build_wavlm().save_pretrained(backbone)
    preprocessing = {"do_normalize": False, "sampling_rate": SAMPLE_RATE}
    (backbone / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    training = run_training(_few_clips(backbone), folder)
    (checkpoints,) = folder.glob("runs/*/version_0/checkpoints")
    measurements = []
    for name, content in CHECKPOINTS.items():
        torch.load(checkpoints / name, weights_only=True)  # refuses anything but tensors and plain values
        (size,) = (size for path, size in training.files.items() if path.endswith(name))
        bar = BAR_MB if name == "best.ckpt" else None
        measurements.append(Measurement(f"Base, {name}", size / 1e6, unit="MB", at_most=bar, note=content))
    return measurements


def _few_clips(backbone: Path) -> Sequence[str]:
    return (
        "fit",
        "--data.options={num_speakers: 3, clips_per_speaker_and_label: 1}",
        f"--model.backbone.name={backbone}",
        "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
    )


if __name__ == "__main__":
    main()
