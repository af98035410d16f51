"""Order and batches of clips, a pure function of seed, epoch and rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from torch.utils.data import DistributedSampler

from wavshap_lightning.training.data.dataset import ClipRequest

POOL_BATCHES = 32  # batches whose clips are sorted by length together: short padding, still well mixed


class BatchSampler(DistributedSampler[list[ClipRequest]]):
    """Batches of clips of like length, equal in number and size on every rank.

    No batch is larger than asked for, and each holds two clips at least, since batch norm fails on one.
    Both cannot be had of an odd number of clips in twos: on a single rank one batch has a clip more. On
    several ranks clips are repeated instead, as they are wherever ranks would differ; whoever evaluates
    recognizes repeats by their position. It is a `DistributedSampler` because Lightning leaves those as
    they are; `overfit_batches` alone would replace it, and the datamodule then lists its batches once.

    Args:
        durations_s: Length of each clip.
        batch_size: Clips in a batch, on each rank.
        shuffle: Whether to draw a new order every epoch.
        weights: Chance of each clip, summing to one, to draw with replacement; None takes each clip once.
        seed: Decides all orders.
        num_replicas: Number of ranks.
        rank: Which of them this is.
    """

    def __init__(
        self,
        durations_s: Sequence[float],
        *,
        batch_size: int,
        shuffle: bool,
        weights: Float[np.ndarray, " clips"] | None = None,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        clips = range(len(durations_s))
        super().__init__(clips, num_replicas=num_replicas, rank=rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self.durations_s = np.asarray(durations_s)
        self.global_batch_size = batch_size * num_replicas
        self.weights = weights

    def __len__(self) -> int:
        num_clips = len(self.durations_s)
        return max(1, min(-(-num_clips // self.global_batch_size), num_clips // 2))

    def __iter__(self) -> Iterator[list[ClipRequest]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = self._bucketed(self._drawn(generator))
        seeds = generator.integers(2**32, size=len(self.durations_s))
        batches = np.array_split(order, len(self))
        if self.shuffle:
            generator.shuffle(batches)
        for batch in batches:
            mine = _shares(batch, self.num_replicas)[self.rank]
            yield [(int(position), int(seeds[position])) for position in mine]

    def _drawn(self, generator: np.random.Generator) -> Int[np.ndarray, " clips"]:
        num_clips = len(self.durations_s)
        if self.weights is not None:
            return generator.choice(num_clips, size=num_clips, p=self.weights)
        return generator.permutation(num_clips) if self.shuffle else np.arange(num_clips)

    def _bucketed(self, order: Int[np.ndarray, " clips"]) -> Int[np.ndarray, " clips"]:
        """Sort by length within pools of many batches; ties are broken by the order drawn."""
        size = POOL_BATCHES * self.global_batch_size if self.shuffle else len(order)
        pools = [order[start : start + size] for start in range(0, len(order), size)]
        return np.concatenate([pool[np.argsort(self.durations_s[pool], kind="stable")] for pool in pools])


def balancing_weights(labels: Sequence[int]) -> Float[np.ndarray, " clips"]:
    """Sampling probability of each clip with which every class is drawn equally often.

    >>> balancing_weights([0, 0, 1]).tolist()
    [0.25, 0.25, 0.5]
    """
    classes, positions, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1.0 / (len(classes) * counts[positions])


def _shares(batch: Int[np.ndarray, " clips"], num_replicas: int) -> Int[np.ndarray, "{num_replicas} share"]:
    """The batch cut into a share for each rank, its first clips repeated until all have equally many.

    A share is at least two clips. They lie next to each other in the batch, so none is there twice unless it
    is the only one.
    """
    size = max(2, -(-len(batch) // num_replicas))
    return np.resize(batch, (num_replicas, size))
