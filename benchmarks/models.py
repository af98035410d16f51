"""Do the models of others give the outputs of their original code, alone and in a padded batch?

For every family of speech transformers and every head of another project, small models with random
weights of a real scale are written as folders as they are published. The original is the class of
transformers with its own feature extractor; for heads of other projects, the published forward pass on
the backbone in transformers. The number is the largest difference of an output for any clip of speech,
relative to the largest output for that clip. A padded batch is compared with the original's clips alone.

Weighted sums of layers are compared with transformers 4, where the last layer came after the final norm:
with its formula, and with itself if it is in a folder (pip install --target DIR transformers==4.57.1).

    python benchmarks/models.py
    python benchmarks/models.py --transformers4 DIR
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import ROOT, Measurement, read_arguments, report
from torch import Tensor, nn

from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.encoders import SqueezedLayers, SummaryTokens
from wavshap_lightning.models.families import FAMILIES
from wavshap_lightning.models.foreign_heads import LAYOUTS
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.models.pooling import FramewisePooling
from wavshap_lightning.planted.corpus import DEFAULT_LABELS
from wavshap_lightning.planted.scenes import draw_clip
from wavshap_lightning.planted.voices import VOICES, draw_speaker
from wavshap_lightning.training.data.dataset import pad_waveforms

sys.path.insert(0, str(ROOT / "tests" / "models"))
import published

BAR = 1e-5
SHORTEST_SAMPLES = 8_000
LABELS = {0: "angry", 1: "happy", 2: "sad", 3: "neutral"}
# Windows and patches of the published models.
WINDOWS: dict[str, dict[str, Any]] = {
    "whisper": {"max_source_positions": 1500},
    "audio-spectrogram-transformer": {
        "num_mel_bins": 128,
        "max_length": 1024,
        "frequency_stride": 10,
        "time_stride": 10,
    },
}
POSITIONS = ("relative_key", "relative", "rotary", None)
WEIGHTED = ("wavlm", "hubert", "wav2vec2", "unispeech-sat", "wav2vec2-conformer", "whisper")

# Logits of several folders by whichever transformers is found.
ORIGINAL = """
import sys, torch, transformers
for folder in sys.argv[1:]:
    model = transformers.AutoModelForAudioClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = [model(**inputs).logits for inputs in torch.load(folder + "/inputs.pt")]
    torch.save(torch.cat(logits), folder + "/logits.pt")
print(transformers.__version__)
"""


def main() -> None:
    """Measure every row of both tables and report."""
    arguments = read_arguments(__doc__, needs=["transformers4"])
    warnings.filterwarnings("ignore", module="transformers")
    clips = draw_clips(2 if arguments.quick else 4)
    with tempfile.TemporaryDirectory() as folder:
        families = {name: measure_family(name, clips, Path(folder)) for name in FAMILIES}
        whole = measure_whole(clips, Path(folder))
        heads = measure_heads(clips, Path(folder))
        sums = measure_sums(clips, Path(folder), arguments.transformers4)
    named = {row["title"]: row for row in families.values()}
    named |= {f"head of {row['models'][0]}": row for row in heads.values()}
    named |= {"other classifiers": whole}
    for title, row in sums.items():
        named |= {f"weighted sum of {title}, {by}": found for by, found in row.items() if by != "otherwise"}
    tables = {"families": families, "whole": whole, "heads": heads, "weighted_sums": sums}
    report("models", [*lines(named)], arguments, **tables)


def lines(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[Measurement]:
    """Two lines for each row."""
    for name, row in rows.items():
        note = f"outputs differ between clips by {row['between_clips']:.0%}"
        yield Measurement(f"{name}, single clip", row["single"], at_most=BAR, note=note)
        yield Measurement(f"{name}, padded batch", row["padded"], at_most=BAR)


def draw_clips(count: int) -> list[Tensor]:
    """Synthetic speech of several voices at 16 kHz, 1.5 to 2.5 s long, and the beginning of such a clip."""
    clips = []
    for index in range(count):
        generator = np.random.default_rng(index)
        speaker = draw_speaker(generator, voice=VOICES[index % len(VOICES)])
        waveform, _ = draw_clip(speaker, DEFAULT_LABELS[index % len(DEFAULT_LABELS)], generator)
        clips.append(torch.from_numpy(waveform.astype(np.float32)))
    return [*clips[:-1], clips[-1][:SHORTEST_SAMPLES]]


# Families


def measure_family(family: str, clips: Sequence[Tensor], folder: Path) -> dict[str, Any]:
    """The largest errors over what is published of a family, and what its frames are."""
    found = []
    for index, (norm, config) in enumerate(arrangements(family)):
        model = build_classifier(family, norm, **config)
        classifier = load(published.save_model(model, folder / f"{family}-{index}"))
        if any("final norm" in text for text in classifier.warnings):
            classifier = load(folder / f"{family}-{index}", final_norm=False)  # as transformers 5 does
        inputs = [published.features_of(model, clip) for clip in clips]
        found.append(errors(classifier, clips, torch.cat([forward(model, one) for one in inputs])))
    backbone, grid = classifier.backbone, classifier.backbone.frame_grid
    return {
        "title": title_of(family),
        "classifier": type(model).__name__,
        "hop_ms": 1000 * grid.hop_samples / grid.sample_rate,
        "frame_ms": 1000 * grid.receptive_field_samples / grid.sample_rate,
        "window_s": grid.max_frames * grid.hop_samples / grid.sample_rate if grid.fixed else None,
        "together": backbone._encoder.masks_padding,  # noqa: SLF001 - nothing public tells it
        "all_layers": backbone.num_layers > 1,
        "arrangements": len(found),
        **worst(found),
    }


def measure_whole(clips: Sequence[Tensor], folder: Path) -> dict[str, float]:
    """The largest errors over classifiers that are run as they are."""
    found = []
    for family in ("sew", "sew-d"):  # their sums of layers are at another rate than their frames
        model = build_classifier(family, "group", use_weighted_layer_sum=True)
        classifier = load(published.save_model(model, folder / f"whole-{family}"))
        inputs = [published.features_of(model, clip) for clip in clips]
        found.append(errors(classifier, clips, torch.cat([forward(model, one) for one in inputs])))
    return worst(found)


def arrangements(family: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Settings of a family that change the function: norms, positions, and the layers that the head takes."""
    config = published.build_model(family).config
    norms = ("group", "layer") if hasattr(config, "feat_extract_norm") else ("layer",)
    positions = [{}]
    if hasattr(config, "position_embeddings_type"):
        known = POSITIONS if family == "wav2vec2-bert" else POSITIONS[1:]
        positions = [{"position_embeddings_type": one} for one in known]
    one_layer = FAMILIES[family].encoder in (SqueezedLayers, SummaryTokens)
    for norm, options, weighted in product(norms, positions, (False,) if one_layer else (False, True)):
        yield norm, {**options, "use_weighted_layer_sum": weighted}


def build_classifier(family: str, norm: str, **config: Any) -> nn.Module:  # noqa: ANN401 - of transformers
    """A small classifier of transformers on frames as they are published."""
    settings = {"id2label": LABELS, **convolutions(family), **WINDOWS.get(family, {}), **config}
    seed = [*FAMILIES].index(family)
    return published.build_model(family, norm, seed, classifier=True, **settings).eval()


def title_of(family: str) -> str:
    """Name of a family in the names of its classes."""
    return published.config_class(family).__name__.removesuffix("Config")


def convolutions(family: str) -> dict[str, Any]:
    """Published hop and receptive field, with few channels."""
    usual = published.config_class(family)()
    if not hasattr(usual, "conv_stride"):
        return {}
    channels = (16,) * (len(usual.conv_stride) - 1) + (32,)
    return {"conv_dim": channels, "conv_kernel": usual.conv_kernel, "conv_stride": usual.conv_stride}


# Heads of other projects


def measure_heads(clips: Sequence[Tensor], folder: Path) -> dict[str, dict[str, Any]]:
    """By what marks a layout, the largest errors over its cases, and what its head is."""
    generator, found, facts = torch.Generator().manual_seed(0), {}, {}
    for index, case in enumerate(published.CASES.values()):
        place = folder / f"head-{index}"
        model, weights = published.publish(case, place, generator, **convolutions(case.family))
        names = {*weights, *case.config, *(case.prefix + name for name in model.state_dict())}
        expected = torch.cat([case.forward(model, weights, clip[None]) for clip in clips])
        classifier = load(place)
        mark = next(layout.mark for layout in LAYOUTS if {*layout.mark.split()} <= names)
        found.setdefault(mark, []).append(errors(classifier, clips, expected))
        known = facts.setdefault(
            mark, {"models": [], "family": case.family, "tasks": [], **parts(classifier)}
        )
        known["models"] += case.models
        known["tasks"] += [case.task] if case.task not in known["tasks"] else []
    marks = [layout.mark for layout in LAYOUTS]
    return {mark: {**facts[mark], **worst(found[mark])} for mark in marks}


def parts(classifier: EmotionClassifier) -> dict[str, Any]:
    """The parts of a head, in the words of torch."""
    head, pooling = classifier.head, classifier.head.pooling
    assert isinstance(pooling, FramewisePooling)  # noqa: S101 - for the reader
    kind = "attentive statistics" if pooling.score is not None else "mean"
    return {
        "layers": head.settings.layer,
        "frames": chain(pooling.layers),
        "pooling": "mean of normalized frames" if pooling.normalized else kind,
        "mlp": chain(head.mlp),
    }


def chain(layers: nn.Module) -> list[str]:
    """Kinds of layers in their order."""
    return [type(layer).__name__ for layer in layers.children()]


# Weighted sums


def measure_sums(clips: Sequence[Tensor], folder: Path, site: Path | None) -> dict[str, dict[str, Any]]:
    """Errors from the formula of transformers 4, and from transformers 4 itself where it is installed."""
    rows, opened = {}, {}
    for family in WEIGHTED:
        model = build_classifier(family, "layer", use_weighted_layer_sum=True)
        place = published.save_model(model, folder / f"sum-{family}")
        inputs = [dict(published.features_of(model, clip)) for clip in clips]
        torch.save(inputs, place / "inputs.pt")
        logits = torch.cat([published.published_logits(model, **one) for one in inputs])
        classifier, title = load(place), title_of(family)
        opened[title], rows[title] = (place, classifier), {"formula": errors(classifier, clips, logits)}
        if classifier.warnings:
            rows[title]["otherwise"] = errors(load(place, final_norm=False), clips, logits)["single"]
    version = run_original(site, [place for place, _ in opened.values()]) if site else ""
    for title, (place, classifier) in opened.items() if site else ():
        logits = torch.load(place / "logits.pt", weights_only=True)
        rows[title][f"transformers {version}"] = errors(classifier, clips, logits)
    return rows


def run_original(site: Path, folders: Sequence[Path]) -> str:
    """Write the logits of each folder by the transformers installed in `site`, and return its version."""
    command = [sys.executable, "-W", "ignore", "-c", ORIGINAL, *map(str, folders)]
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.split()[-1]


# Errors


def load(folder: Path, **options: Any) -> EmotionClassifier:  # noqa: ANN401 - as they are
    """The classifier of a folder, its warnings kept to itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_classifier(folder, **options)


@torch.no_grad()
def forward(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Logits of transformers' own class."""
    return model(**inputs).logits


@torch.no_grad()
def errors(classifier: EmotionClassifier, clips: Sequence[Tensor], expected: Tensor) -> dict[str, float]:
    """Largest relative error of clips one by one and in a padded batch, and how much the clips differ."""
    alone = torch.cat([classifier(clip[None]) for clip in clips])
    padded = classifier(*pad_waveforms(clips))
    scale = expected.abs().amax(1, keepdim=True)
    single, batch = (float(((found - expected).abs() / scale).max()) for found in (alone, padded))
    between = (expected.amax(0) - expected.amin(0)).max() / expected.abs().max()
    return {"single": single, "padded": batch, "between_clips": float(between)}


def worst(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The largest errors, and the least difference between clips."""
    largest = {name: max(row[name] for row in found) for name in ("single", "padded")}
    return {**largest, "between_clips": min(row["between_clips"] for row in found)}


if __name__ == "__main__":
    main()
