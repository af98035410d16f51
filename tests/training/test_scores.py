"""Scores against scikit-learn, scipy and against counting by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import pearsonr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    log_loss,
    recall_score,
)

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.head import Outputs
from wavshap_lightning.training.losses import concordance
from wavshap_lightning.training.scores import (
    SCORES,
    PredictionLog,
    Predictions,
    confusion_counts,
    fit_temperature,
    reliability_table,
    score_predictions,
)

NAN = float("nan")


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


def draw_task(task, names="abc", num_clips=50, seed=0):
    """Predictions of one task that are better than chance."""
    generator = torch.Generator().manual_seed(seed)
    logits, noise = (torch.randn(num_clips, len(names), generator=generator) for _ in range(2))
    targets = {
        "distribution": ((2.0 * (logits + noise)).softmax(1) * 5).round().clamp(min=0.1),
        "labels": (logits + noise > 0.5).float(),
        "dimensions": 4.0 + logits + noise,
    }[task]
    if task == "distribution":
        targets = targets / targets.sum(1, keepdim=True)
    logits = logits + 4.0 if task == "dimensions" else logits
    indices = torch.arange(num_clips)
    return Predictions(logits, indices % 2, indices, targets, (Outputs(task, tuple(names)),))


def as_floats(predictions):
    return {name: float(value) for name, value in score_predictions(predictions).items()}


class TestDistribution:
    def test_divergence_and_likelihood_are_those_of_scipy_and_numpy(self):
        found = draw_task("distribution")
        votes, predicted = found.targets.double().numpy(), found.logits.double().softmax(1).numpy()
        scores = as_floats(found)
        distances = jensenshannon(votes, predicted, base=2, axis=1)  # the square roots of divergences
        assert scores["jsd"] == pytest.approx((distances**2).mean(), abs=1e-6)
        likelihood = (votes * np.log(predicted)).sum(1).mean()
        assert (scores["log_likelihood"], scores["loss"]) == (
            pytest.approx(likelihood, abs=1e-6),
            pytest.approx(-likelihood, abs=1e-6),
        )

    def test_equal_distributions_have_no_divergence_and_disjoint_ones_a_bit(self):
        votes = torch.eye(3)
        for logits, expected in ((200.0 * votes, 0.0), (200.0 * votes.roll(1, 0), 1.0)):
            found = replace(draw_task("distribution", num_clips=3), logits=logits, targets=votes)
            assert as_floats(found)["jsd"] == pytest.approx(expected, abs=1e-6)

    def test_recall_is_that_of_the_class_with_most_votes_without_ties(self):
        found = draw_task("distribution")
        votes = found.targets.numpy()
        untied = np.array([(row == row.max()).sum() == 1 for row in votes])
        assert 0 < untied.sum() < len(votes)
        voted, predicted = votes.argmax(1)[untied], found.logits.argmax(1).numpy()[untied]
        scores = as_floats(found)
        assert scores["uar"] == pytest.approx(recall_score(voted, predicted, average="macro"))
        assert scores["wa"] == pytest.approx(accuracy_score(voted, predicted))
        assert confusion_counts(found).tolist() == confusion_matrix(voted, predicted).tolist()
        share = votes.max(1)[untied]
        bins = {"low": share <= 0.5, "medium": (share > 0.5) & (share <= 0.75), "high": share > 0.75}
        for name, chosen in bins.items():
            expected = accuracy_score(voted[chosen], predicted[chosen])
            assert scores[f"wa_{name}_agreement"] == pytest.approx(expected), name


class TestLabels:
    def test_they_are_those_of_scikit_learn(self):
        found = draw_task("labels")
        targets, logits = found.targets.numpy(), found.logits.numpy()
        scores = as_floats(found)
        assert scores["loss"] == pytest.approx(
            np.mean(
                [log_loss(targets[:, i], 1 / (1 + np.exp(-logits[:, i].astype(float)))) for i in range(3)]
            )
        )
        assert scores["macro_f1"] == pytest.approx(f1_score(targets, logits > 0, average="macro"))
        assert scores["map"] == pytest.approx(average_precision_score(targets, logits, average="macro"))
        assert scores["f1_b"] == pytest.approx(f1_score(targets[:, 1], logits[:, 1] > 0))
        assert scores["ap_c"] == pytest.approx(average_precision_score(targets[:, 2], logits[:, 2]))

    def test_a_label_that_neither_occurs_nor_is_predicted_does_not_count(self):
        found = draw_task("labels")
        found.targets[:, 2], found.logits[:, 2] = 0.0, -1.0
        scores = as_floats(found)
        assert math.isnan(scores["f1_c"])
        assert math.isnan(scores["ap_c"])
        assert scores["macro_f1"] == pytest.approx((scores["f1_a"] + scores["f1_b"]) / 2)


class TestDimensions:
    @pytest.mark.parametrize("offset", [0.0, 100.0])
    def test_they_are_those_of_scipy_and_numpy(self, offset):
        found = draw_task("dimensions", ("arousal", "valence"))
        found = replace(found, logits=found.logits + offset, targets=found.targets + offset)
        scores = as_floats(found)
        columns = [found.logits.double().numpy().T, found.targets.double().numpy().T]
        expected = {
            "pcc": [pearsonr(*pair).statistic for pair in zip(*columns, strict=True)],
            "rmse": [np.sqrt(np.mean((x - y) ** 2)) for x, y in zip(*columns, strict=True)],
            "ccc": [float(concordance(*map(torch.from_numpy, pair))) for pair in zip(*columns, strict=True)],
        }
        for name, values in expected.items():
            assert scores[name] == pytest.approx(np.mean(values), abs=1e-6)
            assert [scores[f"{name}_{label}"] for label in ("arousal", "valence")] == pytest.approx(
                values, abs=1e-6
            )

    @pytest.mark.parametrize("constant", ["logits", "targets"])
    def test_of_a_constant_concordance_and_correlation_are_zero(self, constant):
        found = draw_task("dimensions", ("arousal", "valence"))
        getattr(found, constant)[:, 0] = 0.1
        scores = as_floats(found)
        assert (scores["ccc_arousal"], scores["pcc_arousal"]) == (0.0, 0.0)
        assert scores["ccc"] == pytest.approx(scores["ccc_valence"] / 2)


@pytest.mark.parametrize("task", ["distribution", "labels", "dimensions"])
class TestEveryTask:
    def test_a_clip_without_targets_is_as_if_it_were_left_out(self, task):
        whole = draw_task(task)
        whole.targets[[3, 7, 30]] = NAN
        kept = whole.select(~whole.targets.isnan().any(1))
        assert as_floats(whole) == pytest.approx(as_floats(kept), abs=1e-6)

    def test_a_missing_target_leaves_the_clips_others(self, task):
        if not SCORES[task].by_output:  # a clip has all of its shares, or none
            return
        whole, name = draw_task(task), SCORES[task].by_output[0]
        scores = as_floats(whole)
        whole.targets[5:20, 1] = NAN
        partly = as_floats(whole)
        assert partly[f"{name}_a"] == scores[f"{name}_a"]
        assert partly[f"{name}_b"] != scores[f"{name}_b"]

    def test_scores_with_an_interval_follow_from_sums_over_clips(self, task):
        whole, kind = draw_task(task), SCORES[task]
        halves = [whole.select(torch.arange(50) % 2 == half) for half in range(2)]
        scores = as_floats(whole)
        for name, one in kind.intervals.items():
            found = one.values(sum(one.sums(half) for half in halves))
            assert np.nanmean(found) == pytest.approx(scores[name], abs=1e-6), name
        assert next(iter(kind.intervals)) == kind.main

    def test_without_any_target_there_is_no_score(self, task):
        found = draw_task(task)
        found.targets[:] = NAN
        assert math.isnan(as_floats(found)[SCORES[task].main])

    def test_the_log_keeps_the_targets_also_of_a_single_clip(self, task):
        for num_clips in (7, 1):
            whole, log = (
                draw_task(task, num_clips=num_clips),
                PredictionLog((Outputs(task, ("a", "b", "c")),)),
            )
            for chosen in torch.arange(num_clips).flip(0).split(2):
                some = whole.select(chosen)
                log.update(some.logits, some.labels, some.positions, some.targets)
            found = log.predictions()
            assert found.outputs == log.outputs
            for name in ("logits", "labels", "positions", "targets"):
                assert torch.equal(getattr(found, name), getattr(whole, name)), name


def test_several_tasks_are_scored_apart_the_first_by_bare_names():
    parts = [draw_task(task) for task in ("dimensions", "distribution", "labels")]
    together = Predictions(
        torch.cat([part.logits for part in parts], 1),
        parts[0].labels,
        parts[0].positions,
        torch.cat([part.targets for part in parts], 1),
        tuple(part.outputs[0] for part in parts),
    )
    expected = {
        prefix + name: value
        for prefix, part in zip(("", "distribution_", "labels_"), parts, strict=True)
        for name, value in as_floats(part).items()
    }
    assert as_floats(together) == expected


def test_a_clip_without_a_class_does_not_count():
    whole = draw_predictions()
    labels = whole.labels.clone()
    labels[[2, 9]] = -100
    found = as_floats(replace(whole, labels=labels))
    assert found == as_floats(whole.select(labels >= 0))
    assert all(map(math.isnan, as_floats(replace(whole, labels=labels * 0 - 100)).values()))


class TestCalibration:
    def test_the_reliability_diagram_has_the_calibration_error(self):
        whole = draw_predictions()
        rows = reliability_table(whole)
        assert sum(count for *_, count in rows) == 60
        assert all(low <= confidence <= high for low, high, confidence, *_ in rows)
        error = sum(count * abs(confidence - accuracy) for _, _, confidence, accuracy, count in rows) / 60
        assert error == pytest.approx(as_floats(whole)["ece"], abs=1e-6)

    @pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
    def test_the_temperature_of_logits_that_were_scaled_is_found(self, temperature):
        """Labels drawn from the probabilities themselves are calibrated."""
        generator = torch.Generator().manual_seed(0)
        logits = 2.0 * torch.randn(4000, 3, generator=generator)
        labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
        found = Predictions(temperature * logits, labels, torch.arange(4000))
        assert fit_temperature(found) == pytest.approx(temperature, rel=0.05)

    @pytest.mark.parametrize("draw", [draw_predictions, partial(draw_task, "distribution")])
    def test_clips_without_a_target_have_none(self, draw):
        found = draw()
        unknown = replace(found, labels=found.labels * 0 - 100, targets=found.targets * NAN)
        with pytest.raises(SettingError, match="temperature: none of the clips has a class or votes"):
            fit_temperature(unknown)

    def test_it_scales_the_first_task_alone_and_lowers_its_loss(self):
        found = draw_task("distribution")
        temperature = fit_temperature(found)
        losses = [as_floats(found.at_temperature(t))["loss"] for t in (temperature, 1.1 * temperature, 1.0)]
        assert losses[0] == min(losses)
