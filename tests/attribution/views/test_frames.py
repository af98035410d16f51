"""Aggregation keeps sums, and lists what is strongest."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.attribution.views.frames import grouped, summed, top
from wavshap_lightning.errors import AttributionError


def test_the_strongest_come_first():
    values = torch.tensor([[0.5, -3.0, 2.0], [2.0, 0.0, -1.0]])
    assert top(values, 3) == [(0, 1), (0, 2), (1, 0)]
    assert top(values, 9, sign="positive") == [(0, 2), (1, 0), (0, 0)]
    assert top(values, 1, sign="negative") == [(0, 1)]
    assert len(top(values, 99)) == 6


def unchecked(function):
    """Without the tests' own check of arguments, which comes first."""
    return getattr(function, "__wrapped__", function)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: top(torch.ones(3), 0), "k=0 must be at least 1"),
        (lambda: unchecked(top)(torch.ones(3), 1, sign="both"), "sign='both' must be one of any"),
    ],
)
def test_what_cannot_be_asked_for(call, message):
    with pytest.raises(AttributionError, match=message):
        call()


@pytest.mark.parametrize("view", [summed(0, name="a"), summed(0, 1, name="b"), grouped(2, name="c")])
def test_views_keep_the_total(view, generator):
    gradients = torch.randn(3, 2, 4, 5, generator=generator, dtype=torch.float64)
    directions = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    units = view.project(gradients, directions)
    totals = torch.einsum("dkij,dij->dk", gradients, directions)
    torch.testing.assert_close(units.flatten(2).sum(2) if units.ndim > 2 else units, totals)
