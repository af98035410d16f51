"""Localization against closed forms and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.evaluation.localization import (
    inside_spans,
    localize,
    overlap,
    pointing,
    relevance_mass,
    roc_auc,
)

SOME = torch.tensor([False, True, True, False, False])


def draw(seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(60, generator=generator).mul(3).round()  # many are equal
    return values, torch.rand(60, generator=generator) < 0.3


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_scikit_learns_also_where_values_are_equal(seed):
    values, inside = draw(seed)
    assert roc_auc(values, inside) == pytest.approx(roc_auc_score(inside, values), abs=1e-12)


def test_the_area_knows_order_only_and_its_reverse_is_the_rest():
    values, inside = draw(0)
    assert roc_auc(values.exp(), inside) == pytest.approx(roc_auc(values, inside))
    assert roc_auc(values, inside) + roc_auc(-values, inside) == pytest.approx(1)
    assert roc_auc(torch.zeros(60), inside) == 0.5


def test_random_attributions_have_half_the_area_and_the_evidences_share_of_the_mass():
    inside = torch.arange(50) < 10
    maps = torch.randn(500, 50, generator=torch.Generator().manual_seed(1))
    found = [localize(one, inside) for one in maps]
    assert np.mean([one["auc"] for one in found]) == pytest.approx(0.5, abs=0.015)
    assert np.mean([one["mass"] for one in found]) == pytest.approx(0.2, abs=0.02)
    assert np.mean([one["pointing"] for one in found]) == pytest.approx(0.2, abs=0.06)


def test_attributions_that_are_the_evidence_are_perfect():
    found = localize(SOME.float(), SOME)
    assert found == {"auc": 1, "absolute_auc": 1, "mass": 1, "pointing": 1, "iou": 1}


def test_what_speaks_against_counts_for_magnitudes_only():
    values = torch.tensor([0.1, -5.0, -4.0, 0.2, 0.0])
    found = localize(values, SOME)
    assert found == {"auc": 0, "absolute_auc": 1, "mass": 0, "pointing": 0, "iou": 0}


def test_mass_and_overlap_have_closed_forms():
    values = torch.tensor([4.0, 3.0, 1.0, -2.0, 0.0])
    assert relevance_mass(values, SOME) == 0.5
    assert overlap(values, SOME) == pytest.approx(1 / 3)
    assert pointing(values, SOME) == 0


@pytest.mark.parametrize("inside", [torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)])
def test_without_evidence_or_without_anything_else_there_is_no_area(inside):
    assert math.isnan(roc_auc(torch.arange(4.0), inside))
    assert math.isnan(pointing(torch.arange(4.0), inside)) == (not inside.any())


def test_units_are_inside_by_their_centers_and_spans_end_before_their_end():
    centers_s = np.array([0.1, 0.2, 0.3, 0.4])
    assert inside_spans(centers_s, [Span(0.2, 0.3), Span(0.35, 1.0)]).tolist() == [False, True, False, True]
    assert not inside_spans(centers_s, []).any()
