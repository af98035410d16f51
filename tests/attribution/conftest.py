"""Small scores whose attributions are known or cheap to find, and what else the tests of this ring share."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from single_call import attribute
from torch import nn

from wavshap_lightning.attribution.baselines import BaselineDistribution, BaselineSet
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.saliency import input_x_gradient, saliency, smooth_grad
from wavshap_lightning.attribution.targets import every_class
from wavshap_lightning.attribution.views.frames import elements, summed

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
    return {"views": (summed(1, name="frames", smooth_variance=True), elements()), "chunk_size": 512}


@pytest.fixture(scope="session")
def linear_weights():
    return torch.randn(NUM_FRAMES, NUM_CHANNELS, NUM_CLASSES, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="session")
def linear(linear_weights):
    return lambda inputs: torch.einsum("dtc,tck->dk", inputs, linear_weights) + 0.5


@pytest.fixture
def set_of():
    return lambda *rows: BaselineSet(torch.stack([torch.as_tensor(row) for row in rows]))


# Stacks of layers, which a score sees through a linear mix


STACK_SHAPE = (5, NUM_FRAMES, NUM_CHANNELS)
STACK_TARGET = every_class(NUM_CLASSES)


def _draw_stacks(generator):
    while True:
        yield torch.randn(STACK_SHAPE, generator=generator, dtype=torch.float64)


STACKS = BaselineDistribution(_draw_stacks)
DECLARED_STACKS = STACKS.declare(6, torch.Generator().manual_seed(1))
SEEDED = partial(attribute, gradient_shap, target=STACK_TARGET, generator=1)
METHODS = {
    "declared": partial(SEEDED, baselines=DECLARED_STACKS),
    "distribution": partial(SEEDED, baselines=STACKS),
    "integrated_gradients": partial(
        attribute, integrated_gradients, baselines=DECLARED_STACKS, target=STACK_TARGET
    ),
    "saliency": partial(attribute, saliency, target=STACK_TARGET),
    "input_x_gradient": partial(attribute, input_x_gradient, target=STACK_TARGET),
    "smooth_grad": partial(attribute, smooth_grad, target=STACK_TARGET, generator=1),
}


@pytest.fixture
def layers():
    """A stack to explain, `(layer, time, hidden)`."""
    return next(_draw_stacks(torch.Generator().manual_seed(7)))


@pytest.fixture(scope="session")
def declared_stacks():
    return DECLARED_STACKS


@pytest.fixture(params=METHODS.values(), ids=METHODS)
def method(request):
    """Every method on stacks, `(score, layers, options=)`."""
    return request.param


@pytest.fixture
def global_seed():
    """Seeds the global generators of torch and NumPy, from which Captum draws; they go on as before."""
    before = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)
        yield
    np.random.set_state(before)
