"""When to stop: what is refused, and what is said where a tolerance is not reached."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from wavshap_lightning.attribution.baselines import BaselineSet
from wavshap_lightning.attribution.estimation.stopping import Stopping
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.errors import AttributionError

ZERO = BaselineSet(torch.zeros(1, 4))


def two_logits(inputs):
    return torch.stack([inputs.sum(1), inputs.square().sum(1)], 1)


def explain(baselines=ZERO, **settings):
    target = Target("logit", (1,))
    return gradient_shap(two_logits, torch.arange(1.0, 5.0), baselines, target, generator=0, **settings)


@pytest.mark.parametrize("num_draws", [0, -5])
def test_draws_below_one(num_draws):
    with pytest.raises(AttributionError, match=f"num_draws={num_draws} must be greater than 0"):
        explain(stopping=Stopping(num_draws=num_draws))


def test_numbers_of_numpy_are_numbers():
    rule = Stopping(num_draws=8)
    object.__setattr__(rule, "num_draws", np.int64(8))  # the tests' own check of arguments wants an int
    rule.__post_init__()
    assert type(rule.num_draws) is int


def test_a_tolerance_no_number_of_draws_would_reach():
    baselines = BaselineSet(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    with pytest.warns(UserWarning, match="tolerance=1e-200: 4 of 4 units are not resolved after 8 draws"):
        found = explain(baselines=baselines, stopping=Stopping(tolerance=1e-200, num_draws=8))
    assert found.draws_needed == 2**62


def test_a_tolerance_that_is_not_reached_is_put_into_words():
    rule = Stopping(tolerance=1e-9, num_draws=64)
    baselines = BaselineSet(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    with pytest.warns(UserWarning, match="tolerance=1e-09: 4 of 4 units are not resolved"):
        found = explain(baselines=baselines, stopping=rule)
    assert re.fullmatch(
        r"4 of 4 units are not resolved after 64 draws \(class 1: 0, 1, 2, 3\); "
        r"about \d\.\de\+\d+ draws would resolve them",
        found.unresolved_in_words(),
    )
    assert explain().unresolved_in_words() == ""
