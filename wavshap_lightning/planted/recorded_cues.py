"""Cues planted in recorded speech: by filters, delays and gains, in voiced spans as loud as the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

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
from wavshap_lightning.planted import cues
from wavshap_lightning.planted.cues import CuePlace, Difficulty, RangeHz, mean_over, splice_cue
from wavshap_lightning.planted.voices import CONTROL_SAMPLES, Waveform

Starts = Int[np.ndarray, " places"]
Voiced = Bool[np.ndarray, " hops"]
Rank = Float[np.ndarray, " hops"]

HOP_SAMPLES = 160
HOPS_PER_S = SAMPLE_RATE // HOP_SAMPLES
LONGEST_S = 30.0
LOUDEST_PEAK = 0.5

_HOP_CONTROLS = HOP_SAMPLES // CONTROL_SAMPLES
_PITCH_HZ = (65.0, 800.0)
_PITCH_WINDOW = 1_024  # short enough for syllables; librosa's default smears them over 128 ms
_PITCH_STEP = 0.25  # semitones; only whether there is a pitch matters, and finer steps take longer
_LEVEL_WINDOW = 400
_MARGIN_S = 0.1
_EDGE_S = 0.1
_GUARD_S = 0.03
_LARGEST_TILT = 0.15
_LOOKALIKE_VOICED = 0.5
_MUFFLED_ABOVE_HZ = 1_000.0

RecordedCue = Callable[[Waveform, CuePlace, float], Waveform]
"""From a recording at 16 kHz, the place of the cue and its strength, to the recording with it; samples
outside the span do not matter."""


def pitch_step(waveform: Waveform, place: CuePlace, strength: float) -> Waveform:  # noqa: ARG001 - a cue
    """Raise the pitch by seven semitones; the formants go with it."""
    return librosa.effects.pitch_shift(
        waveform, sr=SAMPLE_RATE, n_steps=strength * cues.PITCH_SEMITONES, n_fft=_PITCH_WINDOW
    )


def modulation(
    waveform: Waveform, place: CuePlace, strength: float, *, range_hz: RangeHz, semitones: float, depth: float
) -> Waveform:
    """Modulate pitch and level with a sine.

    A delay of `a sin(2 pi f t)` seconds bends frequencies by the factor `1 - 2 pi f a cos(2 pi f t)`.

    Args:
        waveform: The recording.
        place: Place of the cue.
        strength: Factor on the extent.
        range_hz: Lowest and highest frequency of the modulation.
        semitones: Extent of the pitch, up and down.
        depth: Extent of the level, as a fraction of it.
    """
    wave = strength * _wave(waveform, place, range_hz)
    largest_s = (2 ** (semitones / 12) - 1) / (np.pi * sum(range_hz))
    at_sample = np.arange(len(waveform)) - SAMPLE_RATE * largest_s * wave
    swayed = map_coordinates(waveform, at_sample[None], order=3, mode="nearest")
    return swayed * np.maximum(cues.LEAST_GAIN, 1 + depth * wave)


def band_tilt(waveform: Waveform, place: CuePlace, strength: float) -> Waveform:  # noqa: ARG001 - a cue
    """Muffle the voice: attenuate the band above 1 kHz."""
    low_pass = signal.butter(4, _MUFFLED_ABOVE_HZ, fs=SAMPLE_RATE, output="sos")
    low = signal.sosfiltfilt(low_pass, waveform)
    return low + 10 ** (-strength * cues.MUFFLED_DB / 20) * (waveform - low)


def energy_bursts(waveform: Waveform, place: CuePlace, strength: float) -> Waveform:
    """Interrupt the voice to bursts, 18 to 24 per second."""
    gate = 1 / (1 + np.exp(12 * _wave(waveform, place, cues.BURST_HZ)))
    return waveform * np.maximum(cues.LEAST_GAIN, 1 - strength * cues.BURST_DEPTH * gate)


RECORDED_CUES: Mapping[str, RecordedCue] = {  # in this order lookalikes are drawn
    "pitch_step": pitch_step,
    "band_tilt": band_tilt,
    "roughness": partial(modulation, range_hz=cues.ROUGH_HZ, semitones=1.5, depth=cues.ROUGH_DEPTH),
    "tremor": partial(
        modulation, range_hz=cues.TREMOR_HZ, semitones=cues.TREMOR_SEMITONES, depth=cues.TREMOR_DEPTH
    ),
    "energy_bursts": energy_bursts,
}
"""Cues on the waveform of a recording, by kind. A vowel pattern would take another speaker."""


def _wave(waveform: Waveform, place: CuePlace, range_hz: RangeHz) -> Waveform:
    """Modulation of the cue's place, a value per sample."""
    num_controls = -(-len(waveform) // CONTROL_SAMPLES)
    at_sample = np.arange(len(waveform)) / CONTROL_SAMPLES
    return np.interp(at_sample, np.arange(num_controls), place.wave(num_controls, range_hz))


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The part of a recording that becomes a clip, and the places of cues in it.

    Both are drawn independently of the class.

    Args:
        start: First sample at 16 kHz.
        stop: One past its last.
        gain: Factor on the samples: 0.5 if a cue could exceed full scale, else 1.
        place: Place of the cue, counted from `start`.
        lookalikes: Kinds and places of weak and brief cues elsewhere, unrelated to the class.
    """

    start: int
    stop: int
    gain: float
    place: CuePlace
    lookalikes: tuple[tuple[str, CuePlace], ...] = ()


def draw_excerpt(recording: Waveform, difficulty: Difficulty, generator: np.random.Generator) -> Excerpt:
    """Draw the places of cues in a recording at 16 kHz: the cue in a voiced span about as loud as the rest.

    Silence before and after the speech is cut off, since loudness would separate any speech span from it.

    Raises:
        AudioError: If it is longer than 30 s, or has no such span of the difficulty's length.
    """
    if len(recording) > LONGEST_S * SAMPLE_RATE:
        raise AudioError(
            f"it is {len(recording) / SAMPLE_RATE:.1f} s long, more than {LONGEST_S:g} s; cut it"
        )
    start, stop = speech_bounds(recording)
    speech = recording[start:stop]
    voiced, rank = find_voicing(speech)
    place = _draw_place(voiced, rank, difficulty.span_s, generator)
    lookalikes = _draw_lookalikes(voiced, place, difficulty.num_lookalikes, generator)
    gain = 1.0 if np.max(np.abs(speech)) <= LOUDEST_PEAK else 0.5
    return Excerpt(start, stop, gain, place, lookalikes)


def plant_cue(
    recording: Waveform, excerpt: Excerpt, cue: str | None, strength: float
) -> tuple[Float[np.ndarray, " excerpt"], tuple[Span, ...]]:
    """The excerpt of a recording with its lookalikes and a cue, and the evidence in it.

    Outside the spans of cue and lookalikes it equals the recording sample for sample, up to the excerpt's
    gain; inside each it has the recording's energy.

    Args:
        recording: At 16 kHz, the one for which the excerpt was drawn.
        excerpt: Places of cue and lookalikes.
        cue: A kind of cue; None for none.
        strength: Strength of the cue; 0 plants none.
    """
    waveform = excerpt.gain * recording[excerpt.start : excerpt.stop]
    for kind, place in excerpt.lookalikes:
        waveform = _spliced(waveform, kind, place, cues.LOOKALIKE_STRENGTH)
    if cue is None or strength == 0.0:
        return waveform, ()
    return _spliced(waveform, cue, excerpt.place, strength), (excerpt.place.span(cue),)


def _spliced(waveform: Waveform, kind: str, place: CuePlace, strength: float) -> Waveform:
    cued = RECORDED_CUES[kind](waveform, place, strength)[place.samples]
    result = waveform.copy()
    spliced = splice_cue(waveform[place.samples], cued, np.zeros(len(cued)))
    result[place.samples] = np.clip(spliced, -1.0, 1.0)
    return result


def speech_bounds(waveform: Waveform) -> tuple[int, int]:
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


def find_voicing(waveform: Waveform) -> tuple[Voiced, Rank]:
    """Voicing of a recording at 16 kHz in steps of 10 ms, and their ranks by loudness, 1 for the quietest.

    There is voice where there is a pitch, by probabilistic YIN (Mauch and Dixon 2014).

    >>> hum = 0.1 * np.sign(np.sin(np.arange(16_000) * 0.05))
    >>> bool(find_voicing(np.concatenate([hum, 0 * hum]))[0][20:80].all())
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
    return voiced, rankdata(level)


def cue_starts(voiced: Voiced, rank: Rank, length: int) -> Starts:
    """Steps at which a span of `length` steps may begin so that it is voiced, and neither loud nor quiet.

    Loudness is weighed as the area under the ROC curve with which the level of a step tells steps inside the
    span from those outside, from ranks as in Hanley and McNeil (1982): 0.5 where it is uninformative. At most
    0.15 more or less is allowed.
    """
    starts, num_hops = _all_starts(len(rank), length), len(rank)
    mean_rank = mean_over(rank, starts, length)
    tilt = (mean_rank - (num_hops + 1) / 2) / (num_hops - length)
    is_voiced = mean_over(voiced, starts, length) >= cues.MIN_VOICED
    return starts[is_voiced & (np.abs(tilt) <= _LARGEST_TILT)]


def free_starts(voiced: Voiced, length: int, taken: Bool[np.ndarray, " hops"]) -> Starts:
    """Steps at which a half voiced span of `length` steps may begin, 30 ms away from `taken`."""
    starts, guard = _all_starts(len(voiced), length), round(_GUARD_S * HOPS_PER_S)
    is_free = mean_over(taken, starts - guard, length + 2 * guard) == 0
    return starts[is_free & (mean_over(voiced, starts, length) >= _LOOKALIKE_VOICED)]


def _all_starts(num_hops: int, length: int) -> Starts:
    edge = round(_EDGE_S * HOPS_PER_S)
    return np.arange(edge, num_hops - edge - length)


def _draw_place(
    voiced: Voiced, rank: Rank, span_s: tuple[float, float], generator: np.random.Generator
) -> CuePlace:
    """A span of a drawn length, or of the shortest where that fits nowhere."""
    shortest, drawn = (round(length_s * HOPS_PER_S) for length_s in (span_s[0], generator.uniform(*span_s)))
    for length in (drawn, shortest):
        starts = cue_starts(voiced, rank, length)
        if len(starts):
            return _place(int(generator.choice(starts)), length, generator)
    raise AudioError(
        f"{voiced.mean():.0%} of it is voiced, but no {1000 * span_s[0]:.0f} ms in a row as loud as the rest"
    )


def _draw_lookalikes(
    voiced: Voiced, place: CuePlace, num: tuple[int, int], generator: np.random.Generator
) -> tuple[tuple[str, CuePlace], ...]:
    """Between the fewest and the most of `num`, fewer where there is no room."""
    taken = np.zeros(len(voiced), dtype=bool)
    taken[place.start // _HOP_CONTROLS : place.stop // _HOP_CONTROLS] = True
    kinds = generator.permutation(tuple(RECORDED_CUES))[: generator.integers(*num, endpoint=True)]
    drawn: list[tuple[str, CuePlace]] = []
    for kind in map(str, kinds):
        length = round(generator.uniform(*cues.LOOKALIKE_S) * HOPS_PER_S)
        starts = free_starts(voiced, length, taken)
        if len(starts):
            start = int(generator.choice(starts))
            taken[start : start + length] = True
            drawn.append((kind, _place(start, length, generator)))
    return tuple(drawn)


def _place(start: int, length: int, generator: np.random.Generator) -> CuePlace:
    rate, phase = generator.random(2).tolist()
    return CuePlace(start * _HOP_CONTROLS, (start + length) * _HOP_CONTROLS, rate, phase)
