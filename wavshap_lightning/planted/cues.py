"""Cues planted in synthetic speech, one per class, and the difficulty of finding them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy import signal
from scipy.ndimage import gaussian_filter1d

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.planted.voices import CONTROL_RATE, CONTROL_SAMPLES, Track, Tracks

Samples = Float[np.ndarray, " span"]
RangeHz = tuple[float, float]

CUE_OF_LABEL: Mapping[str, str | None] = {
    "neutral": None,
    "happy": "pitch_step",
    "sad": "band_tilt",
    "angry": "roughness",
    "fearful": "tremor",
    "surprised": "energy_bursts",
    "disgust": "vowel_pattern",
}
"""The cue that decides each class; None where nothing is planted."""

# Extent of the cues at a strength of 1, in synthetic speech as in recordings.
PITCH_SEMITONES = 7.0
TREMOR_HZ, TREMOR_SEMITONES, TREMOR_DEPTH = (6.0, 10.0), 3.5, 0.9
ROUGH_HZ, ROUGH_DEPTH = (40.0, 70.0), 0.9
MUFFLED_DB = 24.0
BURST_HZ, BURST_DEPTH = (18.0, 24.0), 0.95
LEAST_GAIN = 0.05

LOOKALIKE_S = (0.08, 0.16)
LOOKALIKE_STRENGTH = 0.3
"""Length and strength of lookalikes: weak cues of any kind, unrelated to the class."""

MIN_VOICED = 0.9
"""Least voiced share of the span of a cue."""

_EDGE_S = 0.12
_PITCH_SLOPE_S = 0.02
_ROUGH_JITTER = 0.06
_ROUGH_SUBHARMONIC = 0.2
_PATTERN_HZ = ((800.0, 1_250.0, 2_500.0), (280.0, 2_350.0, 3_000.0), (320.0, 750.0, 2_250.0))
_PATTERN_SLOPE_S = 0.015
_FADE_SAMPLES = 240


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard the evidence is to find.

    Args:
        span_s: Shortest and longest span of a cue, in seconds.
        cue_strength: Factor on the strength asked for.
        num_lookalikes: Fewest and most lookalikes in a clip.
    """

    span_s: tuple[float, float]
    cue_strength: float
    num_lookalikes: tuple[int, int]


DIFFICULTIES: Mapping[str, Difficulty] = {
    "easy": Difficulty((0.3, 0.4), 1.0, (0, 0)),
    "medium": Difficulty((0.2, 0.3), 0.8, (1, 2)),
    "hard": Difficulty((0.1, 0.2), 0.7, (2, 3)),
}


@dataclass(frozen=True, slots=True)
class CuePlace:
    """Span and modulation of a cue; drawn for every clip, with a cue or without.

    Args:
        start: First control (millisecond) of the span.
        stop: One past its last control.
        rate: Frequency of the modulation within the range of its cue, 0 to 1.
        phase: Phase at which the modulation begins, in cycles.
    """

    start: int
    stop: int
    rate: float
    phase: float

    @property
    def samples(self) -> slice:
        """The span in samples at 16 kHz."""
        return slice(self.start * CONTROL_SAMPLES, self.stop * CONTROL_SAMPLES)

    def span(self, kind: str) -> Span:
        """The span in seconds, named after a kind of cue."""
        return Span(self.start / CONTROL_RATE, self.stop / CONTROL_RATE, kind)

    def inside(self, num_controls: int) -> Track:
        """One inside the span, zero outside."""
        control = np.arange(num_controls)
        return ((control >= self.start) & (control < self.stop)).astype(float)

    def plateau(self, num_controls: int, slope_s: float) -> Track:
        """One inside the span, zero outside, with smooth slopes of `slope_s` seconds that lie inside."""
        control = np.arange(num_controls)
        nearest = np.minimum(control - self.start, self.stop - control) / (slope_s * CONTROL_RATE)
        linear = np.clip(nearest, 0.0, 1.0)
        return linear**2 * (3 - 2 * linear)

    def wave(self, num_controls: int, range_hz: RangeHz) -> Track:
        """A sine at this place's frequency within `range_hz` inside the span, zero outside."""
        frequency_hz = range_hz[0] + self.rate * (range_hz[1] - range_hz[0])
        cycles = self.phase + frequency_hz * (np.arange(num_controls) - self.start) / CONTROL_RATE
        return np.sin(2 * np.pi * cycles) * self.inside(num_controls)


Cue = Callable[[Tracks, CuePlace, float], Tracks]


def pitch_step(tracks: Tracks, place: CuePlace, strength: float) -> Tracks:
    """Raise the pitch by seven semitones."""
    semitones = strength * PITCH_SEMITONES * place.plateau(tracks.num_controls, _PITCH_SLOPE_S)
    return replace(tracks, f0_hz=tracks.f0_hz * 2 ** (semitones / 12))


def tremor(tracks: Tracks, place: CuePlace, strength: float) -> Tracks:
    """Modulate pitch and level 6 to 10 times a second."""
    wave = strength * place.wave(tracks.num_controls, TREMOR_HZ)
    gain = np.maximum(LEAST_GAIN, 1 + TREMOR_DEPTH * wave)
    return replace(tracks, f0_hz=tracks.f0_hz * 2 ** (TREMOR_SEMITONES * wave / 12), gain=tracks.gain * gain)


def roughness(tracks: Tracks, place: CuePlace, strength: float) -> Tracks:
    """Roughen the voice: level modulated at 40 to 70 Hz, uneven periods, every second pulse weaker."""
    inside = strength * place.inside(tracks.num_controls)
    wave = strength * place.wave(tracks.num_controls, ROUGH_HZ)
    return replace(
        tracks,
        gain=tracks.gain * np.maximum(LEAST_GAIN, 1 + ROUGH_DEPTH * wave),
        jitter=tracks.jitter + _ROUGH_JITTER * inside,
        subharmonic=np.minimum(0.9, tracks.subharmonic + _ROUGH_SUBHARMONIC * inside),
    )


def band_tilt(tracks: Tracks, place: CuePlace, strength: float) -> Tracks:
    """Muffle the voice: tilt its energy towards the band below 1 kHz."""
    muffled_db = strength * MUFFLED_DB * place.inside(tracks.num_controls)
    return replace(tracks, low_cut_db=tracks.low_cut_db - muffled_db)


def energy_bursts(tracks: Tracks, place: CuePlace, strength: float) -> Tracks:
    """Break the voice into bursts, 18 to 24 a second; the span keeps its energy."""
    num_controls = tracks.num_controls
    gate = place.inside(num_controls) / (1 + np.exp(12 * place.wave(num_controls, BURST_HZ)))
    return replace(tracks, gain=tracks.gain * np.maximum(LEAST_GAIN, 1 - strength * BURST_DEPTH * gate))


def vowel_pattern(tracks: Tracks, place: CuePlace, strength: float) -> Tracks:
    """Replace the vowels by a-i-u, each over a third of the span."""
    elapsed = (np.arange(tracks.num_controls) - place.start) / (place.stop - place.start)
    targets_hz = np.array(_PATTERN_HZ)[np.clip(3 * elapsed, 0, 2).astype(int)]
    targets_hz = gaussian_filter1d(targets_hz, _PATTERN_SLOPE_S * CONTROL_RATE, axis=0)
    share = min(1.0, strength) * place.plateau(tracks.num_controls, _PATTERN_SLOPE_S)[:, None]
    formants_hz = tracks.formants_hz.copy()
    formants_hz[:, :3] = formants_hz[:, :3] ** (1 - share) * targets_hz**share
    return replace(tracks, formants_hz=formants_hz)


_ALL = (pitch_step, band_tilt, roughness, tremor, energy_bursts, vowel_pattern)  # as lookalikes are drawn
CUES: Mapping[str, Cue] = {cue.__name__: cue for cue in _ALL}
"""Cues on the control tracks of synthetic speech, by kind."""


def draw_place(tracks: Tracks, span_s: tuple[float, float], generator: np.random.Generator) -> CuePlace:
    """Draw a span, as long as `span_s` allows, among those that are voiced enough and clear of the edges."""
    length = round(generator.uniform(*span_s) * CONTROL_RATE)
    edge = round(_EDGE_S * CONTROL_RATE)
    starts = np.arange(edge, tracks.num_controls - edge - length)
    share = mean_over(tracks.voicing > 0.1, starts, length)
    start = int(generator.choice(starts[share >= min(MIN_VOICED, share.max())]))
    return CuePlace(start, start + length, *generator.random(2))


def mean_over(
    values: np.ndarray, starts: Int[np.ndarray, " places"], length: int
) -> Float[np.ndarray, " places"]:
    """Mean of so many values from each start on."""
    total = np.cumsum(np.append(0.0, values))
    return (total[starts + length] - total[starts]) / length


def splice_cue(plain: Samples, cued: Samples, background: Samples) -> Samples:
    """Fade from plain speech to speech with a cue and back, and add the background.

    The cue's level is set so that the result has the energy of `plain + background`; its first and
    last sample are theirs. With `u` the part that stays and `v` the part that comes,
    the gain `g` solves `|u + g v|^2 = |plain + background|^2`.
    """
    fade = signal.windows.tukey(len(plain), 2 * _FADE_SAMPLES / len(plain))
    stays, comes = (1 - fade) * plain + background, fade * cued
    energy, overlap = np.sum(comes**2), np.sum(stays * comes)
    missing = np.sum((plain + background) ** 2) - np.sum(stays**2)
    gain = (np.sqrt(max(0.0, overlap**2 + energy * missing)) - overlap) / energy
    return stays + gain * comes
