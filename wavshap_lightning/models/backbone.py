"""The speech backbone: waveform to frames to layers, frozen and exact under padding."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.encoders import Encoder, Layers, use_one_dnn
from wavshap_lightning.models.frontends import TransformersModule, valid_mask
from wavshap_lightning.models.pretrained import PretrainedSpeechModel, absolute, open_pretrained


def unfreeze(encoder: Encoder, num_layers: int, lora_rank: int) -> list[nn.Module]:
    """Make the last layers trainable, and add low-rank adapters.

    Args:
        encoder: The encoder, with all parameters frozen.
        num_layers: Number of transformer layers to train, counted from the last.
        lora_rank: Rank of the adapters on every query and value projection; 0 adds none.

    Returns:
        The trainable modules, whose training mode the caller must switch.

    Raises:
        SettingError: If a number is out of range, or peft is not installed.

    Source: Hu et al. 2021, "LoRA", for the adapters.
    """
    depth = len(encoder.layers)
    if not 0 <= num_layers <= depth:
        raise SettingError(
            f"unfreeze_layers={num_layers} must lie between 0 and this backbone's {depth} layers"
        )
    if lora_rank < 0 or (lora_rank and not depth):
        raise SettingError(
            f"lora_rank={lora_rank} must be at least 0 (no adapters), and 0 if last_layer=0 leaves no layers"
        )
    trained = [layer.requires_grad_(True) for layer in encoder.layers[depth - num_layers :]]  # noqa: FBT003
    return trained + (_add_adapters(encoder, lora_rank) if lora_rank else [])


def _add_adapters(encoder: Encoder, rank: int) -> list[nn.Module]:
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingError(
            f"lora_rank={rank} needs peft; install it with: pip install 'wavshap-lightning[lora]'"
        ) from error
    model, targets = encoder.model, [*encoder.projections]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules=targets)
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
        pad_to_window: Pad every clip with silence to the window of the model, 30 s for Whisper, as published.
            False: only as many frames as the clip has, which is faster and gives other layers. Models without
            a window need the default.
    """

    name: str = "tiny"
    revision: str | None = None
    precision: Precision = "fp32"
    unfreeze_layers: int = 0
    lora_rank: int = 0
    final_norm: bool = True
    last_layer: int | None = None
    pad_to_window: bool = True

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
            modified: its parameters are frozen, its attention and linear layers are replaced by faster ones.
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
        last = getattr(config, "num_hidden_layers", 0)
        depth = last if self.settings.last_layer is None else self.settings.last_layer
        if not 0 <= depth <= last:
            raise SettingError(f"last_layer={depth} must lie between 0 and this backbone's {last}")
        family, final_norm = opened.family, self.settings.final_norm
        self.stages, self.fingerprint = family.stages, opened.fingerprint
        changes = [f"up to layer {depth}"] if depth < last else []
        if not (changes or final_norm) and family.encoder.has_final_norm(opened.model):
            changes.append("before the final norm")
        if not self.settings.pad_to_window:
            changes.append("with frames of the clip alone")
        if changes:  # not the model's own layers
            self.fingerprint = sha256(" ".join([opened.fingerprint, *changes]).encode()).hexdigest()
        self.normalize = opened.normalize
        self.sample_rate = opened.sample_rate
        self.model = opened.model.requires_grad_(False)  # noqa: FBT003
        self._frontend = opened.frontend()
        self._encoder = family.encoder(self.model, depth, final_norm=final_norm, frozen=self.settings.frozen)
        self.frame_grid = self._frontend.grid = self._grid(self._frontend.grid)
        self.num_channels = self._frontend.num_channels
        self.num_layers = self._encoder.num_layers
        self.hidden_size: int = config.hidden_size if family.backbone else self.num_channels
        use_one_dnn(self.model)
        self._trainable = unfreeze(self._encoder, self.settings.unfreeze_layers, self.settings.lora_rank)
        self.train(False)  # noqa: FBT003 - modules made here begin in training mode

    def _grid(self, grid: FrameGrid) -> FrameGrid:
        """The frames of the model, those of the padding only if the settings say so."""
        if self.settings.pad_to_window:
            return grid
        if not grid.fixed or "layers" not in self.stages:  # without layers in time, as many patches as ever
            raise SettingError(
                f"pad_to_window=False needs a model that pads every clip to a window and can do with less, "
                f"such as Whisper; backbone={self.settings.name!r} is another; leave it out"
            )
        return replace(grid, fixed=False)

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
            SettingError: If a clip is shorter than one frame, or longer than the model takes.
        """
        grid, shortest, longest = self.frame_grid, int(lengths.min()), int(lengths.max())
        if shortest < grid.min_samples:
            raise SettingError(
                f"lengths: the shortest clip has {shortest} samples, one frame needs "
                f"{grid.min_samples}; leave out or pad clips this short"
            )
        if grid.max_samples is not None and longest > grid.max_samples:
            raise SettingError(
                f"lengths: the longest clip has {longest} samples, the model takes {grid.max_samples}; "
                "leave out or cut clips this long"
            )
        return lengths.new_tensor([grid.num_frames(length) for length in lengths.tolist()])

    def frontend(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch time channels"]:
        """Frames of each clip, such as its convolutional features; zero beyond its last whole frame.

        Args:
            waveforms: Clips in [-1, 1], zero-padded at the end.
            lengths: Valid samples of each clip; all of them if None.

        Raises:
            SettingError: If a clip is shorter than one receptive field or longer than the waveforms.
        """
        lengths = _valid_lengths("lengths", lengths, waveforms)
        num_frames = self.num_frames(lengths)
        with self._autocast(waveforms.device):
            frames = self._frontend(waveforms, lengths).float()
        return frames * valid_mask(num_frames, frames.shape[1])[:, :, None]

    def encoder(
        self, frames: Float[Tensor, "batch time channels"], num_frames: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch layer step hidden"]:
        """Hidden states of each clip; zero beyond its last frame.

        Layer 0 is the projected frames with their position embedding, layer k the output of
        transformer layer k, the last one after the final norm where the model has one (see `final_norm`).
        A step is a frame, except in AST, which has one layer of one step.

        Args:
            frames: Output of `frontend`.
            num_frames: Valid frames of each clip; all of them if None.

        Raises:
            SettingError: If a clip has more valid frames than there are.
        """
        num_frames = _valid_lengths("num_frames", num_frames, frames)
        mask = valid_mask(num_frames, frames.shape[1])
        with self._autocast(frames.device):
            if self._encoder.masks_padding or bool(mask.all()):
                layers = self._encoder(frames, mask)
            else:
                layers = self._encode_alone(frames, num_frames)
        mask = mask[:, : layers[0].shape[1]]  # AST has fewer steps than frames
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
        if lowered and device.type == "cpu" and not has_bf16(device):
            warnings.warn(
                "precision='bf16': this CPU has no bf16 instructions, which makes it much slower; "
                "use precision='fp32'",
                stacklevel=3,
            )
        return torch.autocast(device.type, torch.bfloat16, enabled=lowered)

    def _encode_alone(
        self, frames: Float[Tensor, "batch time channels"], num_frames: Int[Tensor, " batch"]
    ) -> Layers:
        """The layers of each clip without its padding, which would change them."""
        clips = [clip[None, :count] for clip, count in zip(frames, num_frames.tolist(), strict=True)]
        encoded = [self._encoder(clip, torch.ones_like(clip[:, :, 0], dtype=torch.bool)) for clip in clips]
        size = frames.shape[1]
        return [
            torch.cat([F.pad(states, (0, 0, 0, size - states.shape[1])) for states in layer])
            for layer in zip(*encoded, strict=True)
        ]


def _valid_lengths(name: str, lengths: Int[Tensor, " batch"] | None, batch: Tensor) -> Int[Tensor, " batch"]:
    """The lengths along the second dimension of a batch, all of it where none are given."""
    size = batch.shape[1]
    if lengths is None:
        return torch.full((batch.shape[0],), size, device=batch.device)
    if int(lengths.max()) > size:
        raise SettingError(f"{name}: the longest clip has {int(lengths.max())}, but the batch only {size}")
    return lengths


def has_bf16(device: torch.device) -> bool:
    """True if a device has instructions for bf16, without which it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # absent without oneDNN
    return device.type == "cpu" and supported is not None and bool(supported())


def _check_supported(opened: PretrainedSpeechModel) -> None:
    if getattr(opened.model.config, "add_adapter", False):
        raise ModelError(
            f"backbone={opened.name!r} has add_adapter=True, which mixes padding into valid frames; "
            "use a model without it"
        )
