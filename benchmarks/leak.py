"""Is a leak found where there is one, and only there?

Small models are built to leak and not to leak. A band of noise of 150 ms is planted in recordings of
RAVDESS, and a head is trained to tell which of two it is, and whether there is one. Under a group norm a
loud sound moves the statistics of all frames. Training on clips whose frames are exchanged with those of the
recording without the sound makes a head read the statistics alone, or the sound's own frames alone. Under a
layer norm, or with frozen statistics, no frame depends on a sound elsewhere.

A clip counts if it is predicted rightly with the sound and without it, the score moves by 1 or more, and the
share of this that the sound's own frames do not carry, measured against the recording without the sound, is
at least 0.75 (it leaks) or at most 0.25 (it does not). The diagnostic knows nothing of the planted sound.

The definition and the threshold were chosen on models with seeds 0 to 2, the sounds "mid" and "narrow",
trained on actors 1 to 8 and explained on actors 9 to 12, printed first. Reported are seeds 10 to 14, the
sounds "low" and "high", trained on actors 13 to 20 and explained on actors 21 to 24.

    python benchmarks/leak.py --root RAVDESS
    python benchmarks/leak.py --root RAVDESS --planted DIR --clips 3    # and heads that reliability.py keeps
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _common import SAMPLE_RATE, Measurement, read_arguments, report
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import WavLMConfig, WavLMModel

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.corpora.catalogue import load_corpus
from wavshap_lightning.corpora.manifest import read_manifest
from wavshap_lightning.explainer.diagnostics import LARGEST
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.leak import span_effect
from wavshap_lightning.explainer.recording import AudioSource
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.stages import Stages
from wavshap_lightning.explainer.targets import target_named
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.models.pooling import PoolingName
from wavshap_lightning.models.pretrained import PretrainedSpeechModel

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (48, 48, 48),
    "conv_kernel": (16, 8, 6),
    "conv_stride": (8, 8, 5),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
"""A hop of 320 samples, as in the models of Base size; each frame sees 392."""

CLIP, SOUND, FADE, EDGE = 19_200, 2400, 160, 1600
"""Samples of a clip, of the planted sound, of its fades, and of the edges that it keeps away from."""

LEVEL, START = 0.03, 14_400
STEPS, BATCH, RATE, PENALTY = 300, 256, 1e-2, 3e-3
LEAKS, DOES_NOT, LEAST_EFFECT = 0.75, 0.25, 1.0
BAR_TOLD_APART = 0.95

BANDS_HZ = {"mid": (800, 1800), "narrow": (1000, 1020), "low": (200, 600), "high": (2500, 5000)}


@dataclass(frozen=True)
class Kind:
    """A way to build a model.

    Args:
        name: In words.
        norm: Of the first convolution.
        gain: Level of the sound, relative to that of the clip.
        read: Frames that the head is trained to read: `"others"`, `"own"`, or any.
        frozen: The statistics of the norm are those of the training clips.
    """

    name: str
    norm: str
    gain: float
    read: str = "any"
    pooling: PoolingName = "mean"
    frozen: bool = False


KINDS = (
    Kind("group norm, loud sound, other frames read", "group", 6.0, read="others"),
    Kind("group norm, loud sound", "group", 6.0),
    Kind("group norm, loud sound, own frames read", "group", 6.0, read="own", pooling="attentive"),
    Kind("group norm, soft sound", "group", 2.0, pooling="attentive"),
    Kind("group norm with frozen statistics, loud sound", "group", 6.0, frozen=True),
    Kind("layer norm, loud sound", "layer", 6.0),
)


@dataclass(frozen=True)
class Set:
    """Models and clips of their own, to choose the threshold or to report."""

    seeds: Sequence[int]
    sounds: Sequence[str]
    training_actors: Sequence[int]
    actors: Sequence[int]


CHOOSING = Set(range(3), ("mid", "narrow"), range(1, 9), range(9, 13))
REPORTED = Set(range(10, 15), ("low", "high"), range(13, 21), range(21, 25))


@dataclass(frozen=True)
class Clip:
    """A recording, the same with the sound, and where that is."""

    plain: Tensor
    cued: Tensor
    label: int
    start: int


@dataclass(frozen=True)
class Told:
    """One explained clip.

    Args:
        kind: How the model was built.
        truth: Share of the sound's effect that other frames carry.
        leak: What the diagnostic measured.
    """

    kind: str
    truth: float
    leak: float | None

    @property
    def leaks_truly(self) -> bool:
        """Whether the model leaks here."""
        return self.truth >= LEAKS

    @property
    def told(self) -> bool:
        """Whether the diagnostic is right."""
        return (self.leak is not None and self.leak > LARGEST["leak"]) == self.leaks_truly


def main() -> None:
    """Measure and report."""
    arguments = read_arguments(__doc__, needs=["root", "planted", "split", "clips"])
    torch.manual_seed(0)
    chosen, reported = (measure(which, arguments) for which in (CHOOSING, REPORTED))
    measurements = [
        *lines("choosing", chosen),
        *lines("reported", reported, at_least=BAR_TOLD_APART),
        *real_models(arguments),
    ]
    report("leak", measurements, arguments, threshold=LARGEST["leak"])


def lines(which: str, told: Sequence[Told], **bar: float) -> Iterator[Measurement]:
    """Share told apart, and what was measured by kind of model."""
    share = statistics.fmean(one.told for one in told)
    yield Measurement(f"{which}: told apart", share, note=f"{len(told)} clips", **bar)  # type: ignore[arg-type]
    for kind in KINDS:
        for name, does in (("leaks", True), ("does not leak", False)):
            some = [one for one in told if one.kind == kind.name and one.leaks_truly == does]
            known = [one.leak for one in some if one.leak is not None]
            if known:
                right = f"{sum(one.told for one in some)} of {len(some)} right"
                what = f"{which}: {kind.name}, {name}"
                yield Measurement(what, statistics.median(known), min(known), max(known), note=right)


def measure(which: Set, arguments: argparse.Namespace) -> list[Told]:
    """Every clip that counts, of every model."""
    seeds, per_actor = (which.seeds[:1], 4) if arguments.quick else (which.seeds, 30)
    training = recordings(arguments.root, which.training_actors, per_actor)
    explained = recordings(arguments.root, which.actors, 4)
    found = []
    for seed in seeds:
        for kind in KINDS:
            generator = np.random.default_rng(seed)
            classifier = build(
                kind, seed, ("none", *which.sounds), plant(training, kind, which.sounds, generator)
            )
            clips = plant(explained, kind, which.sounds, generator)
            found += [told for clip in clips if (told := tell(classifier, clip, kind.name)) is not None]
    return found


def recordings(root: Path, actors: Sequence[int], per_actor: int) -> list[Tensor]:
    """1.2 s of some recordings of each actor, from 0.9 s on, at one level."""
    clips, found = load_corpus("ravdess", root), []
    for actor in actors:
        own = [clip for clip in clips if int(clip.speaker) == actor]
        for index in np.random.default_rng(actor).permutation(len(own))[:per_actor]:
            waveform = torch.from_numpy(load_audio(own[index].path)[START : START + CLIP])
            if len(waveform) == CLIP and waveform.square().mean() > 1e-6:
                found.append(LEVEL * waveform / waveform.square().mean().sqrt())
    return found


def plant(
    plain: Sequence[Tensor], kind: Kind, sounds: Sequence[str], generator: np.random.Generator
) -> list[Clip]:
    """Each recording with a sound, in turn of one kind and the other, at a random time."""
    clips = []
    window = np.minimum(1, np.minimum(np.arange(SOUND), np.arange(SOUND)[::-1]) / FADE)
    hertz = np.fft.rfftfreq(SOUND, 1 / SAMPLE_RATE)
    for index, waveform in enumerate(plain):
        label = index % len(sounds)
        low_hz, high_hz = BANDS_HZ[sounds[label]]
        spectrum = np.fft.rfft(generator.standard_normal(SOUND)) * ((hertz >= low_hz) & (hertz <= high_hz))
        sound = np.fft.irfft(spectrum, SOUND)
        sound *= kind.gain * LEVEL * window / np.sqrt(np.mean(sound**2))
        start = int(generator.integers(EDGE, CLIP - SOUND - EDGE))
        cued = waveform.clone()
        cued[start : start + SOUND] += torch.from_numpy(sound).float()
        clips.append(Clip(waveform, cued, 1 + label, start))
    return clips


def build(kind: Kind, seed: int, labels: Sequence[str], clips: Sequence[Clip]) -> EmotionClassifier:
    """A random backbone with a head that is trained on clips."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        is_layer = kind.norm == "layer"
        norms = {"feat_extract_norm": kind.norm, "do_stable_layer_norm": is_layer, "conv_bias": is_layer}
        model = WavLMModel(WavLMConfig(**norms, **SHAPE)).eval()
        spread_weights(model)
        if kind.frozen:
            freeze_statistics(model, torch.stack([clip.plain for clip in clips]))
        backbone = SpeechBackbone(PretrainedSpeechModel(model, name=kind.name))
        settings = HeadSettings(layer=seed % 2, pooling=kind.pooling, hidden_size=0, dropout=0.0)
        classifier = EmotionClassifier(backbone, labels, settings)
        fit_head(classifier, *training_features(classifier, clips, read=kind.read))
    return classifier.eval()


@torch.no_grad()
def spread_weights(model: nn.Module) -> None:
    """Scale weights to their fan-in, and make no norm trivial."""
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        if parameter.dim() > 1:
            parameter.copy_(noise * (2 / parameter[0].numel()) ** 0.5)
        else:
            parameter.add_(0.2 * noise)


@torch.no_grad()
def freeze_statistics(model: WavLMModel, waveforms: Tensor) -> None:
    """Replace the group norm by the same with the statistics of these clips."""
    first = model.feature_extractor.conv_layers[0]
    found, states = first.layer_norm, first.conv(waveforms[:, None])
    norm = nn.BatchNorm1d(found.num_channels, eps=found.eps).eval()
    norm.running_mean, norm.running_var = states.mean((0, 2)), states.var((0, 2), correction=0)
    norm.weight, norm.bias = found.weight, found.bias
    first.layer_norm = norm


@torch.no_grad()
def training_features(
    classifier: EmotionClassifier, clips: Sequence[Clip], *, read: str
) -> tuple[Tensor, Tensor]:
    """Mixed layers and labels of clips with the sound, without it, and with noise in its place or elsewhere.

    Unless any frames may be read, clips are added whose frames at the sound are of the recording without it,
    and the others of the clip with it, and the reverse, labeled by those that are to be read.
    """
    stages, features, labels = Stages(classifier), [], []
    for clip in clips:
        inputs = stages.frontend(torch.stack([clip.cued, clip.plain, *noisy(clip)]))
        cued, plain, replaced, *_ = inputs
        own = own_frames(classifier, clip)[:, None]
        swaps = [
            (torch.where(own, other, cued), torch.where(own, cued, other)) for other in (plain, replaced)
        ]
        known = [clip.label, 0, 0, clip.label, 0]
        if read != "any":
            inputs = torch.cat([inputs, *(torch.stack(swap) for swap in swaps)])
            known += [clip.label, 0, clip.label, 0] if read == "others" else [0, clip.label, 0, clip.label]
        features.append(stages.mix(classifier.backbone.encoder(inputs)))
        labels += known
    return torch.cat(features), torch.tensor(labels)


def noisy(clip: Clip) -> Iterator[Tensor]:
    """Noise as loud as the clip in place of the sound; elsewhere in the clip with it, and without it."""
    level = clip.cued.square().mean().sqrt()
    elsewhere = (clip.start + CLIP // 2) % (CLIP - SOUND)
    for waveform, start in ((clip.cued, clip.start), (clip.cued, elsewhere), (clip.plain, elsewhere)):
        replaced = waveform.clone()
        replaced[start : start + SOUND] = level * torch.randn(SOUND)
        yield replaced


def own_frames(classifier: EmotionClassifier, clip: Clip) -> Tensor:
    """Frames that see the sound."""
    grid = classifier.backbone.frame_grid
    count = grid.num_frames(CLIP)
    starts, ends = grid.start_s(count) * SAMPLE_RATE, grid.end_s(count) * SAMPLE_RATE
    return torch.from_numpy((starts < clip.start + SOUND) & (ends > clip.start))


def fit_head(classifier: EmotionClassifier, mixed: Tensor, labels: Tensor) -> None:
    """Train pooling and head on mixed layers, with a ridge penalty on the last weights."""
    head = classifier.head.train()
    optimizer = torch.optim.Adam(head.parameters(), lr=RATE)
    everywhere = torch.ones(mixed.shape[:2], dtype=torch.bool)
    for _ in range(STEPS):
        batch = torch.randperm(len(mixed))[:BATCH]
        logits = head.mlp(head.pooling(mixed[batch], everywhere[batch]))
        optimizer.zero_grad()
        (F.cross_entropy(logits, labels[batch]) + PENALTY * head.mlp[-1].weight.square().sum()).backward()
        optimizer.step()


def tell(classifier: EmotionClassifier, clip: Clip, kind: str) -> Told | None:
    """Truth and diagnosis of a clip; None if it does not count."""
    stages, label = Stages(classifier), classifier.labels[clip.label]
    target = target_named(label, classifier.labels, "log_odds")
    with torch.no_grad():
        cued, plain = stages.frontend(torch.stack([clip.cued, clip.plain]))
        right = stages.from_frames(torch.stack([cued, plain])).argmax(1).tolist() == [clip.label, 0]
        effect, own = span_effect(
            lambda rows: target(stages.from_frames(rows))[:, 0],
            cued,
            plain[None],
            own_frames(classifier, clip),
        )
    truth = 1 - float(own / effect)
    if not right or abs(float(effect)) < LEAST_EFFECT or DOES_NOT < truth < LEAKS:
        return None
    return Told(kind, truth, leaks_of(classifier, clip.cued, label)["frames"])


def leaks_of(classifier: EmotionClassifier, clip: AudioSource, label: str) -> dict[str, float | None]:
    """What the diagnostic measures, by stage."""
    settings = ExplainSettings(stages=("frames", "layers"))
    checks = Explainer(classifier, settings).explain(clip, label).baseline_checks or {}
    return checks["leaks"]


def real_models(arguments: argparse.Namespace) -> Iterator[Measurement]:
    """Leaks of trained heads in speech with planted cues, by stage; none without a folder of them."""
    pattern = "h/*/runs/planted_in/version_*/checkpoints/best.ckpt"
    paths = sorted(arguments.planted.glob(pattern)) if arguments.planted else ()
    for name, path in {path.parents[4].name: path for path in paths}.items():
        classifier = load_classifier(path)
        clips = [clip for clip in read_manifest(arguments.planted / "manifest.jsonl") if clip.evidence]
        clips = [clip for clip in clips if clip.split == arguments.split]
        order = np.random.default_rng(0).permutation(len(clips))[: arguments.clips].tolist()
        found = [leaks_of(classifier, clips[index], clips[index].label) for index in order]
        for stage in found[0]:
            known = [leak for one in found if (leak := one[stage]) is not None]
            above = sum(leak > LARGEST["leak"] for leak in known)
            note = f"{len(known)} of {len(found)} defined, {above} above the threshold"
            if known:
                what = f"head {name}: leak at {stage}"
                yield Measurement(what, statistics.median(known), min(known), max(known), note=note)


if __name__ == "__main__":
    main()
