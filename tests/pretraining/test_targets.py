"""The targets against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from pretraining.targets import FRAME_GROUPS, PROSODY, UTTERANCE, Targets, build_targets
from pretraining.utterances import FRAME_S, NUM_FRAMES, NUM_SAMPLES, QUALITIES

FLUTTER = torch.linspace(0.0, 1.0, NUM_FRAMES)


def group(targets: Targets, name: str) -> torch.Tensor:
    parts = targets.frames.split(list(FRAME_GROUPS.values()), dim=2)
    return dict(zip(FRAME_GROUPS, parts, strict=True))[name]


def prosody(targets: Targets, name: str) -> torch.Tensor:
    return group(targets, "prosody")[:, :, PROSODY.index(name)]


def told(targets: Targets, name: str) -> torch.Tensor:
    return targets.utterance[:, UTTERANCE.index(name)]


def of(clean: torch.Tensor, f0_hz: torch.Tensor, qualities: torch.Tensor | None = None) -> Targets:
    count = len(clean)
    if qualities is None:
        qualities = torch.full((count, len(QUALITIES), NUM_FRAMES), torch.nan)
    periodicity = 0.5 + 0.4 * FLUTTER.expand(count, -1)
    return build_targets(
        clean,
        f0_hz=f0_hz,
        periodicity=periodicity,
        qualities=qualities,
        rate=torch.zeros(count),
        voice=torch.full((count,), -1),
    )


@pytest.fixture
def noise() -> torch.Tensor:
    return 0.1 * torch.randn(2, NUM_SAMPLES, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def rising() -> torch.Tensor:
    """Pitch from 100 Hz, half an octave a second."""
    return (100 * 2 ** (0.5 * torch.from_numpy(FRAME_S).float())).expand(2, -1)


def test_a_gain_adds_a_constant_to_bands_and_energy_and_changes_nothing_else(noise, rising):
    quiet, loud = of(noise, rising), of(10 * noise, rising)
    shift = math.log(100)
    torch.testing.assert_close(group(loud, "mel"), group(quiet, "mel") + shift, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(
        prosody(loud, "energy"), prosody(quiet, "energy") + shift, atol=1e-3, rtol=1e-4
    )
    for name in ("tilt", "flux", "periodicity", "log_f0"):
        torch.testing.assert_close(prosody(loud, name), prosody(quiet, name), atol=1e-3, rtol=1e-3)


def test_a_steady_rise_has_one_slope_and_known_moments(noise, rising):
    targets = of(noise, rising)
    slope = prosody(targets, "log_f0_slope")
    assert slope[:, :2].isnan().all()
    assert slope[:, -2:].isnan().all()
    torch.testing.assert_close(slope[:, 2:-2], torch.full_like(slope[:, 2:-2], 0.5 * 0.08), atol=1e-4, rtol=0)
    octaves = 0.5 * torch.from_numpy(FRAME_S).float()
    torch.testing.assert_close(told(targets, "log_f0_mean"), octaves.mean().expand(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        told(targets, "log_f0_std"), octaves.std(correction=0).expand(2), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(told(targets, "voiced_share"), torch.ones(2))


def test_a_brief_glide_is_the_extreme_and_steady_pitch_has_none(noise, rising):
    steady = torch.full_like(rising, 200.0)
    risen = (torch.arange(NUM_FRAMES) - 60).clamp(0, 20) / 20
    glide = steady * 2 ** (0.6 * risen)
    for pitch, least, most in ((steady, 0.0, 0.0), (glide, 0.0, 0.6), (40_000.0 / glide, -0.6, 0.0)):
        targets = of(noise, pitch)
        torch.testing.assert_close(
            told(targets, "log_f0_change_min"), torch.full((2,), least), atol=1e-4, rtol=0
        )
        torch.testing.assert_close(
            told(targets, "log_f0_change_max"), torch.full((2,), most), atol=1e-4, rtol=0
        )


def test_a_quality_is_told_by_its_mean_and_its_height_over_voiced_frames(noise, rising):
    qualities = torch.full((2, len(QUALITIES), NUM_FRAMES), torch.nan)
    qualities[0, :, 50:100] = 0.0
    qualities[0, QUALITIES.index("tremor"), 60:70] = 0.8
    targets = of(noise, rising, qualities)
    torch.testing.assert_close(told(targets, "tremor_mean")[0], torch.tensor(0.16))
    torch.testing.assert_close(told(targets, "tremor_max")[0], torch.tensor(0.8))
    torch.testing.assert_close(told(targets, "roughness_max")[0], torch.tensor(0.0))
    assert told(targets, "tremor_mean")[1].isnan()
    assert told(targets, "tremor_max")[1].isnan()


def test_nothing_is_said_of_the_pitch_where_there_is_no_voice(noise, rising):
    silent_half = rising.clone()
    silent_half[:, : NUM_FRAMES // 2] = 0.0
    targets = of(noise, silent_half)
    log_f0 = prosody(targets, "log_f0")
    assert log_f0[:, : NUM_FRAMES // 2].isnan().all()
    assert log_f0[:, NUM_FRAMES // 2 :].isfinite().all()
    assert told(of(noise, torch.zeros_like(rising)), "log_f0_mean").isnan().all()
    assert told(of(noise, torch.zeros_like(rising)), "voiced_share").eq(0).all()


def test_a_jump_of_an_octave_is_taken_for_an_error(noise, rising):
    jumping = rising.clone()
    jumping[:, 80:] *= 2
    slope = prosody(of(noise, jumping), "log_f0_slope")
    assert slope[:, 78:82].isnan().all()
    assert slope[:, 83:90].isfinite().all()


def test_flux_is_where_the_level_steps(noise, rising):
    stepped = noise.clone()
    stepped[:, NUM_SAMPLES // 2 :] *= 10
    flux = prosody(of(stepped, rising), "flux")[0]
    assert abs(int(flux.argmax()) - NUM_FRAMES // 2) <= 2
    assert flux.max() > 2 * flux.median()


def test_tilt_tells_low_from_high(rising):
    time_s = torch.arange(NUM_SAMPLES) / 16_000
    low, high = (torch.sin(2 * torch.pi * f * time_s) for f in (200.0, 6_000.0))
    tilt = prosody(of(0.1 * torch.stack([low, high]), rising), "tilt")
    assert tilt[0].max() < 0 < tilt[1].min()
