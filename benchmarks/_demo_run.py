"""The demo's classifier and the clips of PlantedSpeech it has not heard: made once, then kept."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from _common import ROOT
from _training import run_training

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.planted.corpus import PlantedSettings, ensure_planted_speech

SETTINGS = PlantedSettings(num_speakers=24)
"""Those of configs/demo.yaml."""

UNHEARD_SEED = 1
"""Of a corpus none of whose speakers is one of the demo's."""

CONFIG = ROOT / "configs/demo.yaml"
FLAGS = ("fit", f"--config={CONFIG}", "--trainer.callbacks=null")


@dataclass(frozen=True)
class DemoRun:
    """A trained demo.

    Args:
        classifier: Its best checkpoint's.
        uar: Best recall on its validation speakers; None where the run's table is not beside it.
    """

    classifier: EmotionClassifier
    uar: float | None


def demo_heads(cache_dir: Path, seeds: Sequence[int]) -> list[EmotionClassifier]:
    """The demo's head trained from other seeds, on the same cached features."""
    return [load_classifier(_trained(cache_dir, seed)) for seed in seeds]


def demo_checkpoint(arguments: argparse.Namespace) -> Path:
    """That of `--checkpoint`, or of a demo that is trained if it has not been before."""
    return arguments.checkpoint or _trained(arguments.cache_dir, seed=0)


def _trained(cache_dir: Path, seed: int) -> Path:
    folder = cache_dir.resolve() / f"demo-{_code_key()}-seed{seed}"
    path = folder / "runs/demo/version_0/checkpoints/best.ckpt"
    if not path.is_file():
        print(f"training the demo from seed {seed}; about two minutes", flush=True)
        run_training((*FLAGS, f"--seed_everything={seed}"), folder)
    return path


def _code_key() -> str:
    """Of what decides a demo's weights, so that one of other code is trained anew."""
    package = ROOT / "wavshap_lightning"
    folders = ("models", "training", "corpora", "audio")
    sources = sorted(path for name in folders for path in (package / name).rglob("*.py"))
    hashes = sha256()
    for path in (CONFIG, *sources):
        hashes.update(path.read_bytes())
    return hashes.hexdigest()[:12]


def demo_run(arguments: argparse.Namespace) -> DemoRun:
    """The demo's run: its classifier, and its recall where the run's table is beside the checkpoint."""
    path = demo_checkpoint(arguments)
    table = path.parents[1] / "metrics.csv"
    return DemoRun(load_classifier(path), _best_uar(table) if table.is_file() else None)


def unheard_clips(cache_dir: Path, count: int, seed: int = 0) -> list[Clip]:
    """Clips with evidence, of speakers who neither trained nor validated, without regard to anything else."""
    clips = ensure_planted_speech(cache_dir / "planted", SETTINGS)
    clips = [clip for clip in clips if clip.split == "test" and clip.evidence]
    order = np.random.default_rng(seed).permutation(len(clips))[:count]
    return [clips[index] for index in order.tolist()]


def unheard_speakers(cache_dir: Path, count: int, seed: int = 0) -> list[Clip]:
    """Clips with evidence of 24 speakers of a corpus of their own, without regard to anything else.

    The demo's own test speakers are four, too few to say how much speakers differ.
    """
    clips = ensure_planted_speech(cache_dir / "unheard", replace(SETTINGS, seed=UNHEARD_SEED))
    clips = [clip for clip in clips if clip.evidence]
    order = np.random.default_rng(seed).permutation(len(clips))[:count]
    return [clips[index] for index in order.tolist()]


def _best_uar(table: Path) -> float:
    with table.open(newline="") as file:
        return max(float(row["val/uar"]) for row in csv.DictReader(file) if row.get("val/uar"))
