"""WavLM's gated relative attention through `scaled_dot_product_attention`.

transformers' `WavLMAttention` always asks for the attention weights, which rules out the fused
kernels. The module here computes the same function and keeps every parameter under its old name.

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
from transformers import WavLMConfig
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


class GatedAttention(nn.Module):
    """Self-attention with a gated relative position bias, without materialised weights.

    It takes over the parameters of the attention it replaces, so state dicts are unchanged.
    The projections are called as modules, so adapters may wrap them.

    Args:
        attention: The transformers module to take over.
    """

    def __init__(self, attention: WavLMAttention) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.dropout = attention.dropout
        self.q_proj, self.k_proj = attention.q_proj, attention.k_proj
        self.v_proj, self.out_proj = attention.v_proj, attention.out_proj
        self.gru_rel_pos_const = attention.gru_rel_pos_const
        self.gru_rel_pos_linear = attention.gru_rel_pos_linear
        if hasattr(attention, "rel_attn_embed"):
            self.rel_attn_embed = attention.rel_attn_embed

    def forward(
        self,
        hidden_states: Float[Tensor, "batch time hidden"],
        attention_mask: Bool[Tensor, "batch time"] | None = None,
        position_bias: Float[Tensor, "heads time time"] | None = None,
        index: int = 0,  # noqa: ARG002 - the caller is transformers' encoder layer
    ) -> tuple[Tensor, None, Tensor | None]:
        """Attend over the valid frames.

        Args:
            hidden_states: One vector per frame.
            attention_mask: True at valid frames; None where all are.
            position_bias: The bias before gating, one for all clips and layers.
            index: Unused; part of the interface of the module replaced.

        Returns:
            The attended states, no weights, and the position bias for the next layer.
        """
        if position_bias is None:
            raise ValueError("position_bias=None: compute it once with relative_position_bias")
        bias = self._gate(hidden_states) * position_bias
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask[:, None, None, :], float("-inf"))
        query, key, value = (
            self._split_heads(project(hidden_states)) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        dropout = self.dropout if self.training else 0.0
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


def relative_position_bias(attention: GatedAttention, buckets: Tensor) -> Float[Tensor, "heads time time"]:
    """The ungated bias of every pair of frames, from the first layer's embedding.

    Args:
        attention: The first layer's attention, which owns the embedding.
        buckets: `(time, time)` bucket of each pair, from [`relative_position_buckets`][].
    """
    return attention.rel_attn_embed(buckets).permute(2, 0, 1)


def relative_position_buckets(
    num_frames: int, *, num_buckets: int, max_distance: int, device: torch.device
) -> Tensor:
    """The T5 bucket of each pair of frames: exact when near, logarithmic when far, split by sign.

    Args:
        num_frames: Frames of the longest clip.
        num_buckets: Buckets in all, half of them for each sign.
        max_distance: From this distance on, in frames, all pairs share a bucket.
        device: Where to put it.

    Returns:
        `(num_frames, num_frames)` integers.

    Source: Raffel et al. 2020, "T5", section 2.1.
    """
    positions = torch.arange(num_frames, device=device)
    offsets = positions[None, :] - positions[:, None]
    half, exact = num_buckets // 2, num_buckets // 4
    distance = offsets.abs()
    scale = (half - exact) / torch.log(torch.tensor(max_distance / exact, device=offsets.device))
    far = exact + (torch.log(distance.clamp(min=1).float() / exact) * scale).long()
    return (offsets > 0) * half + torch.where(distance < exact, distance, far.clamp(max=half - 1))


def use_gated_attention(model: TransformersModule) -> None:
    """Replace the attention of every layer of a WavLM, after checking that it computes the same.

    Raises:
        ModelError: If it does not, as might happen with a transformers version yet to come.
    """
    original = model.encoder.layers[0].attention.eval()
    if isinstance(original, GatedAttention):
        return  # another backbone has taken this model over before
    for layer in model.encoder.layers:
        layer.attention = GatedAttention(layer.attention)
    error = _difference(original, model.encoder.layers[0].attention.eval(), model.config)
    if not error <= SWAP_TOLERANCE:
        raise ModelError(
            f"transformers={version('transformers')}: the fused attention differs from its own by "
            f"{error:.2g}, more than {SWAP_TOLERANCE:g}; install an earlier version, and please report it"
        )


@torch.no_grad()
def _difference(original: WavLMAttention, fused: GatedAttention, config: WavLMConfig) -> float:
    """The largest difference on a few frames, relative to the largest value."""
    device = fused.gru_rel_pos_const.device
    frames = torch.linspace(-1.0, 1.0, CHECKED_FRAMES * config.hidden_size, device=device)
    states = frames.cos().view(1, CHECKED_FRAMES, -1) + frames.view(1, CHECKED_FRAMES, -1)
    buckets = relative_position_buckets(
        CHECKED_FRAMES,
        num_buckets=config.num_buckets,
        max_distance=config.max_bucket_distance,
        device=device,
    )
    expected, *_ = original(states)
    actual, *_ = fused(states, position_bias=relative_position_bias(fused, buckets))
    return float((actual - expected).abs().max() / expected.abs().max())
