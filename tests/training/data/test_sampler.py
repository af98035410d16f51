"""Laws of the batch sampler: every clip once, an order that seed and epoch decide, ranks that agree."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wavshap_lightning.training.data.sampler import BatchSampler, balancing_weights


def positions(durations_s, epoch=0, **changes):
    defaults = {"batch_size": 4, "shuffle": True}
    sampler = BatchSampler(list(durations_s), **{**defaults, **changes})
    sampler.set_epoch(epoch)
    return [[position for position, _ in batch] for batch in sampler]


def ranks_of(durations_s, num_replicas=1, **changes):
    return [
        positions(durations_s, num_replicas=num_replicas, rank=rank, **changes)
        for rank in range(num_replicas)
    ]


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
def test_every_clip_comes_once_over_all_ranks_but_for_repeats_within_its_batch(num_clips, **options):
    seen = []
    for together in zip(*ranks_of(draw_durations(num_clips), **options), strict=True):
        seen += set().union(*together)
    assert Counter(seen) == Counter(range(num_clips))


@settings(max_examples=60, deadline=None)
@given(**sizes)
def test_ranks_have_equally_many_batches_of_equally_many_clips(num_clips, **options):
    ranks = ranks_of(draw_durations(num_clips), **options)
    assert len({len(batches) for batches in ranks}) == 1
    for together in zip(*ranks, strict=True):
        assert len({len(batch) for batch in together}) == 1


def test_batches_hold_two_clips_at_least_and_no_more_than_asked_for():
    """But for twos of an odd number of clips on one rank, of which one batch has three."""
    sizes = product(range(2, 6), range(1, 6), range(2, 60))
    for batch_size, num_replicas, num_clips in sizes:
        ranks = ranks_of([1.0] * num_clips, batch_size=batch_size, num_replicas=num_replicas)
        batches = [batch for rank in ranks for batch in rank]
        found = [len(batch) for batch in batches]
        odd = batch_size == 2 and num_replicas == 1 and num_clips % 2 == 1
        assert [size for size in found if size > batch_size] == [3] * odd, (
            batch_size,
            num_replicas,
            num_clips,
        )
        assert all(len(set(batch)) == len(batch) >= 2 for batch in batches), (num_replicas, num_clips)
        assert max(found) - min(found) <= 1


def test_batches_are_as_few_as_can_be():
    for batch_size, num_replicas, num_clips in product(range(4, 9), range(1, 5), range(8, 80)):
        (first, *_) = ranks_of([1.0] * num_clips, batch_size=batch_size, num_replicas=num_replicas)
        assert len(first) == math.ceil(num_clips / (batch_size * num_replicas))


def test_a_single_clip_makes_a_batch_nonetheless():
    assert ranks_of([1.0], num_replicas=2) == [[[0, 0]], [[0, 0]]]


def test_the_number_of_batches_is_told():
    for num_clips in range(1, 40):
        sampler = BatchSampler([1.0] * num_clips, batch_size=4, shuffle=True, num_replicas=2)
        assert len(sampler) == len(list(sampler))


def test_the_order_is_a_function_of_seed_and_epoch():
    durations_s = draw_durations(50)
    assert positions(durations_s, 1, seed=2) == positions(durations_s, 1, seed=2)
    orders = [positions(durations_s, epoch, seed=seed) for seed in (0, 1) for epoch in (0, 1)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_earlier_epochs_and_global_random_states_do_not_matter():
    durations_s = draw_durations(50)
    expected = positions(durations_s, 3)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - it must stay
    sampler = BatchSampler(durations_s.tolist(), batch_size=4, shuffle=True)
    list(sampler)
    sampler.set_epoch(3)
    for _ in range(2):
        assert [[position for position, _ in batch] for batch in sampler] == expected
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002


def seed_of_clip(num_replicas=1, **changes):
    """The seed of every clip; a clip that is repeated has the same one."""
    options = {"batch_size": 4, "shuffle": True, "num_replicas": num_replicas, **changes}
    epoch = options.pop("epoch", 0)
    requests = set()
    for rank in range(num_replicas):
        sampler = BatchSampler([1.0] * 50, rank=rank, **options)
        sampler.set_epoch(epoch)
        requests |= {request for batch in sampler for request in batch}
    assert len(requests) == 50
    return dict(requests)


def test_the_seed_of_a_clip_depends_on_neither_rank_nor_number_of_ranks():
    assert seed_of_clip() == seed_of_clip(num_replicas=3) == seed_of_clip(num_replicas=4, batch_size=7)


def test_seeds_differ_between_clips_epochs_and_seeds():
    found = [
        value for seed, epoch in np.ndindex(3, 3) for value in seed_of_clip(seed=seed, epoch=epoch).values()
    ]
    assert len(set(found)) == 50 * 9


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
