"""Cues: what is planted in a span of synthetic speech so that it decides the class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from scipy import signal
from scipy.ndimage import gaussian_filter1d

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.corpora.synthetic.voice import CONTROL_RATE, Tracks

_EDGE_S = 0.12
_MIN_VOICED = 0.9

# How far cues go at a strength of 1, in synthetic speech as in recordings.
PITCH_SEMITONES = 7.0
TREMOR_HZ, TREMOR_SEMITONES, TREMOR_DEPTH = (6.0, 10.0), 3.5, 0.9
ROUGH_HZ, ROUGH_DEPTH = (40.0, 70.0), 0.9
MUFFLED_DB = 24.0
BURST_HZ, BURST_DEPTH = (18.0, 24.0), 0.95

_PITCH_SLOPE_S = 0.02
_ROUGH_JITTER = 0.06
_ROUGH_SUBHARMONIC = 0.2
_PATTERN_HZ = ((800.0, 1_250.0, 2_500.0), (280.0, 2_350.0, 3_000.0), (320.0, 750.0, 2_250.0))
_PATTERN_SLOPE_S = 0.015

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

    def plateau(self, num_controls: int, slope_s: float) -> Float[np.ndarray, " controls"]:
        """One inside the span, zero outside, with soft slopes that lie inside."""
        control = np.arange(num_controls)
        nearest = np.minimum(control - self.start, self.stop - control) / (slope_s * CONTROL_RATE)
        linear = np.clip(nearest, 0.0, 1.0)
        return linear**2 * (3 - 2 * linear)

    def wave(self, num_controls: int, range_hz: tuple[float, float]) -> Float[np.ndarray, " controls"]:
        """A sine at this planting's frequency within `range_hz` inside the span, zero outside."""
        frequency_hz = range_hz[0] + self.swing * (range_hz[1] - range_hz[0])
        cycles = self.phase + frequency_hz * (np.arange(num_controls) - self.start) / CONTROL_RATE
        return np.sin(2 * np.pi * cycles) * self.inside(num_controls)


Cue = Callable[[Tracks, Planting, float], Tracks]


def pitch_step(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Let the pitch leap up by seven semitones, and back at the end of the span."""
    semitones = strength * PITCH_SEMITONES * planting.plateau(tracks.num_controls, _PITCH_SLOPE_S)
    return replace(tracks, f0_hz=tracks.f0_hz * 2 ** (semitones / 12))


def tremor(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Let pitch and level tremble 6 to 10 times a second."""
    wave = strength * planting.wave(tracks.num_controls, TREMOR_HZ)
    gain = np.maximum(0.05, 1 + TREMOR_DEPTH * wave)
    return replace(tracks, f0_hz=tracks.f0_hz * 2 ** (TREMOR_SEMITONES * wave / 12), gain=tracks.gain * gain)


def roughness(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Make the voice rasp: level modulated at 40 to 70 Hz, uneven periods, every second pulse weaker."""
    inside = strength * planting.inside(tracks.num_controls)
    wave = strength * planting.wave(tracks.num_controls, ROUGH_HZ)
    return replace(
        tracks,
        gain=tracks.gain * np.maximum(0.05, 1 + ROUGH_DEPTH * wave),
        jitter=tracks.jitter + _ROUGH_JITTER * inside,
        subharmonic=np.minimum(0.9, tracks.subharmonic + _ROUGH_SUBHARMONIC * inside),
    )


def band_tilt(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Muffle the voice: tilt its energy towards the band below 1 kHz."""
    muffled_db = strength * MUFFLED_DB * planting.inside(tracks.num_controls)
    return replace(tracks, low_cut_db=tracks.low_cut_db - muffled_db)


def energy_bursts(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Break the voice into bursts, 18 to 24 a second; the span keeps its energy."""
    gate = planting.inside(tracks.num_controls) / (
        1 + np.exp(12 * planting.wave(tracks.num_controls, BURST_HZ))
    )
    return replace(tracks, gain=tracks.gain * np.maximum(0.05, 1 - strength * BURST_DEPTH * gate))


def vowel_pattern(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Say a-i-u, whatever was to be said; each vowel takes a third of the span."""
    elapsed = (np.arange(tracks.num_controls) - planting.start) / (planting.stop - planting.start)
    targets_hz = np.array(_PATTERN_HZ)[np.clip(3 * elapsed, 0, 2).astype(int)]
    targets_hz = gaussian_filter1d(targets_hz, _PATTERN_SLOPE_S * CONTROL_RATE, axis=0)
    share = min(1.0, strength) * planting.plateau(tracks.num_controls, _PATTERN_SLOPE_S)[:, None]
    formants_hz = tracks.formants_hz.copy()
    formants_hz[:, :3] = formants_hz[:, :3] ** (1 - share) * targets_hz**share
    return replace(tracks, formants_hz=formants_hz)


CUES: Mapping[str, Cue] = MappingProxyType(
    {
        "pitch_step": pitch_step,
        "band_tilt": band_tilt,
        "roughness": roughness,
        "tremor": tremor,
        "energy_bursts": energy_bursts,
        "vowel_pattern": vowel_pattern,
    }
)


def draw_planting(tracks: Tracks, span_s: tuple[float, float], generator: np.random.Generator) -> Planting:
    """Draw a span, as long as `span_s` allows, among those that are voiced enough and clear of the edges."""
    length = round(generator.uniform(*span_s) * CONTROL_RATE)
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
