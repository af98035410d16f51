"""Laws of the gated attention and the linear layers, against transformers' and torch's own modules."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from wavshap_lightning.errors import ModelError
from wavshap_lightning.models.encoders import FrozenLinear, GatedAttention, use_gated_attention

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


# Linear layers


def outputs_and_gradients(linear, rows, weights):
    rows = rows.to(linear.weight.dtype).requires_grad_()
    outputs = linear(rows)
    # the gradient of a sum is a single number seen many times, without memory of its own
    gradients = [
        torch.autograd.grad(total, rows, retain_graph=True)[0]
        for total in (outputs.sum(), (outputs * weights).sum())
    ]
    return [outputs.detach(), *gradients]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (3, 7), (2, 3, 4), (0, 3)])
def test_a_frozen_linear_layer_computes_what_double_precision_does(shape, bias, generator):
    linear = nn.Linear(24, 40, bias=bias).requires_grad_(False)
    frozen, exact = copy.deepcopy(linear), copy.deepcopy(linear).double()
    frozen.__class__ = FrozenLinear
    rows, weights = torch.randn(*shape, 24, generator=generator), torch.randn(40, generator=generator)
    expected = outputs_and_gradients(exact, rows, weights)
    for found, true in zip(outputs_and_gradients(frozen, rows, weights), expected, strict=True):
        torch.testing.assert_close(found.double(), true, rtol=1e-5, atol=1e-6)
    assert torch.equal(frozen.double()(rows.double()), expected[0])


def test_a_trained_or_lowered_linear_layer_is_torchs_own(generator):
    linear = nn.Linear(24, 40)
    fast, rows = copy.deepcopy(linear), torch.randn(5, 24, generator=generator)
    fast.__class__ = FrozenLinear
    fast(rows).sum().backward()
    linear(rows).sum().backward()
    assert torch.equal(fast.weight.grad, linear.weight.grad)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast.requires_grad_(False)(rows), linear(rows))


def test_the_linear_layers_of_a_backbone_are_fast_ones(open_backbone):
    linear = [type(one) for one in open_backbone().modules() if isinstance(one, nn.Linear)]
    assert {*linear} == {FrozenLinear if torch.backends.mkl.is_available() else nn.Linear}
