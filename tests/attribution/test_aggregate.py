"""Aggregation keeps sums, and lists what is strongest."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.attribution.estimation.method import Options
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.record import ViewEstimate
from wavshap_lightning.attribution.targets import every_class
from wavshap_lightning.attribution.views.frames import (
    RankedUnit,
    elements,
    over_frames,
    segments,
    summed,
    top,
    top_units,
    with_rest,
)
from wavshap_lightning.errors import AttributionError

NUM_FRAMES = 12


@pytest.fixture
def membership(generator):
    """Fractions: segments share the frames at their edges, and a third of the clip belongs to none."""
    drawn = torch.rand(3, NUM_FRAMES, generator=generator)
    return drawn / drawn.sum(0) * torch.linspace(0, 1, NUM_FRAMES).clamp(max=0.9)


def test_segments_keep_the_sum_of_frames(membership, network, frames, declared):
    views = (segments(with_rest(membership)), summed(1, name="frames"), elements())
    found = gradient_shap(
        network, frames, declared, every_class(4), generator=0, options=Options(views=views)
    )
    for other in ("frames", "elements"):
        torch.testing.assert_close(found.sums("segments"), found.sums(other), rtol=1e-6, atol=1e-6)
    assert found.views["segments"].values.shape == (4, 4)
    assert (found.views["segments"].stderr > 0).all()


def test_a_segment_is_its_share_of_each_frame(membership, generator):
    gradients = torch.randn(2, 3, NUM_FRAMES, 5, generator=generator)
    directions = torch.randn(2, NUM_FRAMES, 5, generator=generator)
    whole = with_rest(membership)
    expected = torch.einsum("dktc,dtc,st->dks", gradients, directions, whole)
    found = segments(whole).project(gradients, directions)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [1, -2])
def test_the_frames_may_be_another_axis(axis, membership, generator):
    gradients = torch.randn(2, 1, 4, NUM_FRAMES, 5, generator=generator)
    directions = torch.ones(2, 4, NUM_FRAMES, 5)
    whole = with_rest(membership)
    found = segments(whole, axis=axis).project(gradients, directions)
    torch.testing.assert_close(found, gradients.sum((2, 4)) @ whole.T, rtol=1e-5, atol=1e-5)


def test_the_rest_completes_every_frame(membership):
    whole = with_rest(membership)
    torch.testing.assert_close(whole.sum(0), torch.ones(NUM_FRAMES))
    assert (whole >= 0).all()
    segments(whole)


@pytest.mark.parametrize(
    ("change", "frame"),
    [
        (lambda m: m.__setitem__((0, 3), 0.5), 3),
        (lambda m: m.__setitem__((slice(2), 5), torch.tensor([2.0, -1.0])), 5),
    ],
)
def test_shares_that_do_not_sum_to_one(change, frame):
    shares = torch.zeros(2, NUM_FRAMES)
    shares[0] = 1.0
    change(shares)
    with pytest.raises(AttributionError, match=rf"membership: frame={frame} has shares .* with_rest"):
        segments(shares)


def test_segments_of_another_clip(network, frames, declared):
    with pytest.raises(AttributionError, match="membership: 7 frames, but axis=0 of the input has 12"):
        gradient_shap(
            network,
            frames,
            declared,
            every_class(4),
            generator=0,
            options=Options(views=(segments(torch.ones(1, 7)),)),
        )


@pytest.mark.parametrize(
    ("how", "expected"), [("mean", [0.0, 2.0]), ("sum", [0.0, 6.0]), ("max", [3.0, 3.0])]
)
def test_frames_become_one_number(how, expected):
    values = torch.tensor([[3.0, -4.0, 1.0], [2.0, 1.0, 3.0]])
    assert over_frames(values, how).tolist() == expected
    assert over_frames(values.T, how, axis=0).tolist() == expected


def test_the_strongest_come_first():
    values = torch.tensor([[0.5, -3.0, 2.0], [2.0, 0.0, -1.0]])
    assert [unit.index for unit in top(values, 3)] == [(0, 1), (0, 2), (1, 0)]
    assert [unit.index for unit in top(values, 9, sign="positive")] == [(0, 2), (1, 0), (0, 0)]
    assert [unit.value for unit in top(values, 1, sign="negative")] == [-3.0]
    assert len(top(values, 99)) == 6


def test_a_list_of_a_view_tells_the_errors():
    values = torch.tensor([[1.0, 2.0], [-5.0, 4.0]], dtype=torch.float64)
    view = ViewEstimate(values, values.abs() / 10)
    assert top_units(view, 1) == [RankedUnit((1,), 2.0, 0.2)]
    assert top_units(view, 2, target=1) == [RankedUnit((0,), -5.0, 0.5), RankedUnit((1,), 4.0, 0.4)]
    assert top_units(ViewEstimate(values, None), 1)[0].stderr is None


def unchecked(function):
    """Without the tests' own check of arguments, which comes first."""
    return getattr(function, "__wrapped__", function)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: top(torch.ones(3), 0), "k=0 must be at least 1"),
        (
            lambda: unchecked(over_frames)(torch.ones(3), "median"),
            "how='median' must be one of mean, sum, max",
        ),
        (lambda: unchecked(top)(torch.ones(3), 1, sign="both"), "sign='both' must be one of any"),
    ],
)
def test_what_cannot_be_asked_for(call, message):
    with pytest.raises(AttributionError, match=message):
        call()
