"""The speech backbone: waveform to frames to layers, frozen and exact under padding."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.attention import use_gated_attention, without_weight_norm
from wavshap_lightning.models.normalization import normalize_waveforms, valid_group_norm, valid_mask
from wavshap_lightning.models.pretrained import (
    PretrainedSpeechModel,
    TransformersModule,
    absolute,
    open_pretrained,
)


def unfreeze(model: TransformersModule, num_layers: int, lora_rank: int) -> list[nn.Module]:
    """Make the last layers trainable, and add low-rank adapters.

    Args:
        model: The speech transformer, with all parameters frozen.
        num_layers: Number of transformer layers to train, counted from the last.
        lora_rank: Rank of the adapters on every query and value projection; 0 adds none.

    Returns:
        The trainable modules, whose training mode the caller must switch.

    Raises:
        SettingError: If a number is out of range, or peft is not installed.

    Source: Hu et al. 2021, "LoRA", for the adapters.
    """
    depth = len(model.encoder.layers)
    if not 0 <= num_layers <= depth:
        raise SettingError(
            f"unfreeze_layers={num_layers} must lie between 0 and this backbone's {depth} layers"
        )
    if lora_rank < 0:
        raise SettingError(f"lora_rank={lora_rank} must be at least 0 (0 means no adapters)")
    trained = [layer.requires_grad_(True) for layer in model.encoder.layers[depth - num_layers :]]  # noqa: FBT003
    return trained + (_add_adapters(model, lora_rank) if lora_rank else [])


def _add_adapters(model: TransformersModule, rank: int) -> list[nn.Module]:
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingError(
            f"lora_rank={rank} needs peft; install it with: pip install 'wavshap-lightning[lora]'"
        ) from error
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules=["q_proj", "v_proj"])
    kept = [parameter for parameter in model.parameters() if parameter.requires_grad]
    inject_adapter_in_model(config, model)  # leaves a gradient to the adapters alone
    for parameter in kept:
        parameter.requires_grad_(True)  # noqa: FBT003
    return [module for name, module in model.named_modules() if "lora_" in name]


Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class BackboneSettings:
    """Name of a backbone, and how it is run and trained.

    Args:
        name: `"tiny"` (part of this package), a folder, or a Hub name such as `"microsoft/wavlm-base-plus"`.
        revision: Commit on the Hub; set it to make a result reproducible.
        precision: `"fp32"`, or `"bf16"` for autocast (faster; features differ by about 1 %).
        unfreeze_layers: Number of transformer layers to train, counted from the last; 0 keeps all frozen.
        lora_rank: Rank of low-rank adapters to train on the query and value projections; 0 for none.
        final_norm: Take the last layer after the model's final norm, if it has one, as in published
            features. In transformers 5, the weighted sum of a classifier takes it before the norm.
        last_layer: Index of the last transformer layer to compute; None for all. 0 computes only the
            projected frames, the input of the transformer.
    """

    name: str = "tiny"
    revision: str | None = None
    precision: Precision = "fp32"
    unfreeze_layers: int = 0
    lora_rank: int = 0
    final_norm: bool = True
    last_layer: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise SettingError(
                f"precision={self.precision!r} must be one of {', '.join(get_args(Precision))}"
            )

    @property
    def frozen(self) -> bool:
        """True if no part of the backbone is trained, so that its layers may be cached."""
        return not (self.unfreeze_layers or self.lora_rank)


class SpeechBackbone(nn.Module):
    """A speech transformer as two stages: `frontend` (waveform to frames), `encoder` (frames to layers).

    If it is frozen, no parameter has a gradient, and the model stays in evaluation mode even after
    `train()`, so that dropout, LayerDrop and SpecAugment are off. The results for a clip are the same in a
    padded batch and alone. Only `precision` sets the precision; an autocast outside has no effect.

    Args:
        source: `"tiny"`, a folder, a Hub name, or a `BackboneSettings`; or a model already opened, which is
            modified: its parameters are frozen and its attention is replaced.
        settings: Fields of [`BackboneSettings`][wavshap_lightning.models.backbone.BackboneSettings] except
            `name`.

    Raises:
        ModelError: If the model is missing, incomplete, of another kind, or has parts that mix
            padding into the valid frames.
        SettingError: If a number is out of range, or there is no such precision.
    """

    model: TransformersModule

    def __init__(
        self,
        source: str | PretrainedSpeechModel | BackboneSettings = "tiny",
        **settings: Any,  # noqa: ANN401 - of several types
    ) -> None:
        super().__init__()
        given = source if isinstance(source, BackboneSettings) else BackboneSettings()
        if isinstance(source, PretrainedSpeechModel):
            opened = source
        else:
            name = source if isinstance(source, str) else source.name
            opened = open_pretrained(name, settings.get("revision", given.revision))
        found = {"name": opened.name, "revision": opened.revision}
        self.settings = replace(given, **(settings | found))
        _check_supported(opened)
        config = opened.model.config
        depth = config.num_hidden_layers if self.settings.last_layer is None else self.settings.last_layer
        if not 0 <= depth <= config.num_hidden_layers:
            raise SettingError(
                f"last_layer={depth} must lie between 0 and this backbone's {config.num_hidden_layers}"
            )
        self._normed_before = bool(config.do_stable_layer_norm)  # and once more after the last layer
        complete = depth == config.num_hidden_layers
        self._norms_last = self._normed_before and self.settings.final_norm and complete
        self.fingerprint = opened.fingerprint
        if not complete or self._normed_before != self._norms_last:  # not the model's own layers
            change = "before the final norm" if complete else f"up to layer {depth}"
            self.fingerprint = sha256(f"{opened.fingerprint} {change}".encode()).hexdigest()
        self.normalize = opened.normalize
        self.sample_rate = opened.sample_rate
        self.frame_grid = FrameGrid(tuple(config.conv_kernel), tuple(config.conv_stride), opened.sample_rate)
        self.num_channels: int = config.conv_dim[-1]
        self.num_layers: int = depth + 1
        self.hidden_size: int = config.hidden_size
        self.model = opened.model.requires_grad_(False)  # noqa: FBT003
        self._gated = config.model_type == "wavlm"
        if self._gated:
            use_gated_attention(self.model)
        else:
            self.model.set_attn_implementation("sdpa")  # others read a boolean mask as numbers to add
        self.model.encoder.layers = self.model.encoder.layers[:depth]
        self._trainable = unfreeze(self.model, self.settings.unfreeze_layers, self.settings.lora_rank)
        position = self.model.encoder.pos_conv_embed
        # its shift must not reach the padding, so it is called here and not in the position embedding
        self._position_norm: nn.Module | None = getattr(position, "batch_norm", None)
        position.batch_norm = None
        if self.settings.frozen:
            position.conv = without_weight_norm(position.conv)
        self.train(False)  # noqa: FBT003 - modules made here begin in training mode

    def rename(self, name: str, revision: str | None = None) -> None:
        """Record another name for the same weights, such as that of a folder once it is published.

        Args:
            name: Name on the Hub, or a folder.
            revision: Commit on the Hub.
        """
        self.settings = replace(self.settings, name=absolute(name), revision=revision)

    def train(self, mode: bool = True) -> SpeechBackbone:  # noqa: FBT001, FBT002 - torch's signature
        """Put what is trained into training mode; the rest stays in evaluation mode."""
        super().train(False)  # noqa: FBT003
        for module in self._trainable:
            module.train(mode)
        return self

    def num_frames(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Valid frames of clips of `lengths` samples.

        Raises:
            SettingError: If a clip is shorter than one receptive field.
        """
        shortest = int(lengths.min())
        if shortest < self.frame_grid.receptive_field_samples:
            raise SettingError(
                f"lengths: the shortest clip has {shortest} samples, one frame needs "
                f"{self.frame_grid.receptive_field_samples}; leave out or pad clips this short"
            )
        steps = lengths - self.frame_grid.receptive_field_samples
        return steps.div(self.frame_grid.hop_samples, rounding_mode="floor") + 1

    def frontend(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch time channels"]:
        """Convolutional features of each clip; zero beyond its last whole frame.

        Args:
            waveforms: Clips in [-1, 1], zero-padded at the end.
            lengths: Valid samples of each clip; all of them if None.

        Raises:
            SettingError: If a clip is shorter than one receptive field or longer than the waveforms.
        """
        lengths = _valid_lengths("lengths", lengths, waveforms)
        num_frames = self.num_frames(lengths)
        with self._autocast(waveforms.device):
            states = normalize_waveforms(waveforms, lengths) if self.normalize else waveforms
            states = self._convolve(states, lengths)
        frames = states.transpose(1, 2).float()
        return frames * valid_mask(num_frames, frames.shape[1])[:, :, None]

    def encoder(
        self, frames: Float[Tensor, "batch time channels"], num_frames: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch layer time hidden"]:
        """Hidden states of each clip; zero beyond its last frame.

        Layer 0 is the projected frames with their position embedding, layer k the output of
        transformer layer k, the last one after the final norm where the model has one (see `final_norm`).

        Args:
            frames: Output of `frontend`.
            num_frames: Valid frames of each clip; all of them if None.

        Raises:
            SettingError: If a clip has more valid frames than there are.
        """
        num_frames = _valid_lengths("num_frames", num_frames, frames)
        mask = valid_mask(num_frames, frames.shape[1])
        with self._autocast(frames.device):
            layers = self._hidden_states(frames, mask)
        return torch.stack([states.float() for states in layers], 1) * mask[:, None, :, None]

    def forward(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch layer time hidden"]:
        """Both stages in turn."""
        lengths = _valid_lengths("lengths", lengths, waveforms)
        return self.encoder(self.frontend(waveforms, lengths), self.num_frames(lengths))

    def _autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """Autocast according to `precision`, regardless of an autocast outside."""
        lowered = self.settings.precision == "bf16"
        if lowered and device.type == "cpu" and not _cpu_has_bf16():
            warnings.warn(
                "precision='bf16': this CPU has no bf16 instructions, which makes it much slower; "
                "use precision='fp32'",
                stacklevel=3,
            )
        return torch.autocast(device.type, torch.bfloat16, enabled=lowered)

    def _convolve(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch channels time"]:
        """Output of the convolutions, unmasked."""
        first, *rest = self.model.feature_extractor.conv_layers
        norm, states = getattr(first, "layer_norm", None), waveforms[:, None]
        if isinstance(norm, nn.GroupNorm):  # over the whole clip: the padding must not count
            kernel, stride = first.conv.kernel_size[0], first.conv.stride[0]
            steps = (lengths - kernel).div(stride, rounding_mode="floor") + 1
            states = first.activation(valid_group_norm(first.conv(states), steps, norm))
        else:
            states = first(states)
        for convolution in rest:
            states = convolution(states)
        return states

    def _hidden_states(self, frames: Float[Tensor, "batch time channels"], mask: Tensor) -> list[Tensor]:
        """The layers from the first to the last, `(batch, time, hidden)` each."""
        encoder = self.model.encoder
        projected = self.model.feature_projection(frames)
        projected = projected[0] if isinstance(projected, tuple) else projected
        projected = projected * mask[:, :, None]
        positioned = projected
        if self._position_norm is not None:
            positioned = self._position_norm(projected.transpose(1, 2)).transpose(1, 2) * mask[:, :, None]
        states = projected + encoder.pos_conv_embed(positioned)
        states = states if self._normed_before else encoder.layer_norm(states)
        layers = [encoder.dropout(states)]
        run_layer = self._layer_call(mask)
        for layer in encoder.layers:
            layers.append(run_layer(layer, layers[-1]))
        if self._norms_last:
            layers[-1] = encoder.layer_norm(layers[-1])
        return layers

    def _layer_call(self, mask: Tensor) -> Callable[[nn.Module, Tensor], Tensor]:
        """Function that calls one transformer layer of this family."""
        keys = None if bool(mask.all()) else mask
        if not len(self.model.encoder.layers):
            return lambda _layer, states: states  # all were cut off; none is called
        if not self._gated:
            attendable = None if keys is None else keys[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
            return lambda layer, states: layer(states, attention_mask=attendable)
        num_frames = mask.shape[1]
        bias = self.model.encoder.layers[0].attention.compute_bias(num_frames, num_frames)
        return lambda layer, states: layer(states, attention_mask=keys, position_bias=bias)[0]


def _valid_lengths(name: str, lengths: Int[Tensor, " batch"] | None, batch: Tensor) -> Int[Tensor, " batch"]:
    """The lengths along the second dimension of a batch, all of it where none are given."""
    size = batch.shape[1]
    if lengths is None:
        return torch.full((batch.shape[0],), size, device=batch.device)
    if int(lengths.max()) > size:
        raise SettingError(f"{name}: the longest clip has {int(lengths.max())}, but the batch only {size}")
    return lengths


def _cpu_has_bf16() -> bool:
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # absent without oneDNN
    return supported is not None and bool(supported())


def _check_supported(opened: PretrainedSpeechModel) -> None:
    if getattr(opened.model.config, "add_adapter", False):
        raise ModelError(
            f"backbone={opened.name!r} has add_adapter=True, which mixes padding into valid frames; "
            "use a model without it"
        )
