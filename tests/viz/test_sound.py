"""The two halves of a clip by ear: where they sound, how loud, and without a click."""

from __future__ import annotations

import numpy as np
import pytest

from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.viz.sound import fading_mask, split_by_attribution, strongest

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
    assert rms(parts.kept[inside]) > 0.9 * rms(waveform)
    assert not parts.kept[outside].any()
    assert np.abs(parts.removed[inside]).max() < 1e-12
    assert rms(parts.removed[outside]) > 0.9 * rms(waveform)
    assert len(parts.kept) == len(parts.removed) == NUM_SAMPLES


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
    for part in (parts.kept, parts.removed):
        assert rms(part[part != 0]) == pytest.approx(rms(noise), rel=0.08)


def test_nothing_clips_and_silence_is_not_raised_without_end(waveform, frames):
    loud = np.clip(waveform, -0.001, 0.001)
    loud[-800:] = 1.0
    loud[9 * 320 : 16 * 320] = 1e-5
    parts = split_by_attribution(loud, frames, TIMES, share=0.1)
    assert np.abs(parts.removed).max() <= 1
    assert np.abs(parts.kept).max() < 1e-3


def test_only_what_speaks_for_the_target_is_kept(waveform, frames):
    parts = split_by_attribution(waveform, -np.abs(frames), TIMES)
    assert not parts.kept.any()
    np.testing.assert_allclose(parts.removed, waveform)
    assert strongest(frames, 0.9).sum() == 8


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_that_is_none_is_refused(waveform, frames, share):
    with pytest.raises(SettingError, match=f"share={share} must be above 0"):
        split_by_attribution(waveform, frames, TIMES, share=share)
