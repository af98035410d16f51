"""WavLM's gated relative attention through `scaled_dot_product_attention`.

transformers' `WavLMAttention` always asks for the attention weights, which rules out the fused
kernels. Here it computes the same function through them, with the same parameters.

Source: Chi et al. 2022, "XLM-E", for the gated relative position bias; Chen et al. 2022, "WavLM",
section III, for its use in speech.
"""

from __future__ import annotations

from copy import deepcopy
from importlib.metadata import version

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from wavshap_lightning.errors import ModelError
from wavshap_lightning.models.pretrained import TransformersModule


def without_weight_norm(conv: nn.Conv1d) -> nn.Conv1d:
    """The same convolution with its weight computed once and for all.

    In double precision: in single, its last bit depends on where in memory the sums are done.
    """
    plain = nn.Conv1d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size[0],
        padding=int(conv.padding[0]),
        groups=conv.groups,
        device="meta",
    )
    weight = deepcopy(conv).double().weight.detach().to(conv.weight)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = conv.bias
    return plain


CHECKED_FRAMES = 24
SWAP_TOLERANCE = 1e-4


class GatedAttention(WavLMAttention):
    """Self-attention with a gated relative position bias, without materialized weights."""

    def forward(  # type: ignore[override]  # transformers annotates the bias as a tuple
        self,
        hidden_states: Float[Tensor, "batch time hidden"],
        attention_mask: Bool[Tensor, "batch time"] | None = None,
        position_bias: Float[Tensor, "heads time time"] | None = None,
        index: int = 0,  # noqa: ARG002 - the caller is transformers' encoder layer
    ) -> tuple[Tensor, None, Tensor]:
        """Attend over the valid frames.

        Args:
            hidden_states: One vector per frame.
            attention_mask: True at valid frames; None where all are.
            position_bias: The bias before gating, one for all clips and layers: `compute_bias` of the first
                layer, which it is computed by if None.
            index: Unused; part of transformers' interface.

        Returns:
            The attended states, no weights, and the position bias for the next layer.
        """
        num_frames = hidden_states.shape[1]
        position_bias = self.compute_bias(num_frames, num_frames) if position_bias is None else position_bias
        bias = self._gate(hidden_states) * position_bias
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask[:, None, None, :], float("-inf"))
        projections = (self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (self._split_heads(project(hidden_states)) for project in projections)
        dropout = self.dropout * self.training
        attended = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None, position_bias

    def _split_heads(
        self, states: Float[Tensor, "batch time hidden"]
    ) -> Float[Tensor, "batch heads time size"]:
        return states.view(*states.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _gate(self, states: Float[Tensor, "batch time hidden"]) -> Float[Tensor, "batch heads time 1"]:
        projected = self.gru_rel_pos_linear(self._split_heads(states))
        update, reset = torch.sigmoid(projected.view(*projected.shape[:3], 2, 4).sum(4)).chunk(2, dim=3)
        return update * (reset * self.gru_rel_pos_const - 1.0) + 2.0


def use_gated_attention(model: TransformersModule) -> None:
    """Replace the attention of every layer of a WavLM, after checking that it computes the same.

    Raises:
        ModelError: If it does not, as might happen with a transformers version yet to come.
    """
    first = model.encoder.layers[0].attention
    if isinstance(first, GatedAttention):
        return  # another backbone has taken this model over before
    original = deepcopy(first).eval()
    for layer in model.encoder.layers:
        layer.attention.__class__ = (
            GatedAttention  # every parameter stays where it is, and adapters may wrap it
        )
    error = _difference(original, first.eval(), model.config.hidden_size)
    if not error <= SWAP_TOLERANCE:
        raise ModelError(
            f"transformers={version('transformers')}: the fused attention differs from its own by "
            f"{error:.2g}, more than {SWAP_TOLERANCE:g}; install an earlier version, and please report it"
        )


@torch.no_grad()
def _difference(original: WavLMAttention, fused: WavLMAttention, hidden_size: int) -> float:
    """The largest difference on a few frames, relative to the largest value."""
    weights = fused.gru_rel_pos_const
    frames = torch.linspace(-1.0, 1.0, CHECKED_FRAMES * hidden_size).to(weights)
    states = frames.cos().view(1, CHECKED_FRAMES, -1) + frames.view(1, CHECKED_FRAMES, -1)
    expected, actual = original(states)[0], fused(states)[0]
    return float((actual - expected).abs().max() / expected.abs().max())
