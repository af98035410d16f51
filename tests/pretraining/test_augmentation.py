"""What degraded speech keeps of the clean one."""

from __future__ import annotations

import pytest
import torch
from pretraining.augmentation import LEVEL_DB, degrade, set_levels

from wavshap_lightning.audio.io import SAMPLE_RATE


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def speech() -> torch.Tensor:
    time_s = torch.arange(SAMPLE_RATE) / SAMPLE_RATE
    pitch_hz = torch.linspace(100.0, 300.0, 24)[:, None]
    return torch.cos(2 * torch.pi * pitch_hz * time_s) * (1.2 + torch.sin(12 * time_s))


def level_db(waveforms: torch.Tensor) -> torch.Tensor:
    return 10 * waveforms.square().mean(1).log10()


def test_levels_cover_their_range_and_nothing_else(speech):
    found = level_db(set_levels(speech, generator()))
    low, high = LEVEL_DB
    assert low <= found.min() < low + 10
    assert high - 10 < found.max() <= high


def test_level_is_all_that_changes(speech):
    levelled = set_levels(speech, generator())
    ratio = levelled / speech
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))


def test_the_same_seed_degrades_alike_and_another_one_differently(speech):
    first = degrade(speech, generator())
    assert torch.equal(first, degrade(speech, generator()))
    assert not torch.equal(first, degrade(speech, generator(1)))


def test_the_global_random_state_is_left_alone(speech):
    before = torch.get_rng_state()
    degrade(set_levels(speech, generator()), generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_degrading_follows_the_level(speech):
    """Everything is added relative to the speech: a quieter recording is the same recording, quieter."""
    torch.testing.assert_close(
        degrade(0.01 * speech, generator()), 0.01 * degrade(speech, generator()), rtol=1e-3, atol=1e-5
    )


def test_speech_stays_the_loudest_thing(speech):
    """Level within the noise and the other voice on top: at most 3 dB below for each."""
    gain_db = level_db(degrade(speech, generator())) - level_db(speech)
    assert gain_db.min() > -1.0
    assert gain_db.max() < 10 * torch.tensor(1 + 2 * 10**-0.3).log10() + 0.5
