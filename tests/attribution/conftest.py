"""Small scores whose attributions are known or cheap to find, and what else the tests of this ring share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wavshap_lightning.attribution.baselines import BaselineDistribution, BaselineSet
from wavshap_lightning.attribution.method import Options
from wavshap_lightning.attribution.views import elements, summed

NUM_FRAMES, NUM_CHANNELS, NUM_CLASSES = 12, 3, 4


class SmallNetwork(nn.Module):
    """Convolution, gelu, attentive pooling, logits; strongly curved on purpose."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(NUM_CHANNELS, 8, 3, padding=1)
        self.attend = nn.Linear(8, 1)
        self.classify = nn.Linear(8, NUM_CLASSES)

    def forward(self, frames):
        states = nn.functional.gelu(2 * self.convolution(frames.transpose(1, 2))).transpose(1, 2)
        weights = torch.softmax(2 * self.attend(states), 1)
        return 4 * self.classify((weights * states).sum(1))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return SmallNetwork().eval()


@pytest.fixture(scope="session")
def frames():
    drawn = torch.randn(NUM_FRAMES, NUM_CHANNELS, generator=torch.Generator().manual_seed(1))
    return drawn * torch.linspace(0.3, 2, NUM_FRAMES)[:, None]


@pytest.fixture(scope="session")
def distribution():
    """Walks of different size: baselines that differ from one another as real clips do."""

    def stream(generator):
        while True:
            size = 0.3 + torch.rand((), generator=generator)
            yield size * torch.randn(NUM_FRAMES, NUM_CHANNELS, generator=generator).cumsum(0) / 2

    return BaselineDistribution(stream, "walks")


@pytest.fixture(scope="session")
def declared(distribution):
    return distribution.declare(16, torch.Generator().manual_seed(2))


@pytest.fixture(scope="session")
def by_frame():
    return Options(views=(summed(1, name="frames", neighbours=True), elements()), chunk_size=512)


@pytest.fixture(scope="session")
def linear_weights():
    return torch.randn(NUM_FRAMES, NUM_CHANNELS, NUM_CLASSES, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="session")
def linear(linear_weights):
    return lambda inputs: torch.einsum("dtc,tck->dk", inputs, linear_weights) + 0.5


@pytest.fixture
def set_of():
    return lambda *rows: BaselineSet(torch.stack([torch.as_tensor(row) for row in rows]))
