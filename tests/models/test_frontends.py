"""Laws of normalisation under padding, against transformers' feature extractor and torch's own norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import Wav2Vec2FeatureExtractor

from wavshap_lightning.models.frontends import normalize_waveforms, valid_group_norm, valid_mask


def test_the_mask_counts_to_each_length():
    lengths = torch.tensor([0, 1, 4, 7])
    mask = valid_mask(lengths, 7)
    assert mask.sum(1).tolist() == lengths.tolist()
    assert all(mask[clip, :length].all() for clip, length in enumerate(lengths))


def test_waveforms_are_normalized_as_the_feature_extractor_does(padded_batch):
    waveforms, lengths = padded_batch
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    clips = [np.asarray(w[:n]) for w, n in zip(waveforms, lengths, strict=True)]
    expected = [extractor(clip, sampling_rate=16_000).input_values[0] for clip in clips]
    found = normalize_waveforms(waveforms, lengths)
    for row, length, clip in zip(found, lengths, expected, strict=True):
        torch.testing.assert_close(row[:length], torch.tensor(clip), rtol=1e-5, atol=1e-5)
        assert not row[length:].any()


def test_what_stands_in_the_padding_does_not_matter(padded_batch):
    waveforms, lengths = padded_batch
    mask = valid_mask(lengths, waveforms.shape[1])
    disturbed = torch.where(mask, waveforms, 7.0)
    assert torch.equal(normalize_waveforms(disturbed, lengths), normalize_waveforms(waveforms, lengths))


def test_silence_stays_silent_with_a_finite_gradient():
    silence = torch.zeros(1, 100, requires_grad=True)
    normalized = normalize_waveforms(silence, torch.tensor([100]))
    assert not normalized.any()
    (gradient,) = torch.autograd.grad(normalized[0, 3], silence)
    assert gradient.isfinite().all()


def test_the_gradient_is_the_derivative(generator):
    waveforms = torch.randn(2, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([12, 5])
    assert torch.autograd.gradcheck(lambda w: normalize_waveforms(w, lengths), waveforms)


@pytest.fixture
def norm(generator):
    norm = nn.GroupNorm(6, 6)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(6, generator=generator))
        norm.bias.copy_(torch.randn(6, generator=generator))
    return norm


def test_group_norm_of_a_padded_batch_is_torchs_of_each_clip(norm, generator):
    lengths = torch.tensor([40, 17, 2])
    states = 3.0 + 2.0 * torch.randn(3, 6, 40, generator=generator)
    found = valid_group_norm(states, lengths, norm)
    for clip, length in enumerate(lengths):
        expected = norm(states[clip : clip + 1, :, :length])[0]
        torch.testing.assert_close(found[clip, :, :length], expected, rtol=1e-4, atol=1e-5)


def test_group_norm_without_padding_is_torchs(norm, generator):
    states = torch.randn(2, 6, 40, generator=generator)
    assert torch.equal(valid_group_norm(states, torch.tensor([40, 40]), norm), norm(states))
