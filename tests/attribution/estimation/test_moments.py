"""Laws of the streaming sums, against the same formulas written out over all terms at once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from wavshap_lightning.attribution.estimation.moments import (
    BlockMoments,
    PairMoments,
    WeightedSum,
    gap_share,
)

UNITS = 7


@pytest.fixture
def terms(generator):
    return 3.0 + torch.randn(64, 2, UNITS, generator=generator, dtype=torch.float64).cumsum(2)


def feed(moments, terms, blocks, chunk):
    """Terms of some draws, in blocks of given sizes and in chunks."""
    rows = terms.split(blocks)
    for block in rows:
        moments.open_block()
        for part in block.split(chunk):
            weights = torch.full((len(part),), 1 / len(terms), dtype=torch.float64)
            moments.add(rows_of(part), weights)
    return summary_of(moments, terms.shape[1:])


def rows_of(terms):
    """Terms with their total as one more unit."""
    return torch.cat([terms, terms.sum(2, keepdim=True)], 2)


def summary_of(moments, shape):
    """Estimates without a gap, and the share of each unit in a gap of one."""
    plain = moments.estimate(None, shape)
    share = plain.values - moments.estimate(torch.ones(len(plain.values), dtype=torch.float64), shape).values
    return SimpleNamespace(
        mean=plain.values, stderr=plain.stderr, degrees_of_freedom=plain.degrees_of_freedom, gap_share=share
    )


def summaries(terms, chunk):
    count = len(terms)
    return [
        feed(WeightedSum(), terms, [count], chunk),
        feed(PairMoments(), terms, [count], chunk),
        feed(BlockMoments(), terms, [count // 4] * 4, chunk),
    ]


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_the_mean_is_the_mean(chunk, terms):
    for summary in summaries(terms, chunk):
        torch.testing.assert_close(summary.mean, terms.mean(0))


@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_chunks_make_no_difference(chunk, terms):
    for whole, parts in zip(summaries(terms, 64), summaries(terms, chunk), strict=True):
        for one, other in zip(vars(whole).values(), vars(parts).values(), strict=True):
            if isinstance(one, torch.Tensor):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_error_of_pairs_is_its_formula(terms):
    summary = feed(PairMoments(), terms, [64], 10)
    expected = (terms[::2] - terms[1::2]).square().sum(0).sqrt() / 64
    torch.testing.assert_close(summary.stderr, expected)
    assert summary.degrees_of_freedom == 32


def test_an_unpaired_draw_counts_for_the_mean_alone(terms):
    summary = feed(PairMoments(), terms[:9], [9], 2)
    pairs = (terms[0:8:2] - terms[1:8:2]).square().sum(0) / 8
    torch.testing.assert_close(summary.mean, terms[:9].mean(0))
    torch.testing.assert_close(summary.stderr, (pairs / 9).sqrt())


def test_pairs_do_not_reach_across_batches(terms):
    """The draw left over by one batch is no neighbor of the first of the next."""
    summary = feed(PairMoments(), terms[:10], [5, 5], 5)
    assert summary.degrees_of_freedom == 4


@pytest.mark.parametrize("smooth", [False, True])
def test_the_error_of_a_net_is_its_formula(smooth, terms):
    summary = feed(BlockMoments(smooth=smooth), terms, [16] * 4, 10)
    quarters = terms.reshape(4, 16, 2, UNITS).mean(1)
    halves = terms.reshape(2, 32, 2, UNITS).mean(1)
    s2 = (halves[0] - halves[1]).square() / 4
    s4 = ((quarters[0] - quarters[1]).square() + (quarters[2] - quarters[3]).square()) / 16
    v = terms.var(0) / 64
    ratio = s4.sum(1) / s2.sum(1)
    gain = ratio.clamp(1, 2)
    local = (s2 + 2 * s4 / ratio[:, None]) / 3
    if smooth:
        wide = torch.cat([local[:, :1], local[:, :1], local, local[:, -1:], local[:, -1:]], 1)
        local = wide.unfold(1, 5, 1).mean(2)
    kappa = (s2.sum(1) / v.sum(1))[:, None]
    torch.testing.assert_close(summary.stderr, ((kappa * v + local) / (2 * gain[:, None])).sqrt())


def test_weights_weigh(terms, generator):
    """A draw of weight two is two draws, to the mean and to its share in the gap."""
    weights = torch.rand(64, generator=generator, dtype=torch.float64)
    moments = BlockMoments()
    for part in range(0, 64, 16):
        moments.open_block()
        chosen = slice(part, part + 16)
        moments.add(rows_of(terms[chosen]), weights[chosen])
    mean = (weights[:, None, None] * terms).sum(0) / weights.sum()
    torch.testing.assert_close(moments.estimate(None, mean.shape).values, mean)


def weighed(terms, weights):
    """One block, whose error follows from the scatter of its draws alone."""
    moments = BlockMoments()
    moments.open_block()
    moments.add(rows_of(terms), weights)
    return summary_of(moments, terms.shape[1:])


def test_draws_of_unequal_weight_scatter_about_their_mean_whichever_comes_first(terms, generator):
    weights = torch.rand(64, generator=generator, dtype=torch.float64)
    summary, turned = weighed(terms, weights), weighed(terms.flip(0), weights.flip(0))
    mean = torch.tensordot(weights, terms, 1) / weights.sum()
    squares = torch.tensordot(weights.square(), (terms - mean).square(), 1)
    torch.testing.assert_close(summary.stderr, (squares / weights.sum() ** 2 * 64 / 63).sqrt())
    torch.testing.assert_close(summary.stderr, turned.stderr)
    torch.testing.assert_close(summary.gap_share, turned.gap_share)


def test_a_net_that_doubled_has_four_blocks_again(terms):
    doubled = feed(BlockMoments(), terms, [8, 8, 8, 8, 16, 16], 8)
    at_once = feed(BlockMoments(), terms, [16] * 4, 8)
    torch.testing.assert_close(doubled.stderr, at_once.stderr)


@pytest.mark.parametrize("blocks", [[16, 16, 3], [12, 12, 12, 12, 5], [7], [1, 1, 2, 1], [9, 2]])
def test_a_net_stopped_anywhere_has_an_error(blocks, terms):
    terms = terms[: sum(blocks)]
    summary = feed(BlockMoments(), terms, blocks, 4)
    assert (summary.stderr > 0).all()
    assert summary.stderr.isfinite().all()


@pytest.mark.parametrize("kind", [PairMoments, BlockMoments])
def test_one_draw_has_no_known_error(kind, terms):
    summary = feed(kind(), terms[:1], [1], 1)
    assert summary.stderr.isinf().all()
    torch.testing.assert_close(summary.mean, terms[0])
    assert not summary.gap_share.any()


@pytest.mark.parametrize("kind", [PairMoments, BlockMoments])
def test_shares_of_a_view_that_keeps_the_total_sum_to_one(kind, terms):
    summary = feed(kind(), terms, [16] * 4, 16)
    torch.testing.assert_close(summary.gap_share.sum(1), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("kind", [PairMoments, BlockMoments])
@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_equal_terms_have_no_error(kind, offset, terms):
    equal = (terms[:1] + offset).expand(64, -1, -1)
    summary = feed(kind(), equal, [16] * 4, 16)
    assert not summary.stderr.any()
    assert not summary.gap_share.any()


@pytest.mark.parametrize("kind", [PairMoments, BlockMoments])
def test_a_large_offset_does_not_drown_the_error(kind, terms):
    near, far = (feed(kind(), terms + offset, [16] * 4, 16).stderr for offset in (0.0, 1e6))
    torch.testing.assert_close(near, far, rtol=1e-6, atol=0)


def test_independent_pairs_state_the_standard_deviation_over_root_n(generator):
    drawn = torch.randn(20_000, 1, 3, generator=generator, dtype=torch.float64)
    stderr = feed(PairMoments(), drawn, [20_000], 5_000).stderr
    torch.testing.assert_close(stderr, torch.full_like(stderr, 20_000**-0.5), rtol=0.03, atol=0)


def test_the_share_leaves_the_variance_smallest_when_certain(generator):
    """With full certainty it is the regression coefficient of each unit on the total."""
    drawn = torch.randn(500, 1, 4, generator=generator, dtype=torch.float64).cumsum(2)
    whole = rows_of(drawn)
    apart = whole - whole.mean(0)
    covariance = (apart * apart[..., -1:]).mean(0)
    share = gap_share(covariance, whole.var(0), 1.0)
    slopes = torch.linalg.lstsq(apart[:, 0, -1:], apart[:, 0]).solution[0]
    torch.testing.assert_close(share[0], slopes)
