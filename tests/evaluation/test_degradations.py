"""Degradations: the ratio, level, band and duration that are asked for, at the times of the clip."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import correlate

from wavshap_lightning.evaluation.degradations import KINDS, Scene, degrade, mix, reverberate, times_after

RATE = 16_000
NOISES = ("white noise", "pink noise", "traffic", "hum", "babble", "music")
EVERY = [(kind, level) for kind in KINDS for level in KINDS[kind].levels]


def db(sound):
    return 20 * np.log10(np.sqrt(np.mean(np.square(sound, dtype=float))))


def noisy(seconds=1.0, scale=0.01, seed=0):
    """Noise with slow swells, faint enough that nothing needs to be made softer."""
    generator = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE)) / RATE
    swell = 1 + 0.8 * np.sin(2 * np.pi * 3 * time_s)
    return (scale * swell * generator.standard_normal(len(time_s))).astype(np.float32)


def heard(kind, level, sound, seed=0):
    others, level = [noisy(0.7, seed=1), noisy(1.3, seed=2)], float(level)
    return degrade(kind, level, Scene(sound, RATE, np.random.default_rng(seed), others))


@pytest.mark.parametrize("kind", NOISES)
def test_noise_has_the_ratio_that_is_asked_for(kind):
    sound = noisy()
    added = {level: heard(kind, level, sound) - sound for level in KINDS[kind].levels}
    for level, noise in added.items():
        assert db(sound) - db(noise) == pytest.approx(level, abs=0.01)
    loud = np.abs(added[20]) > 1e-5
    ratio = added[-5][loud] / added[20][loud]
    assert np.median(ratio) == pytest.approx(10 ** (25 / 20), rel=0.01)  # the same noise, louder


def test_colors_of_noise_fall_with_frequency():
    power = {}
    for kind in NOISES[:3]:
        noise = heard(kind, 0, np.full(2**16, 1e-3, dtype=np.float32)) - 1e-3
        spectrum = np.abs(np.fft.rfft(noise)) ** 2
        hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
        low, high = (spectrum[(hertz > at) & (hertz < 2 * at)].mean() for at in (200, 1600))
        power[kind] = 10 * np.log10(low / high)
    assert power["white noise"] == pytest.approx(0, abs=0.5)
    assert power["pink noise"] == pytest.approx(10 * np.log10(8), abs=0.5)
    assert power["traffic"] == pytest.approx(20 * np.log10(8), abs=1.0)


def test_hum_is_at_multiples_of_50_hz():
    noise = heard("hum", 0, noisy(), seed=3) - noisy()
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    assert spectrum[50:501:50].sum() > 0.99 * spectrum.sum()


def test_a_mixture_with_silence_is_the_sound():
    np.testing.assert_array_equal(mix(noisy(), np.zeros(RATE, dtype=np.float32), 0.0), noisy())


@pytest.mark.parametrize("level", KINDS["level"].levels)
def test_levels_are_those_of_the_peak(level):
    peak = np.abs(heard("level", level, noisy(scale=0.05))).max()
    assert peak == pytest.approx(10 ** (level / 20), abs=2**-15)


def test_overdriven_sounds_keep_their_peak_and_are_flat_on_top():
    sound = noisy()
    changed = heard("clipping", 12, sound)
    assert np.abs(changed).max() == pytest.approx(np.abs(sound).max())
    ceiling = np.abs(sound).max() * 10 ** (-12 / 20)
    np.testing.assert_allclose(changed, np.clip(sound, -ceiling, ceiling) * 10 ** (12 / 20), rtol=1e-5)


@pytest.mark.parametrize("kbps", KINDS["telephone"].levels)
def test_a_telephone_passes_its_band_alone(kbps):
    time_s = np.arange(RATE) / RATE
    lost = {}
    for hertz in (60, 1_000, 3_000, 6_000):
        tone = 0.1 * np.sin(2 * np.pi * hertz * time_s)
        lost[hertz] = db(tone) - db(heard("telephone", kbps, tone))
    assert lost[60] > 30
    assert lost[6_000] > 25
    assert max(abs(lost[1_000]), abs(lost[3_000])) < 3


@pytest.mark.parametrize(("kind", "level"), [one for one in EVERY if one[0] not in ("tempo", "silence")])
def test_nothing_is_delayed(kind, level):
    sound = noisy(scale=0.05)
    low = np.convolve(sound, np.hanning(9), "same").astype(np.float32)  # within the band of all channels
    changed = heard(kind, level, low)
    assert len(changed) == len(low)
    lags = correlate(changed, low)
    assert abs(int(np.abs(lags).argmax()) - (len(low) - 1)) <= 2


def test_mp3_of_fewer_bits_is_further_from_the_sound():
    sound = noisy(scale=0.05)
    errors = [db(heard("MP3", kbps, sound) - sound) for kbps in KINDS["MP3"].levels]
    assert errors == sorted(errors)


@pytest.mark.parametrize("rt60_s", KINDS["reverberation"].levels)
def test_echoes_decay_as_long_as_asked_for(rt60_s):
    click = np.zeros(3 * RATE, dtype=np.float32)
    click[0] = 0.5
    room = reverberate(Scene(click, RATE, np.random.default_rng(0)), rt60_s)
    assert db(room) == pytest.approx(db(click), abs=0.01)
    left_db = 10 * np.log10(np.cumsum(np.square(room[::-1]))[::-1][1:])  # Schroeder's integral
    left_db -= left_db[0]
    begin, end = (int(np.argmax(left_db < at)) / RATE for at in (-5, -35))
    assert 2 * (end - begin) == pytest.approx(rt60_s, rel=0.15)


def test_tempo_and_silence_change_the_duration_and_the_times():
    sound = noisy()
    slow, surrounded = heard("tempo", 0.7, sound), heard("silence", 0.5, sound)
    assert len(slow) == pytest.approx(len(sound) / 0.7, abs=1)
    np.testing.assert_array_equal(surrounded[8_000:-8_000], sound)
    assert not surrounded[:8_000].any()
    assert not surrounded[-8_000:].any()
    end_s = np.array([1.0])
    assert times_after("tempo", 0.7, end_s)[0] == pytest.approx(len(slow) / RATE, abs=1e-4)
    assert times_after("silence", 0.5, end_s)[0] == 1.5
    assert times_after("babble", 5.0, end_s)[0] == 1.0


@pytest.mark.parametrize("scale", [1e-4, 1.0])
def test_every_level_of_every_kind_is_playable(scale):
    sound = np.clip(noisy(0.2, scale=0.3), -1, 1) * np.float32(scale)
    for kind, level in EVERY:
        changed = heard(kind, level, sound)
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        assert 0 < np.abs(changed).max() <= 1
