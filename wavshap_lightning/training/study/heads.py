"""Many heads trained together: those of all learning rates and random seeds, on the same features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from wavshap_lightning.models.head import EmotionHead, HeadSettings
from wavshap_lightning.models.pooling import LayerStatistics
from wavshap_lightning.training.data.sampler import BatchSampler
from wavshap_lightning.training.module import OptimizerSettings, warmup_cosine

POOLED = "pooled"
"""Features of a single layer, which are pooled once; a learned mix needs the statistics of all layers."""

NORM_MOMENTUM, NORM_EPSILON = 0.1, 1e-5  # of torch's batch norm
Order = Int[Tensor, "seeds _"]
Kept = Sequence[Float[Tensor, "seeds batch _"]]


class HeadStack:
    """Copies of an [`EmotionHead`][wavshap_lightning.models.head.EmotionHead] for each rate and seed.

    Heads of one seed begin with the same weights and drop out the same units, whatever their learning rate,
    as those that `train.py fit` trains with one seed. No head depends on the others.

    Args:
        heads: The heads of one learning rate at their start, one for each seed.
        num_rates: Number of learning rates.
    """

    def __init__(self, heads: Sequence[EmotionHead], num_rates: int) -> None:
        self.pooling, self.dropout = heads[0].pooling, heads[0].settings.dropout
        self.learned = heads[0].settings.layer == "learned"
        linear = [at for at, part in enumerate(heads[0].mlp) if isinstance(part, nn.Linear)]
        names = [*(f"mlp.{at}.weight" for at in linear), *(f"mlp.{at}.bias" for at in linear)]
        names += ["mix.scores"] if self.learned else []
        states, self.depth = [one.state_dict() for one in heads], len(linear)
        stacked = [torch.stack([state[name] for state in states]) for name in names]
        self.parameters = [[one.clone().requires_grad_() for one in stacked] for _ in range(num_rates)]
        self.input_sizes = [one.shape[2] for one in stacked[: self.depth]]
        size = (num_rates if self.learned else 1, len(heads), 1, self.pooling.output_size)
        self.running_mean, self.running_variance = torch.zeros(size), torch.ones(size)

    def parameter_groups(self, rates: Sequence[float], weight_decay: float) -> list[dict[str, Any]]:
        """Parameters of each learning rate; biases and layer weights do not decay."""
        groups: list[dict[str, Any]] = []
        for own, rate in zip(self.parameters, rates, strict=True):
            groups.append({"params": own[: self.depth], "lr": rate, "weight_decay": weight_decay})
            groups.append({"params": own[self.depth :], "lr": rate, "weight_decay": 0.0})
        return groups

    def logits(
        self, statistics: LayerStatistics, kept: Kept | None = None
    ) -> Float[Tensor, "rates seeds batch classes"]:
        """Logits of all heads.

        Args:
            statistics: Features of the clips of each seed, `(seeds, batch, ...)`.
            kept: In training, factors of the inputs of each linear layer, zero where a unit is dropped; empty
                without dropout. None evaluates.
        """
        inputs = self._normalized(self._pooled(statistics), training=kept is not None)
        found = []
        for at, own in enumerate(self.parameters):
            values = inputs[at if self.learned else 0]
            for depth, (weight, bias) in enumerate(zip(own, own[self.depth :], strict=False)):
                if depth == self.depth:
                    break
                values = F.gelu(values) if depth else values
                values = values * kept[depth] if kept else values
                values = torch.baddbmm(bias[:, None], values, weight.transpose(1, 2))
            found.append(values)
        return torch.stack(found)

    def draw_kept(self, num_clips: int, generators: Sequence[torch.Generator]) -> Kept:
        """Factors of dropout for a batch, those of each seed from its own generator."""
        if not self.dropout:
            return ()
        size, share = (num_clips, sum(self.input_sizes)), 1.0 - self.dropout
        drawn = torch.stack([torch.empty(size).bernoulli_(share, generator=one) for one in generators])
        return torch.split(drawn.div_(share), self.input_sizes, -1)

    def _pooled(self, statistics: LayerStatistics) -> Float[Tensor, "rates seeds batch size"]:
        if not self.learned:
            return statistics[POOLED][None]
        pool = torch.vmap(self.pooling.pool_statistics)  # over seeds
        return torch.stack([pool(statistics, own[-1].softmax(-1)) for own in self.parameters])

    def _normalized(
        self, pooled: Float[Tensor, "rates seeds batch size"], *, training: bool
    ) -> Float[Tensor, "rates seeds batch size"]:
        """Batch norm of each head, as torch has it."""
        mean, variance = self.running_mean, self.running_variance
        if training:
            variance, mean = torch.var_mean(pooled, 2, correction=0, keepdim=True)
            unbiased = pooled.shape[2] / (pooled.shape[2] - 1)
            self.running_mean.lerp_(mean.detach(), NORM_MOMENTUM)
            self.running_variance.lerp_(variance.detach() * unbiased, NORM_MOMENTUM)
        return (pooled - mean) * (variance + NORM_EPSILON).rsqrt()


def initial_heads(
    num_layers: int, layer_size: int, num_classes: int, settings: HeadSettings, seeds: Sequence[int]
) -> list[EmotionHead]:
    """Heads with the random weights of each seed."""
    heads = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            heads.append(EmotionHead(num_layers, layer_size, num_classes, settings))
    return heads


def batch_orders(
    durations_s: Sequence[float],
    clips: Sequence[int],
    *,
    batch_size: int,
    seeds: Sequence[int],
    max_epochs: int,
) -> list[list[Order]]:
    """Batches of each epoch: those of `train.py fit` with each seed.

    Where batches differ in size by a clip, the larger ones come first, so that those of all seeds are equal.

    Args:
        durations_s: Length of each training clip.
        clips: Index of each training clip.
        batch_size: Clips in a batch.
        seeds: Random seed of each order.
        max_epochs: Number of epochs.
    """
    indices = torch.tensor(clips)
    samplers = [BatchSampler(durations_s, batch_size=batch_size, shuffle=True, seed=seed) for seed in seeds]
    epochs: list[list[Order]] = []
    for epoch in range(max_epochs):
        by_seed = []
        for sampler in samplers:
            sampler.set_epoch(epoch)
            by_seed.append(sorted(([at for at, _ in batch] for batch in sampler), key=len, reverse=True))
        epochs.append([indices[torch.tensor(batches)] for batches in zip(*by_seed, strict=True)])
    return epochs


def train_heads(  # noqa: PLR0917 - all are tensors and numbers that decide the result
    stack: HeadStack,
    statistics: LayerStatistics,
    labels: Int[Tensor, " clips"],
    fold: Mapping[str, Sequence[int]],
    orders: Sequence[Sequence[Order]],
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    optimizer: OptimizerSettings,
) -> dict[str, Tensor]:
    """Train all heads, and test each at the epoch that is best on the validation clips, the first of equals.

    Optimizer, schedule and loss are those of `EmotionModule`.

    Args:
        stack: The heads at their start.
        statistics: Features of the clips, `(clips, ...)`.
        labels: Class of each clip.
        fold: Indices of the clips of `train`, `validation` and `test`.
        orders: The batches of each epoch: see [`batch_orders`][].
        learning_rates: Peak learning rates.
        seeds: Random seed of the dropout of each head.
        optimizer: Weight decay and warm-up.

    Returns:
        The entry of a cell: see `Entry` in `results.py`.
    """
    adam = AdamW(stack.parameter_groups(learning_rates, optimizer.weight_decay), fused=True)
    schedule = LambdaLR(adam, warmup_cosine(sum(map(len, orders)), optimizer.warmup_share))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    scores: dict[str, list[Tensor]] = {"validation": [], "test": []}
    chosen: dict[str, Tensor] = {}
    for batches in orders:
        for clips in batches:
            kept = stack.draw_kept(clips.shape[1], generators)
            logits = stack.logits({name: values[clips] for name, values in statistics.items()}, kept)
            targets = labels[clips].expand(logits.shape[:-1]).flatten()
            loss = F.cross_entropy(logits.flatten(0, -2), targets, reduction="sum") / clips.shape[1]
            adam.zero_grad()
            torch.autograd.backward(loss)  # of a head, only its own loss has a gradient
            adam.step()
            schedule.step()
        found = {split: _evaluate(stack, statistics, fold[split], len(seeds)) for split in scores}
        for split, curve in scores.items():
            curve.append(uars(found[split], labels[list(fold[split])]))
            better = curve[-1] > torch.stack(curve[:-1]).amax(0) if split in chosen else torch.ones(1) > 0
            chosen[split] = torch.where(
                better[..., None, None], found["test"], chosen.get(split, found["test"])
            )
    validation, test = (torch.stack(scores[split], -1) for split in scores)
    epochs = torch.from_numpy(np.argmax(validation.numpy(), -1))
    entry = {"validation": validation.amax(-1), "epochs": epochs, "test_logits": chosen["validation"]}
    return entry | {
        "positions": torch.tensor(fold["test"]),
        "test_curve": test,
        "leaky_logits": chosen["test"],
    }


@torch.no_grad()
def _evaluate(
    stack: HeadStack, statistics: LayerStatistics, clips: Sequence[int], num_seeds: int
) -> Float[Tensor, "rates seeds clips classes"]:
    own = (values[list(clips)] for values in statistics.values())
    expanded = [values.expand(num_seeds, *values.shape) for values in own]
    return stack.logits(dict(zip(statistics, expanded, strict=True)))


def uars(
    logits: Float[Tensor, "*heads clips classes"], labels: Int[Tensor, " clips"]
) -> Float[Tensor, "*heads"]:
    """Unweighted average recall of each head over the classes that occur."""
    of_class = F.one_hot(labels, logits.shape[-1]).float()
    counts = of_class.sum(0)
    right = (logits.argmax(-1) == labels).float() @ of_class
    return (right / counts)[..., counts > 0].mean(-1)
