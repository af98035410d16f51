"""The five numbers of a masked clip by hand."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.evaluation.faithfulness import masked_sound, mean_of, top_share

FRAMES = torch.tensor([[2.0, 0.0], [-1.0, 1.0], [0.0, 0.5]])
ZEROS = torch.zeros(1, 3, 2)
FIRST = torch.tensor([True, False, False])


def logits_of(inputs):
    return inputs.sum(1)


def probability(*frames):
    return float(torch.tensor(frames).sum(0).softmax(0)[0]) if frames else 0.5


def test_where_the_mask_alone_says_more():
    p, p_only, p_without = probability(*FRAMES.tolist()), probability([2.0, 0.0]), probability([-1.0, 1.5])
    found = masked_sound(logits_of, FRAMES, FIRST, ZEROS, 0)
    assert p_only > p > p_without
    assert found.increase == 1
    assert found.drop == 0
    assert found.gain == pytest.approx((p_only - p) / (1 - p), rel=1e-5)
    assert found.removal_drop == pytest.approx(p - p_without, rel=1e-5)
    assert found.fidelity == float((p > 0.5) == (p_only > 0.5))


def test_where_the_mask_says_the_opposite():
    p, p_only = probability(*FRAMES.tolist()), probability([-1.0, 1.5])
    found = masked_sound(logits_of, FRAMES, ~FIRST, ZEROS, 0)
    assert (found.increase, found.gain) == (0, 0)
    assert found.drop == pytest.approx((p - p_only) / p, rel=1e-5)
    assert found.removal_drop == pytest.approx(p - probability([2.0, 0.0]), rel=1e-5)


def test_all_is_kept_and_nothing_changes():
    found = masked_sound(logits_of, FRAMES, torch.ones(3, dtype=torch.bool), ZEROS, 1)
    assert (found.increase, found.gain, found.fidelity) == (0, 0, 1)
    assert found.drop == pytest.approx(0, abs=1e-7)


def test_fills_are_averaged():
    fills = torch.cat([ZEROS, FRAMES[None] + 1])
    each = [masked_sound(logits_of, FRAMES, FIRST, fill[None], 0) for fill in fills]
    together = masked_sound(logits_of, FRAMES, FIRST, fills, 0)
    assert vars(together) == pytest.approx(vars(mean_of(each)))


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.5, 2), (0.7, 3), (1.0, 3)])
def test_the_largest_are_kept_at_least_one(share, count):
    assert int(top_share(torch.tensor([0.0, 3.0, -9.0]), share).sum()) == count
    assert top_share(torch.tensor([0.0, 3.0, -9.0]), share)[1]
