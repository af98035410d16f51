"""Encoders: from frames to layers, with padding kept out of the valid frames.

transformers' `WavLMAttention` always asks for the attention weights, which rules out the fused
kernels. Here it computes the same function through them, with the same parameters.

Source: Chi et al. 2022, "XLM-E", for the gated relative position bias; Chen et al. 2022, "WavLM",
section III, for its use in speech.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.frontends import TransformersModule

Layers = list[Float[Tensor, "batch time hidden"]]


class Encoder(ABC):
    """Second stage of a backbone.

    Args:
        model: The speech transformer, whose attention is replaced by a faster one, and whose layers above
            `depth` are removed.
        depth: Number of transformer layers to run.
        final_norm: Take the last layer after the final norm, if the model has one and all layers are run.
        frozen: No parameter will be trained, so that constants may be computed once.
    """

    masks_padding: bool = True
    """False if padding would reach valid frames, so that each clip of a batch must be run alone."""

    projections = ("q_proj", "v_proj", "query_proj", "value_proj", "linear_q", "linear_v")
    """Names that query and value projections may have, for low-rank adapters."""

    def __init__(self, model: TransformersModule, depth: int, *, final_norm: bool, frozen: bool) -> None:  # noqa: ARG002 - for those that need it
        self.model = model
        self.norms_last = final_norm and self.has_final_norm(model) and depth == len(self.layers)
        self.num_layers = depth + 1
        self._stack.layers = self.layers[:depth]

    @staticmethod
    def has_final_norm(model: TransformersModule) -> bool:
        """True if the model normalizes the output of its last layer."""
        # not all families heed the setting do_stable_layer_norm
        return "StableLayerNorm" in type(getattr(model, "encoder", None)).__name__

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, from the first to the last."""
        layers: nn.ModuleList = getattr(self._stack, "layers", nn.ModuleList())
        return layers

    @property
    def _stack(self) -> TransformersModule:
        return getattr(self.model, "encoder", self.model)  # some models are an encoder and nothing else

    @abstractmethod
    def __call__(
        self, frames: Float[Tensor, "batch time channels"], mask: Bool[Tensor, "batch time"]
    ) -> Layers:
        """The layers from the first to the last; any values beyond the last frame of each clip.

        Args:
            frames: Output of the frontend.
            mask: True at valid frames.
        """


class ConvolutionalPositions(Encoder):
    """Transformer layers after a convolutional position embedding, as in wav2vec2 and its relatives."""

    def __init__(self, model: TransformersModule, depth: int, *, final_norm: bool, frozen: bool) -> None:
        self._is_gated = model.config.model_type == "wavlm"
        if self._is_gated:
            use_gated_attention(model)
        else:
            model.set_attn_implementation("sdpa")  # others read a boolean mask as numbers to add
        super().__init__(model, depth, final_norm=final_norm, frozen=frozen)
        self._norms_first = not self.has_final_norm(model)
        position = model.encoder.pos_conv_embed
        if getattr(position, "batch_norm", None) is not None:
            # its shift must not reach the padding, so it is called here and not in the position embedding
            model.position_norm, position.batch_norm = position.batch_norm, None
        if frozen and hasattr(position, "conv"):
            position.conv = without_weight_norm(position.conv)

    def __call__(
        self, frames: Float[Tensor, "batch time channels"], mask: Bool[Tensor, "batch time"]
    ) -> Layers:
        """Projection, position embedding and the transformer layers."""
        encoder = self.model.encoder
        projected = self.model.feature_projection(frames)
        projected = projected[0] if isinstance(projected, tuple) else projected
        projected = projected * mask[:, :, None]
        positioned, norm = projected, getattr(self.model, "position_norm", None)
        if norm is not None:
            positioned = norm(projected.transpose(1, 2)).transpose(1, 2) * mask[:, :, None]
        position = encoder.pos_conv_embed
        if hasattr(position, "layers"):
            for layer in position.layers:  # each of which fills the padding for the next
                positioned = layer((positioned * mask[:, :, None]).transpose(1, 2)).transpose(1, 2)
        else:
            positioned = position(positioned)
        states = projected + positioned
        layers = [encoder.dropout(encoder.layer_norm(states) if self._norms_first else states)]
        run_layer = self._layer_call(mask)
        for layer in self.layers:
            layers.append(run_layer(layer, layers[-1]))
        if self.norms_last:
            layers[-1] = encoder.layer_norm(layers[-1])
        return layers

    def _layer_call(self, mask: Bool[Tensor, "batch time"]) -> Callable[[nn.Module, Tensor], Tensor]:
        """Function that calls one transformer layer."""
        if not len(self.layers):
            return lambda _layer, states: states  # all were cut off; none is called
        if not self._is_gated:
            attendable = attendable_frames(mask)
            return lambda layer, states: layer(states, attention_mask=attendable)
        keys, num_frames = None if bool(mask.all()) else mask, mask.shape[1]
        bias = self.model.encoder.layers[0].attention.compute_bias(num_frames, num_frames)
        return lambda layer, states: layer(states, attention_mask=keys, position_bias=bias)[0]


class TabulatedPositions(Encoder):
    """Transformer layers after a table of position embeddings, as in Whisper."""

    def __init__(self, model: TransformersModule, depth: int, *, final_norm: bool, frozen: bool) -> None:
        model.set_attn_implementation("sdpa")
        super().__init__(model, depth, final_norm=final_norm, frozen=frozen)

    @staticmethod
    def has_final_norm(model: TransformersModule) -> bool:
        """True, as in every such model."""
        return hasattr(model, "layer_norm")

    def __call__(
        self, frames: Float[Tensor, "batch time channels"], mask: Bool[Tensor, "batch time"]
    ) -> Layers:
        """Position embedding and the transformer layers."""
        layers = [frames + self.model.embed_positions.weight[: frames.shape[1]]]
        attendable = attendable_frames(mask)
        for layer in self.layers:
            layers.append(layer(layers[-1], attendable))
        if self.norms_last:
            layers[-1] = self.model.layer_norm(layers[-1])
        return layers


class SqueezedLayers(Encoder):
    """Transformer layers at a fraction of the frame rate, as in SEW; only the last is brought back to it."""

    masks_padding = False

    def __init__(self, model: TransformersModule, depth: int, *, final_norm: bool, frozen: bool) -> None:  # noqa: ARG002
        if depth != model.config.num_hidden_layers:
            raise SettingError(
                f"last_layer={depth}: this model has one layer at the frame rate; leave it out"
            )
        self.model, self.num_layers, self.norms_last = model, 1, False

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, from the first to the last."""
        encoder = self.model.encoder
        layers: nn.ModuleList = getattr(encoder, "layers", None) or encoder.encoder.layer
        return layers

    def __call__(
        self, frames: Float[Tensor, "batch time channels"], mask: Bool[Tensor, "batch time"]
    ) -> Layers:
        """Projection and the whole encoder."""
        states = self.model.layer_norm(frames)
        states = self.model.feature_projection(states) if self.model.project_features else states
        missing = max(0, self.model.config.squeeze_factor - states.shape[1])  # transformers refuses less
        states = F.pad(self.model.feature_dropout(states), (0, 0, 0, missing))
        return [self.model.encoder(states).last_hidden_state[:, : mask.shape[1]]]


class Conformer(Encoder):
    """Conformer layers with relative positions, as in Wav2Vec2-BERT and Wav2Vec2-Conformer.

    Padding is kept out of the attention alone, which is enough where the convolutions look only back.
    """

    def __init__(self, model: TransformersModule, depth: int, *, final_norm: bool, frozen: bool) -> None:
        model.set_attn_implementation("eager")  # the positions are a bias, which rules out fused kernels
        super().__init__(model, depth, final_norm=final_norm, frozen=frozen)
        # the convolutions of Wav2Vec2-Conformer look ahead
        self.masks_padding = model.config.model_type == "wav2vec2-bert"

    @staticmethod
    def has_final_norm(model: TransformersModule) -> bool:
        """True if the encoder has one, which is always used."""
        return hasattr(model.encoder, "layer_norm")

    def __call__(
        self, frames: Float[Tensor, "batch time channels"], mask: Bool[Tensor, "batch time"]
    ) -> Layers:
        """Projection and the conformer layers."""
        encoder = self.model.encoder
        projected = self.model.feature_projection(frames)[0]
        layers, positions = [encoder.dropout(projected)], encoder.embed_positions
        if positions is not None:
            positions.cached_sequence_length = None  # what it keeps may be on another device
            positions = positions(projected.float())  # it would keep a lower precision
        bias = None if bool(mask.all()) else torch.where(mask, 0.0, float("-inf"))[:, None, None, :]
        for layer in self.layers:
            layers.append(layer(layers[-1], bias, positions))
        if self.norms_last:
            layers[-1] = encoder.layer_norm(layers[-1])
        return layers


class SummaryTokens(Encoder):
    """Transformer on patches of a spectrogram that is read off at two tokens of no time, as in AST.

    It has one layer of one step: their mean, normalized as the head begins.
    """

    def __init__(self, model: TransformersModule, depth: int, *, final_norm: bool, frozen: bool) -> None:
        model.set_attn_implementation("sdpa")
        super().__init__(model, depth, final_norm=final_norm, frozen=frozen)
        self.num_layers = 1

    def __call__(
        self,
        frames: Float[Tensor, "batch time channels"],
        mask: Bool[Tensor, "batch time"],  # noqa: ARG002
    ) -> list[Float[Tensor, "batch 1 hidden"]]:
        """Patches, the transformer layers, and the mean of the class and the distillation token."""
        states = self.model.embeddings(frames)
        for layer in self.layers:
            states = layer(states)
        norm = self.model.layernorm
        summary = F.layer_norm(norm(states)[:, :2].mean(1), norm.normalized_shape, eps=norm.eps)
        return [summary[:, None]]


class NoEncoder(Encoder):
    """No layers but the frames themselves, where the frontend is all that a model has."""

    def __init__(self, model: TransformersModule, depth: int, *, final_norm: bool, frozen: bool) -> None:  # noqa: ARG002
        self.model, self.num_layers, self.norms_last = model, 1, False

    def __call__(
        self,
        frames: Float[Tensor, "batch time channels"],
        mask: Bool[Tensor, "batch time"],  # noqa: ARG002
    ) -> Layers:
        """The frames."""
        return [frames]


def attendable_frames(mask: Bool[Tensor, "batch time"]) -> Bool[Tensor, "batch 1 time time"] | None:
    """Mask of scaled dot-product attention, True where a frame may be attended to; None if all may."""
    return None if bool(mask.all()) else mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)


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


class FrozenLinear(nn.Linear):
    """A linear layer that goes through oneDNN instead of MKL where it is not trained, in fp32 on a CPU.

    Both round alike, but MKL leaves AVX-512 unused on AMD processors: 100 GFLOP/s a core of an EPYC, where
    oneDNN, through which torch's convolutions and all of bf16 go, does 215.
    """

    def forward(self, input: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch outputs"]:  # noqa: A002 - torch's
        """Weight times input, plus bias."""
        is_plain = input.device.type == "cpu" and input.dtype == self.weight.dtype == torch.float32
        if self.weight.requires_grad or not is_plain or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        return _OneDnnLinear.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]


class _OneDnnLinear(torch.autograd.Function):
    # torch's own gradient would keep a copy of the input, for that of the weights
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(weight)
        return F.linear(rows.to_mkldnn(), weight, bias).to_dense()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (weight,) = ctx.saved_tensors
        return F.linear(gradients[0].to_mkldnn(), weight.t()).to_dense(), None, None


def use_one_dnn(model: TransformersModule) -> None:
    """Let the linear layers of a model go through oneDNN where that is faster; its parameters stay."""
    if torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = FrozenLinear


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
