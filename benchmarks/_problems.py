"""Attribution problems to measure on: small scores, a WavLM trained on RAVDESS, Base geometry; Captum too."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import numpy as np
import torch
from _common import SAMPLE_RATE, build_wavlm, draw_waveforms
from attention import layers_of_transformers
from captum.attr import GradientShap
from lightning.pytorch.callbacks import LambdaCallback
from safetensors import safe_open
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn
from torch.nn.functional import pad
from torchmetrics.functional.classification import multiclass_recall
from transformers import WavLMConfig, WavLMModel

from wavshap_lightning.attribution.baselines import (
    BaselineDistribution,
    Baselines,
    BaselineSet,
    noise,
    recordings,
)
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.estimation.problem import open_problem
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.record import Attribution, ViewEstimate, tensor_sha256
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import View, grouped, summed
from wavshap_lightning.attribution.views.layers import layer_frame, layer_mix
from wavshap_lightning.corpora.catalogue import corpus_named
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.protocols import RAVDESS_6_FOLDS
from wavshap_lightning.models.backbone import Precision, SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.pretrained import PretrainedSpeechModel
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.data.dataset import read_waveform
from wavshap_lightning.training.module import EmotionModule, LossSettings, OptimizerSettings

HOP_SAMPLES = 320
NUM_DECLARED = 16


@dataclass(frozen=True)
class Stage:
    """One place where an attribution may begin.

    Args:
        name: `waveform`, `frames` or `layers`.
        score: What follows: `(draws, *input)` to logits.
        input: The clip there.
        encode: What brings a waveform there; None for the waveform itself.
        view: 20 ms frames, or layers x frames.
        sum_units: The same sums as the view's, for attributions that others made.
        structured: The score with its structure declared, for our methods, where it has one.
    """

    name: str
    score: Callable[[Tensor], Tensor]
    input: Tensor
    encode: Callable[[Tensor], Tensor] | None
    view: View
    sum_units: Callable[[Tensor], Tensor]
    structured: Callable[[Tensor], Tensor] | None = None

    @property
    def explained(self) -> Callable[[Tensor], Tensor]:
        """The score as our methods are given it."""
        return self.structured or self.score

    def explain(self, baselines: Baselines, target: Target, seed: int, stopping: Stopping) -> Attribution:
        """GradientSHAP of waveform baselines, which are brought to this stage."""
        with open_problem(self.explained, self.input, target, views=(self.view,)) as problem:
            return gradient_shap(problem, self.bring(baselines), generator=seed, stopping=stopping)

    def quadrature(self, baselines: BaselineSet, target: Target, num_nodes: int) -> Tensor:
        """The view by Gauss-Legendre quadrature from every baseline, `(*units)`."""
        with open_problem(self.explained, self.input, target, views=(self.view,)) as problem:
            found = integrated_gradients(problem, self.bring(baselines), num_nodes=num_nodes)
        return found.views[self.view.name].values[0].contiguous()

    def estimate(self, baselines: Baselines, target: Target, seed: int, num_draws: int) -> ViewEstimate:
        """The view alone, after so many draws."""
        found = self.explain(baselines, target, seed, Stopping(num_draws=num_draws))
        return found.views[self.view.name]

    def bring(self, baselines: Baselines) -> Baselines:
        """Baselines of the waveform, at this stage."""
        return baselines if self.encode is None else baselines.through(self.encode)


@torch.no_grad()
def stages_of(classifier: EmotionClassifier, waveform: Tensor) -> dict[str, Stage]:
    """All three, by name, of a head that pools mean and deviation."""
    head, weights = classifier.head, classifier.head.mix.weights()

    def frames_to_logits(frames: Tensor) -> Tensor:
        return classifier.head(classifier.encoder(frames))

    def after_mix(mixed: Tensor) -> Tensor:
        return head.mlp(head.pooling(mixed, torch.ones(mixed.shape[:2], dtype=torch.bool)))

    def to_layers(waveforms: Tensor) -> Tensor:
        return classifier.encoder(classifier.frontend(waveforms))

    frames, layers = classifier.frontend(waveform[None])[0], to_layers(waveform[None])[0]
    return {
        "waveform": Stage(
            "waveform",
            classifier,
            waveform,
            None,
            grouped(HOP_SAMPLES, name="frames"),
            _sum_hops,
        ),
        "frames": Stage(
            "frames",
            frames_to_logits,
            frames,
            classifier.frontend,
            summed(1, name="frames", smooth_variance=True),
            _sum_last,
        ),
        "layers": Stage(
            "layers",
            classifier.head,
            layers,
            to_layers,
            layer_frame(weights),
            _sum_last,
            layer_mix(weights, after_mix),
        ),
    }


def baseline_kinds(waveform: Tensor, others: Sequence[Tensor], seed: int = 0) -> dict[str, Baselines]:
    """Noise declared, real clips declared, and noise as a distribution; all at the clip's level."""
    distribution = noise(waveform)
    generator = torch.Generator().manual_seed(seed)
    return {
        "declared noise": distribution.declare(NUM_DECLARED, generator),
        "real clips": recordings(waveform, others[:NUM_DECLARED]),
        "distribution of noise": distribution,
    }


def predicted(classifier: EmotionClassifier, waveform: Tensor) -> Target:
    """The log-odds of the class the classifier says."""
    with torch.no_grad():
        return Target("log_odds", (int(classifier(waveform[None])[0].argmax()),))


def independent_draws(
    stage: Stage, baselines: Baselines, target: Target, count: int, seed: int, *, at_once: int = 16
) -> Tensor:
    """The terms of independent draws, `(draws, *units)`: Captum's estimator, draw by draw.

    Uniform alphas; baselines with replacement from a fixed set, a fresh one each from a distribution.
    """
    generator, brought = torch.Generator().manual_seed(seed), stage.bring(baselines)
    stream = brought.stream(generator) if isinstance(brought, BaselineDistribution) else None
    terms = []
    for start in range(0, count, at_once):
        size = min(at_once, count - start)
        if isinstance(brought, BaselineSet):
            drawn = brought.values[torch.randint(len(brought), (size,), generator=generator)]
        else:
            drawn = brought.encoded(torch.stack([next(stream) for _ in range(size)]))
        alphas = torch.rand(size, generator=generator).reshape(-1, *(1,) * stage.input.ndim)
        directions = stage.input - drawn
        positions = (drawn + alphas * directions).requires_grad_()
        (gradients,) = torch.autograd.grad(target(stage.score(positions)).sum(), positions)
        terms.append(stage.sum_units(gradients * directions).double())
    return torch.cat(terms)


def _sum_hops(terms: Tensor) -> Tensor:
    missing = -terms.shape[-1] % HOP_SAMPLES
    return pad(terms, (0, missing)).reshape(*terms.shape[:-1], -1, HOP_SAMPLES).sum(-1)


def _sum_last(terms: Tensor) -> Tensor:
    return terms.sum(-1)


DEFAULTS = f"Captum {version('captum')}: n_samples=5 unless said, stdevs=0, all draws in one forward pass"


def captum_shap(score: Callable[[Tensor], Tensor], target: Target) -> Callable[[Tensor, Tensor, int], Tensor]:
    """A function of input, baselines and number of draws; Captum takes its chance from global generators."""
    method = GradientShap(lambda inputs: target(score(inputs))[:, 0])

    def attribute(x: Tensor, baselines: Tensor, num_draws: int) -> Tensor:
        return method.attribute(x[None], baselines, n_samples=num_draws)[0].detach()

    return attribute


def captum_mean(
    attribute: Callable[[Tensor, Tensor, int], Tensor],
    x: Tensor,
    baselines: Tensor,
    sum_units: Callable[[Tensor], Tensor],
    *,
    num_draws: int,
    num_calls: int,
) -> tuple[Tensor, Tensor]:
    """Mean over many calls, `num_draws` in all, and its standard error from how the calls differ."""
    each = num_draws // num_calls
    runs = torch.stack([sum_units(attribute(x, baselines, each)).double() for _ in range(num_calls)])
    return runs.mean(0), runs.std(0) / num_calls**0.5


NUM_FRAMES, NUM_CHANNELS, NUM_CLASSES = 20, 6, 4


class Linear(nn.Module):
    """Logits that are weighted sums of the input."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(NUM_FRAMES, NUM_CHANNELS, NUM_CLASSES, generator=generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """`(draws, frames, channels)` to `(draws, classes)`."""
        return torch.einsum("dtc,tck->dk", inputs, self.weight)


def build_mlp(seed: int = 0) -> nn.Module:
    """Two hidden layers of 32, curved enough to need many draws."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = nn.Sequential(
            nn.Flatten(),
            nn.Linear(NUM_FRAMES * NUM_CHANNELS, 32),
            nn.GELU(),
            nn.Linear(32, 32),
            nn.Tanh(),
            nn.Linear(32, NUM_CLASSES),
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2.0)
    return network.requires_grad_(False).eval()  # noqa: FBT003


def simple_input(seed: int = 1) -> Tensor:
    """What is explained."""
    return torch.randn(NUM_FRAMES, NUM_CHANNELS, generator=torch.Generator().manual_seed(seed))


def walks() -> BaselineDistribution:
    """Random walks of different size: baselines that differ from one another as recordings do."""

    def stream(generator: torch.Generator):  # noqa: ANN202
        while True:
            size = 0.3 + torch.rand((), generator=generator)
            yield size * torch.randn(NUM_FRAMES, NUM_CHANNELS, generator=generator).cumsum(0) / 3

    return BaselineDistribution(stream, "walks")


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
        start_s = loudest_start(samples, size) / SAMPLE_RATE
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
    start = loudest_start(samples, size) + int(np.random.uniform(-0.3, 0.3) * sample_rate)  # noqa: NPY002
    start = min(max(start, 0), max(0, len(samples) - size))
    return samples[start : start + size] * np.float32(10 ** np.random.uniform(-0.5, 0.5))  # noqa: NPY002


def _loudest(waveform: Tensor) -> Tensor:
    size = round(CROP_S * SAMPLE_RATE)
    start = loudest_start(waveform.numpy(), size)
    return waveform[start : start + size].clone()


def loudest_start(samples: np.ndarray, size: int) -> int:
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    return int(np.argmax(energy[size:] - energy[:-size])) if len(samples) > size else 0


@torch.no_grad()
def _recall(classifier: EmotionClassifier, clips: list[Clip]) -> float:
    waveforms = torch.stack([_loudest(read_waveform(clip, SAMPLE_RATE)) for clip in clips])
    labels = torch.tensor([LABELS.index(clip.label) for clip in clips])
    logits = torch.cat([classifier(part) for part in waveforms.split(32)])
    return float(multiclass_recall(logits, labels, len(LABELS), average="macro"))


NUM_NODES = {"waveform": 64, "frames": 96, "layers": 256}
FRESH_DRAWS = 2048
REFERENCE_SEED = 987_654


@dataclass(frozen=True)
class Case:
    """One clip, at one stage, with baselines of one kind.

    Args:
        clip: Its name.
        stage: Where the attribution begins.
        kind: Of the baselines.
        baselines: Of the waveform.
        target: What is explained.
    """

    clip: str
    stage: Stage
    kind: str
    baselines: Baselines
    target: Target

    def reference(self, cache_dir: Path, *, quick: bool = False) -> Tensor:
        """The converged attributions of the stage's view, `(*units)`.

        Over a fixed set: Gauss-Legendre quadrature from every baseline, which shares nothing with the
        sampler. Over a distribution: 32 times the default draws, which adds 3 % to
        the square of what is measured there.
        """
        path = cache_dir / f"reference-{self._key(quick=quick)}.safetensors"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"values": self._converged(quick=quick)}, path)
        return load_file(path)["values"]

    def _converged(self, *, quick: bool) -> Tensor:
        if isinstance(self.baselines, BaselineDistribution):
            draws = 128 if quick else FRESH_DRAWS
            found = self.stage.estimate(self.baselines, self.target, REFERENCE_SEED, draws)
            return found.values[0].contiguous()
        nodes = 8 if quick else NUM_NODES[self.stage.name]
        return self.stage.quadrature(self.baselines, self.target, nodes)

    def _key(self, *, quick: bool) -> str:
        """Of everything that decides the reference; the logits stand for the weights."""
        with torch.no_grad():
            logits = self.stage.score(self.stage.input[None])
        if isinstance(self.baselines, BaselineDistribution):
            drawn = self.baselines.draw(1, torch.Generator().manual_seed(0))
        else:
            drawn = self.baselines.values
        tensors = [tensor_sha256(tensor) for tensor in (logits, self.stage.input, drawn)]
        sizes = (NUM_NODES[self.stage.name], FRESH_DRAWS, quick)
        named = f"{tensors} {self.stage.name} {self.kind} {self.target} {sizes}"
        return hashlib.sha256(named.encode()).hexdigest()[:16]


def ravdess_cases(
    trained: Trained, root: Path, num_clips: int, *, stages: tuple[str, ...], kinds: tuple[str, ...]
) -> list[Case]:
    """Clips of actors who did not train, each with other such clips for its real baselines."""
    crops = heldout_crops(root, num_clips + 16)
    others = [waveform for _, waveform in crops[num_clips:]]
    cases = []
    for index, (clip, waveform) in enumerate(crops[:num_clips]):
        at = stages_of(trained.classifier, waveform)
        baselines = baseline_kinds(waveform, others, seed=index)
        target = predicted(trained.classifier, waveform)
        cases += [
            Case(clip.name, at[stage], kind, baselines[kind], target) for stage in stages for kind in kinds
        ]
    return cases


def relative_rmse(found: Tensor, reference: Tensor) -> Tensor:
    """Root mean square over units, and over whatever comes before them, relative to the reference's."""
    return (found - reference).square().mean().sqrt() / reference.square().mean().sqrt()


TARGET = Target("log_odds", (2,))
DURATION_S, QUICK_DURATION_S = 3.0, 0.5


@dataclass(frozen=True)
class Pair:
    """The same function twice.

    Args:
        ours: The classifier, frozen.
        theirs: Waveforms to logits through transformers' own forward pass, parameters as they were opened:
            each asks for a gradient.
        waveform: What is explained.
    """

    ours: EmotionClassifier
    theirs: Callable[[Tensor], Tensor]
    waveform: Tensor


def base_pair(*, precision: Precision = "fp32", device: str = "cpu", quick: bool = False) -> Pair:
    """Random weights, `WavLMConfig()` as it is, the learned layer mix and mean and deviation over time.

    Args:
        precision: Of ours; theirs is in fp32.
        device: Where both are.
        quick: Half a second of sound.
    """
    model = build_wavlm().to(device)
    backbone = SpeechBackbone(PretrainedSpeechModel(copy.deepcopy(model), name="random"), precision=precision)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        ours = EmotionClassifier(backbone, LABELS).to(device).requires_grad_(False).eval()  # noqa: FBT003
    layers_of = layers_of_transformers(model.requires_grad_(True))  # noqa: FBT003
    (waveform,) = draw_waveforms([QUICK_DURATION_S if quick else DURATION_S])
    return Pair(ours, lambda waveforms: ours.head(layers_of(waveforms)), waveform.to(device))


def captum_call(pair: Pair, num_draws: int) -> Callable[[], object]:
    """Captum's, from sixteen declared noise baselines, which it does not score."""
    baselines = baseline_kinds(pair.waveform, [pair.waveform])["declared noise"]
    attribute = captum_shap(pair.theirs, TARGET)
    return lambda: attribute(pair.waveform, baselines.values, num_draws)
