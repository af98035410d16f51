"""Losses against plain re-implementations, their neutral settings, and their masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F  # noqa: N812
from torchmetrics.functional.regression import concordance_corrcoef

from wavshap_lightning.errors import SettingError
from wavshap_lightning.training.losses import (
    MISSING_CLASS,
    LossSettings,
    binary_cross_entropy,
    ccc_loss,
    class_weights,
    concordance,
    cross_entropy,
    log_prior,
    squared_error,
)

NAN = float("nan")
WEIGHT = torch.tensor([0.5, 1.0, 2.5], dtype=torch.float64)


def draw(*shape, seed=0, grad=True):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


def draw_classes(num_clips=20, num_classes=3, seed=1):
    return torch.randint(num_classes, (num_clips,), generator=torch.Generator().manual_seed(seed))


def draw_shares(num_clips=20, num_classes=3, seed=2):
    return (2.0 * draw(num_clips, num_classes, seed=seed, grad=False)).softmax(1)


def with_gaps(targets, rows=(1, 4, 5)):
    targets = targets.clone()
    targets[list(rows)] = MISSING_CLASS if targets.ndim == 1 else NAN
    return targets


def lin(values, targets):
    """Lin 1989, by numpy, with the covariance matrix divided by the number of clips."""
    matrix = np.cov(np.stack([values, targets]), bias=True)
    return 2 * matrix[0, 1] / (matrix.trace() + (values.mean() - targets.mean()) ** 2)


class TestConcordance:
    @pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (3.0, 0.2), (-50.0, -1.0)])
    def test_it_is_that_of_lin(self, offset, scale):
        values, targets = draw(30, grad=False), draw(30, seed=1, grad=False)
        values = offset + scale * (values + targets)
        expected = lin(values.numpy(), targets.numpy())
        assert float(concordance(values, targets)) == pytest.approx(expected, abs=1e-12)

    def test_with_many_clips_it_is_that_of_torchmetrics(self):
        """Which divides by one fewer than there are clips."""
        targets = draw(100_000, grad=False)
        values = 0.5 + targets + draw(100_000, seed=1, grad=False)
        found, expected = concordance(values, targets), concordance_corrcoef(values, targets)
        assert float(found) == pytest.approx(float(expected), abs=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("constant", ["values", "targets", "both", "equal", "one clip"])
    def test_of_a_constant_it_is_zero_with_a_finite_gradient(self, constant, dtype):
        num_clips = 1 if constant == "one clip" else 7
        values, targets = (draw(num_clips, seed=seed, grad=False).to(dtype) for seed in range(2))
        if constant in ("values", "both", "equal"):
            values = torch.full((num_clips,), 0.1, dtype=dtype)
        if constant in ("targets", "both", "equal"):
            targets = torch.full((num_clips,), 0.1 if constant == "equal" else 0.7, dtype=dtype)
        values.requires_grad_()
        found = concordance(values, targets)
        (slope,) = torch.autograd.grad(found, values)
        assert float(found.detach()) == 0.0
        assert slope.isfinite().all()
        assert (constant == "values") == bool(slope.any())  # a constant prediction can be left

    def test_its_loss_is_the_mean_over_dimensions_with_a_target(self):
        values, targets = draw(20, 3, grad=False), draw(20, 3, seed=1, grad=False)
        targets[:, 1] = NAN
        targets[3:6, 2] = NAN
        kept = [i for i in range(20) if i not in (3, 4, 5)]
        expected = (
            lin(*(x[:, 0].numpy() for x in (values, targets))),
            lin(*(x[kept, 2].numpy() for x in (values, targets))),
        )
        assert float(ccc_loss(values, targets)) == pytest.approx(1 - np.mean(expected), abs=1e-12)

    def test_half_precision_does_not_round_it(self):
        targets = 100.0 + draw(50, 1, grad=False).float()
        assert float(ccc_loss(targets.bfloat16(), targets)) == pytest.approx(
            float(ccc_loss(targets.bfloat16().float(), targets)), abs=1e-6
        )


SHARES, CLASSES, VALUES = with_gaps(draw_shares()), with_gaps(draw_classes()), with_gaps(draw(20, 3).detach())
LABELS = with_gaps((draw(20, 3, seed=5).detach() > 0).double())
LOSSES = {
    "classes": (cross_entropy, CLASSES),
    "focal": (lambda x, t: cross_entropy(x, t, weight=WEIGHT, gamma=2.0, label_smoothing=0.1), CLASSES),
    "slightly focal": (lambda x, t: cross_entropy(x, t, gamma=0.3), CLASSES),
    "adjusted": (lambda x, t: cross_entropy(x, t, adjustment=log_prior(WEIGHT)), CLASSES),
    "shares": (lambda x, t: cross_entropy(x, t, weight=WEIGHT, label_smoothing=0.1), SHARES),
    "kl": (lambda x, t: cross_entropy(x, t, kl=True), SHARES),
    "labels": (binary_cross_entropy, LABELS),
    "focal labels": (lambda x, t: binary_cross_entropy(x, t, gamma=1.5), LABELS),
    "ccc": (ccc_loss, VALUES),
    "mse": (squared_error, VALUES),
}


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    def test_its_gradient_is_that_of_differences(self, name):
        loss, targets = LOSSES[name]
        assert gradcheck(lambda x: loss(x, targets), draw(20, 3, seed=3), atol=1e-6)

    def test_a_missing_target_is_as_if_the_clip_were_left_out(self, name):
        loss, targets = LOSSES[name]
        outputs = draw(20, 3, seed=3, grad=False)
        known = targets != MISSING_CLASS if targets.ndim == 1 else ~targets.isnan().any(1)
        torch.testing.assert_close(
            loss(outputs, targets), loss(outputs[known], targets[known]), rtol=1e-12, atol=0
        )

    def test_without_targets_it_is_zero_and_teaches_nothing(self, name):
        loss, targets = LOSSES[name]
        outputs = draw(20, 3)
        found = loss(outputs, with_gaps(targets, range(20)))
        (slope,) = torch.autograd.grad(found, outputs)
        assert (float(found.detach()), bool(slope.any())) == (0.0, False)


class TestCrossEntropy:
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    @pytest.mark.parametrize("weight", [None, WEIGHT])
    def test_neutral_settings_leave_that_of_torch(self, weight, smoothing):
        logits, targets = draw(20, 3, grad=False), draw_classes()
        given = {"weight": weight, "label_smoothing": smoothing}
        expected = F.cross_entropy(logits, targets, **given)
        assert torch.equal(cross_entropy(logits, targets, **given), expected)  # to the last digit
        neutral = cross_entropy(logits, targets, **given, gamma=1e-12, adjustment=torch.zeros(3))
        torch.testing.assert_close(neutral, expected)
        unanimous = F.one_hot(targets, 3).double()
        torch.testing.assert_close(cross_entropy(logits, unanimous, **given), expected)

    def test_votes_cost_what_labels_would_in_their_proportion(self):
        logits = draw(1, 3, grad=False)
        listeners = torch.tensor([0, 0, 1, 2, 0])
        shares = (torch.bincount(listeners) / 5).double()[None]
        expected = F.cross_entropy(logits.expand(5, 3), listeners, weight=WEIGHT)
        torch.testing.assert_close(cross_entropy(logits, shares, weight=WEIGHT), expected)

    def test_the_divergence_is_that_of_torch_and_zero_where_predictions_are_the_votes(self):
        logits, shares = draw(20, 3, grad=False), draw_shares()
        expected = F.kl_div(logits.log_softmax(1), shares, reduction="batchmean")
        torch.testing.assert_close(cross_entropy(logits, shares, kl=True), expected)
        assert float(cross_entropy(shares.log(), shares, kl=True)) == pytest.approx(0.0, abs=1e-12)
        unanimous = torch.eye(3, dtype=torch.float64)
        torch.testing.assert_close(
            cross_entropy(logits[:3], unanimous, kl=True), cross_entropy(logits[:3], unanimous)
        )

    def test_focal_is_counted_by_hand(self):
        logits, targets = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
        expected = ((1 / 4) ** 2 * -math.log(3 / 4) + (1 / 2) ** 2 * math.log(2)) / 2
        assert float(cross_entropy(logits, targets, gamma=2.0)) == pytest.approx(expected)
        as_label = binary_cross_entropy(logits[:, :1], torch.tensor([[1.0], [0.0]]), gamma=2.0)
        assert float(as_label) == pytest.approx(expected)

    @pytest.mark.parametrize("gamma", [0.1, 0.5, 2.0])
    def test_full_certainty_has_a_finite_slope(self, gamma):
        logits = (200.0 * torch.eye(3)).requires_grad_()
        (slope,) = torch.autograd.grad(cross_entropy(logits, torch.arange(3), gamma=gamma), logits)
        assert slope.isfinite().all()

    def test_adjusted_training_leaves_logits_without_the_prior(self):
        """The best logits of a class that is rare are, in training alone, those of its likelihood."""
        counts = torch.tensor([900.0, 90.0, 10.0])
        best = cross_entropy(
            torch.zeros(1, 3), (counts / counts.sum())[None], adjustment=log_prior(counts), kl=True
        )
        assert float(best) == pytest.approx(0.0, abs=1e-6)


def test_labels_cost_what_torch_says():
    logits, targets = draw(20, 3, grad=False), LABELS.nan_to_num()
    expected = F.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(binary_cross_entropy(logits, targets), expected)


class TestWeights:
    counts = torch.tensor([700.0, 30.0, 2.0])

    @pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999, 1.0])
    def test_they_are_inverse_to_the_effective_number_with_a_mean_of_one(self, beta):
        found, counts = class_weights(self.counts, beta).double().numpy(), self.counts.double().numpy()
        effective = np.array([sum(beta**k for k in range(int(n))) for n in counts])  # the series itself
        np.testing.assert_allclose(found * effective / (found[0] * effective[0]), np.ones(3), rtol=1e-5)
        assert found @ counts / counts.sum() == pytest.approx(1.0, rel=1e-5)

    def test_beta_of_one_is_the_inverse_frequency(self):
        expected = self.counts.sum() / (len(self.counts) * self.counts)
        assert torch.equal(class_weights(self.counts), expected)


class TestSettings:
    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"focal_gamma": -1.0}, "focal_gamma=-1.0 must be at least 0"),
            ({"class_balance": 1.1}, "class_balance=1.1 must be from 0 to 1"),
            ({"logit_adjustment": NAN}, "logit_adjustment=nan must be at least 0"),
            (
                {"class_weights": True, "class_balance": 0.9},
                "class_balance=0.9 or class_weights=True: give one",
            ),
            ({"votes": "kl", "focal_gamma": 2.0}, "votes='kl' with focal_gamma=2 would be no divergence"),
        ],
    )
    def test_what_cannot_be_is_refused(self, wrong, told):
        with pytest.raises(SettingError, match=told):
            LossSettings(**wrong)

    def test_files_of_before_stay_equal_until_something_new_is_used(self):
        assert LossSettings().to_dict() == {"class_weights": False, "label_smoothing": 0.0}
        used = LossSettings(focal_gamma=2.0, values="mse")
        assert LossSettings(**used.to_dict()) == used


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_votes_are_as_precise_where_logits_are_half_precise(gamma):
    logits, shares = draw(20, 3, grad=False).bfloat16(), draw_shares().float()
    expected = cross_entropy(logits.double(), shares.double(), weight=WEIGHT, gamma=gamma)
    with torch.autocast("cpu", torch.bfloat16):
        found = cross_entropy(logits, shares, weight=WEIGHT.float(), gamma=gamma)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0.0)
