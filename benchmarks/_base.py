"""One Base-sized classifier twice: ours, and the transformers model as Captum is given it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from _common import SAMPLE_RATE, build_wavlm, draw_waveforms
from _peer import captum_shap
from _stages import baseline_kinds, stages_of
from attention import layers_of_transformers
from torch import Tensor

from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.models.backbone import Precision, SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.pretrained import PretrainedSpeechModel

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
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


def our_call(
    pair: Pair, stage: str, kind: str, num_draws: int, target: Target = TARGET
) -> Callable[[], object]:
    """A whole call of GradientSHAP, with all that goes before the draws."""
    others = [pair.waveform.roll(SAMPLE_RATE // 10)]
    baselines = baseline_kinds(pair.waveform, others)[kind]

    def call() -> object:
        at = stages_of(pair.ours, pair.waveform)[stage]
        return at.explain(baselines, target, 0, Stopping(num_draws=num_draws))

    return call


def captum_call(pair: Pair, num_draws: int) -> Callable[[], object]:
    """Captum's, from sixteen declared noise baselines, which it does not score."""
    baselines = baseline_kinds(pair.waveform, [pair.waveform])["declared noise"]
    attribute = captum_shap(pair.theirs, TARGET)
    return lambda: attribute(pair.waveform, baselines.values, num_draws)
