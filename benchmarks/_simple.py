"""Small scores whose attributions are known, or cheap to find to any precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavshap_lightning.attribution.baselines import BaselineDistribution

NUM_FRAMES, NUM_CHANNELS, NUM_CLASSES = 20, 6, 4


class Linear(nn.Module):
    """Logits that are weighted sums of the input."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(NUM_FRAMES, NUM_CHANNELS, NUM_CLASSES, generator=generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """`(draws, frames, channels)` to `(draws, classes)`."""
        return torch.einsum("dtc,tck->dk", inputs, self.weight)


def build_mlp(seed: int = 0) -> nn.Module:
    """Two hidden layers of 32, curved enough to need many draws."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = nn.Sequential(
            nn.Flatten(),
            nn.Linear(NUM_FRAMES * NUM_CHANNELS, 32),
            nn.GELU(),
            nn.Linear(32, 32),
            nn.Tanh(),
            nn.Linear(32, NUM_CLASSES),
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2.0)
    return network.requires_grad_(False).eval()  # noqa: FBT003


def simple_input(seed: int = 1) -> Tensor:
    """What is explained."""
    return torch.randn(NUM_FRAMES, NUM_CHANNELS, generator=torch.Generator().manual_seed(seed))


def walks() -> BaselineDistribution:
    """Random walks of different size: baselines that differ from one another as recordings do."""

    def stream(generator: torch.Generator):  # noqa: ANN202
        while True:
            size = 0.3 + torch.rand((), generator=generator)
            yield size * torch.randn(NUM_FRAMES, NUM_CHANNELS, generator=generator).cumsum(0) / 3

    return BaselineDistribution(stream, "walks")
