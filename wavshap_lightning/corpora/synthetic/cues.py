"""Cues: what is planted in a span of synthetic speech so that it decides the class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from scipy import signal

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.corpora.synthetic.voice import CONTROL_RATE, Tracks

_EDGE_S = 0.12
_SPAN_S = (0.35, 0.5)
_MIN_VOICED = 0.9

_PITCH_SEMITONES = 10.0
_TREMOR_HZ = (6.0, 10.0)
_TREMOR_SEMITONES = 3.5
_TREMOR_DEPTH = 0.9
_ROUGH_HZ = (40.0, 70.0)
_ROUGH_DEPTH = 0.9
_ROUGH_JITTER = 0.06
_ROUGH_SUBHARMONIC = 0.2
_LOW_CUT_DB = 24.0

_FADE_SAMPLES = 240


@dataclass(frozen=True, slots=True)
class Planting:
    """Where a cue goes and how it swings; drawn for every clip, with a cue or without.

    Args:
        start: First control of the span.
        stop: One past its last control.
        swing: Where a modulation's frequency lies in its range, 0 to 1.
        phase: Where the modulation begins, in cycles.
    """

    start: int
    stop: int
    swing: float
    phase: float

    def span(self, kind: str) -> Span:
        """The same in seconds."""
        return Span(self.start / CONTROL_RATE, self.stop / CONTROL_RATE, kind)

    def inside(self, num_controls: int) -> Float[np.ndarray, " controls"]:
        """One inside the span, zero outside."""
        control = np.arange(num_controls)
        return ((control >= self.start) & (control < self.stop)).astype(float)

    def ramp(self, num_controls: int) -> Float[np.ndarray, " controls"]:
        """From 0 where the span begins to 1 at three quarters of it, softly; constant before and after."""
        elapsed = (np.arange(num_controls) - self.start) / (self.stop - self.start)
        linear = np.clip(elapsed / 0.75, 0.0, 1.0)
        return linear**2 * (3 - 2 * linear)

    def wave(self, num_controls: int, range_hz: tuple[float, float]) -> Float[np.ndarray, " controls"]:
        """A sine at this planting's frequency within `range_hz` inside the span, zero outside."""
        frequency_hz = range_hz[0] + self.swing * (range_hz[1] - range_hz[0])
        cycles = self.phase + frequency_hz * (np.arange(num_controls) - self.start) / CONTROL_RATE
        return np.sin(2 * np.pi * cycles) * self.inside(num_controls)


Cue = Callable[[Tracks, Planting, float], Tracks]


def pitch_rise(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Let the pitch climb by ten semitones over the span."""
    semitones = strength * _PITCH_SEMITONES * planting.ramp(tracks.num_controls)
    return replace(tracks, f0_hz=tracks.f0_hz * 2 ** (semitones / 12))


def pitch_fall(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Let the pitch sink by ten semitones over the span."""
    return pitch_rise(tracks, planting, -strength)


def tremor(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Let pitch and level tremble 6 to 10 times a second."""
    wave = strength * planting.wave(tracks.num_controls, _TREMOR_HZ)
    gain = np.maximum(0.05, 1 + _TREMOR_DEPTH * wave)
    return replace(tracks, f0_hz=tracks.f0_hz * 2 ** (_TREMOR_SEMITONES * wave / 12), gain=tracks.gain * gain)


def roughness(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Make the voice rasp: level modulated at 40 to 70 Hz, uneven periods, every second pulse weaker."""
    inside = strength * planting.inside(tracks.num_controls)
    wave = strength * planting.wave(tracks.num_controls, _ROUGH_HZ)
    return replace(
        tracks,
        gain=tracks.gain * np.maximum(0.05, 1 + _ROUGH_DEPTH * wave),
        jitter=tracks.jitter + _ROUGH_JITTER * inside,
        subharmonic=np.minimum(0.9, tracks.subharmonic + _ROUGH_SUBHARMONIC * inside),
    )


def band_tilt(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Tilt the energy away from the band below 1 kHz."""
    return replace(
        tracks, low_cut_db=tracks.low_cut_db + strength * _LOW_CUT_DB * planting.inside(tracks.num_controls)
    )


CUES: Mapping[str, Cue] = MappingProxyType(
    {
        "pitch_rise": pitch_rise,
        "pitch_fall": pitch_fall,
        "tremor": tremor,
        "roughness": roughness,
        "band_tilt": band_tilt,
    }
)


def draw_planting(tracks: Tracks, generator: np.random.Generator) -> Planting:
    """Draw a span of 350 to 500 ms among those that are voiced enough and clear of the edges."""
    length = round(generator.uniform(*_SPAN_S) * CONTROL_RATE)
    voiced = np.cumsum(np.append(0, tracks.voicing > 0.1))
    edge = round(_EDGE_S * CONTROL_RATE)
    starts = np.arange(edge, tracks.num_controls - edge - length)
    share = (voiced[starts + length] - voiced[starts]) / length
    start = int(generator.choice(starts[share >= min(_MIN_VOICED, share.max())]))
    return Planting(start, start + length, *generator.random(2))


def splice_cue(
    plain: Float[np.ndarray, " span"],
    cued: Float[np.ndarray, " span"],
    background: Float[np.ndarray, " span"],
) -> Float[np.ndarray, " span"]:
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
