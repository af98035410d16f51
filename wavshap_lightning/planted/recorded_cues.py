"""One recording of real speech: the stretch that becomes a clip, and the cue planted in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import librosa
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import signal
from scipy.ndimage import map_coordinates
from scipy.stats import rankdata

from wavshap_lightning.audio.io import SAMPLE_RATE
from wavshap_lightning.audio.segments import SPEECH, voiced_segments
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.errors import AudioError
from wavshap_lightning.planted.cues import (
    BURST_DEPTH,
    BURST_HZ,
    MUFFLED_DB,
    PITCH_SEMITONES,
    ROUGH_DEPTH,
    ROUGH_HZ,
    TREMOR_DEPTH,
    TREMOR_HZ,
    TREMOR_SEMITONES,
    Difficulty,
    Planting,
    splice_cue,
)
from wavshap_lightning.planted.voices import CONTROL_SAMPLES

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


_PITCH_WINDOW_CUES = 1_024  # short enough for syllables; librosa's default smears them over 128 ms
_ROUGH_SEMITONES = 1.5
_MUFFLED_ABOVE_HZ = 1_000.0
_LEAST_GAIN = 0.05

Waveform = Float[np.ndarray, " time"]
RecordedCue = Callable[[Waveform, Planting, float], Waveform]
"""From a recording at 16 kHz, where the cue goes and how far, to the recording with it; what comes out
outside the span does not matter."""


def pitch_step(waveform: Waveform, planting: Planting, strength: float) -> Waveform:  # noqa: ARG001 - a cue
    """Let the pitch leap up by seven semitones; the formants go with it."""
    return librosa.effects.pitch_shift(
        waveform, sr=SAMPLE_RATE, n_steps=strength * PITCH_SEMITONES, n_fft=_PITCH_WINDOW_CUES
    )


def tremor(waveform: Waveform, planting: Planting, strength: float) -> Waveform:
    """Let pitch and level tremble 6 to 10 times a second."""
    wave = strength * _wave(waveform, planting, TREMOR_HZ)
    return _gained(_swayed(waveform, wave, TREMOR_HZ, TREMOR_SEMITONES), 1 + TREMOR_DEPTH * wave)


def roughness(waveform: Waveform, planting: Planting, strength: float) -> Waveform:
    """Make the voice rasp: level and pitch modulated at 40 to 70 Hz."""
    wave = strength * _wave(waveform, planting, ROUGH_HZ)
    return _gained(_swayed(waveform, wave, ROUGH_HZ, _ROUGH_SEMITONES), 1 + ROUGH_DEPTH * wave)


def band_tilt(waveform: Waveform, planting: Planting, strength: float) -> Waveform:  # noqa: ARG001 - a cue
    """Muffle the voice: attenuate what lies above 1 kHz."""
    low_pass = signal.butter(4, _MUFFLED_ABOVE_HZ, fs=SAMPLE_RATE, output="sos")
    low = signal.sosfiltfilt(low_pass, waveform)
    return low + 10 ** (-strength * MUFFLED_DB / 20) * (waveform - low)


def energy_bursts(waveform: Waveform, planting: Planting, strength: float) -> Waveform:
    """Break the voice into bursts, 18 to 24 a second."""
    gate = 1 / (1 + np.exp(12 * _wave(waveform, planting, BURST_HZ)))
    return _gained(waveform, 1 - strength * BURST_DEPTH * gate)


RECORDED_CUES: Mapping[str, RecordedCue] = MappingProxyType(
    {
        "pitch_step": pitch_step,
        "band_tilt": band_tilt,
        "roughness": roughness,
        "tremor": tremor,
        "energy_bursts": energy_bursts,
    }
)
"""By kind. A spoken pattern is none of them: it would take another speaker."""


def _wave(waveform: Waveform, planting: Planting, range_hz: tuple[float, float]) -> Waveform:
    """The planting's modulation, a value a sample."""
    num_controls = -(-len(waveform) // CONTROL_SAMPLES)
    at_sample = np.arange(len(waveform)) / CONTROL_SAMPLES
    return np.interp(at_sample, np.arange(num_controls), planting.wave(num_controls, range_hz))


def _swayed(waveform: Waveform, wave: Waveform, range_hz: tuple[float, float], semitones: float) -> Waveform:
    """The sound delayed more and less along a wave, which bends its pitch up and down by about so much.

    A delay of `a sin(2 pi f t)` seconds bends frequencies by the factor `1 - 2 pi f a cos(2 pi f t)`.
    """
    largest_s = (2 ** (semitones / 12) - 1) / (np.pi * sum(range_hz))
    at_sample = np.arange(len(waveform)) - SAMPLE_RATE * largest_s * wave
    return map_coordinates(waveform, at_sample[None], order=3, mode="nearest")


def _gained(waveform: Waveform, gain: Waveform) -> Waveform:
    return waveform * np.maximum(_LEAST_GAIN, gain)


LONGEST_S = 30.0
LOUDEST_PEAK = 0.5
_HOP_CONTROLS = HOP_SAMPLES // CONTROL_SAMPLES

_LOOKALIKE_S = (0.08, 0.16)
_LOOKALIKE_STRENGTH = 0.3
_LOOKALIKE_VOICED = 0.5


@dataclass(frozen=True, slots=True)
class Stretch:
    """What of a recording becomes a clip, and what may be planted in it; drawn without regard to a class.

    Args:
        start: First sample at 16 kHz.
        stop: One past its last.
        gain: Factor on it: a half where it is so loud that a cue could exceed full scale, else 1.
        planting: Where the cue goes, counted from `start`.
        lookalikes: Weak and brief cues elsewhere that say nothing about the class, by kind.
    """

    start: int
    stop: int
    gain: float
    planting: Planting
    lookalikes: tuple[tuple[str, Planting], ...] = ()

    @property
    def start_s(self) -> float:
        """Where it begins in the recording, in seconds."""
        return self.start / SAMPLE_RATE

    @property
    def end_s(self) -> float:
        """Where it ends."""
        return self.stop / SAMPLE_RATE

    def cut(self, recording: Float[np.ndarray, " time"]) -> Float[np.ndarray, " stretch"]:
        """The stretch of a recording without cues."""
        return self.gain * recording[self.start : self.stop]


def draw_stretch(
    recording: Float[np.ndarray, " time"], difficulty: Difficulty, generator: np.random.Generator
) -> Stretch:
    """Draw where cues go in a recording at 16 kHz: in a voiced span about as loud as the rest of the speech.

    The silence before and after the speech is left out, since loudness would tell any span of speech from it.

    Raises:
        AudioError: If it is longer than 30 s, or has no such span of the difficulty's length.
    """
    if len(recording) > LONGEST_S * SAMPLE_RATE:
        seconds = len(recording) / SAMPLE_RATE
        raise AudioError(f"it is {seconds:.1f} s long, more than {LONGEST_S:g} s; cut it")
    start, stop = speech_bounds(recording)
    speech = recording[start:stop]
    voicing = find_voicing(speech)
    planting = _draw_planting(voicing, difficulty.span_s, generator)
    lookalikes = _draw_lookalikes(voicing, planting, difficulty.num_lookalikes, generator)
    gain = 1.0 if np.max(np.abs(speech)) <= LOUDEST_PEAK else 0.5
    return Stretch(start, stop, gain, planting, lookalikes)


def plant_cue(
    recording: Float[np.ndarray, " time"], stretch: Stretch, cue: str | None, strength: float
) -> tuple[Float[np.ndarray, " stretch"], tuple[Span, ...]]:
    """The stretch of a recording with its lookalikes and a cue, and the evidence in it.

    Outside the spans of cue and lookalikes it equals the recording sample for sample, up to the stretch's
    gain; inside each it has the recording's energy.

    Args:
        recording: At 16 kHz, the one for which the stretch was drawn.
        stretch: Where everything goes.
        cue: A kind of cue; None for none.
        strength: How far it goes; 0 plants none.
    """
    waveform = stretch.cut(recording)
    for kind, planting in stretch.lookalikes:
        waveform = _spliced(waveform, kind, planting, _LOOKALIKE_STRENGTH)
    if cue is None or strength == 0.0:
        return waveform, ()
    return _spliced(waveform, cue, stretch.planting, strength), (stretch.planting.span(cue),)


def _spliced(
    waveform: Float[np.ndarray, " time"], kind: str, planting: Planting, strength: float
) -> Float[np.ndarray, " time"]:
    span = slice(planting.start * CONTROL_SAMPLES, planting.stop * CONTROL_SAMPLES)
    cued = RECORDED_CUES[kind](waveform, planting, strength)[span]
    spliced = splice_cue(waveform[span], cued, np.zeros(len(cued)))
    result = waveform.copy()
    result[span] = np.clip(spliced, -1.0, 1.0)
    return result


def _draw_planting(voicing: Voicing, span_s: tuple[float, float], generator: np.random.Generator) -> Planting:
    """A span of a drawn length, or of the shortest where that fits nowhere."""
    shortest, drawn = (round(length_s * HOPS_PER_S) for length_s in (span_s[0], generator.uniform(*span_s)))
    for length in (drawn, shortest):
        places = cue_places(voicing, length)
        if len(places):
            return _planting(int(generator.choice(places)), length, generator)
    raise AudioError(
        f"{voicing.voiced.mean():.0%} of its speech is voiced, but no {1000 * span_s[0]:.0f} ms on end that "
        "are about as loud as the rest"
    )


def _draw_lookalikes(
    voicing: Voicing, planting: Planting, num: tuple[int, int], generator: np.random.Generator
) -> tuple[tuple[str, Planting], ...]:
    """As many as `num` says, fewer where there is no room."""
    taken = np.zeros(len(voicing.voiced), dtype=bool)
    taken[planting.start // _HOP_CONTROLS : planting.stop // _HOP_CONTROLS] = True
    kinds = generator.permutation(tuple(RECORDED_CUES))[: generator.integers(*num, endpoint=True)]
    drawn: list[tuple[str, Planting]] = []
    for kind in map(str, kinds):
        length = round(generator.uniform(*_LOOKALIKE_S) * HOPS_PER_S)
        places = free_places(voicing, length, taken, _LOOKALIKE_VOICED)
        if len(places):
            start = int(generator.choice(places))
            taken[start : start + length] = True
            drawn.append((kind, _planting(start, length, generator)))
    return tuple(drawn)


def _planting(start: int, length: int, generator: np.random.Generator) -> Planting:
    swing, phase = generator.random(2).tolist()
    return Planting(start * _HOP_CONTROLS, (start + length) * _HOP_CONTROLS, swing, phase)
