"""A small WavLM trained end to end on RAVDESS, as the attribution benchmarks need it: made once, then kept.

It has WavLM Base's stages in small: seven convolutions with group norm, projected frames, transformer layers
with gated relative positions, the learned layer mix. Everything is trained, from random weights, on 1.2 s
of the clips of sixteen actors; four others validate nothing here and four more are what is measured on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import numpy as np
import torch
from _common import SAMPLE_RATE
from lightning.pytorch.callbacks import LambdaCallback
from safetensors import safe_open
from safetensors.torch import save_model
from torch import Tensor
from torchmetrics.functional.classification import multiclass_recall
from transformers import WavLMConfig, WavLMModel

from wavshap_lightning.corpora.catalogue import corpus_named
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.protocols import RAVDESS_6_FOLDS
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.pretrained import PretrainedSpeechModel
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.data.dataset import read_waveform
from wavshap_lightning.training.module import EmotionModule, LossSettings, OptimizerSettings

CROP_S = 1.2
FOLD = 0
LABELS = corpus_named("ravdess").labels

GEOMETRY: dict[str, Any] = {
    "conv_dim": (64,) * 7,
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 8,
    "num_buckets": 64,
    "max_bucket_distance": 256,
    "feat_extract_norm": "group",
}


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What decides the weights, besides the recordings.

    Args:
        num_epochs: Passes over the training clips.
        learning_rate: Peak, of head and backbone alike.
        batch_size: Clips a step.
        label_smoothing: Probability mass spread over all classes.
        seed: Of the first weights, the order and the crops.
    """

    num_epochs: int = 40
    learning_rate: float = 1e-3
    batch_size: int = 32
    label_smoothing: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """The trained classifier and what is known of it.

    Args:
        classifier: In evaluation mode, frozen.
        facts: Recall on the actors who did not train, seconds it took, parameters.
    """

    classifier: EmotionClassifier
    facts: dict[str, float]


def trained_classifier(root: Path, cache_dir: Path, *, quick: bool = False) -> Trained:
    """The classifier, trained if these settings have not been trained before.

    Args:
        root: Folder of RAVDESS.
        cache_dir: Where the weights are kept.
        quick: Train for one epoch, on few clips.
    """
    settings = TrainingSettings(num_epochs=1) if quick else TrainingSettings()
    named = json.dumps([asdict(settings), GEOMETRY, CROP_S, FOLD, quick], sort_keys=True)
    path = cache_dir / f"ravdess-wavlm-{hashlib.sha256(named.encode()).hexdigest()[:12]}.safetensors"
    if not path.is_file():
        _train(path, root, settings, max_samples=96 if quick else None)
    classifier = build_classifier(settings.seed)
    with safe_open(path, framework="pt") as file:
        classifier.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        facts = json.loads(file.metadata()["facts"])
    return Trained(classifier.requires_grad_(False).eval(), facts)  # noqa: FBT003


def build_classifier(seed: int) -> EmotionClassifier:
    """Random weights, all of them to be trained."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = WavLMModel(WavLMConfig(**GEOMETRY))
        backbone = SpeechBackbone(PretrainedSpeechModel(model, name="small"))
        classifier = EmotionClassifier(backbone, LABELS)
    return classifier.requires_grad_(True)  # noqa: FBT003


def heldout_crops(root: Path, count: int, seed: int = 0) -> list[tuple[Clip, Tensor]]:
    """The loudest part of clips of actors who did not train, drawn without regard to anything else."""
    clips = _test_clips(root)
    chosen = np.random.default_rng(seed).permutation(len(clips))[:count]
    return [(clips[index], _loudest(read_waveform(clips[index], SAMPLE_RATE))) for index in chosen.tolist()]


def heldout_spans(root: Path, count: int, seed: int = 0) -> list[Clip]:
    """Crops of clips of all eight actors who did not train, as spans of their files."""
    split = RAVDESS_6_FOLDS.split(corpus_named("ravdess").load(root), FOLD)
    clips = [*split["validation"], *split["test"]]  # nothing was chosen by the former
    chosen = np.random.default_rng(seed).permutation(len(clips))[:count]
    spans = []
    for index in chosen.tolist():
        samples, size = read_waveform(clips[index], SAMPLE_RATE).numpy(), round(CROP_S * SAMPLE_RATE)
        start_s = _loudest_start(samples, size) / SAMPLE_RATE
        spans.append(replace(clips[index], start_s=start_s, end_s=start_s + size / SAMPLE_RATE))
    return spans


def _test_clips(root: Path) -> list[Clip]:
    clips = corpus_named("ravdess").load(root)
    return list(RAVDESS_6_FOLDS.split(clips, FOLD)["test"])


def _train(path: Path, root: Path, settings: TrainingSettings, max_samples: int | None) -> None:
    print(f"training the small WavLM on RAVDESS for {path.name}; about ten minutes", flush=True)
    start = time.monotonic()
    L.seed_everything(settings.seed, verbose=False)
    classifier = build_classifier(settings.seed)
    module = EmotionModule(
        LABELS,
        optimizer=OptimizerSettings(settings.learning_rate, settings.learning_rate),
        loss=LossSettings(label_smoothing=settings.label_smoothing),
    )
    module.classifier = classifier
    data = EmotionDataModule(
        "ravdess",
        str(root),
        fold=FOLD,
        batch_size=settings.batch_size,
        transform=_crop_anywhere,
        cache=False,
        seed=settings.seed,
        max_samples=max_samples,
    )
    _trainer(settings.num_epochs).fit(module, datamodule=data)
    classifier.eval()
    facts = {
        "recall": _recall(classifier, _test_clips(root)[:max_samples]),
        "seconds": time.monotonic() - start,
        "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "train_loss": float(module.trainer.callback_metrics["train/loss"]),
    }
    print(facts, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(classifier, str(path), {"facts": json.dumps(facts)})


def _trainer(num_epochs: int) -> L.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    return L.Trainer(
        max_epochs=num_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        callbacks=[LambdaCallback(on_train_epoch_end=_print_loss)],
        gradient_clip_val=1.0,
    )


def _print_loss(trainer: L.Trainer, _module: L.LightningModule) -> None:
    print(f"epoch {trainer.current_epoch}: {float(trainer.callback_metrics['train/loss']):.3f}", flush=True)


def _crop_anywhere(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Around the loudest part, up to 0.3 s off, as loud as may be: the datamodule seeds what is drawn."""
    size = round(CROP_S * sample_rate)
    start = _loudest_start(samples, size) + int(np.random.uniform(-0.3, 0.3) * sample_rate)  # noqa: NPY002
    start = min(max(start, 0), max(0, len(samples) - size))
    return samples[start : start + size] * np.float32(10 ** np.random.uniform(-0.5, 0.5))  # noqa: NPY002


def _loudest(waveform: Tensor) -> Tensor:
    size = round(CROP_S * SAMPLE_RATE)
    start = _loudest_start(waveform.numpy(), size)
    return waveform[start : start + size].clone()


def _loudest_start(samples: np.ndarray, size: int) -> int:
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    return int(np.argmax(energy[size:] - energy[:-size])) if len(samples) > size else 0


@torch.no_grad()
def _recall(classifier: EmotionClassifier, clips: list[Clip]) -> float:
    waveforms = torch.stack([_loudest(read_waveform(clip, SAMPLE_RATE)) for clip in clips])
    labels = torch.tensor([LABELS.index(clip.label) for clip in clips])
    logits = torch.cat([classifier(part) for part in waveforms.split(32)])
    return float(multiclass_recall(logits, labels, len(LABELS), average="macro"))
