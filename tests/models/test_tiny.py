"""Laws of the embedded backbone."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.tiny import build_tiny_model


def weights_of(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def test_it_is_the_same_whatever_the_global_random_state():
    first = weights_of(build_tiny_model())
    torch.rand(3)
    assert torch.equal(weights_of(build_tiny_model()), first)
    assert not torch.equal(weights_of(build_tiny_model(seed=1)), first)


def test_the_global_random_state_is_as_it_was(monkeypatch):
    reseeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    before = torch.get_rng_state()
    build_tiny_model()
    assert torch.equal(torch.get_rng_state(), before)
    assert not reseeded


def test_its_size_and_geometry():
    backbone = SpeechBackbone("tiny")
    grid = backbone.frame_grid
    assert (grid.hop_samples, grid.receptive_field_samples) == (320, 1080)
    assert (backbone.num_layers, backbone.hidden_size, backbone.num_channels) == (4, 128, 128)
    assert sum(parameter.numel() for parameter in backbone.parameters()) < 1_500_000


def test_it_opens_without_network(monkeypatch):
    def refuse(*_, **__):
        pytest.fail("asked the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("transformers.utils.hub.cached_files", refuse)
    assert SpeechBackbone().settings.name == "tiny"


def test_silence_has_finite_layers_and_gradients():
    silence = torch.zeros(1, 4000, requires_grad=True)
    layers = SpeechBackbone()(silence)
    (gradient,) = torch.autograd.grad(layers.square().sum(), silence)
    assert layers.isfinite().all()
    assert gradient.isfinite().all()


def test_a_padded_batch_is_its_clips_one_by_one(generator, relative_error):
    backbone, lengths = SpeechBackbone(), torch.tensor([8000, 3001])
    waveforms = 0.1 * torch.randn(2, 8000, generator=generator)
    layers = backbone(waveforms, lengths)
    alone = backbone(waveforms[1:, :3001])[0]
    assert relative_error(layers[1, :, : alone.shape[1]], alone) <= 1e-5
