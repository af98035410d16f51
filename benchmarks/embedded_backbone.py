"""How good is the embedded backbone, and how fast?

A head on frozen features through `train.py`: `cv` over six folds of actors on RAVDESS, with the layer and the
head of `configs/backbones/tiny.yaml`, which were chosen on synthetic speech, once with all actors but the
tested ones in training (nothing is chosen, the last epoch counts), once with a sixth of them choosing the
epoch. `cv` over five folds of speakers on PlantedSpeech, with the demo's head, nothing chosen; and whether
the demo finds the evidence of its test speakers. First on random weights, then on each backbone given
(pretrained from several seeds, say). Then size and speed.

    python benchmarks/embedded_backbone.py --root DIR
    python benchmarks/embedded_backbone.py --root DIR --backbones runs/seed{0,1,2}/tiny
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from _common import ROOT, Measurement, draw_waveforms, over_repeats, read_arguments, report
from _runs import evidence_auc, run_training
from ravdess_epochs import ravdess_flags
from transformers import Wav2Vec2FeatureExtractor

from wavshap_lightning.corpora.manifest import read_manifest
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.pretrained import TINY_FOLDER, build_tiny_model

BAR_RAVDESS, BAR_PLANTED, BAR_EVIDENCE = 0.55, 0.95, 0.9
BAR_MB, BAR_PARAMETERS, BAR_SPEED = 4.0, 1.5e6, 50.0
NUM_EXPLAINED = 50
RANDOM = "random weights"


def main() -> None:
    """Measure every backbone on both corpora, then size and speed, and report."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir", "backbones"])
    with tempfile.TemporaryDirectory() as folder:
        sources = {RANDOM: write_random(Path(folder) / "random")}
        sources |= {str(source): source for source in arguments.backbones or [TINY_FOLDER]}
        ravdess, chosen = (
            [
                ravdess_line(name, source, arguments, Path(folder), validation=validation)
                for name, source in sources.items()
            ]
            for validation in (False, True)
        )
        planted = [planted_lines(name, source, arguments, Path(folder)) for name, source in sources.items()]
    measurements = [
        *ravdess,
        _mean("RAVDESS, pretrained, mean", ravdess[1:], BAR_RAVDESS),
        *chosen,
        _mean("RAVDESS, epoch chosen, pretrained, mean", chosen[1:], None),
        *(line for lines in planted for line in lines),
        _mean("PlantedSpeech, pretrained, mean", [recall for recall, _ in planted[1:]], BAR_PLANTED),
        _mean("evidence AUC, pretrained, mean", [auc for _, auc in planted[1:]], BAR_EVIDENCE),
        *size_lines(),
        speed_line(),
    ]
    report("embedded_backbone", measurements, arguments)


def write_random(folder: Path) -> Path:
    """The same geometry with random weights, as transformers writes it."""
    build_tiny_model(0).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True).save_pretrained(folder)
    return folder


def ravdess_line(
    name: str, source: Path, arguments: argparse.Namespace, folder: Path, *, validation: bool
) -> Measurement:
    """Mean recall of all folds of RAVDESS, and its interval over speakers."""
    flags = ravdess_flags(arguments.root, arguments.cache_dir, quick=arguments.quick, command="cv")
    here = folder / f"ravdess-{len(list(folder.iterdir()))}"
    flags = [*flags, _source_flag(source), f"--data.validation={str(validation).lower()}"]
    run_training([*flags, *_quick(arguments)], here)
    summary = json.loads(next(here.glob("runs/**/cv.json")).read_text())
    note = f"range: {summary['confidence']:.0%} interval over speakers; WA {summary['wa']:.3f}"
    how = ", epoch chosen" if validation else ""
    return Measurement(
        f"RAVDESS{how}, {name}", summary["uar"], summary["uar_low"], summary["uar_high"], note=note
    )


def planted_lines(name: str, source: Path, arguments: argparse.Namespace, folder: Path) -> list[Measurement]:
    """PlantedSpeech: mean recall of all folds, and whether the demo's evidence is found."""
    return [
        _planted_recall(name, source, arguments, folder / f"planted-{len(list(folder.iterdir()))}"),
        _planted_evidence(name, source, arguments, folder / f"demo-{len(list(folder.iterdir()))}"),
    ]


def _planted_recall(name: str, source: Path, arguments: argparse.Namespace, here: Path) -> Measurement:
    folds = ["--data.protocol=balanced-speakers", "--data.validation=false", "--trainer.callbacks=null"]
    run_training(["cv", *_demo_flags(source, arguments), *folds], here)
    summary = json.loads(next(here.glob("runs/**/cv.json")).read_text())
    note = f"range: {summary['confidence']:.0%} interval over speakers"
    return Measurement(
        f"PlantedSpeech, {name}", summary["uar"], summary["uar_low"], summary["uar_high"], note=note
    )


def _planted_evidence(name: str, source: Path, arguments: argparse.Namespace, here: Path) -> Measurement:
    run_training(["fit", *_demo_flags(source, arguments)], here)
    clips = read_manifest(next(here.glob("cache/planted/*/manifest.jsonl")))
    tested = [clip for clip in clips if clip.split == "test" and clip.evidence]
    spread = tested[:: max(1, len(tested) // NUM_EXPLAINED)]
    auc = evidence_auc(next(here.glob("runs/**/best.ckpt")), spread)
    return Measurement(f"evidence AUC, {name}", auc, note=f"{len(spread)} test clips, at the frames")


def _demo_flags(source: Path, arguments: argparse.Namespace) -> list[str]:
    return [f"--config={ROOT / 'configs/demo.yaml'}", _source_flag(source), *_quick(arguments)]


def size_lines() -> list[Measurement]:
    """What the embedded backbone weighs."""
    size_mb = sum(path.stat().st_size for path in TINY_FOLDER.iterdir()) / 1e6
    parameters = sum(parameter.numel() for parameter in SpeechBackbone().parameters())
    return [
        Measurement("size", size_mb, unit="MB", at_most=BAR_MB, note="the whole folder"),
        Measurement("parameters", parameters, at_most=BAR_PARAMETERS),
    ]


@torch.no_grad()
def speed_line() -> Measurement:
    """Seconds of sound a second, one clip at a time, on one thread."""
    backbone, threads = SpeechBackbone(), torch.get_num_threads()
    waveforms = draw_waveforms([2.0, 3.0, 4.0, 5.0] * 3)
    torch.set_num_threads(1)
    rates = [_rate(backbone, waveforms) for _ in range(4)][1:]
    torch.set_num_threads(threads)
    return over_repeats("one core", rates, unit="s of sound per s", at_least=BAR_SPEED)


def _rate(backbone: SpeechBackbone, waveforms: Sequence[torch.Tensor]) -> float:
    start = time.perf_counter()
    for waveform in waveforms:
        backbone(waveform[None])
    return sum(map(len, waveforms)) / backbone.sample_rate / (time.perf_counter() - start)


def _mean(name: str, lines: Sequence[Measurement], bar: float | None) -> Measurement:
    values = [line.value for line in lines if line.value is not None]
    note = f"of {len(values)}; range: least and greatest"
    return Measurement(name, statistics.fmean(values), min(values), max(values), at_least=bar, note=note)


def _source_flag(source: Path) -> str:
    return f"--model.backbone.name={source.absolute()}"


def _quick(arguments: argparse.Namespace) -> list[str]:
    return ["--trainer.max_epochs=1"] if arguments.quick else []


if __name__ == "__main__":
    main()
