"""Stacked heads are the heads that would be trained one by one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from wavshap_lightning.models.head import EmotionHead, HeadSettings
from wavshap_lightning.models.pooling import LayerStatistics
from wavshap_lightning.training.module import OptimizerSettings, warmup_cosine
from wavshap_lightning.training.scores import Predictions, score_predictions
from wavshap_lightning.training.study.heads import (
    POOLED,
    HeadStack,
    Order,
    batch_orders,
    initial_heads,
    train_heads,
    uars,
)

LAYERS, SIZE, CLASSES, CLIPS, EPOCHS = 3, 6, 4, 60, 4
FOLD = {"train": range(30), "validation": range(30, 45), "test": range(45, CLIPS)}
RATES, SEEDS, OPTIMIZER = [0.001, 0.02], [3, 5, 8], OptimizerSettings(weight_decay=0.1)
KINDS = [(1, "mean"), (2, "mean_std"), ("learned", "mean"), ("learned", "mean_std")]


@pytest.fixture(scope="module")
def statistics() -> LayerStatistics:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(CLIPS, LAYERS, 9, SIZE, generator=generator)
    mean = frames.mean(2)
    centred = frames - mean[:, :, None]
    rows, columns = torch.triu_indices(LAYERS, LAYERS)
    covariance = torch.einsum("blth,bmth->blmh", centred, centred)[:, rows, columns] / 9
    return {"mean": mean, "covariance": covariance}


@pytest.fixture(scope="module")
def labels() -> Tensor:
    return torch.arange(CLIPS) % CLASSES


def orders_of(seeds: Sequence[int]) -> list[list[Order]]:
    durations_s = [1.0 + at / 7 for at in range(30)]
    return batch_orders(durations_s, FOLD["train"], batch_size=8, seeds=seeds, max_epochs=EPOCHS)


def features_of(head: EmotionHead, statistics: LayerStatistics) -> LayerStatistics:
    """What the stack is given: statistics, or features of one layer that are already pooled."""
    needed = {name: one for name, one in statistics.items() if name in {"mean", "covariance"}}
    if head.settings.layer == "learned":
        return needed if head.statistic == "moments" else {"mean": statistics["mean"]}
    return {POOLED: head.pooling.pool_statistics(needed, head.mix.weights())}


def train_stack(
    settings: HeadSettings, statistics: LayerStatistics, labels: Tensor, seeds: Sequence[int] = SEEDS
) -> dict[str, Tensor]:
    heads = initial_heads(LAYERS, SIZE, CLASSES, settings, seeds)
    given = features_of(heads[0], statistics), labels, FOLD, orders_of(seeds), RATES, seeds, OPTIMIZER
    return train_heads(HeadStack(heads, len(RATES)), *given)


def train_alone(
    head: EmotionHead, statistics: LayerStatistics, labels: Tensor, orders: list[list[Tensor]], rate: float
) -> tuple[list[float], list[Tensor]]:
    """Validation scores and test logits of every epoch, by torch's own AdamW."""
    decayed = [one for one in head.parameters() if one.ndim > 1]
    plain = [one for one in head.parameters() if one.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    adam = AdamW(groups, lr=rate)
    schedule = LambdaLR(adam, warmup_cosine(sum(map(len, orders)), OPTIMIZER.warmup_share))
    scores: list[float] = []
    tested: list[Tensor] = []
    for batches in orders:
        head.train()
        for clips in batches:
            logits = head.classify_statistics({name: one[clips] for name, one in statistics.items()})
            adam.zero_grad()
            F.cross_entropy(logits, labels[clips]).backward()
            adam.step()
            schedule.step()
        head.eval()
        with torch.no_grad():
            found = head.classify_statistics(statistics)
        of_split = {split: found[list(clips)] for split, clips in FOLD.items()}
        right = labels[list(FOLD["validation"])]
        positions = torch.arange(len(right))
        scores.append(float(score_predictions(Predictions(of_split["validation"], right, positions))["uar"]))
        tested.append(of_split["test"])
    return scores, tested


@pytest.mark.parametrize(("layer", "pooling"), KINDS)
def test_a_stacked_head_is_the_head_trained_alone(layer, pooling, statistics, labels) -> None:
    settings = HeadSettings(layer, pooling, hidden_size=5, dropout=0.0)
    entry, orders = train_stack(settings, statistics, labels), orders_of(SEEDS)
    for at, rate in enumerate(RATES):
        for seed, head in enumerate(initial_heads(LAYERS, SIZE, CLASSES, settings, SEEDS)):
            own = [[clips[seed] for clips in batches] for batches in orders]
            scores, tested = train_alone(head, statistics, labels, own, rate)
            assert float(entry["validation"][at, seed]) == pytest.approx(max(scores))
            assert int(entry["epochs"][at, seed]) == scores.index(max(scores))
            torch.testing.assert_close(
                entry["test_logits"][at, seed], tested[scores.index(max(scores))], atol=1e-4, rtol=1e-4
            )


@pytest.mark.parametrize(("layer", "pooling"), [(1, "mean_std"), ("learned", "mean_std")])
def test_a_head_does_not_depend_on_the_others_in_the_stack(layer, pooling, statistics, labels) -> None:
    settings = HeadSettings(layer, pooling, hidden_size=5, dropout=0.4)
    together = train_stack(settings, statistics, labels)
    alone = train_stack(settings, statistics, labels, SEEDS[1:2])
    for name in ("validation", "test_logits", "test_curve", "leaky_logits"):
        torch.testing.assert_close(alone[name][:, 0], together[name][:, 1], atol=1e-5, rtol=1e-5)


def test_dropout_changes_training_and_differs_between_seeds(statistics, labels) -> None:
    dropped = train_stack(HeadSettings(1, "mean", 5, 0.4), statistics, labels)["test_logits"]
    plain = train_stack(HeadSettings(1, "mean", 5, 0.0), statistics, labels)["test_logits"]
    assert not torch.allclose(dropped, plain)
    stack = HeadStack(initial_heads(LAYERS, SIZE, CLASSES, HeadSettings(1, "mean", 5, 0.4), SEEDS), 1)
    inputs, hidden = stack.draw_kept(200, [torch.Generator().manual_seed(seed) for seed in SEEDS])
    assert (inputs.shape, hidden.shape) == ((3, 200, SIZE), (3, 200, 5))
    assert not torch.equal(inputs[0], inputs[1])
    assert float(inputs.mean()) == pytest.approx(1.0, abs=0.05)  # the expectation is kept


def test_a_linear_head_is_trained_too(statistics, labels) -> None:
    entry = train_stack(HeadSettings(0, "mean", hidden_size=0), statistics, labels)
    assert entry["test_logits"].shape == (len(RATES), len(SEEDS), len(FOLD["test"]), CLASSES)


def test_every_epoch_shows_each_seed_every_training_clip_once() -> None:
    for batches in orders_of(SEEDS):
        shown = torch.cat(batches, 1)
        assert all(sorted(one.tolist()) == [*FOLD["train"]] for one in shown)
    first, *_ = orders_of(SEEDS)
    assert not torch.equal(torch.cat(first, 1)[0], torch.cat(first, 1)[1])


def test_recall_is_averaged_over_the_classes_that_occur() -> None:
    logits = torch.eye(4)[torch.tensor([[0, 0, 1, 1], [3, 3, 1, 0]])]
    assert uars(logits, torch.tensor([0, 0, 1, 0])).tolist() == pytest.approx(
        [(2 / 3 + 1) / 2, (1 / 3 + 1) / 2]
    )
