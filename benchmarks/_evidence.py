"""Do attributions find the evidence planted in synthetic clips?

Expected gradients at the frames, from noise at the clip's own level: the plain estimator, enough to judge a
backbone by.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from sklearn.metrics import roc_auc_score
from torch import Tensor

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.models.checkpoint import load_classifier
from wavshap_lightning.models.classifier import EmotionClassifier

NUM_DRAWS = 32


def evidence_auc(checkpoint: Path, clips: Iterable[Clip], *, seed: int = 0) -> float:
    """Mean area under the ROC curve of frames inside against frames outside the evidence.

    Args:
        checkpoint: Of the classifier; its evidence for each clip's label is what is explained.
        clips: Those with evidence are looked at.
        seed: Decides the baselines.
    """
    classifier = load_classifier(checkpoint)
    generator = torch.Generator().manual_seed(seed)
    return statistics.fmean(_auc(classifier, clip, generator) for clip in clips if clip.evidence)


def _auc(classifier: EmotionClassifier, clip: Clip, generator: torch.Generator) -> float:
    waveform = torch.from_numpy(load_audio(clip.path))
    attribution = frame_attribution(classifier, waveform, clip.label, generator)
    middle_s = classifier.backbone.frame_grid.center_s(len(attribution))
    inside = np.any([(span.start_s <= middle_s) & (middle_s < span.end_s) for span in clip.evidence], axis=0)
    return float(roc_auc_score(inside, attribution.numpy()))


def frame_attribution(
    classifier: EmotionClassifier, waveform: Float[Tensor, " time"], label: str, generator: torch.Generator
) -> Float[Tensor, " frames"]:
    """What each frame adds to the log-odds of `label`, against noise at the clip's level."""
    noise = torch.randn(NUM_DRAWS, len(waveform), generator=generator) * waveform.square().mean().sqrt()
    with torch.no_grad():
        frames, baselines = classifier.frontend(waveform[None]), classifier.frontend(noise)
    strata = (torch.arange(NUM_DRAWS) + torch.rand(NUM_DRAWS, generator=generator)) / NUM_DRAWS
    alpha = strata[:, None, None]
    path = (baselines + alpha * (frames - baselines)).requires_grad_()
    logits = classifier.head(classifier.encoder(path))
    index = classifier.labels.index(label)
    others = [other for other in range(len(classifier.labels)) if other != index]
    log_odds = logits[:, index] - logits[:, others].logsumexp(1)
    (gradient,) = torch.autograd.grad(log_odds.sum(), path)
    return ((frames - baselines) * gradient).mean(0).sum(1)
