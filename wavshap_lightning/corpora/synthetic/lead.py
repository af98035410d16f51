"""What comes before the voice: a stretch of near silence and, as a shortcut to learn, a faint tone in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from wavshap_lightning.audio.io import SAMPLE_RATE
from wavshap_lightning.corpora.clip import Span

NOISE_DB = -50.0
TONE_DB = -36.0
"""Both relative to the clip: too faint to be taken for speech, and well above 16 bits."""

_TONE_HZ = (900.0, 1_100.0)
_TONE_PLACE = (0.2, 0.8)
_FADE_S = 0.01


def add_lead(
    waveform: Float[np.ndarray, " time"],
    evidence: tuple[Span, ...],
    lead_s: float,
    generator: np.random.Generator,
    *,
    tone: bool,
) -> tuple[Float[np.ndarray, " longer"], tuple[Span, ...]]:
    """Put near silence before a clip at 16 kHz.

    What is drawn does not depend on whether there is a tone: twins differ in the tone alone.

    Args:
        waveform: The clip.
        evidence: Spans in it.
        lead_s: How long the silence is, in seconds.
        generator: Where everything random comes from.
        tone: Whether a tone sounds in the middle of it.

    Returns:
        The longer clip, and the spans where they lie now; the tone is none of them.

    >>> spans = (Span(0.0, 1e-4),)
    >>> waveform, evidence = add_lead(np.ones(8), spans, 0.5, np.random.default_rng(0), tone=True)
    >>> len(waveform), evidence[0].start_s
    (8008, 0.5)
    """
    level = float(np.sqrt(np.mean(waveform**2)))
    num_samples = round(lead_s * SAMPLE_RATE)
    lead = 10 ** (NOISE_DB / 20) * generator.standard_normal(num_samples)
    frequency_hz, phase = generator.uniform(*_TONE_HZ), generator.uniform(0, 2 * np.pi)
    if tone:
        lead += 10 ** (TONE_DB / 20) * _tone(num_samples, frequency_hz, phase)
    shifted = tuple(
        replace(span, start_s=span.start_s + lead_s, end_s=span.end_s + lead_s) for span in evidence
    )
    return np.concatenate([level * lead, waveform]), shifted


def _tone(num_samples: int, frequency_hz: float, phase: float) -> Float[np.ndarray, " time"]:
    """A sine of unit power in the middle of a stretch, faded in and out."""
    time_s = np.arange(num_samples) / SAMPLE_RATE
    start_s, end_s = (place * num_samples / SAMPLE_RATE for place in _TONE_PLACE)
    envelope = np.clip(np.minimum(time_s - start_s, end_s - time_s) / _FADE_S, 0.0, 1.0)
    return np.sqrt(2.0) * envelope * np.sin(2 * np.pi * frequency_hz * time_s + phase)
