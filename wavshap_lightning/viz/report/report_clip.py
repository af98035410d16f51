"""A clip as the report takes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from wavshap_lightning.explainer.files import SavedClip


@dataclass(frozen=True)
class ReportClip:
    """A clip, explained or failed.

    Args:
        name: As people know it: the file's name.
        saved: What was found; None for a clip that failed.
        waveform: Its sound, at the sample rate that `saved` names; None for no player and no spectrogram.
        reason: Why it failed, for people.
    """

    name: str
    saved: SavedClip | None
    waveform: Float[np.ndarray, " samples"] | None
    reason: str = ""
