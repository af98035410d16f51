"""Sound of a clip: its spectrogram, its two parts, and its copy for a page."""

from __future__ import annotations

import base64
import io

import librosa
import numpy as np
import pytest
import soundfile
from transformers.audio_utils import mel_filter_bank, power_to_db, spectrogram, window_function

from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.viz.sound import (
    NUM_MELS,
    cell_edges_s,
    fading_mask,
    log_mel,
    sound_url,
    split_by_attribution,
    strongest,
)

TIMES = TimeGrid(49, 320, 400, 0, 16_000)
NUM_SAMPLES = 16_000


@pytest.fixture
def waveform():
    time_s = np.arange(NUM_SAMPLES) / 16_000
    return 0.1 * np.sin(2 * np.pi * 300 * time_s)


@pytest.fixture
def frames():
    values = np.full(49, -1.0)
    values[10:15] = 2.0
    values[30:33] = 1.0
    return values


def rms(values):
    return np.sqrt(np.mean(values**2))


def test_kept_sounds_in_the_strongest_frames_alone_and_removed_everywhere_else(waveform, frames):
    parts = split_by_attribution(waveform, frames, TIMES, share=0.1)
    inside, outside = slice(10 * 320 + 200, 15 * 320 - 200), slice(16 * 320, NUM_SAMPLES)
    assert rms(parts["kept"][inside]) > 0.9 * rms(waveform)
    assert not parts["kept"][outside].any()
    assert np.abs(parts["removed"][inside]).max() < 1e-12
    assert rms(parts["removed"][outside]) > 0.9 * rms(waveform)
    assert len(parts["kept"]) == len(parts["removed"]) == NUM_SAMPLES


def test_masks_of_a_choice_and_its_opposite_sum_to_one(frames):
    chosen = strongest(frames, 0.2)
    both = fading_mask(chosen, TIMES, NUM_SAMPLES) + fading_mask(~chosen, TIMES, NUM_SAMPLES)
    np.testing.assert_allclose(both, 1.0)


def test_seams_fade_over_ten_milliseconds(frames):
    mask = fading_mask(strongest(frames, 0.1), TIMES, NUM_SAMPLES)
    assert np.abs(np.diff(mask)).max() < 0.02
    assert ((mask > 0) & (mask < 1)).sum() == pytest.approx(2 * 160, abs=4)


def test_what_sounds_is_as_loud_as_the_clip(frames):
    noise = 0.05 * np.random.default_rng(0).standard_normal(NUM_SAMPLES)
    noise[10 * 320 : 15 * 320] *= 0.3
    parts = split_by_attribution(noise, frames, TIMES, share=0.1)
    for part in parts.values():
        assert rms(part[part != 0]) == pytest.approx(rms(noise), rel=0.08)


def test_nothing_clips_and_silence_is_not_raised_without_end(waveform, frames):
    loud = np.clip(waveform, -0.001, 0.001)
    loud[-800:] = 1.0
    loud[9 * 320 : 16 * 320] = 1e-5
    parts = split_by_attribution(loud, frames, TIMES, share=0.1)
    assert np.abs(parts["removed"]).max() <= 1
    assert np.abs(parts["kept"]).max() < 1e-3


def test_only_what_speaks_for_the_target_is_kept(waveform, frames):
    parts = split_by_attribution(waveform, -np.abs(frames), TIMES)
    assert not parts["kept"].any()
    np.testing.assert_allclose(parts["removed"], waveform)
    assert strongest(frames, 0.9).sum() == 8


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_that_is_none_is_refused(waveform, frames, share):
    with pytest.raises(SettingError, match=f"share={share} must be above 0"):
        split_by_attribution(waveform, frames, TIMES, share=share)


@pytest.mark.parametrize(
    ("sample_rate", "kind", "least_db"), [(16_000, "mpeg", 15), (44_100, "mpeg", 15), (16_001, "flac", 60)]
)
def test_sound_is_the_clips_at_its_place(sample_rate, kind, least_db):
    rng = np.random.default_rng(0)
    time_s = np.arange(sample_rate) / sample_rate
    sound = 0.3 * np.sin(2 * np.pi * (300 + 200 * time_s) * time_s) * (time_s > 0.4)
    sound += 0.001 * rng.standard_normal(sample_rate)
    head, content = sound_url(sound, sample_rate).split(",")
    assert head == f"data:audio/{kind};base64"
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
    assert (rate, len(heard)) == (sample_rate, len(sound))
    error = np.mean((heard - sound) ** 2)
    assert 10 * np.log10(np.mean(sound**2) / error) > least_db


def test_a_tone_and_a_click_are_seen_where_they_are():
    times = TimeGrid(128, 128, 512, 128 - 512, 16_000)
    waveform = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    levels = log_mel(waveform, 16_000)
    assert levels.shape == (NUM_MELS, times.count)
    mels = np.linspace(0, librosa.hz_to_mel(np.array([8000.0]))[0], NUM_MELS + 2)
    loudest = mels[1 + int(levels[:, 60].argmax())]
    assert abs(loudest - librosa.hz_to_mel(np.array([1000.0]))[0]) < mels[1]
    click = np.zeros(16_000)
    click[8000] = 1.0
    middle_s = times.center_s()[int(log_mel(click, 16_000).sum(0).argmax())]
    assert middle_s == pytest.approx(0.5, abs=0.005)


def test_levels_are_those_of_transformers():
    waveform = np.random.default_rng(0).standard_normal(NUM_SAMPLES)
    power = spectrogram(
        np.pad(waveform, 512 - 128),
        window_function(512, "hann"),
        frame_length=512,
        hop_length=128,
        fft_length=1024,
        power=2.0,
        center=False,
        mel_filters=mel_filter_bank(513, NUM_MELS, 0.0, 8000.0, 16_000, "slaney", "slaney"),
    )
    expected = power_to_db(power, reference=power.max(), db_range=70.0)
    np.testing.assert_allclose(log_mel(waveform, 16_000), expected[:, :128], atol=1e-3)


def test_cells_of_overlapping_frames_touch():
    times = TimeGrid(4, 320, 400, 0, 16_000)
    edges_s = cell_edges_s(times)
    np.testing.assert_allclose((edges_s[:-1] + edges_s[1:]) / 2, times.center_s())
    np.testing.assert_allclose(np.diff(edges_s), 0.02)
