"""Cues on recorded speech: the same kinds as in synthetic speech, by filters, delays and gains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import librosa
import numpy as np
from jaxtyping import Float
from scipy import signal
from scipy.ndimage import map_coordinates

from wavshap_lightning.audio.io import SAMPLE_RATE
from wavshap_lightning.corpora.synthetic.cues import (
    BURST_DEPTH,
    BURST_HZ,
    MUFFLED_DB,
    PITCH_SEMITONES,
    ROUGH_DEPTH,
    ROUGH_HZ,
    TREMOR_DEPTH,
    TREMOR_HZ,
    TREMOR_SEMITONES,
    Planting,
)
from wavshap_lightning.corpora.synthetic.voice import CONTROL_SAMPLES

_PITCH_WINDOW = 1_024  # short enough for syllables; librosa's default smears them over 128 ms
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
        waveform, sr=SAMPLE_RATE, n_steps=strength * PITCH_SEMITONES, n_fft=_PITCH_WINDOW
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
