"""Our metrics against those of Quantus, where both mean the same.

Quantus is under the GPL: it is no dependency and nothing of the package knows of it. Install it in an
environment of its own to run this. What it means differently is left out: its completeness compares floats
with `==`, its cascade leaves parameters as they were, and its pointing game weighs by the size of the
evidence only on request.
"""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn

from wavshap_lightning.evaluation.faithfulness import removal_curves, removal_of
from wavshap_lightning.evaluation.localization import overlap, pointing, relevance_mass, roc_auc
from wavshap_lightning.evaluation.similarity import rank_correlation

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    quantus = pytest.importorskip(
        "quantus", reason="quantus is not installed; it is optional, and under the GPL"
    )

NUM_FRAMES = 40
PLAIN = {"normalise": False, "abs": False, "disable_warnings": True}


class Frames(nn.Module):
    """Images of one channel and one line, a frame a pixel, to two classes."""

    def __init__(self):
        super().__init__()
        drawn = torch.randn(NUM_FRAMES, 2, generator=torch.Generator().manual_seed(5))
        self.register_buffer("weights", drawn)

    def forward(self, images):
        return torch.tanh(images.flatten(1) @ self.weights / NUM_FRAMES**0.5)


@pytest.fixture(params=range(4))
def seed(request):
    return request.param


@pytest.fixture
def values(seed):
    return torch.randn(NUM_FRAMES, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def inside(seed):
    chosen = torch.zeros(NUM_FRAMES, dtype=torch.bool)
    chosen[3 * seed : 3 * seed + 11] = True
    return chosen


def theirs(metric, values, images=None, inside=None):
    """What a metric of theirs says of one clip."""
    images = torch.zeros(NUM_FRAMES) if images is None else images
    asked = [one[None, None, None].numpy() for one in (images, values)]
    evidence = None if inside is None else inside[None, None, None].numpy().astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = metric(
            model=Frames().eval(),
            x_batch=asked[0],
            y_batch=torch.zeros(1, dtype=torch.long).numpy(),
            a_batch=asked[1],
            s_batch=evidence,
            channel_first=True,
            softmax=False,
            device="cpu",
        )
    return found[0]


def test_area_under_the_roc_curve(values, inside):
    assert roc_auc(values, inside) == pytest.approx(theirs(quantus.AUC(**PLAIN), values, inside=inside))


def test_relevance_mass_of_what_is_positive(values, inside):
    """They sum attributions of both signs, so that both are given what is positive."""
    expected = theirs(quantus.RelevanceMassAccuracy(**PLAIN), values.clamp(min=0), inside=inside)
    assert relevance_mass(values, inside) == pytest.approx(expected, rel=1e-5)


def test_pointing_game(values, inside):
    assert pointing(values, inside) == float(theirs(quantus.PointingGame(**PLAIN), values, inside=inside))


def test_overlap_from_the_share_of_the_evidence_that_is_found(values, inside):
    """Theirs is the share `a` of the evidence that is found; intersection over union is `a / (2 - a)`."""
    found = theirs(quantus.RelevanceRankAccuracy(**PLAIN), values, inside=inside)
    assert overlap(values, inside) == pytest.approx(found / (2 - found))


def test_rank_correlation(values):
    other = values.roll(1) + values
    assert rank_correlation(values, other) == pytest.approx(
        float(quantus.similarity_func.correlation_spearman(values.numpy(), other.numpy()))
    )


def test_deletion_is_pixel_flipping_with_the_whole_clip_before_it(values, seed):
    """Their curve begins after the first step, ours with the clip; the trapezoid in between is known."""
    model, images = Frames(), torch.randn(NUM_FRAMES, generator=torch.Generator().manual_seed(90 + seed))

    def score(inputs):
        return model(inputs)[:, 0]

    flipping = quantus.PixelFlipping(**PLAIN, features_in_step=1, perturb_baseline="black")
    curve = theirs(flipping, values, images)
    assert len(curve) == NUM_FRAMES
    whole = float(score(images[None, :, None])[0])
    expected = (sum(curve) - curve[-1] / 2 + whole / 2) / NUM_FRAMES
    fills = torch.full((1, NUM_FRAMES, 1), float(images.min()))  # "black" is the least there is
    found = removal_curves(removal_of(score, images[:, None], fills), values, num_steps=NUM_FRAMES)
    assert math.isclose(found["deletion"], expected, rel_tol=1e-5, abs_tol=1e-6)
