"""Long recordings: the backbone's stages piece by piece, with the same result in a fraction of the memory.

Ten minutes are 30 000 frames. The first convolution makes gigabytes of them, and self-attention looks at
every pair: one bias for each pair and head is 40 GB. Nothing of that need be there at once. The convolutions
take a window of frames after the other, each with all the samples it hears, and what the normalisations know
of the whole recording is computed beforehand. The transformer takes a layer after the other, and in it a
block of queries after the other, each of which attends to all frames. Where gradients flow, what lies
within a window, a layer or a block is computed again instead of kept.

Windows that the transformer hears one by one, with seconds of context, would be quicker where a recording is
longer than a minute or two, and are not taken: context does not make up for the frames that are out of reach.
What is here takes time that grows with the square of the duration, and changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.attention import Normalize, bias_by_offset, convolve, group_norm_of, sparingly
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.normalization import channel_statistics, normalize_waveforms


@dataclass(frozen=True)
class LongBackbone:
    """A backbone's stages for long waveforms that are valid throughout, to be asked where nothing is trained.

    Args:
        backbone: Whose.
        window_frames: Frames of a window at most.

    Raises:
        SettingError: If a window would be empty.
    """

    backbone: SpeechBackbone
    window_frames: int

    def __post_init__(self) -> None:
        if self.window_frames < 1:
            raise SettingError(f"window_frames={self.window_frames} must be at least 1")

    def frontend(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch time channels"]:
        """As `SpeechBackbone.frontend`, but for rounding."""
        if self.backbone.normalize:
            lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
            waveforms = normalize_waveforms(waveforms, lengths)
        normalize_first = _normalizer(self.backbone, waveforms)
        num_frames = self.backbone.frame_grid.num_frames(waveforms.shape[1])
        windows = [
            sparingly(self._convolve, normalize_first, waveforms[:, self._heard(*window)])
            for window in pairwise(edges(num_frames, self.window_frames))
        ]
        return torch.cat(windows, 1)

    def encoder(
        self, frames: Float[Tensor, "batch time channels"]
    ) -> Float[Tensor, "batch layer time hidden"]:
        """As `SpeechBackbone.encoder`, but for rounding; of ten minutes alone that is a gigabyte."""
        layers = frames.new_empty(
            len(frames), self.backbone.num_layers, frames.shape[1], self.backbone.hidden_size
        )
        with torch.no_grad(), self.backbone.autocast(frames.device):
            for index, states in enumerate(self._hidden_states(frames)):
                layers[:, index] = states
        return layers

    def mixed(
        self, frames: Float[Tensor, "batch time channels"], weights: Float[Tensor, " layer"]
    ) -> Float[Tensor, "batch time hidden"]:
        """The sum of all layers with these weights, which are not differentiated."""
        mixed = frames.new_zeros(*frames.shape[:2], self.backbone.hidden_size)
        with self.backbone.autocast(frames.device):
            for weight, states in zip(weights.tolist(), self._hidden_states(frames), strict=True):
                mixed = mixed + weight * states.float()
        return mixed

    def _hidden_states(self, frames: Float[Tensor, "batch time channels"]) -> Iterator[Tensor]:
        call = self._layer_call(frames.shape[1])
        projected = self.backbone.project(frames)
        return self.backbone.hidden_states(projected, lambda layer, states: sparingly(call, layer, states))

    def _layer_call(self, num_frames: int) -> Callable[[nn.Module, Tensor], Tensor]:
        """How a layer is called; fused kernels without a bias hold no pairs of frames anyway."""
        model = self.backbone.model
        if model.config.model_type != "wavlm" or not len(model.encoder.layers):
            return lambda layer, states: layer(states)
        bias = bias_by_offset(model.encoder.layers[0].attention, num_frames, model.config)
        return lambda layer, states: layer(states, position_bias=bias)[0]

    def _heard(self, start: int, stop: int) -> slice:
        """The samples that some frames hear."""
        grid = self.backbone.frame_grid
        last = (stop - 1) * grid.hop_samples
        return slice(start * grid.hop_samples, last + grid.receptive_field_samples)

    def _convolve(
        self, normalize_first: Normalize, samples: Float[Tensor, "batch samples"]
    ) -> Float[Tensor, "batch time channels"]:
        with self.backbone.autocast(samples.device):
            states = convolve(self.backbone.model, samples[:, None], normalize_first)
        return states.transpose(1, 2).float()


def edges(num_frames: int, window_frames: int) -> list[int]:
    """Where windows begin and the last one ends: as few as will do, as equal as they can be.

    >>> edges(10, 4)
    [0, 3, 6, 10]
    """
    count = -(-num_frames // window_frames)
    return [num_frames * index // count for index in range(count + 1)]


def _normalizer(backbone: SpeechBackbone, waveforms: Float[Tensor, "batch samples"]) -> Normalize:
    """The group norm of a part, with the statistics of the whole; never asked where the model has none."""
    if group_norm_of(backbone.model) is None:
        return lambda states, norm: norm(states)
    return channel_statistics(waveforms, backbone.model.feature_extractor.conv_layers[0].conv).normalize
