"""Where training starts, and that the faster frontend is the same one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pretraining.export import export_backbone
from pretraining.frontend import restore_frontend, use_matrix_frontend
from pretraining.initialisation import gabor_filters, start_as_filter_bank
from transformers import WavLMModel

from wavshap_lightning.models.pretrained import build_tiny_model, open_pretrained


@pytest.fixture
def waveforms() -> torch.Tensor:
    return 0.1 * torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0))


def test_filters_have_unit_norm_and_climb_from_low_to_high():
    filters = gabor_filters(216, 400)
    torch.testing.assert_close(filters.norm(dim=1), torch.ones(216))
    peak_hz = np.abs(np.fft.rfft(filters.numpy(), 16_000)).argmax(1)
    assert (np.diff(peak_hz[::2]) >= 0).all()
    assert peak_hz[0] < 150
    assert peak_hz[-1] == pytest.approx(7_600, rel=0.02)


def test_pairs_of_filters_hear_a_tone_at_any_phase():
    filters = gabor_filters(216, 400)
    phase = torch.linspace(0, 2 * torch.pi, 17)[:, None]
    tone = torch.cos(2 * torch.pi * 1_000 * (torch.arange(400) - 199.5) / 16_000 + phase)
    heard = (tone @ filters.T).square().unflatten(1, (108, 2)).sum(2)
    strongest = heard[0].argmax()
    torch.testing.assert_close(heard[:, strongest], heard[:1, strongest].expand(17), rtol=1e-3, atol=1e-4)


def test_a_model_starts_as_the_filter_bank():
    model = build_tiny_model(0)
    start_as_filter_bank(model)
    assert torch.equal(model.feature_extractor.conv_layers[0].conv.weight[:, 0], gabor_filters(216, 400))


def test_the_matrix_frontend_is_the_same_function_with_the_same_gradients(waveforms):
    model = build_tiny_model(0)
    weight = model.feature_extractor.conv_layers[1].conv.weight
    expected = model.feature_extractor(waveforms)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), weight)
    use_matrix_frontend(model)
    found = model.feature_extractor(waveforms)
    (gradient,) = torch.autograd.grad(found.square().sum(), weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-3)


def test_the_frontend_can_be_restored():
    model = build_tiny_model(0)
    names = list(model.state_dict())
    use_matrix_frontend(model)
    assert list(model.state_dict()) != names
    restore_frontend(model)
    assert list(model.state_dict()) == names


def test_what_is_written_opens_in_transformers_and_here_and_is_the_same(tmp_path, waveforms):
    model = build_tiny_model(3).eval()
    export_backbone(model, tmp_path)
    with torch.no_grad():
        expected = model(waveforms).last_hidden_state
        theirs = WavLMModel.from_pretrained(tmp_path, dtype=torch.float32).eval()(waveforms).last_hidden_state
        ours = open_pretrained(str(tmp_path)).model.eval()(waveforms).last_hidden_state
    assert torch.equal(theirs, ours)
    assert (theirs - expected).norm() < 2e-3 * expected.norm()
    assert (tmp_path / "model.safetensors").stat().st_size < 4e6
