"""Laws of the embedded backbone."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoFeatureExtractor, WavLMModel

from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.pretrained import TINY_FOLDER, build_tiny_model, open_tiny_model


def weights_of(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def test_its_weights_are_those_of_the_package_in_single_precision():
    assert torch.equal(weights_of(open_tiny_model()), weights_of(open_tiny_model()))
    assert not torch.equal(weights_of(open_tiny_model()), weights_of(build_tiny_model(0)))
    assert {parameter.dtype for parameter in open_tiny_model().parameters()} == {torch.float32}


def test_random_weights_follow_from_the_seed_whatever_the_global_random_state():
    first = weights_of(build_tiny_model(0))
    torch.rand(3)
    assert torch.equal(weights_of(build_tiny_model(0)), first)
    assert not torch.equal(weights_of(build_tiny_model(1)), first)


@pytest.mark.parametrize("build", [open_tiny_model, lambda: build_tiny_model(0)])
def test_the_global_random_state_is_as_it_was(build, monkeypatch):
    reseeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    before = torch.get_rng_state()
    build()
    assert torch.equal(torch.get_rng_state(), before)
    assert not reseeded


def test_transformers_opens_the_same_model_from_its_folder():
    theirs = WavLMModel.from_pretrained(TINY_FOLDER, dtype=torch.float32)
    assert torch.equal(weights_of(theirs), weights_of(open_tiny_model()))
    extractor = AutoFeatureExtractor.from_pretrained(TINY_FOLDER)
    assert (extractor.do_normalize, extractor.sampling_rate) == (False, 16_000)


def test_it_fits_into_four_megabytes_and_has_a_model_card():
    assert (TINY_FOLDER / "model.safetensors").stat().st_size <= 4_000_000
    card = (TINY_FOLDER / "README.md").read_text(encoding="utf-8")
    for heading in ("Data", "Recipe", "Results", "Limits", "License"):
        assert f"## {heading}" in card


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
