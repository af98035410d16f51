"""Each cue does to a sound of known pitch and level what it says, and nothing outside its span."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from scipy import signal

from wavshap_lightning.planted.cues import CUES, Planting
from wavshap_lightning.planted.recorded_cues import (
    RECORDED_CUES,
    band_tilt,
    energy_bursts,
    pitch_step,
    roughness,
    tremor,
)

PLANTING = Planting(300, 700, swing=0.5, phase=0.1)
INSIDE = slice(4_800, 11_200)
TIME_S = np.arange(16_000) / 16_000


def tone(frequency_hz):
    return 0.1 * np.sin(2 * np.pi * frequency_hz * TIME_S)


def voice(pitch_hz=150.0):
    return sum(tone(pitch_hz * k) / k for k in range(1, 20))


def level_db(waveform):
    return 10 * np.log10(np.mean(waveform**2))


def modulation_hz(waveform):
    """Frequency of the strongest modulation of the envelope inside the span."""
    envelope = np.abs(signal.hilbert(waveform))[INSIDE]
    frequency_hz, power = signal.periodogram(envelope - envelope.mean(), 16_000, window="hann", nfft=65_536)
    return frequency_hz[np.argmax(power * (frequency_hz < 200))]


def test_every_cue_is_one_of_the_synthetic_ones():
    assert set(RECORDED_CUES) == set(CUES) - {"vowel_pattern"}


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_pitch_step_is_so_many_semitones(strength):
    cued = pitch_step(voice(), PLANTING, strength)
    f0_hz = librosa.yin(cued[INSIDE], fmin=65, fmax=600, sr=16_000, frame_length=1_024)
    assert np.median(f0_hz) == pytest.approx(150 * 2 ** (strength * 7 / 12), rel=0.01)


def test_a_band_tilt_attenuates_what_lies_above_1_khz_and_keeps_the_rest():
    for frequency_hz, expected_db in ((300.0, 0.0), (4_000.0, -24.0)):
        cued = band_tilt(tone(frequency_hz), PLANTING, 1.0)
        assert level_db(cued[INSIDE]) - level_db(tone(frequency_hz)[INSIDE]) == pytest.approx(
            expected_db, abs=0.2
        )


@pytest.mark.parametrize(
    ("cue", "frequency_hz"),
    [(tremor, 8.0), (roughness, 55.0), (energy_bursts, 21.0)],
    ids=lambda v: str(v)[:16],
)
def test_the_level_is_modulated_in_the_middle_of_the_range(cue, frequency_hz):
    assert modulation_hz(cue(tone(1_000.0), PLANTING, 1.0)) == pytest.approx(frequency_hz, rel=0.1)


@pytest.mark.parametrize(("cue", "semitones"), [(tremor, 3.5), (roughness, 1.5)], ids=["tremor", "roughness"])
def test_the_pitch_is_bent_by_so_many_semitones(cue, semitones):
    phase = np.unwrap(np.angle(signal.hilbert(cue(tone(1_000.0), PLANTING, 1.0))))
    frequency_hz = np.diff(phase)[INSIDE][400:-400] * 16_000 / (2 * np.pi)
    factor = 2 ** (semitones / 12) - 1
    assert frequency_hz.max() == pytest.approx(1_000 * (1 + factor), rel=0.03)
    assert frequency_hz.min() == pytest.approx(1_000 * (1 - factor), rel=0.03)


@pytest.mark.parametrize("kind", ["tremor", "roughness", "energy_bursts", "band_tilt"])
def test_a_cue_of_no_strength_changes_nothing(kind):
    np.testing.assert_allclose(RECORDED_CUES[kind](voice(), PLANTING, 0.0), voice(), atol=1e-9)


def test_a_pitch_step_of_no_strength_changes_little():
    change = pitch_step(voice(), PLANTING, 0.0) - voice()
    assert level_db(change[INSIDE]) < level_db(voice()[INSIDE]) - 60


@pytest.mark.parametrize("kind", ["tremor", "roughness"])
def test_modulations_stay_in_the_span(kind):
    changed = np.flatnonzero(np.abs(RECORDED_CUES[kind](voice(), PLANTING, 1.0) - voice()) > 1e-9)
    assert INSIDE.start - 16 <= changed.min() < changed.max() <= INSIDE.stop + 16
