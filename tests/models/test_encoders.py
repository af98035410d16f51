"""Laws of the gated attention, against transformers' own module."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from wavshap_lightning.errors import ModelError
from wavshap_lightning.models.encoders import GatedAttention, use_gated_attention

NUM_FRAMES = 30
NUM_BUCKETS, MAX_DISTANCE = 16, 20


def build_attention(generator, *, first=True):
    """transformers' module with every weight drawn, in evaluation mode."""
    attention = WavLMAttention(
        embed_dim=32,
        num_heads=4,
        dropout=0.5,
        num_buckets=NUM_BUCKETS,
        max_distance=MAX_DISTANCE,
        has_relative_position_bias=first,
    ).eval()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return attention


def fuse(attention):
    """A copy that computes the same through the fused kernels."""
    fused = copy.deepcopy(attention)
    fused.__class__ = GatedAttention
    return fused


def bias_of(attention, num_frames=NUM_FRAMES):
    return attention.compute_bias(num_frames, num_frames)


def output_and_gradient(module, states, probe, **options):
    states = states.clone().requires_grad_()
    output = module(states, **options)[0]
    return output.detach(), torch.autograd.grad((output * probe).sum(), states)[0]


@pytest.fixture
def states(generator):
    return torch.randn(3, NUM_FRAMES, 32, generator=generator)


@pytest.fixture
def probe(generator):
    return torch.randn(3, NUM_FRAMES, 32, generator=generator)


MASKS = {
    "no mask": None,
    "all valid": torch.ones(3, NUM_FRAMES, dtype=torch.bool),
    "padded": torch.arange(NUM_FRAMES) < torch.tensor([[30], [11], [1]]),
}


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_values_and_gradients_are_those_of_transformers(mask, states, probe, generator, relative_error):
    original = build_attention(generator)
    expected = output_and_gradient(original, states, probe, attention_mask=mask)
    bias = bias_of(original)
    found = output_and_gradient(fuse(original), states, probe, attention_mask=mask, position_bias=bias)
    assert relative_error(found[0], expected[0]) <= 1e-5
    assert relative_error(found[1], expected[1]) <= 1e-5


def test_a_later_layer_uses_the_bias_of_the_first(states, probe, generator, relative_error):
    first, later = build_attention(generator), build_attention(generator, first=False)
    handed_on = first(states)[2]
    expected = output_and_gradient(later, states, probe, position_bias=handed_on)
    found = output_and_gradient(fuse(later), states, probe, position_bias=bias_of(first))
    assert relative_error(found[0], expected[0]) <= 1e-5
    assert relative_error(found[1], expected[1]) <= 1e-5


def test_the_bias_is_handed_on_and_no_weights_are_made(states, generator):
    attention = build_attention(generator)
    bias = bias_of(attention)
    _, weights, handed_on = fuse(attention)(states, position_bias=bias)
    assert weights is None
    assert handed_on is bias


def test_padding_frames_have_no_influence(states, generator):
    attention = build_attention(generator)
    gated, bias, mask = fuse(attention), bias_of(attention), MASKS["padded"]
    disturbed = torch.where(mask[:, :, None], states, 100.0)
    before = gated(states, attention_mask=mask, position_bias=bias)[0]
    after = gated(disturbed, attention_mask=mask, position_bias=bias)[0]
    assert torch.equal(before[mask], after[mask])


def test_dropout_acts_in_training_mode_alone(states, generator):
    attention = build_attention(generator)
    gated, bias = fuse(attention), bias_of(attention)

    def attend():
        return gated(states, position_bias=bias)[0]

    gated.train()
    assert not torch.equal(attend(), attend())
    gated.eval()
    assert torch.equal(attend(), attend())


@pytest.mark.parametrize("first", [True, False])
def test_the_state_dict_keeps_its_keys_and_values(first, generator):
    original = build_attention(generator, first=first)
    found, expected = fuse(original).state_dict(), original.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_without_a_position_bias_the_first_layer_computes_it(states, generator):
    attention = build_attention(generator)
    fused = fuse(attention)
    assert torch.equal(fused(states)[0], fused(states, position_bias=bias_of(attention))[0])


def test_a_swap_that_changes_the_function_is_refused(build_model, monkeypatch):
    monkeypatch.setattr(GatedAttention, "_gate", lambda self, states: self.gru_rel_pos_const * 0.5)
    with pytest.raises(ModelError, match="the fused attention differs"):
        use_gated_attention(build_model("wavlm", "group"))
