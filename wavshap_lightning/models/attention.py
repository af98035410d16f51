"""WavLM's gated relative attention through `scaled_dot_product_attention`.

transformers' `WavLMAttention` always asks for the attention weights, which rules out the fused
kernels. The module here computes the same function and keeps every parameter under its old name.

Source: Chi et al. 2022, "XLM-E", for the gated relative position bias; Chen et al. 2022, "WavLM",
section III, for its use in speech.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint
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


First = TypeVar("First")


def sparingly(compute: Callable[..., Tensor], first: First, *tensors: Tensor) -> Tensor:
    """What `compute` makes of its arguments; nothing within is kept for gradients, but computed again.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".

    Args:
        compute: The same whenever it is asked, so without dropout.
        first: Its first argument, whatever it is.
        tensors: Those that follow, through which gradients flow.
    """
    if not (torch.is_grad_enabled() and any(one.requires_grad for one in tensors)):
        return compute(first, *tensors)
    return checkpoint(compute, first, *tensors, use_reentrant=False, preserve_rng_state=False)


Normalize = Callable[[Float[Tensor, "batch channels steps"], nn.GroupNorm], Tensor]
"""What is done in place of the model's group norm."""


def convolve(
    model: TransformersModule, states: Float[Tensor, "batch 1 samples"], normalize_first: Normalize
) -> Float[Tensor, "batch channels time"]:
    """All convolutions in turn.

    Args:
        model: Whose.
        states: Waveforms.
        normalize_first: The first one's group norm, which looks at the whole clip; not asked where the model
            has none.
    """
    first, *rest = model.feature_extractor.conv_layers
    norm = group_norm_of(model)
    states = first(states) if norm is None else first.activation(normalize_first(first.conv(states), norm))
    for convolution in rest:
        states = convolution(states)
    return states


def group_norm_of(model: TransformersModule) -> nn.GroupNorm | None:
    """The first convolution's norm, if it looks at the whole clip; None where each frame has its own."""
    norm = getattr(model.feature_extractor.conv_layers[0], "layer_norm", None)
    return norm if isinstance(norm, nn.GroupNorm) else None


def steps_of(convolution: nn.Conv1d, num_samples: Tensor) -> Tensor:
    """How many steps a convolution without padding makes of so many samples."""
    return (num_samples - convolution.kernel_size[0]).div(convolution.stride[0], rounding_mode="floor") + 1


CHECKED_FRAMES = 24
SWAP_TOLERANCE = 1e-4
BLOCK_SCORES = 2**25
"""Of a block of queries with all keys, in all heads: an eighth of a gigabyte in single precision."""


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
        position_bias: Float[Tensor, "heads time time"] | BiasByOffset | None = None,
        index: int = 0,  # noqa: ARG002 - the caller is transformers' encoder layer
    ) -> tuple[Tensor, None, Tensor | BiasByOffset | None]:
        """Attend over the valid frames.

        Args:
            hidden_states: One vector per frame.
            attention_mask: True at valid frames; None where all are.
            position_bias: The bias before gating, one for all clips and layers. By offset, a block of queries
                is attended to at a time, with the same result, and nothing is kept for the gradient but what
                is here; there is no mask then.
            index: Unused; part of the interface of the module replaced.

        Returns:
            The attended states, no weights, and the position bias for the next layer.
        """
        if position_bias is None:
            raise ValueError("position_bias=None: compute it once with relative_position_bias")
        if isinstance(position_bias, BiasByOffset):
            return self._in_blocks(hidden_states, position_bias), None, position_bias
        bias = self._gate(hidden_states) * position_bias
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask[:, None, None, :], float("-inf"))
        query, key, value = (
            self._split_heads(project(hidden_states)) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None, position_bias

    def _in_blocks(
        self, states: Float[Tensor, "batch time hidden"], by_offset: BiasByOffset
    ) -> Float[Tensor, "batch time hidden"]:
        query, key, value = (
            self._split_heads(project(states)) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        gate, num_frames = self._gate(states), states.shape[1]
        size = max(1, BLOCK_SCORES // (num_frames * self.num_heads * len(states)))

        def attend(rows: slice, *tensors: Tensor) -> Tensor:
            gate, query, key, value = tensors
            bias = gate * by_offset.rows(rows)
            return F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype))

        blocks = [slice(start, min(start + size, num_frames)) for start in range(0, num_frames, size)]
        attended = [
            sparingly(attend, rows, gate[:, :, rows], query[:, :, rows], key, value) for rows in blocks
        ]
        return self.out_proj(torch.cat(attended, 2).transpose(1, 2).flatten(2))

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


@dataclass(frozen=True)
class BiasByOffset:
    """The ungated bias of every distance between two frames, from which that of some queries is made.

    Args:
        values: By the key's frame minus the query's, from `1 - time` to `time - 1`.
    """

    values: Float[Tensor, "heads offsets"]

    def rows(self, queries: slice) -> Float[Tensor, "heads queries time"]:
        """The bias of some queries with all keys."""
        num_frames = (self.values.shape[1] + 1) // 2
        by_start = self.values.unfold(1, num_frames, 1)  # of the last query first
        return by_start[:, num_frames - queries.stop : num_frames - queries.start].flip(1)


def bias_by_offset(attention: GatedAttention, num_frames: int, config: WavLMConfig) -> BiasByOffset:
    """The bias of [`relative_position_bias`][], as long as the recording instead of its square.

    Args:
        attention: As there.
        num_frames: Frames of the recording.
        config: The model's.
    """
    device = attention.gru_rel_pos_const.device
    offsets = torch.arange(1 - num_frames, num_frames, device=device)
    buckets = _buckets(offsets, config.num_buckets, config.max_bucket_distance)
    return BiasByOffset(attention.rel_attn_embed(buckets).T)


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
    return _buckets(positions[None, :] - positions[:, None], num_buckets, max_distance)


def _buckets(offsets: Int[Tensor, "*pairs"], num_buckets: int, max_distance: int) -> Int[Tensor, "*pairs"]:
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
