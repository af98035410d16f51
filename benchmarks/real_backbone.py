"""How good is a real pretrained encoder on RAVDESS, layer by layer, and what does explaining it cost?

Whisper tiny.en, frozen, through `train.py cv`: six folds of actors, a linear head on each layer and on the
learned mix. The layer of a fold is chosen by a cross-validation of five folds within its training actors; the
head on it is then trained on all of them, for as many epochs as ever, and tested on the others. Beside it the
same network with shuffled weights, the embedded backbone, and a clip explained.

    python benchmarks/real_backbone.py --root DIR --backbones whisper-tiny.en
    python benchmarks/real_backbone.py --root DIR --seconds  # only times explanations again
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _common import RESULTS, SAMPLE_RATE, Measurement, over_repeats, read_arguments, report, time_interleaved
from _runs import run_training
from ravdess_epochs import ravdess_flags
from safetensors.torch import load_file, save_file

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.corpora.catalogue import CORPORA
from wavshap_lightning.corpora.manifest import save_manifest
from wavshap_lightning.corpora.protocols import RAVDESS_6_FOLDS
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.training.cross_validation import read_fold, summarize_folds

BAR_UAR, BAR_SHUFFLED, BAR_GAP = 0.70, 0.48, 0.05
LAYERS = ("0", "1", "2", "3", "4", "learned")
NUM_FOLDS = 6
# dropout and weight decay were chosen like the layer
FLAGS = (
    "--model.backbone.pad_to_window=false",
    "--model.head.dropout=0.5",
    "--model.optimizer.weight_decay=0.1",
    "--trainer.max_epochs=30",
)
CLIP_S = 3.0
NUM_EXPLAINED = 24


def main() -> None:
    """Cross-validate every layer of the real and the shuffled network, explain, and report."""
    arguments = read_arguments(__doc__, needs=["root", "cache_dir", "backbones", "repeats", "seconds"])
    os.environ["OMP_NUM_THREADS"] = "1"  # of the runs, two at a time; this process keeps its threads
    (source,) = arguments.backbones or [arguments.root.parent / "whisper-tiny.en"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.seconds:
            report("real_backbone", timed_again(source, arguments, folder), arguments)
            return
        cross_validate = partial(cross_validate_layers, arguments=arguments, folder=folder)
        real = cross_validate("real", source)
        random = cross_validate("shuffled", write_shuffled(source, folder / "weights"))
        embedded = _cross_validate("embedded", [], arguments=arguments, folder=folder)
        inner = {
            fold: cross_validate(f"inner-{fold}", source, corpus=write_inner(arguments.root, fold, folder))
            for fold in range(1 if arguments.quick else NUM_FOLDS)
        }
        chosen = [max(runs, key=lambda layer: _read(runs[layer])["uar"]) for runs in inner.values()]
        heads = {"Whisper tiny.en": real[chosen[0]], "embedded backbone": embedded}
        checkpoints = {name: _checkpoint(run) for name, run in heads.items()}
        lines = [
            *(mean_line(f"Whisper tiny.en, layer {layer}", _read(run)) for layer, run in real.items()),
            chosen_line(real, chosen, folder),
            *(
                mean_line(f"shuffled weights, layer {layer}", _read(run), at_most=BAR_SHUFFLED)
                for layer, run in random.items()
            ),
            mean_line("embedded backbone", _read(embedded)),
            *time_lines(checkpoints, arguments),
            *gap_lines(checkpoints, arguments),
        ]
    report("real_backbone", lines, arguments)


def write_inner(root: Path, fold: int, folder: Path) -> Sequence[str]:
    """Flags of a corpus without the actors that a fold tests, in five folds of actors."""
    (tested,) = (set(one.test) for one in RAVDESS_6_FOLDS.folds[fold : fold + 1])
    path = folder / f"without-{fold}.jsonl"
    save_manifest(path, [clip for clip in CORPORA["ravdess"].load(root) if clip.speaker not in tested])
    return ["--data.corpus=manifest", f"--data.root={path}", "--data.protocol=balanced-speakers"]


def write_shuffled(source: Path, folder: Path) -> Path:
    """The same network, its weight matrices shuffled: each keeps its values and loses their order."""
    shutil.copytree(
        source, folder, ignore=shutil.ignore_patterns("*.safetensors"), copy_function=shutil.copyfile
    )
    generator = torch.Generator().manual_seed(0)
    weights = load_file(source / "model.safetensors")
    for name, values in weights.items():
        if values.ndim > 1 and "positions" not in name:
            order = torch.randperm(values.numel(), generator=generator)
            weights[name] = values.flatten()[order].view_as(values).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def cross_validate_layers(
    name: str, source: Path, *, arguments: argparse.Namespace, folder: Path, corpus: Sequence[str] = ()
) -> dict[str, Path]:
    """Folders of the cross-validations by layer, two of which are run at a time.

    Args:
        name: Of the folder.
        source: The backbone.
        arguments: Those of the command line.
        folder: Where they are written.
        corpus: Flags of another corpus than RAVDESS.
    """
    layers = LAYERS[2:3] if arguments.quick else LAYERS
    flags = [[*corpus, f"--model.backbone.name={source.absolute()}", *FLAGS] for _ in layers]
    flags = [[*one, f"--model.head.layer={layer}"] for one, layer in zip(flags, layers, strict=True)]
    names = [f"{name}-{layer}" for layer in layers]
    run = partial(_cross_validate, arguments=arguments, folder=folder)
    first = run(names[-1], flags[-1])  # alone, as it fills the cache
    with ThreadPoolExecutor(2) as pool:
        others = pool.map(run, names[:-1], flags[:-1])
        return dict(zip(layers, [*others, first], strict=True))


def _cross_validate(name: str, flags: Sequence[str], *, arguments: argparse.Namespace, folder: Path) -> Path:
    usual = ravdess_flags(arguments.root, arguments.cache_dir, quick=arguments.quick, command="cv")
    epochs = ["--trainer.max_epochs=1"] if arguments.quick else []
    run_training([*usual, *flags, *epochs, "--data.validation=false", "--run.wandb=false"], folder / name)
    (path,) = (folder / name).glob("runs/**/cv.json")
    return path.parent


def _read(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "cv.json").read_text())
    return summary


def mean_line(name: str, summary: Mapping[str, Any], **bars: float) -> Measurement:
    """Mean recall of all folds with its interval over speakers."""
    note = f"range: {summary['confidence']:.0%} interval over {summary['resampled']}; WA {summary['wa']:.3f}"
    return Measurement(
        f"{name}: UAR", summary["uar"], summary["uar_low"], summary["uar_high"], note=note, **bars
    )


def chosen_line(runs: Mapping[str, Path], layers: Sequence[str], folder: Path) -> Measurement:
    """The same for the layers that were chosen, one a fold."""
    folds = [read_fold(runs[layer] / f"fold_{fold}") for fold, layer in enumerate(layers)]
    summary = summarize_folds([one for one in folds if one], folder)
    line = mean_line("Whisper tiny.en, layer chosen", summary, at_least=BAR_UAR)
    return replace(line, note=f"layers {', '.join(layers)}; {line.note}")


def _checkpoint(folder: Path) -> Path:
    """That of the first fold."""
    return folder / "fold_0/checkpoints/best.ckpt"


def timed_again(source: Path, arguments: argparse.Namespace, folder: Path) -> list[Measurement]:
    """The last report with new times, of heads of one epoch: explaining costs the same for any weights."""
    flags = ["fit", *ravdess_flags(arguments.root, arguments.cache_dir, quick=False)[1:]]
    flags += ["--trainer.max_epochs=1", "--run.wandb=false"]
    whisper = [f"--model.backbone.name={source.absolute()}", *FLAGS[:1], "--model.head.layer=2"]
    runs = {
        name: run_training([*flags, *extra], folder / name).folder
        for name, extra in (("Whisper tiny.en", whisper), ("embedded backbone", []))
    }
    checkpoints = {name: next(run.glob("runs/**/best.ckpt")) for name, run in runs.items()}
    times = {line.name: line for line in time_lines(checkpoints, arguments)}
    lines = json.loads((RESULTS / "real_backbone.json").read_text())["measurements"]
    known = [Measurement(**{key: value for key, value in line.items() if key != "missed"}) for line in lines]
    return [times.get(line.name, line) for line in known]


def time_lines(checkpoints: Mapping[str, Path], arguments: argparse.Namespace) -> list[Measurement]:
    """Seconds of one explanation of three seconds, with the default settings."""
    clip = _clips(arguments)[0]
    explainers = {name: Explainer(path, ExplainSettings()) for name, path in checkpoints.items()}
    seconds = time_interleaved(
        {name: partial(explainer.explain, clip) for name, explainer in explainers.items()},
        1 if arguments.quick else arguments.repeats,
    )
    return [over_repeats(f"{name}: explain 3 s", values, unit="s") for name, values in seconds.items()]


def _clips(arguments: argparse.Namespace) -> list[torch.Tensor]:
    actors = [arguments.root / f"Actor_{number}" for number in ("01", "11", "20", "21")]  # tested by fold 0
    paths = sorted(path for actor in actors for path in actor.iterdir())
    paths = paths[:: max(1, len(paths) // (2 if arguments.quick else NUM_EXPLAINED))]
    size = round(CLIP_S * SAMPLE_RATE)
    return [torch.from_numpy(load_audio(path))[:size] for path in paths]


def gap_lines(checkpoints: Mapping[str, Path], arguments: argparse.Namespace) -> list[Measurement]:
    """Completeness gaps of explanations of three seconds, with the default settings."""
    clips, lines = _clips(arguments), []
    for name, path in checkpoints.items():
        explainer = Explainer(path, ExplainSettings())
        found = [gap for clip in clips for gap in explainer.explain(clip).relative_gap().values()]
        gaps = [gap for gap in found if gap is not None]
        note = f"{len(clips)} clips, frames and layers, before the correction; range: all"
        title, median = f"{name}: median completeness gap", statistics.median(gaps)
        lines.append(Measurement(title, median, min(gaps), max(gaps), at_most=BAR_GAP, note=note))
    return lines


if __name__ == "__main__":
    main()
