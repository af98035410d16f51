"""Scores against scikit-learn and against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, recall_score

from wavshap_lightning.training.scores import (
    PredictionLog,
    Predictions,
    confusion_counts,
    score_predictions,
)


def predict(logits, labels, positions=None):
    positions = range(len(labels)) if positions is None else positions
    return Predictions(torch.as_tensor(logits).float(), torch.tensor(labels), torch.tensor(list(positions)))


def draw_predictions(seed=0, num_clips=60, num_classes=4, labels=None):
    generator = np.random.default_rng(seed)
    labels = generator.integers(num_classes, size=num_clips).tolist() if labels is None else labels
    return predict(
        generator.normal(size=(num_clips, num_classes)) + 1.5 * np.eye(num_classes)[labels], labels
    )


def calibration_error(predictions, num_bins=15):
    """Guo et al. 2017: the mean distance of accuracy and confidence over bins of confidence."""
    confidence, predicted = predictions.logits.softmax(1).max(1)
    correct = (predicted == predictions.labels).double().numpy()
    bins = np.minimum((confidence.double().numpy() * num_bins).astype(int), num_bins - 1)
    total = 0.0
    for index in range(num_bins):
        chosen = bins == index
        if chosen.any():
            total += chosen.mean() * abs(correct[chosen].mean() - confidence.numpy()[chosen].mean())
    return total


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_scikit_learn(seed):
    predictions = draw_predictions(seed)
    labels, predicted = predictions.labels.numpy(), predictions.logits.argmax(1).numpy()
    found = {name: float(value) for name, value in score_predictions(predictions).items()}
    assert found == {
        "loss": pytest.approx(log_loss(labels, predictions.logits.double().softmax(1).numpy()), rel=1e-5),
        "uar": pytest.approx(recall_score(labels, predicted, average="macro")),
        "wa": pytest.approx(accuracy_score(labels, predicted)),
        "macro_f1": pytest.approx(f1_score(labels, predicted, average="macro")),
        "ece": pytest.approx(calibration_error(predictions), abs=1e-6),
    }
    assert torch.equal(confusion_counts(predictions), torch.tensor(confusion_matrix(labels, predicted)))


def test_a_class_absent_from_the_split_does_not_count():
    logits = 5.0 * torch.eye(4)[[0, 0, 1, 1, 3]]
    scores = score_predictions(predict(logits, [0, 1, 1, 1, 0]))
    # Recall of class 0 is 1/2, of class 1 2/3; classes 2 and 3 have no clip.
    assert float(scores["uar"]) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert float(scores["wa"]) == pytest.approx(3 / 5)
    # F1 of class 0 is 2/(2+2), of class 1 4/(2+3).
    assert float(scores["macro_f1"]) == pytest.approx((2 / 4 + 4 / 5) / 2)


def test_a_perfect_and_sure_classifier():
    scores = score_predictions(predict(50.0 * torch.eye(3), [0, 1, 2]))
    assert {name: round(float(value), 6) for name, value in scores.items()} == {
        "loss": 0.0,
        "uar": 1.0,
        "wa": 1.0,
        "macro_f1": 1.0,
        "ece": 0.0,
    }


@pytest.mark.parametrize("shift", [0.0, -5.0])
def test_small_logits_are_not_taken_for_probabilities(shift):
    logits = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.5]]) + shift
    predictions = predict(logits, [0, 1, 1])
    assert float(score_predictions(predictions)["ece"]) == pytest.approx(
        calibration_error(predictions), abs=1e-6
    )


def test_full_certainty_belongs_to_the_last_bin():
    certain = torch.tensor([40.0] * 5 + [3.5] * 5)
    predictions = predict(torch.stack([certain, torch.zeros(10)], dim=1), [1] + [0] * 9)
    assert float(score_predictions(predictions)["ece"]) == pytest.approx(
        calibration_error(predictions), abs=1e-6
    )


def test_the_order_of_the_clips_does_not_matter():
    predictions = draw_predictions()
    turned = score_predictions(predictions.select(torch.arange(60).flip(0)))
    for name, value in score_predictions(predictions).items():
        assert float(turned[name]) == pytest.approx(float(value), abs=1e-6), name


def test_a_single_clip_can_be_scored():
    log = PredictionLog()
    log.update(torch.tensor([[0.0, 2.0]]), torch.tensor([1]), torch.tensor([0]))
    predictions = log.predictions()
    assert predictions.logits.shape == (1, 2)
    assert predictions.labels.shape == predictions.positions.shape == (1,)
    scores = score_predictions(predictions)
    assert float(scores["uar"]) == 1.0
    assert float(scores["loss"]) == pytest.approx(math.log1p(math.exp(-2.0)))


def test_the_log_counts_a_repeated_clip_once_and_orders_the_clips():
    whole, log = draw_predictions(num_clips=7), PredictionLog()
    for chosen in ([5, 0, 3], [6, 1], [2, 4, 5], [0]):
        some = whole.select(torch.tensor(chosen))
        log.update(some.logits, some.labels, some.positions)
    found = log.predictions()
    assert torch.equal(found.positions, whole.positions)
    assert torch.equal(found.labels, whole.labels)
    assert torch.equal(found.logits, whole.logits)


def test_the_log_forgets_when_reset():
    log, first, second = PredictionLog(), draw_predictions(0), draw_predictions(1, num_clips=5)
    for predictions in (first, second):
        log.reset()
        log.update(predictions.logits, predictions.labels, predictions.positions)
        assert torch.equal(log.predictions().logits, predictions.logits)


def test_the_log_may_be_looked_at_before_it_is_full():
    whole, log = draw_predictions(num_clips=4), PredictionLog()
    for chosen in ([0, 1], [2, 3]):
        some = whole.select(torch.tensor(chosen))
        log.update(some.logits, some.labels, some.positions)
        assert log.predictions().positions.tolist() == list(range(chosen[-1] + 1))
    assert torch.equal(log.predictions().logits, whole.logits)


def test_the_log_puts_ranks_together_and_counts_shared_clips_once():
    whole, here, there = draw_predictions(num_clips=7), PredictionLog(), PredictionLog()
    for log, chosen in ((here, [0, 2, 4, 6]), (there, [1, 3, 5, 0])):
        some = whole.select(torch.tensor(chosen))
        log.update(some.logits, some.labels, some.positions)
    of_the_other = iter([there.logits[0], there.labels[0], there.positions[0]])
    here.dist_sync_fn = lambda state, group: [state, next(of_the_other)]
    here.distributed_available_fn = lambda: True
    found = here.predictions()
    assert torch.equal(found.positions, whole.positions)
    assert torch.equal(found.logits, whole.logits)


def test_the_log_holds_neither_a_graph_nor_half_precision():
    log = PredictionLog()
    logits = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    log.update(logits, torch.tensor([0, 1]), torch.tensor([0, 1]))
    found = log.predictions().logits
    assert (found.requires_grad, found.dtype) == (False, torch.float32)
