"""Laws of pooling, against torch's own statistics of each clip's valid frames."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.models.pooling import POOLINGS, VARIANCE_FLOOR, AttentivePooling, summarize_layers

SIZE = 8


@pytest.fixture
def frames(layers):
    """One layer's frames and the mask of the valid ones."""
    values, num_frames = layers
    return values[:, 1], torch.arange(9) < num_frames[:, None]


@pytest.fixture(params=POOLINGS)
def pooling(request, generator):
    """Each pooling, its weights drawn."""
    pooling = POOLINGS[request.param](SIZE)
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return pooling


def mean_and_deviation(clip, weights):
    """By definition, frame by frame."""
    mean = sum(weight * frame for weight, frame in zip(weights, clip, strict=True))
    variance = sum(weight * (frame - mean) ** 2 for weight, frame in zip(weights, clip, strict=True))
    return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()])


def test_mean_is_that_of_the_valid_frames(frames):
    values, mask = frames
    expected = torch.stack([clip[valid].mean(0) for clip, valid in zip(values, mask, strict=True)])
    torch.testing.assert_close(POOLINGS["mean"](SIZE)(values, mask), expected)


def test_mean_and_deviation_are_those_of_the_valid_frames(frames):
    values, mask = frames
    found = POOLINGS["mean_std"](SIZE)(values, mask)
    clips = [clip[valid] for clip, valid in zip(values, mask, strict=True)]
    deviation = torch.stack([(clip.var(0, correction=0) + VARIANCE_FLOOR).sqrt() for clip in clips])
    torch.testing.assert_close(
        found, torch.cat([torch.stack([clip.mean(0) for clip in clips]), deviation], 1)
    )


def test_attention_weighs_departures_by_the_softmax_of_their_scores_beside_the_clip(frames):
    values, mask = frames
    pooling = AttentivePooling(SIZE, num_queries=3, attention_size=5)
    for clip, valid, pooled in zip(values, mask, pooling(values, mask), strict=True):
        of_clip = mean_and_deviation(clip[valid], torch.full((int(valid.sum()),), 1 / int(valid.sum())))
        departures = clip[valid] - of_clip[:SIZE]
        scores = torch.stack([pooling.score(torch.cat([frame, of_clip])) for frame in departures])
        expected = [each.softmax(0) @ departures for each in scores.T]
        torch.testing.assert_close(pooled, torch.cat([of_clip[:SIZE], *expected]))


def test_attention_that_has_no_preference_is_the_mean(frames):
    pooling = AttentivePooling(SIZE)
    torch.nn.init.zeros_(pooling.score[2].weight)
    pooled = pooling(*frames)
    torch.testing.assert_close(pooled[:, :SIZE], POOLINGS["mean"](SIZE)(*frames))
    torch.testing.assert_close(pooled[:, SIZE:], torch.zeros_like(pooled[:, SIZE:]), rtol=0, atol=1e-6)


def test_an_offset_of_all_frames_moves_only_the_mean_of_attention_that_does_not_see_it(frames):
    values, mask = frames
    pooling = AttentivePooling(SIZE)
    with torch.no_grad():
        pooling.score[0].weight[:, SIZE : 2 * SIZE] = 0.0
    moved = pooling((values + 3.0) * mask[:, :, None], mask) - pooling(values, mask)
    torch.testing.assert_close(moved[:, :SIZE], torch.full((3, SIZE), 3.0))
    torch.testing.assert_close(moved[:, SIZE:], torch.zeros_like(moved[:, SIZE:]), rtol=0, atol=1e-4)


def test_the_size_is_the_one_declared(pooling, frames):
    assert pooling(*frames).shape == (3, pooling.output_size)


def test_a_clip_does_not_depend_on_its_padding_or_its_batch(pooling, frames):
    values, mask = frames
    pooled = pooling(values, mask)
    for clip, valid, expected in zip(values, mask, pooled, strict=True):
        alone = pooling(clip[valid][None], torch.ones(1, int(valid.sum()), dtype=torch.bool))[0]
        torch.testing.assert_close(alone, expected)


def test_the_order_of_frames_does_not_matter(pooling, frames):
    values, mask = frames[0][:1], frames[1][:1]
    torch.testing.assert_close(pooling(values.flip(1), mask), pooling(values, mask))


def test_one_single_frame_has_finite_gradients(pooling, frames):
    frame = frames[0][:, :1].clone().requires_grad_()
    pooled = pooling(frame, torch.ones(3, 1, dtype=torch.bool))
    gradients = torch.autograd.grad(pooled.sum(), [frame, *pooling.parameters()])
    torch.testing.assert_close(pooled[:, :SIZE], frame[:, 0])
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", ["mean", "mean_std"])
def test_statistics_pool_to_the_same_as_frames(name, layers, generator):
    values, num_frames = layers
    pooling, weights = POOLINGS[name](SIZE), torch.randn(3, generator=generator)
    mixed = torch.einsum("l,blth->bth", weights, values)
    expected = pooling(mixed, torch.arange(9) < num_frames[:, None])
    statistics = summarize_layers(values, num_frames, pooling.statistic)
    torch.testing.assert_close(pooling.pool_statistics(statistics, weights), expected, rtol=1e-5, atol=1e-5)


def test_no_statistic_stands_in_for_the_frames_of_attentive_pooling(layers):
    pooling = AttentivePooling(SIZE)
    assert pooling.statistic == "frames"
    with pytest.raises(NotImplementedError, match="needs the frames"):
        pooling.pool_statistics(summarize_layers(*layers, "frames"), torch.ones(3))
