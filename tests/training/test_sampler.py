"""Laws of the batch sampler: every clip once, an order that seed and epoch decide, ranks that agree."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavshap_lightning.training.sampler import BatchSampler, balancing_weights


def positions(durations_s, epoch=0, **changes):
    defaults = {"batch_size": 4, "shuffle": True}
    sampler = BatchSampler(list(durations_s), **{**defaults, **changes})
    sampler.set_epoch(epoch)
    return [[request.position for request in batch] for batch in sampler]


def draw_durations(num_clips, seed=0):
    return np.random.default_rng(seed).uniform(1.0, 10.0, num_clips)


sizes = {
    "num_clips": st.integers(1, 60),
    "batch_size": st.integers(2, 9),
    "num_replicas": st.integers(1, 4),
    "shuffle": st.booleans(),
    "epoch": st.integers(0, 5),
}


@settings(max_examples=60, deadline=None)
@given(**sizes)
def test_every_clip_comes_once_over_all_ranks_but_for_repeats_within_its_batch(
    num_clips, batch_size, num_replicas, shuffle, epoch
):
    ranks = [
        positions(
            draw_durations(num_clips),
            epoch,
            batch_size=batch_size,
            shuffle=shuffle,
            num_replicas=num_replicas,
            rank=rank,
        )
        for rank in range(num_replicas)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    seen = []
    for together in zip(*ranks, strict=True):
        assert len({len(batch) for batch in together}) == 1
        assert len(together[0]) >= 2
        if num_clips > num_replicas:
            assert min(len(set(batch)) for batch in together) >= 2
        seen += set().union(*together)
    assert Counter(seen) == Counter(range(num_clips))


@settings(max_examples=60, deadline=None)
@given(**sizes)
def test_no_batch_is_larger_than_asked_for_unless_one_would_be_single(
    num_clips, batch_size, num_replicas, shuffle, epoch
):
    batches = positions(
        draw_durations(num_clips), epoch, batch_size=batch_size, shuffle=shuffle, num_replicas=num_replicas
    )
    assert max(map(len, batches)) <= max(batch_size, 3)
    assert max(map(len, batches)) - min(map(len, batches)) <= 1


def test_the_number_of_batches_is_told():
    for num_clips in range(1, 40):
        sampler = BatchSampler([1.0] * num_clips, batch_size=4, shuffle=True, num_replicas=2)
        assert len(sampler) == len(list(sampler))


def test_the_order_is_a_function_of_seed_and_epoch():
    durations_s = draw_durations(50)
    assert positions(durations_s, 1, seed=2) == positions(durations_s, 1, seed=2)
    orders = [positions(durations_s, epoch, seed=seed) for seed in (0, 1) for epoch in (0, 1)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_an_evaluation_comes_in_one_order_of_length():
    durations_s = draw_durations(30)
    first, second = (positions(durations_s, epoch, shuffle=False, seed=epoch) for epoch in (0, 7))
    assert first == second
    flat = [position for batch in first for position in batch]
    assert np.all(np.diff(durations_s[flat]) >= 0)


def test_buckets_shorten_the_padding():
    durations_s = draw_durations(400)

    def padded_s(batches):
        return sum(len(batch) * max(durations_s[batch]) for batch in batches)

    shuffled = np.array_split(np.random.default_rng(0).permutation(400), 50)
    bucketed = padded_s(positions(durations_s, batch_size=8))
    assert bucketed < 1.1 * durations_s.sum()
    assert bucketed < 0.75 * padded_s([list(batch) for batch in shuffled])


def test_batches_are_mixed_in_length_over_an_epoch():
    """Sorting within a batch must not sort the epoch."""
    durations_s = draw_durations(200)
    mean_s = [durations_s[batch].mean() for batch in positions(durations_s, batch_size=8)]
    assert np.abs(np.corrcoef(mean_s, range(len(mean_s)))[0, 1]) < 0.6
    assert sorted(mean_s) != mean_s


def test_clips_of_equal_length_meet_new_neighbours_every_epoch():
    neighbours = [{frozenset(batch) for batch in positions([1.0] * 40, epoch)} for epoch in (0, 1)]
    assert not neighbours[0] & neighbours[1]


def test_balanced_draws_give_every_class_its_share():
    labels = [0] * 300 + [1] * 60 + [2] * 20
    weights = balancing_weights(labels)
    assert weights.sum() == pytest.approx(1.0)
    drawn = Counter(
        labels[position]
        for epoch in range(20)
        for batch in positions([1.0] * 380, epoch, weights=weights)
        for position in batch
    )
    total = sum(drawn.values())
    assert total == 20 * 380
    # Three standard errors of a share of a third.
    assert all(abs(drawn[label] / total - 1 / 3) < 3 * (2 / 9 / total) ** 0.5 for label in range(3))


def test_ranks_share_a_balanced_draw():
    weights = balancing_weights([0] * 30 + [1] * 10)
    ranks = [positions([1.0] * 40, weights=weights, num_replicas=2, rank=rank) for rank in (0, 1)]
    alone = positions([1.0] * 40, weights=weights, batch_size=8)
    together = [Counter(a + b) for a, b in zip(*ranks, strict=True)]
    assert [Counter(batch) for batch in alone] == together
