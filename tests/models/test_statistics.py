"""Laws of the layer statistics, against torch's own mean, variance and covariance of each clip."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.models.pooling import mix_mean, mix_variance, summarize_layers


def clips_of(layers, num_frames):
    """Each clip's valid frames, `(layer, time, hidden)`."""
    return [clip[:, :count] for clip, count in zip(layers, num_frames, strict=True)]


@pytest.fixture
def weights(generator):
    return torch.randn(3, generator=generator)


@pytest.mark.parametrize("statistic", ["mean", "moments"])
def test_means_are_those_of_the_valid_frames(layers, statistic):
    found = summarize_layers(*layers, statistic)["mean"]
    expected = torch.stack([clip.mean(1) for clip in clips_of(*layers)])
    torch.testing.assert_close(found, expected)


def test_covariances_are_those_between_layers_per_neuron(layers):
    found = summarize_layers(*layers, "moments")["covariance"]
    assert found.shape == (3, 6, 8)
    rows, columns = torch.triu_indices(3, 3)
    for clip, values in enumerate(clips_of(*layers)):
        for neuron in range(8):
            expected = torch.cov(values[:, :, neuron], correction=0)[rows, columns]
            torch.testing.assert_close(found[clip, :, neuron], expected, rtol=1e-5, atol=1e-5)


def test_the_mean_of_a_mix_is_the_mix_of_the_means(layers, weights):
    found = mix_mean(summarize_layers(*layers, "mean"), weights)
    mixed = [torch.einsum("l,lth->th", weights, clip) for clip in clips_of(*layers)]
    torch.testing.assert_close(found, torch.stack([clip.mean(0) for clip in mixed]))


def test_the_variance_of_a_mix_follows_from_the_covariances(layers, weights):
    found = mix_variance(summarize_layers(*layers, "moments"), weights)
    mixed = [torch.einsum("l,lth->th", weights, clip) for clip in clips_of(*layers)]
    expected = torch.stack([clip.var(0, correction=0) for clip in mixed])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_variances_are_never_negative():
    """Not even where rounding says so, as it may for a mix that hardly varies."""
    rounded = {"mean": torch.zeros(1, 3, 8), "covariance": torch.full((1, 6, 8), -1e-7)}
    assert not mix_variance(rounded, torch.ones(3)).any()


@pytest.mark.parametrize(("statistic", "names"), [("mean", {"mean"}), ("moments", {"mean", "covariance"})])
def test_statistics_hold_no_more_than_asked_for(layers, statistic, names):
    assert summarize_layers(*layers, statistic).keys() == names


def test_frames_are_the_layers_themselves(layers):
    statistics = summarize_layers(*layers, "frames")
    assert torch.equal(statistics["layers"], layers[0])
    assert torch.equal(statistics["num_frames"], layers[1])


def test_one_frame_has_no_variance_and_a_finite_gradient(layers, weights):
    values = layers[0][:, :, :1].clone().requires_grad_()
    statistics = summarize_layers(values, torch.tensor([1, 1, 1]), "moments")
    assert not mix_variance(statistics, weights).any()
    (gradient,) = torch.autograd.grad(sum(value.sum() for value in statistics.values()), values)
    assert gradient.isfinite().all()
