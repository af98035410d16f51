"""Whether attributions lie in speech, in pauses, or before the first and after the last word."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

PAUSE_BELOW_DB = 35.0
"""A frame this much quieter than the loudest is a pause."""


def attribution_shares(
    values: Float[Tensor, " frames"], level_db: Float[Tensor, " frames"]
) -> dict[str, float]:
    """Shares of the attributions' magnitude in speech, pauses and edges; they sum to one.

    Args:
        values: The attribution of each frame.
        level_db: How loud each is. A frame 35 dB below the loudest is a pause, and an edge before the first
            or after the last frame of speech.

    >>> import torch
    >>> attribution_shares(torch.tensor([1.0, 2.0, -1.0, 4.0]), torch.tensor([-90.0, -20.0, -80.0, -25.0]))
    {'speech': 0.75, 'pause': 0.125, 'edges': 0.125}
    """
    speech = level_db > level_db.max() - PAUSE_BELOW_DB
    between = speech.cummax(0).values & speech.flip(0).cummax(0).values.flip(0)
    return {
        "speech": _share(values, speech),
        "pause": _share(values, between & ~speech),
        "edges": _share(values, ~between),
    }


def _share(values: Float[Tensor, " frames"], inside: Bool[Tensor, " frames"]) -> float:
    whole = float(values.abs().sum())
    return float(values[inside].abs().sum()) / whole if whole else 0.0
