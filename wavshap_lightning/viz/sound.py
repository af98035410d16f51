"""Attributions for the ear: a clip with what speaks for the target kept alone, and with it removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import convolve1d

from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.viz.estimates import cell_edges_s

Samples = Float[np.ndarray, " samples"]

DEFAULT_SHARE = 0.2
FADE_S = 0.01
MOST_GAIN = 10.0
"""Twenty decibels: more would only raise the noise of a pause to the level of a voice."""

FULL_SCALE = 0.99


@dataclass(frozen=True)
class Parts:
    """A clip in two, each as long as the clip, so that a cursor over the clip fits both.

    Args:
        kept: What speaks most for the target; silence elsewhere.
        removed: The clip without it.
    """

    kept: Samples
    removed: Samples


def split_by_attribution(
    waveform: Samples, frames: Float[np.ndarray, " frames"], times: TimeGrid, *, share: float = DEFAULT_SHARE
) -> Parts:
    """The strongest frames of a clip alone, and the clip without them.

    Both fade over 10 ms at every seam. What sounds in each is as loud (RMS) as the clip, but for two limits:
    no sample leaves [-1, 1], and nothing is raised by more than 20 dB.

    Args:
        waveform: The clip.
        frames: The attribution of each frame.
        times: Where they lie.
        share: How many of the frames to take at most, as a share of all; only frames that speak for the
            target are.

    Raises:
        SettingError: If the share is not above 0 and at most 1.
    """
    check_share(share)
    chosen = strongest(frames, share)
    kept = fading_mask(chosen, times, len(waveform))
    return Parts(_as_loud(waveform, kept), _as_loud(waveform, 1 - kept))


def check_share(share: float) -> None:
    """Refuse a share that is none.

    Raises:
        SettingError: If it is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise SettingError(f"share={share!r} must be above 0 and at most 1, such as {DEFAULT_SHARE}")


def strongest(frames: Float[np.ndarray, " frames"], share: float) -> np.ndarray:
    """Which frames are among the strongest that speak for the target, at least one if any does.

    >>> strongest(np.array([0.1, -3.0, 2.0, 1.0]), 0.5).tolist()
    [False, False, True, True]
    """
    count = max(1, round(share * len(frames)))
    order = np.argsort(-frames, kind="stable")[:count]
    chosen = np.zeros(len(frames), dtype=bool)
    chosen[order] = frames[order] > 0
    return chosen


def fading_mask(chosen: np.ndarray, times: TimeGrid, num_samples: int) -> Samples:
    """1 in the chosen frames, each as wide as a hop, 0 elsewhere, half a cosine at every seam.

    Args:
        chosen: Which frames.
        times: Where they lie.
        num_samples: Length of the clip; its first and last frame reach to its ends.
    """
    edges = np.rint(cell_edges_s(times) * times.sample_rate).astype(int).clip(0, num_samples)
    edges[0], edges[-1] = 0, num_samples
    hard = np.repeat(chosen.astype(np.float64), np.diff(edges))
    window = np.hanning(round(FADE_S * times.sample_rate) + 2)
    return np.asarray(convolve1d(hard, window / window.sum(), mode="nearest"))


def _as_loud(waveform: Samples, mask: Samples) -> Samples:
    part = waveform * mask
    power, weight = float(np.square(part).sum()), float(np.square(mask).sum())
    if power == 0:
        return part
    gain = min(np.sqrt(np.square(waveform).mean() * weight / power), MOST_GAIN)
    return part * min(gain, FULL_SCALE / float(np.abs(part).max()))
