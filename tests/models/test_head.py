"""Laws of the head: the same logits from layers and from statistics, clip by clip."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.head import EmotionHead, HeadSettings, LayerMix
from wavshap_lightning.models.pooling import drop_frames, summarize_layers

POOLING_NAMES = ("mean", "mean_std", "attentive")
NUM_CLASSES = 5


def build_head(generator, **settings):
    """A head that has seen data: no weight and no running statistic as it was made."""
    head = EmotionHead(3, 8, NUM_CLASSES, HeadSettings(**settings)).eval()
    with torch.no_grad():
        for value in head.parameters():
            value.copy_(0.5 * torch.randn(value.shape, generator=generator))
        norm = head.mlp[0]
        norm.running_mean.copy_(torch.randn(norm.running_mean.shape, generator=generator))
        norm.running_var.copy_(0.5 + torch.rand(norm.running_var.shape, generator=generator))
    return head


@pytest.fixture(
    params=product(POOLING_NAMES, ("learned", "last", 0, 1), (0, 16)),
    ids=lambda p: "-".join(map(str, p)),
)
def head(request, generator):
    """Every pooling, layer choice and depth, in evaluation mode."""
    pooling, layer, hidden_size = request.param
    return build_head(generator, pooling=pooling, layer=layer, hidden_size=hidden_size)


# Logits


def test_statistics_give_the_logits_of_the_layers(head, layers):
    values, num_frames = layers
    found = head.classify_statistics(summarize_layers(values, num_frames, head.statistic))
    torch.testing.assert_close(found, head(values, num_frames), rtol=1e-5, atol=1e-5)
    assert found.shape == (3, NUM_CLASSES)


def test_each_clip_is_on_its_own(head, layers):
    values, num_frames = layers
    logits = head(values, num_frames)
    for clip, count, expected in zip(values, num_frames, logits, strict=True):
        torch.testing.assert_close(head(clip[None, :, :count])[0], expected, rtol=1e-5, atol=1e-5)


def test_one_single_frame_has_finite_gradients(head, layers):
    frame = layers[0][:, :, :1].clone().requires_grad_()
    gradients = torch.autograd.grad(head(frame).square().sum(), [frame, *head.parameters()])
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_statistics_give_the_gradients_of_the_layers(head, layers):
    values, num_frames = layers
    summary = summarize_layers(values, num_frames, head.statistic)
    expected = torch.autograd.grad(head(values, num_frames).square().sum(), [*head.parameters()])
    found = torch.autograd.grad(head.classify_statistics(summary).square().sum(), [*head.parameters()])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("pooling", "statistic"), [("mean", "mean"), ("mean_std", "moments"), ("attentive", "frames")]
)
def test_the_pooling_decides_the_statistic(pooling, statistic):
    assert EmotionHead(3, 8, 2, HeadSettings(pooling=pooling)).statistic == statistic


@pytest.mark.parametrize("pooling", ["mean", "mean_std"])
def test_training_does_not_depend_on_the_scale_of_the_backbone(pooling, layers, generator):
    """Scaled and shifted frames pool to scaled and shifted features, which are standardised."""
    values = 10.0 * layers[0][:, :, :4].clone() + torch.randn(3, 1, 4, 8, generator=generator)
    head = EmotionHead(3, 8, 2, HeadSettings(pooling=pooling, dropout=0.0)).train()
    torch.testing.assert_close(head(7.0 * values + 2.0), head(values), rtol=1e-3, atol=1e-3)


def test_dropout_acts_in_training_alone(layers, generator):
    head = build_head(generator, dropout=0.5).train()
    assert not torch.equal(head(*layers), head(*layers))
    head.eval()
    assert torch.equal(head(*layers), head(*layers))


def test_frame_dropout_acts_in_training_alone(layers, generator):
    plain, dropping = (
        EmotionHead(3, 8, 2, HeadSettings(pooling="attentive", dropout=0.0, frame_dropout=share))
        for share in (0.0, 0.5)
    )
    dropping.load_state_dict(plain.state_dict())
    assert torch.equal(dropping.eval()(*layers), plain.eval()(*layers))
    assert not torch.equal(dropping.train()(*layers), dropping(*layers))
    assert torch.equal(plain.train()(*layers), plain(*layers))


def test_dropped_frames_are_valid_ones_and_never_all():
    mask = torch.arange(200)[None] < torch.tensor([[200], [100], [1]])
    kept = drop_frames(mask, 0.8)
    assert not (kept & ~mask).any()
    assert kept[2].equal(mask[2])
    assert float(kept[:2].sum() / mask[:2].sum()) == pytest.approx(0.2, abs=0.08)


# Layer mix


def test_learned_weights_are_positive_and_sum_to_one(generator):
    mix = LayerMix(7, "learned")
    torch.testing.assert_close(mix.weights(), torch.full((7,), 1 / 7))
    torch.nn.init.normal_(mix.scores, std=3.0, generator=generator)
    assert (mix.weights() > 0).all()
    assert float(mix.weights().sum().detach()) == pytest.approx(1.0)


def test_a_mix_is_the_weighted_sum(layers, generator):
    mix = LayerMix(3, "learned")
    torch.nn.init.normal_(mix.scores, generator=generator)
    expected = sum(weight * layers[0][:, i] for i, weight in enumerate(mix.weights()))
    torch.testing.assert_close(mix(layers[0]), expected)


@pytest.mark.parametrize(("layer", "index"), [("last", 2), (0, 0), (1, 1), (2, 2)])
def test_a_chosen_layer_is_taken_as_it_is(layer, index, layers):
    mix = LayerMix(3, layer)
    assert torch.equal(mix(layers[0]), layers[0][:, index])
    assert not list(mix.parameters())
    assert not mix.state_dict()


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": -0.1}, r"dropout=-0.1 must lie in \[0, 1\)"),
        ({"dropout": 1.0}, r"dropout=1.0 must lie in \[0, 1\)"),
        ({"pooling": "attentive", "frame_dropout": 1.0}, r"frame_dropout=1.0 must lie in \[0, 1\)"),
        ({"frame_dropout": 0.5}, "frame_dropout=0.5 does not go with pooling='mean_std'"),
        ({"hidden_size": -1}, "hidden_size=-1 must be at least 0"),
        ({"layer": -1}, "layer=-1 must lie between 0 and 2"),
        ({"layer": 3}, "layer=3 must lie between 0 and 2"),
        ({"layer": "first"}, "layer='first' must lie between 0 and 2, or be 'learned' or 'last'"),
        ({"pooling": "max"}, "pooling='max' must be one of mean, mean_std, attentive"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message, unchecked_types):
    with pytest.raises(SettingError, match=message):
        EmotionHead(3, 8, NUM_CLASSES, HeadSettings(**settings))
