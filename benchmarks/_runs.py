"""Runs of `train.py` as a user would start them; the demo, trained once and kept; its evidence AUC."""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from _common import ROOT
from sklearn.metrics import roc_auc_score

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.manifest import read_manifest, save_manifest
from wavshap_lightning.corpora.protocols import RAVDESS_6_FOLDS
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.planted.corpus import PlantedSettings, ensure_planted_speech
from wavshap_lightning.planted.into_recordings import PlantedInSettings, ensure_planted_in, open_source

# Nothing of the user's account, and no question to anyone.
KEYS = ("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
OFFLINE = {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")


@dataclass(frozen=True, slots=True)
class Training:
    """What became of a training command.

    Args:
        seconds: From the start of the process to its end.
        folder: Where it wrote.
        files: What it wrote there, with sizes in bytes.
    """

    seconds: float
    folder: Path
    files: dict[str, int]


def run_training(arguments: Sequence[str], folder: Path, *, prefix: Sequence[str] = ()) -> Training:
    """Run `python train.py` with these arguments in a folder of its own, and wait for it.

    Args:
        arguments: What follows `train.py`.
        folder: Its working directory, whose new files are listed; its cache too, where they name none.
        prefix: A command to run it under.

    Exits with the end of the output if the command fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in KEYS}
    environment |= OFFLINE | {"WAVSHAP_CACHE": str(folder / "cache")}
    command = [*prefix, sys.executable, str(ROOT / "train.py"), *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    files = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (folder / "cache") not in path.parents
    }
    return Training(seconds, folder, files)


def network_off() -> Sequence[str]:
    """A command prefix under which there is no network but the machine's own; empty where there is none."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return ()
    tried = subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True, check=False)
    return WITHOUT_NETWORK if tried.returncode == 0 else ()


SETTINGS = PlantedSettings(num_speakers=24)
"""Those of configs/demo.yaml."""

OTHER_SEED = 1
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
    folder = kept_run(cache_dir, f"demo-seed{seed}", (*FLAGS, f"--seed_everything={seed}"))
    return folder / "runs/demo/version_0/checkpoints/best.ckpt"


def kept_run(cache_dir: Path, name: str, arguments: Sequence[str]) -> Path:
    """The folder of a training with these arguments, which is run unless it was before, by the same code."""
    relative = [one.replace(str(ROOT), "") for one in arguments]
    key = sha256("\n".join((code_key("models", "training", "corpora", "audio"), *relative)).encode())
    folder = cache_dir.resolve() / f"{name}-{key.hexdigest()[:12]}"
    if not (folder / "finished").is_file():
        print(f"training {name}; some minutes", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        run_training(arguments, folder)
        (folder / "finished").touch()
    return folder


def code_key(*folders: str) -> str:
    """Of the demo's configuration and of the code in folders of the package."""
    package = ROOT / "wavshap_lightning"
    sources = sorted(path for name in folders for path in (package / name).rglob("*.py"))
    hashes = sha256()
    for path in (CONFIG, *sources):
        hashes.update(path.read_bytes())
    return hashes.hexdigest()[:12]


WHISPER_HEADS = [
    f"{layer}-{pooling}" for layer in ("1", "2", "3", "4", "learned") for pooling in ("mean", "attentive")
]
TESTED, VALIDATED = (0, 1), (2,)
"""Folds of RAVDESS's actors in the split of the planted recordings; the other twelve actors train."""

TRAINING_SEEDS = (1, 2, 3)
"""The recordings of the training actors are planted with cues once more from each."""


def planted_clips(folder: Path, root: Path) -> list[Clip]:
    """Cues planted in RAVDESS, unless they are there: `manifest.jsonl`, and the sounds beside it.

    Args:
        folder: Where they are kept.
        root: Folder of RAVDESS.
    """
    manifest = folder / "manifest.jsonl"
    if not manifest.is_file():
        clips = []
        for seed in (0, *TRAINING_SEEDS):
            settings = PlantedInSettings(source="ravdess", seed=seed)
            made = ensure_planted_in(folder / f"planted-{seed}", open_source(root, settings), settings)
            made = [replace(clip, split=_split_of(clip.speaker)) for clip in made]
            clips += [clip for clip in made if seed == 0 or clip.split == "train"]
        save_manifest(manifest, clips)
    return read_manifest(manifest)


def planted_whisper(folder: Path, root: Path, whisper: Path) -> tuple[list[Clip], dict[str, Path]]:
    """Cues planted in RAVDESS, and heads on the layers of Whisper that tell them, made unless they are there.

    Args:
        folder: Where they are kept: `manifest.jsonl` and, for each head, `h/LAYER-POOLING/runs`.
        root: Folder of RAVDESS.
        whisper: Folder of the backbone.

    Returns:
        The clips, and the checkpoint of each head.
    """
    clips, cut = planted_clips(folder, root), "--model.backbone.pad_to_window=false"
    names = ((name, *name.split("-")) for name in WHISPER_HEADS)
    return clips, {name: planted_head(folder, name, whisper, *how, flags=[cut]) for name, *how in names}


def planted_head(
    folder: Path, name: str, backbone: str | Path, layer: str, pooling: str, *, flags: Sequence[str] = ()
) -> Path:
    """Checkpoint of a head that tells planted cues, trained as a user would unless it is there.

    Args:
        folder: That of `planted_clips`.
        name: Of the head, for its folder.
        backbone: Its backbone.
        layer: Layer that it reads, or `learned`.
        pooling: Its pooling; with `mean` no frames are left out in training.
        flags: More of `train.py fit`.
    """
    runs, pattern = folder / "h" / name, "runs/planted_in/version_*/checkpoints/best.ckpt"
    if not [*runs.glob(pattern)]:
        print(f"training the head {name} on planted cues; some minutes", flush=True)
        usual = [f"--config={ROOT / 'configs/planted_in.yaml'}", "--data.corpus=manifest"]
        usual += [f"--data.root={folder.absolute() / 'manifest.jsonl'}", "--data.options=null"]
        usual += [f"--data.cache_dir={folder.absolute() / 'cache'}", "--run.wandb=false"]
        usual += [f"--model.backbone.name={backbone}", "--model.backbone.last_layer=null"]
        usual += [f"--model.head.layer={layer}", f"--model.head.pooling={pooling}"]
        usual += ["--model.head.frame_dropout=0"] if pooling == "mean" else []
        usual += ["--trainer.max_epochs=16"]  # of four times as many clips
        run_training(["fit", *usual, *flags], runs)
    return max(runs.glob(pattern))


def _split_of(actor: str) -> str:
    """Split of an actor's planted recordings."""
    (fold,) = (place for place, one in enumerate(RAVDESS_6_FOLDS.folds) if actor in one.test)
    return "test" if fold in TESTED else "validation" if fold in VALIDATED else "train"


def demo_run(arguments: argparse.Namespace) -> DemoRun:
    """The demo's run: its classifier, and its recall where the run's table is beside the checkpoint."""
    path = demo_checkpoint(arguments)
    table = path.parents[1] / "metrics.csv"
    return DemoRun(load_classifier(path), _best_uar(table) if table.is_file() else None)


def clips_of_test(cache_dir: Path, count: int, seed: int = 0) -> list[Clip]:
    """Clips with evidence, of speakers who neither trained nor validated, without regard to anything else."""
    clips = ensure_planted_speech(cache_dir / "planted", SETTINGS)
    clips = [clip for clip in clips if clip.split == "test" and clip.evidence]
    order = np.random.default_rng(seed).permutation(len(clips))[:count]
    return [clips[index] for index in order.tolist()]


def other_speakers_clips(cache_dir: Path, count: int, seed: int = 0) -> list[Clip]:
    """Clips with evidence of 24 speakers of a corpus of their own, without regard to anything else.

    The demo's own test speakers are four, too few to say how much speakers differ.
    """
    clips = ensure_planted_speech(cache_dir / "other-speakers", replace(SETTINGS, seed=OTHER_SEED))
    clips = [clip for clip in clips if clip.evidence]
    order = np.random.default_rng(seed).permutation(len(clips))[:count]
    return [clips[index] for index in order.tolist()]


def _best_uar(table: Path) -> float:
    with table.open(newline="") as file:
        return max(float(row["val/uar"]) for row in csv.DictReader(file) if row.get("val/uar"))


def evidence_auc(
    checkpoint: Path, clips: Iterable[Clip], *, seed: int = 0, target: str | None = None
) -> float:
    """Mean area under the ROC curve of frames inside against frames outside the evidence.

    Args:
        checkpoint: Of the classifier, explained with the default settings.
        clips: Those with evidence are looked at.
        seed: Decides the baselines.
        target: Its evidence is explained; that of each clip's label if None.
    """
    explainer = Explainer(checkpoint, ExplainSettings(stages=("frames",), seed=seed))
    with_evidence = [clip for clip in clips if clip.evidence]
    return statistics.fmean(
        _auc(explainer.explain(clip, target or clip.label), clip) for clip in with_evidence
    )


def _auc(explanation: Explanation, clip: Clip) -> float:
    middle_s = explanation.times["frames"].center_s()
    inside = np.any([(span.start_s <= middle_s) & (middle_s < span.end_s) for span in clip.evidence], axis=0)
    return float(roc_auc_score(inside, explanation.values("frames", "frames").numpy()))
