"""Segments: named spans of a clip, and those of speech and pauses, found by loudness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

SPEECH, PAUSE = "speech", "pause"

HOP_S, WINDOW_S = 0.01, 0.03
FLOOR_QUANTILE, LOUD_QUANTILE = 0.1, 0.95
"""Of the levels of a clip: what its pauses, and what its speech, sound like."""

QUIET_BELOW_DB = 30.0
"""Frames this much quieter than the loud ones are never speech."""

SPEECH_FROM = 0.3
"""Where speech begins on the way from the level of pauses to that of speech, in decibels."""

LEAST_RANGE_DB = 10.0
"""A clip whose levels lie closer together has no pauses."""

SHORTEST_PAUSE_S, SHORTEST_SPEECH_S = 0.15, 0.06
LEAST_LENGTH_S = 1e-6

LOW_CONFIDENCE = 0.5
"""Words with less are marked as doubtful."""

SHORTEST_GAP_S = 0.03
"""A shorter gap between words is no pause."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A span of a clip with a name.

    Args:
        text: What is said, or what it is.
        start_s: Where it begins, in seconds from the start of the clip.
        end_s: Where it ends.
        confidence: Probability from 0 to 1 that it is there, as an aligner gives it; None if unknown.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float | None = field(default=None, repr=False)


def cut_to(segments: Sequence[Segment], start_s: float, end_s: float) -> list[Segment]:
    """The parts of segments that lie in a span, in seconds from the span's start.

    >>> cut_to([Segment("one", 0.0, 1.0), Segment("two", 1.0, 3.0)], 1.5, 2.0)
    [Segment(text='two', start_s=0.0, end_s=0.5)]
    """
    cut = (
        replace(one, start_s=max(one.start_s, start_s) - start_s, end_s=min(one.end_s, end_s) - start_s)
        for one in segments
    )
    return [one for one in cut if one.end_s - one.start_s > LEAST_LENGTH_S]


def with_pauses(segments: Sequence[Segment], duration_s: float) -> list[Segment]:
    """Words or phones of a clip with the pauses around and between them, from its start to its end.

    Gaps shorter than 30 ms belong to the segment before; at the start, to the first.

    >>> [one.text for one in with_pauses([Segment("oh", 0.1, 0.3), Segment("no", 0.31, 0.8)], 1.0)]
    ['pause', 'oh', 'no', 'pause']
    """
    whole: list[Segment] = []
    for one in [*segments, Segment(PAUSE, duration_s, duration_s)]:
        last_s = whole[-1].end_s if whole else 0.0
        if one.start_s - last_s >= SHORTEST_GAP_S:
            whole.append(Segment(PAUSE, last_s, one.start_s))
        elif whole:
            whole[-1] = replace(whole[-1], end_s=one.start_s)
        whole.append(one if whole else replace(one, start_s=0.0))
    return whole[:-1]


def voiced_segments(waveform: Float[np.ndarray, " num_samples"], sample_rate: int) -> list[Segment]:
    """Speech and pauses, found by loudness, in order from the start of the clip to its end.

    Speech is within 30 dB of the level of the clip's loud frames, and at least 30 % of the way (in dB) from
    the level of its quiet frames to that of its loud ones. Pauses shorter than 150 ms are merged into the
    speech around them, and sounds shorter than 60 ms into the pause.

    >>> tone = np.sin(np.arange(8000) * 0.3)
    >>> found = voiced_segments(np.concatenate([0 * tone, tone]), 16_000)
    >>> [(one.text, round(one.start_s, 1), round(one.end_s, 1)) for one in found]
    [('pause', 0.0, 0.5), ('speech', 0.5, 1.0)]
    """
    loud = _smoothed(_is_loud(waveform, sample_rate))
    starts = [0, *(np.flatnonzero(np.diff(loud)) + 1).tolist()]
    duration_s = len(waveform) / sample_rate
    edges_s = [0.0, *(min((start - 0.5) * HOP_S, duration_s) for start in starts[1:]), duration_s]
    return [
        Segment(SPEECH if loud[start] else PAUSE, low, high)
        for start, (low, high) in zip(starts, pairwise(edges_s), strict=True)
        if high - low > LEAST_LENGTH_S
    ]


def _is_loud(waveform: Float[np.ndarray, " num_samples"], sample_rate: int) -> Bool[np.ndarray, " steps"]:
    hop, window = max(1, round(HOP_S * sample_rate)), max(1, round(WINDOW_S * sample_rate))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, window // 2), window)[::hop]
    rms = np.sqrt(np.square(windows).mean(axis=1))
    level_db = 20 * np.log10(np.maximum(rms, 1e-9))
    return is_speech(level_db)


def is_speech(level_db: Float[np.ndarray, " steps"]) -> Bool[np.ndarray, " steps"]:
    """True where a clip is loud enough for speech; everywhere if its levels lie within 10 dB.

    The limit is 30 dB below the level of the clip's loud steps, or 30 % of the way (in dB) from the level of
    its quiet steps to that of its loud ones, whichever is higher.

    Args:
        level_db: Level of each step of time, such as a frame, in decibels.
    """
    floor_db, loud_db = np.quantile(level_db, [FLOOR_QUANTILE, LOUD_QUANTILE])
    range_db = float(loud_db - floor_db)
    if range_db < LEAST_RANGE_DB:
        return np.ones(len(level_db), dtype=bool)
    return level_db > max(loud_db - QUIET_BELOW_DB, floor_db + SPEECH_FROM * range_db)


def _smoothed(loud: Bool[np.ndarray, " steps"]) -> Bool[np.ndarray, " steps"]:
    """Without short pauses between speech, then without short speech."""
    for value, shortest_s in ((False, SHORTEST_PAUSE_S), (True, SHORTEST_SPEECH_S)):
        edges = np.flatnonzero(np.diff(loud)) + 1
        for start, stop in pairwise([0, *edges.tolist(), len(loud)]):
            inner = value or (start > 0 and stop < len(loud))
            if loud[start] == value and inner and (stop - start) * HOP_S < shortest_s:
                loud = np.concatenate([loud[:start], np.full(stop - start, not value), loud[stop:]])
    return loud
