"""Shares sum to one; evenness has its ends where it should."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from wavshap_lightning.evaluation.summary import evenness, magnitude_shares


def test_shares_sum_to_one_and_do_not_know_signs():
    values = torch.tensor([0.5, -3.0, 1.5])
    assert magnitude_shares(values).sum() == pytest.approx(1)
    assert torch.equal(magnitude_shares(values), magnitude_shares(-values))
    assert torch.equal(magnitude_shares(torch.zeros(3)), torch.zeros(3))


def test_evenness_is_entropy_over_its_largest():
    values = torch.tensor([0.1, 0.2, 0.7])
    assert evenness(values) == pytest.approx(stats.entropy(values.double(), base=3))
    assert evenness(torch.full((9,), -0.3)) == pytest.approx(1)
    assert evenness(torch.eye(4)[2]) == 0


@pytest.mark.parametrize("values", [torch.zeros(4), torch.ones(1)])
def test_where_there_is_nothing_to_spread_it_is_not_a_number(values):
    assert math.isnan(evenness(values))
