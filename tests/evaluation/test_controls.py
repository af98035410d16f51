"""Controls see what they are named for."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.evaluation.controls import CONTROLS, control_maps, edge_map

RATE = 16_000


@pytest.fixture
def grid():
    return FrameGrid((400,), (320,), RATE)


def tone(hertz, seconds, size=0.1):
    return size * torch.sin(2 * torch.pi * hertz * torch.arange(int(seconds * RATE)) / RATE)


def test_energy_is_the_level_in_decibels(grid):
    clip = torch.cat([tone(440, 0.5), tone(440, 0.5, size=1.0)])
    found = control_maps(clip, grid, torch.Generator())["energy"]
    assert len(found) == grid.num_frames(len(clip))
    assert float(found[40] - found[5]) == pytest.approx(20, abs=0.1)
    assert found.min() == 0
    assert not control_maps(torch.zeros(4000), grid, torch.Generator())["energy"].any()


def test_edges_are_where_the_spectrum_changes_and_not_where_it_is_loud(grid):
    clip = torch.cat([tone(400, 0.5), tone(1600, 0.5)]) + 1e-3 * torch.randn(
        RATE, generator=torch.Generator().manual_seed(0)
    )
    found = edge_map(clip, grid)
    assert len(found) == grid.num_frames(len(clip))
    assert abs(int(found.argmax()) - 24) <= 1
    assert found[24] > 2 * found[:20].max()


def test_random_is_its_generators(grid):
    first, second = (control_maps(tone(400, 0.5), grid, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first["random"], second["random"])
    assert tuple(first) == CONTROLS
