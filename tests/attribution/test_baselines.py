"""Laws of the two kinds of baselines."""

from __future__ import annotations

from itertools import count as count_up

import pytest
import torch

from wavshap_lightning.attribution.baselines import BaselineDistribution, BaselineSet
from wavshap_lightning.errors import AttributionError


def test_an_empty_set_is_refused():
    with pytest.raises(AttributionError, match="baselines='mine' is empty"):
        BaselineSet(torch.empty(0, 4), "mine")


def test_baselines_that_are_not_finite_are_named():
    values = torch.zeros(4, 3)
    values[1, 2], values[3, 0] = torch.nan, torch.inf
    with pytest.raises(AttributionError, match=r"indices \[1, 3\] hold NaN"):
        BaselineSet(values)


def test_a_set_goes_through_a_stage_once():
    calls = []

    def encode(values):
        calls.append(len(values))
        return values.cumsum(1)[:, ::2]

    values = torch.arange(12.0).reshape(3, 4)
    found = BaselineSet(values, "mine").through(encode)
    assert torch.equal(found.values, values.cumsum(1)[:, ::2])
    assert (calls, found.name) == ([3], "mine")


def test_a_distribution_goes_through_stages_in_order(distribution):
    encoded = distribution.through(lambda values: values + 1).through(lambda values: values.sum(2))
    plain = distribution.draw(5, torch.Generator().manual_seed(9))
    torch.testing.assert_close(encoded.draw(5, torch.Generator().manual_seed(9)), (plain + 1).sum(2))


def test_encoding_needs_no_gradient(network, distribution):
    encoded = distribution.through(network)
    assert not encoded.draw(2, torch.Generator()).requires_grad
    assert not distribution.declare(2, torch.Generator()).through(network).values.requires_grad


def test_declaring_keeps_what_was_drawn(distribution):
    declared = distribution.declare(7, torch.Generator().manual_seed(5))
    assert torch.equal(declared.values, distribution.draw(7, torch.Generator().manual_seed(5)))
    assert (len(declared), declared.name) == (7, "walks")


def test_every_draw_is_a_fresh_one():
    counting = BaselineDistribution(lambda generator: (torch.tensor([float(n)]) for n in count_up()))
    assert counting.draw(4, torch.Generator()).flatten().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, -3])
def test_a_count_below_one_is_refused(distribution, count):
    with pytest.raises(AttributionError, match=f"count={count} must be at least 1"):
        distribution.draw(count, torch.Generator())


def test_a_stream_that_ends_says_so():
    short = BaselineDistribution(lambda generator: iter([torch.zeros(2)]), "short")
    with pytest.raises(AttributionError, match="baselines='short' ended: 3 more were asked for, 1 came"):
        short.draw(3, torch.Generator())
