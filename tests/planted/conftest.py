"""Recordings that stand for real ones: synthetic speech without a cue, near silence on both sides."""

from __future__ import annotations

import numpy as np
import pytest

from wavshap_lightning.planted.scenes import draw_clip
from wavshap_lightning.planted.voices import draw_speaker


@pytest.fixture(scope="session")
def draw_recording():
    """`seed -> recording` at 16 kHz with 0.5 s of near silence on both sides."""

    def draw(seed):
        rng = np.random.default_rng([3, seed])
        speaker = draw_speaker(rng, voice=("male", "female")[seed % 2])
        speech, _ = draw_clip(speaker, "neutral", rng)
        hush = 1e-5 * rng.standard_normal((2, 8_000))
        return np.concatenate([hush[0], speech, hush[1]]).astype(np.float32)

    return draw
