"""`explain.py --scores-only`: the three most probable classes of each clip, a line a clip."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.cli.explain_items import Item
from wavshap_lightning.cli.terminal import complain, on_one_line
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AudioError, WavshapError
from wavshap_lightning.explainer.long import logits_of
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier


def score_all(classifier: EmotionClassifier, items: Sequence[Item], settings: ExplainSettings) -> int:
    """Print a line a clip as it is scored; return how many could be."""
    num_scored = 0
    for item in items:
        try:
            probabilities = score_clip(classifier, item.recording, settings)
        except WavshapError as error:
            complain(error)
            continue
        num_scored += 1
        sys.stdout.write(f"{_ranked(probabilities)}  {on_one_line(item.name)}\n")
        sys.stdout.flush()
    return num_scored


def _ranked(probabilities: dict[str, float]) -> str:
    """The most probable class and the two that follow, in columns of fixed width.

    >>> _ranked({"sad": 0.25, "angry": 0.7, "calm": 0.05})
    'angry 0.700  sad   0.250  calm  0.050'
    """
    width = max(map(len, probabilities))
    first = sorted(probabilities, key=lambda label: -probabilities[label])[:3]
    return "  ".join(f"{label:<{width}} {probabilities[label]:.3f}" for label in first)


@torch.inference_mode()
def score_clip(
    classifier: EmotionClassifier, recording: Path | Clip, settings: ExplainSettings
) -> dict[str, float]:
    """The probability of each class for one clip.

    Args:
        classifier: Which.
        recording: The clip.
        settings: They say how a long one is cut.

    Raises:
        AudioError: If the clip cannot be read or is shorter than one frame.
    """
    clip = recording if isinstance(recording, Clip) else Clip(recording, label="unknown")
    waveform = load_audio(
        clip.path, sample_rate=classifier.sample_rate, start_s=clip.start_s, end_s=clip.end_s
    )
    shortest = classifier.backbone.frame_grid.receptive_field_samples
    if len(waveform) < shortest:
        raise AudioError(
            f"path={clip.path} has {len(waveform)} samples at {classifier.sample_rate} Hz, one frame needs "
            f"{shortest}; give a longer clip"
        )
    device = next(classifier.parameters()).device
    logits = logits_of(classifier, torch.from_numpy(waveform).to(device), settings)
    return dict(zip(classifier.labels, logits.softmax(0).tolist(), strict=True))
