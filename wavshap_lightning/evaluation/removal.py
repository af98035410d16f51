"""Faithfulness of an explained clip: its frames are removed and kept, and the classifier asked again."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.evaluation.faithfulness import Faithfulness, faithfulness
from wavshap_lightning.evaluation.proof import open_proof
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.models.classifier import EmotionClassifier


def remove_frames(
    classifier: EmotionClassifier, explanation: Explanation, waveform: Float[Tensor, " samples"], target: str
) -> Faithfulness:
    """How faithful the attributions of the path from the frames are to the classifier.

    Frames are filled with those of noise as loud as the clip, and with the clip's mean frame.

    Args:
        classifier: The one that was explained; it is as it was afterwards.
        explanation: With the path from the frames.
        waveform: The clip.
        target: Which of the explained labels.

    Raises:
        AttributionError: If there is no such path or target.
    """
    values = explanation.values("frames", "frames", target)
    generator = torch.Generator().manual_seed(explanation.settings.seed)
    asked = Target(explanation.settings.score, (explanation.labels.index(target),))
    with open_proof(classifier, waveform, asked, generator, explanation.settings) as proof:
        return faithfulness(proof.score, proof.frames, values, proof.fills, generator)
