"""The rule behind `auto`: stage and baselines of an explanation where none are named.

It was chosen on cues planted in real speech, with actors other than those of the report
(`benchmarks/evidence_real.py`): where the head reads layers of the transformer, the path from these layers
tells best when, and recordings without the cue are better baselines than noise; of a head on the
transformer's input, the path from the frames and noise are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.baselines import recordings
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.explainer.settings import AUTO, SPAN_METHODS, ExplainSettings, Stage
from wavshap_lightning.explainer.stages import Stages
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import SOFTMAX_TASKS

NUM_REFERENCES, MIN_REFERENCES = 32, 8
"""Recordings that serve as baselines. The fewer there are, the more another choice changes the map."""

REFERENCE_DRAWS = 128
"""Draws from the layers with recordings, four from each: they pass through the head alone."""

NEUTRAL = "neutral"

STAGE_RULE: tuple[tuple[Callable[[ExplainSettings, EmotionClassifier], bool], Stage, str], ...] = (
    (lambda asked, _: asked.method in SPAN_METHODS, "frames", "the method removes frames"),
    (lambda asked, _: asked.decibels, "waveform", "decibels are those of samples"),
    (lambda asked, _: asked.layer is not None, "layers", "a layer is asked for"),
    (lambda _, model: reads_context(model), "layers", "the layers that the head reads tell best when"),
    (lambda _, model: "frames" in model.stages, "frames", "the head reads no layer of the transformer"),
    (lambda *_: True, "waveform", "neither frames nor layers of this model are open"),
)
"""The first that applies to the settings and the classifier, with the reason."""

NO_CONTEXT = "the head reads no layer of the transformer"
LEFT_OUT = ", those of the clip's predicted class left out"


def reads_context(classifier: EmotionClassifier) -> bool:
    """True if the head reads a layer of the transformer, besides its input."""
    return "layers" in classifier.stages and bool(classifier.head.mix.weights()[1:].any())


def choose_stages(
    asked: ExplainSettings, classifier: EmotionClassifier
) -> tuple[ExplainSettings, dict[str, str]]:
    """Settings for a classifier, with a stage in place of `auto`.

    Args:
        asked: The settings.
        classifier: The classifier to explain.

    Returns:
        The settings, and the reason of the choice by the name of the setting.

    Raises:
        SettingError: If the method or the layer needs a stage that the classifier lacks.
    """
    if asked.stages != (AUTO,):
        return asked.within(classifier.stages), {}
    chosen, reason = next(row[1:] for row in STAGE_RULE if row[0](asked, classifier))
    return replace(asked, stages=(chosen,)).within(classifier.stages), {"stages": reason}


def choose_baselines(
    classifier: EmotionClassifier,
    stages: Stages,
    waveform: Float[Tensor, " samples"],
    logits: Float[Tensor, " classes"],
    others: Sequence[Tensor],
    *,
    count: int | None,
) -> tuple[list[Tensor], str]:
    """Recordings to serve as baselines of a clip in place of `auto`, none for noise, and the reason.

    Args:
        classifier: The classifier to explain.
        stages: Its stages.
        waveform: Samples of the clip.
        logits: Logits of the clip.
        others: Recordings at hand.
        count: Number of baselines that is asked for; None for all of them.
    """
    if not reads_context(classifier):
        return [], NO_CONTEXT
    # of a longer recording, the beginning serves, and it may be silent
    others = [one for one in others if one[: len(waveform)].any()]
    unlike, left_out = others, ""
    if others and classifier.task in SOFTMAX_TASKS:
        values = recordings(waveform.cpu(), others).values.to(waveform)
        with torch.no_grad():
            differs = (stages.from_waveforms(values).argmax(1) != logits.argmax()).tolist()
        unlike, left_out = [one for one, kept in zip(others, differs, strict=True) if kept], LEFT_OUT
    if len(unlike) < max(MIN_REFERENCES, count or 0):
        return [], f"too few recordings are at hand{left_out}"
    return unlike, f"recordings are at hand{left_out}"


def draw_references(clips: Sequence[Clip]) -> list[Clip]:
    """Clips that may serve as baselines for the others, those labeled neutral if there are enough.

    They are the same for every random seed, so that explanations with other seeds answer the same question.

    Args:
        clips: The clips at hand.

    Returns:
        One more than are needed, as none serves for itself; none if there are too few.
    """
    neutral = [clip for clip in clips if clip.label == NEUTRAL]
    drawn = neutral if len(neutral) > MIN_REFERENCES else clips
    order = np.random.default_rng(0).permutation(len(drawn))[: NUM_REFERENCES + 1]
    return [drawn[index] for index in order.tolist()] if len(order) > MIN_REFERENCES else []
