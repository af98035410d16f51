"""Where a recording is voiced, how loud it is there, and where a cue can go without standing out."""

from __future__ import annotations

from dataclasses import dataclass

import librosa
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from wavshap_lightning.audio.io import SAMPLE_RATE
from wavshap_lightning.audio.segments import SPEECH, voiced_segments
from wavshap_lightning.errors import AudioError

HOP_SAMPLES = 160
HOPS_PER_S = SAMPLE_RATE // HOP_SAMPLES

_PITCH_HZ = (65.0, 800.0)
_PITCH_WINDOW = 1_024
_PITCH_STEP = 0.25  # semitones; it is asked whether there is a pitch, and finer steps take longer
_LEVEL_WINDOW = 400

_MARGIN_S = 0.1
_EDGE_S = 0.1
_GUARD_S = 0.03
_MIN_VOICED = 0.9
_LARGEST_TILT = 0.15


@dataclass(frozen=True, slots=True)
class Voicing:
    """A recording in steps of 10 ms.

    Args:
        voiced: Whether there is a pitch.
        rank: How loud each step is among all, 1 for the quietest.
    """

    voiced: Bool[np.ndarray, " hops"]
    rank: Float[np.ndarray, " hops"]


def speech_bounds(waveform: Float[np.ndarray, " time"]) -> tuple[int, int]:
    """First sample of the speech in a recording at 16 kHz and one past its last, with 100 ms around it.

    Raises:
        AudioError: If there is no speech.
    """
    spoken = [segment for segment in voiced_segments(waveform, SAMPLE_RATE) if segment.text == SPEECH]
    if not spoken or not np.any(waveform):
        raise AudioError("there is no speech in it")
    start_s, end_s = spoken[0].start_s - _MARGIN_S, spoken[-1].end_s + _MARGIN_S
    start, stop = (round(time_s * HOPS_PER_S) * HOP_SAMPLES for time_s in (start_s, end_s))
    return max(0, start), min(len(waveform), stop)


def find_voicing(waveform: Float[np.ndarray, " time"]) -> Voicing:
    """Where a recording at 16 kHz is voiced, by probabilistic YIN (Mauch and Dixon 2014), and how loud.

    >>> hum = 0.1 * np.sign(np.sin(np.arange(16_000) * 0.05))
    >>> bool(find_voicing(np.concatenate([hum, 0 * hum])).voiced[20:80].all())
    True
    """
    _, voiced, _ = librosa.pyin(
        waveform,
        fmin=_PITCH_HZ[0],
        fmax=_PITCH_HZ[1],
        sr=SAMPLE_RATE,
        frame_length=_PITCH_WINDOW,
        hop_length=HOP_SAMPLES,
        resolution=_PITCH_STEP,
    )
    level = librosa.feature.rms(y=waveform, frame_length=_LEVEL_WINDOW, hop_length=HOP_SAMPLES)[0]
    return Voicing(voiced, rankdata(level))


def cue_places(voicing: Voicing, length: int) -> Int[np.ndarray, " places"]:
    """Where spans of so many steps may begin so that they are voiced, and neither loud nor quiet.

    Loudness is weighed as the area under the ROC curve with which the level of a step tells steps inside the
    span from those outside, from ranks as in Hanley and McNeil (1982): 0.5 where it says nothing. At most
    0.15 more or less is allowed.
    """
    num_hops, edge = len(voicing.rank), round(_EDGE_S * HOPS_PER_S)
    starts = np.arange(edge, num_hops - edge - length)
    if len(starts) == 0:
        return starts
    mean_rank = _mean_over(voicing.rank, starts, length)
    tilt = (mean_rank - (num_hops + 1) / 2) / (num_hops - length)
    is_voiced = _mean_over(voicing.voiced, starts, length) >= _MIN_VOICED
    return starts[is_voiced & (np.abs(tilt) <= _LARGEST_TILT)]


def free_places(
    voicing: Voicing, length: int, taken: Bool[np.ndarray, " hops"], least_voiced: float
) -> Int[np.ndarray, " places"]:
    """Where spans of so many steps may begin that are voiced enough and 30 ms away from what is taken."""
    edge, guard = round(_EDGE_S * HOPS_PER_S), round(_GUARD_S * HOPS_PER_S)
    starts = np.arange(edge, len(taken) - edge - length)
    if len(starts) == 0:
        return starts
    is_free = _mean_over(taken, starts - guard, length + 2 * guard) == 0
    return starts[is_free & (_mean_over(voicing.voiced, starts, length) >= least_voiced)]


def _mean_over(
    values: np.ndarray, starts: Int[np.ndarray, " places"], length: int
) -> Float[np.ndarray, " places"]:
    total = np.cumsum(np.append(0.0, values))
    return (total[starts + length] - total[starts]) / length
