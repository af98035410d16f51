"""A clip put to the proof: its frames, what may stand in for them, and the classifier to ask again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.problem import Score
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.waveform_baselines import noise
from wavshap_lightning.explainer.long import window_frames
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.stages import open_stages
from wavshap_lightning.models.classifier import EmotionClassifier

FILLS = ("noise", "mean")


@dataclass(frozen=True)
class Proof:
    """What is needed to try an explanation of frames.

    Args:
        frames: The clip's.
        fills: Frames of noise as loud as the clip, and the clip's mean frame.
        logits_of: The rest of the classifier.
        target: What is explained; one scalar.
    """

    frames: Float[Tensor, "time channels"]
    fills: Float[Tensor, "fills time channels"]
    logits_of: Score
    target: Target

    def score(self, inputs: Float[Tensor, "inputs time channels"]) -> Float[Tensor, " inputs"]:
        """The explained score of some frames."""
        return self.target(self.logits_of(inputs))[:, 0]


@contextmanager
def open_proof(
    classifier: EmotionClassifier,
    waveform: Float[Tensor, " samples"],
    target: Target,
    generator: torch.Generator,
    settings: ExplainSettings | None = None,
) -> Iterator[Proof]:
    """Inside, the classifier can be asked; afterwards it is as it was.

    Args:
        classifier: The one that was explained.
        waveform: The clip.
        target: What is explained; one scalar.
        generator: Draws the noise of a fill.
        settings: How it was explained; by default if None.
    """
    settings, device = settings or ExplainSettings(), next(classifier.parameters()).device
    with leave_no_trace(classifier):
        pieces = window_frames(settings, classifier.backbone.frame_grid, len(waveform))
        stages = open_stages(classifier, settings.precision, pieces)
        both = torch.cat([waveform[None].cpu(), noise(waveform.cpu()).draw(1, generator)]).to(device)
        with torch.no_grad():
            frames, noisy = stages.frontend(both)
        fills = torch.stack([noisy, frames.mean(0).expand_as(frames)])
        yield Proof(frames, fills, stages.from_frames, target)
