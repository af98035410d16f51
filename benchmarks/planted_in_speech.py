"""Is a cue found where it was planted in real speech?

Cues are planted in recordings of RAVDESS, whatever their emotion, a head is trained to tell them as the
demo's is, and GradientSHAP with its defaults explains the label of clips of actors who neither trained nor
chose the epoch. Beside it what asks no model: loudness, edges, chance. Ranges are those of the actors' means.

    python benchmarks/planted_in_speech.py --root RAVDESS
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from _common import ROOT, Measurement, read_arguments, report
from _runs import run_training
from torch import Tensor

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.manifest import read_manifest
from wavshap_lightning.evaluation.controls import control_maps
from wavshap_lightning.evaluation.localization import inside_spans, roc_auc
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.recording import open_recording
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.time_grid import times_of
from wavshap_lightning.planted.into_recordings import read_left_out

OURS = "GradientSHAP"
CONTROLS = ("energy", "edges", "random")
BAR_AUC, BAR_ENERGY = 0.9, 0.6
CLIPS_PER_ACTOR, QUICK_CLIPS_PER_ACTOR = 60, 8

Aucs = Mapping[str, Sequence[float]]


def main() -> None:
    """Plant, train, explain and report."""
    arguments = read_arguments(__doc__, needs=["root", "clips"])
    with tempfile.TemporaryDirectory() as folder:
        report("planted_in_speech", measure(arguments, Path(folder)), arguments)


def measure(arguments: argparse.Namespace, folder: Path) -> list[Measurement]:
    """Everything from planting on."""
    train(arguments, folder)
    corpus = next(folder.glob("cache/planted-in/*/manifest.jsonl")).parent
    clips = read_manifest(corpus / "manifest.jsonl")
    scores = json.loads(next(folder.glob("runs/**/test.json")).read_text())
    explainer = Explainer(next(folder.glob("runs/**/best.ckpt")), ExplainSettings(stages=("frames",)))
    judged = draw_clips(clips, arguments.clips)
    found = {OURS: [_ours(explainer, clip) for clip in judged], **of_controls(explainer, judged)}
    all_energy = statistics.fmean(of_controls(explainer, [clip for clip in clips if clip.evidence])["energy"])
    left_out = f"{len(read_left_out(corpus))} recordings left out; {len(judged)} clips explained"
    actors = [clip.speaker for clip in judged]
    return [
        Measurement("clips", len(clips), note=left_out),
        Measurement("UAR, test actors", scores["uar"], note="chance 0.167"),
        Measurement("AUC of energy, all clips", all_energy, at_most=BAR_ENERGY),
        _line(f"AUC of signed {OURS}", found[OURS], actors, at_least=BAR_AUC),
        *(_line(f"AUC of {name}", found[name], actors) for name in CONTROLS),
        *(_over(name, found, actors) for name in CONTROLS),
    ]


def train(arguments: argparse.Namespace, folder: Path) -> None:
    """Plant the cues and train, as a user would."""
    per_actor = QUICK_CLIPS_PER_ACTOR if arguments.quick else CLIPS_PER_ACTOR
    options = json.dumps({"source": "ravdess", "clips_per_speaker": per_actor})
    flags = [f"--config={ROOT / 'configs/planted_in.yaml'}", f"--data.root={arguments.root.resolve()}"]
    flags += [f"--data.options={options}", "--trainer.accelerator=cpu", "--run.wandb=off"]
    run_training(["fit", *flags, *(["--trainer.max_epochs=2"] if arguments.quick else [])], folder)


def draw_clips(clips: Sequence[Clip], count: int, seed: int = 0) -> list[Clip]:
    """Clips with evidence of actors who judge."""
    judging = [clip for clip in clips if clip.split == "test" and clip.evidence]
    order = np.random.default_rng(seed).permutation(len(judging))[:count]
    return [judging[index] for index in order.tolist()]


def of_controls(explainer: Explainer, clips: Sequence[Clip]) -> dict[str, list[float]]:
    """What finds the evidence without a model, clip by clip."""
    grid, generator = explainer.classifier.backbone.frame_grid, torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {name: [] for name in CONTROLS}
    for clip in clips:
        waveform = open_recording(clip, grid).waveform
        for name, values in control_maps(waveform, grid, generator).items():
            found[name].append(_auc(values, clip, grid, len(waveform)))
    return found


def _ours(explainer: Explainer, clip: Clip) -> float:
    grid = explainer.classifier.backbone.frame_grid
    num_samples = len(open_recording(clip, grid).waveform)
    return _auc(explainer.explain(clip, clip.label).values("frames", "frames"), clip, grid, num_samples)


def _auc(values: Tensor, clip: Clip, grid: FrameGrid, num_samples: int) -> float:
    centers_s = times_of(grid, num_samples)["frames"].center_s()
    return roc_auc(values, inside_spans(centers_s, clip.evidence))


def _line(name: str, values: Sequence[float], actors: Sequence[str], **bar: float) -> Measurement:
    """A mean over clips. Four actors are too few for an interval: the range is that of their means."""
    means = _by_actor(values, actors)
    note = "range: least and greatest mean of an actor"
    return Measurement(name, statistics.fmean(values), min(means), max(means), note=note, **bar)  # type: ignore[arg-type]


def _over(control: str, found: Aucs, actors: Sequence[str]) -> Measurement:
    """By how much ours is better, clip by clip, for the actor for whom it is so by the least."""
    better = [one - other for one, other in zip(found[OURS], found[control], strict=True)]
    means = _by_actor(better, actors)
    note = f"least mean of an actor; over all clips {statistics.fmean(better):.2f}"
    return Measurement(f"AUC over {control}", min(means), min(means), max(means), at_least=0.0, note=note)


def _by_actor(values: Sequence[float], actors: Sequence[str]) -> list[float]:
    pairs = list(zip(values, actors, strict=True))
    return [
        statistics.fmean(value for value, whose in pairs if whose == actor) for actor in sorted(set(actors))
    ]


if __name__ == "__main__":
    main()
