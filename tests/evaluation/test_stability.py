"""Sensitivity of explanations that are known to move so much."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.evaluation.stability import add_noise, sensitivities


def sensitivity(explain, clip, generator, *, snr_db, **more):
    return sensitivities(explain, clip, generator, snrs_db=(snr_db,), **more)[snr_db]


CLIP = torch.randn(4000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("snr_db", [10.0, 30.0])
def test_noise_lies_so_far_below_the_clip(snr_db):
    noise = add_noise(CLIP, snr_db, torch.Generator().manual_seed(1)) - CLIP
    ratio = 10 * torch.log10(CLIP.square().mean() / noise.square().mean())
    assert float(ratio) == pytest.approx(snr_db, abs=0.01)


def test_an_explanation_that_is_the_clip_moves_as_much_as_the_clip():
    found = sensitivities(lambda clip: clip, CLIP, torch.Generator().manual_seed(1))
    assert found == pytest.approx({30.0: 10**-1.5, 40.0: 1e-2}, rel=1e-3)


def test_one_that_never_moves_has_0_and_chance_of_the_method_is_taken_off():
    assert sensitivity(torch.ones_like, CLIP, torch.Generator().manual_seed(1), snr_db=30.0) == 0
    chance = torch.Generator().manual_seed(2)

    def noisy(clip):
        return torch.ones(400) + torch.randn(400, generator=chance)

    found = sensitivity(noisy, CLIP, torch.Generator().manual_seed(1), snr_db=30.0, num_perturbations=20)
    assert abs(found) < 0.15


def test_the_same_generator_gives_the_same_number():
    found = [
        sensitivity(lambda clip: clip.abs(), CLIP, torch.Generator().manual_seed(4), snr_db=20.0)
        for _ in range(2)
    ]
    assert found[0] == found[1] > 0
