"""The voice does what its control tracks say."""

from __future__ import annotations

from dataclasses import replace

import librosa
import numpy as np
import pytest
from scipy import signal

from wavshap_lightning.planted.voices import (
    CONTROL_SAMPLES,
    VOICES,
    Speaker,
    Tracks,
    build_tracks,
    draw_source_noise,
    draw_speaker,
    draw_syllables,
    glottal_pulses,
    render_speech,
)

SPEAKER = Speaker(
    base_pitch_hz=120.0, tract_scale=1.0, tilt_db=4.0, breathiness=0.02, rate_hz=4.0, level_db=0.0
)


def vowel_tracks(f0_hz: float, num_controls: int = 800) -> Tracks:
    level, zero = np.ones(num_controls), np.zeros(num_controls)
    formants_hz = np.tile([700.0, 1_200.0, 2_500.0, 3_500.0, 4_500.0, 5_500.0], (num_controls, 1))
    return Tracks(f0_hz * level, level, zero, 3_000 * level, formants_hz, level, zero, zero, zero, zero)


def render(tracks: Tracks, **wanted: int) -> np.ndarray:
    return render_speech(
        tracks, SPEAKER, draw_source_noise(tracks.num_controls, np.random.default_rng(0)), **wanted
    )


def rms_db(waveform: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(waveform**2)))


@pytest.mark.parametrize("f0_hz", [70.0, 113.7, 210.0, 333.3])
def test_the_pitch_is_the_one_asked_for(f0_hz):
    found_hz = librosa.yin(render(vowel_tracks(f0_hz)), fmin=50, fmax=500, sr=16_000, frame_length=2_048)
    assert np.median(found_hz) == pytest.approx(f0_hz, rel=0.01)


def test_formants_stand_where_asked_for():
    tracks = vowel_tracks(60.0)
    noise = render(replace(tracks, voicing=np.full(tracks.num_controls, 1e-3), jitter=np.full(800, 0.4)))
    loud = render(tracks)
    for waveform in (noise, loud):
        frequency_hz, power = signal.welch(waveform, 16_000, nperseg=256)
        for formant_hz in (700.0, 1_200.0, 2_500.0):
            near = np.abs(frequency_hz - formant_hz) < 150
            valley = np.abs(frequency_hz - 1_850.0) < 100
            assert power[near].max() > 4 * power[valley].min()


def test_pulses_have_equal_power_at_any_pitch():
    source = draw_source_noise(800, np.random.default_rng(0))
    low, high = (rms_db(glottal_pulses(vowel_tracks(f0_hz), source)) for f0_hz in (90.0, 270.0))
    assert low == pytest.approx(high, abs=0.5)


def test_a_part_is_rendered_as_in_the_whole():
    tracks = vowel_tracks(120.0)
    whole, part = render(tracks), render(tracks, start=200, stop=500)
    inside = slice(40 * CONTROL_SAMPLES, 280 * CONTROL_SAMPLES)
    np.testing.assert_allclose(part[inside], whole[200 * CONTROL_SAMPLES :][inside], atol=1e-3 * whole.std())


def test_no_voicing_and_no_frication_is_silence():
    tracks = vowel_tracks(120.0)
    assert not render(replace(tracks, voicing=np.zeros(tracks.num_controls))).any()


def test_gain_is_a_factor_on_everything():
    tracks = replace(vowel_tracks(120.0), frication=np.full(800, 0.3))
    np.testing.assert_allclose(
        render(replace(tracks, gain=np.full(800, 0.5))), 0.5 * render(tracks), atol=1e-5
    )


def test_voices_differ_in_pitch_and_size():
    rng = np.random.default_rng(0)
    drawn = {voice: [draw_speaker(rng, voice=voice) for _ in range(50)] for voice in VOICES}
    male, female, child = (drawn[voice] for voice in ("male", "female", "child"))
    for lower, higher in ((male, female), (female, child)):
        assert max(s.base_pitch_hz for s in lower) < min(s.base_pitch_hz for s in higher)
        assert max(s.tract_scale for s in lower) < min(s.tract_scale for s in higher)


def test_syllables_follow_one_another_and_end_in_time():
    rng = np.random.default_rng(1)
    for _ in range(20):
        syllables = draw_syllables(SPEAKER, 2.0, rng)
        times = [time for s in syllables for time in (s.start_s, s.vowel_s, s.end_s)]
        assert times == sorted(times)
        assert times[0] > 0.0
        assert times[-1] <= 2.0
        tracks = build_tracks(syllables, SPEAKER, 2.0, rng)
        assert tracks.num_controls == 2_000
        assert 3.0 <= len(syllables) / 2.0 <= SPEAKER.rate_hz / 0.8
