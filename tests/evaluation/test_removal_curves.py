"""Curves of a linear score are known."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.evaluation.faithfulness import removal_curves

TIME = 20


@pytest.fixture
def terms():
    return torch.randn(TIME, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def frames(terms):
    return terms[:, None]


def score(inputs):
    return inputs.sum((1, 2))


def test_of_a_linear_score_the_areas_are_those_of_sorted_sums(frames, terms):
    found = removal_curves(score, frames, terms, torch.zeros(2, TIME, 1, dtype=torch.float64), steps=TIME)
    kept = terms.sort(descending=True).values.flip(0).cumsum(0).flip(0)  # after the largest are gone
    most = torch.cat([kept, kept.new_zeros(1)])
    least = torch.cat([kept.new_zeros(1), terms.sort(descending=True).values.cumsum(0)]).flip(0)
    assert found.deletion == pytest.approx(float(torch.trapezoid(most) / TIME))
    assert found.insertion == pytest.approx(float(torch.trapezoid(least) / TIME))
    assert found.abpc == pytest.approx(found.insertion - found.deletion)
    assert found.abpc > 0


def test_the_opposite_order_swaps_the_areas(frames, terms):
    fills = torch.zeros(1, TIME, 1, dtype=torch.float64)
    right, wrong = (removal_curves(score, frames, sign * terms, fills) for sign in (1, -1))
    assert (wrong.deletion, wrong.insertion) == pytest.approx((right.insertion, right.deletion))
    assert wrong.abpc == pytest.approx(-right.abpc)


def test_all_fills_count_alike_and_one_that_changes_nothing_is_a_flat_line(frames, terms):
    flat = removal_curves(score, frames, terms, frames[None])
    assert flat.deletion == pytest.approx(float(terms.sum()))
    assert flat.abpc == pytest.approx(0)
    zeros = torch.zeros_like(frames)
    both = removal_curves(score, frames, terms, torch.stack([frames, zeros]))
    alone = removal_curves(score, frames, terms, zeros[None])
    assert both.deletion == pytest.approx((flat.deletion + alone.deletion) / 2)


def test_fewer_frames_than_steps_are_removed_one_by_one():
    frames = torch.tensor([[2.0], [1.0]])
    found = removal_curves(score, frames, torch.tensor([1.0, 0.0]), torch.zeros(1, 2, 1))
    assert found.deletion == pytest.approx((3 / 2 + 1 + 0) / 2)
    assert found.insertion == pytest.approx((3 / 2 + 2 + 0) / 2)
