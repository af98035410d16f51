"""Frontends: from waveforms to frames, inside the graph, so that gradients reach the waveform.

WavLM Base, HuBERT Base and wav2vec2 Base normalize the first convolution's output over the whole
padded length: padding a clip changes its features by tens of per cent, attention mask or not.
Computed over each clip's own samples, a padded batch equals the clips one by one.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers.audio_utils import mel_filter_bank, window_function

from wavshap_lightning.audio.frames import FrameGrid

TransformersModule = Any  # transformers' submodules are untyped

# Of Whisper's spectrogram, in samples and samples per second.
N_FFT, HOP, MEL_RATE = 400, 160, 16_000

# Kaldi's filter banks, with frames of as many samples; the floor is that of single precision.
KALDI_FFT, KALDI_FLOOR = 512, 1.192092955078125e-07
KALDI_MEL: dict[str, Any] = {"min_frequency": 20.0, "mel_scale": "kaldi", "triangularize_in_mel_space": True}

WAVEFORM_EPSILON = 1e-7  # what the models' own feature extractors add to the variance


@runtime_checkable
class Frontend(Protocol):
    """First stage of a backbone.

    Attributes:
        grid: Position of the frames in time.
        num_channels: Size of each frame.
    """

    grid: FrameGrid
    num_channels: int

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time channels"]:
        """Frames of each clip; any values beyond its last whole frame.

        Args:
            waveforms: Clips in [-1, 1], zero-padded at the end.
            lengths: Valid samples of each clip.
        """

    def features(self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]) -> Tensor:
        """Output of the model's own feature extractor, which the model in transformers takes.

        Args:
            waveforms: Clips in [-1, 1], zero-padded at the end.
            lengths: Valid samples of each clip.
        """


class Convolutions:
    """Strided convolutions, as in wav2vec2 and its relatives.

    Args:
        model: The speech transformer that they belong to.
        sample_rate: Samples per second of its waveforms.
        normalize: Scale each waveform to zero mean and unit variance first.
    """

    def __init__(self, model: TransformersModule, *, sample_rate: int, normalize: bool) -> None:
        config = model.config
        self.grid = FrameGrid(tuple(config.conv_kernel), tuple(config.conv_stride), sample_rate)
        self.num_channels: int = config.conv_dim[-1]
        self._layers = model.feature_extractor.conv_layers
        self._normalize = normalize
        self._epsilon: float = getattr(config, "normalization_epsilon", WAVEFORM_EPSILON)

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time channels"]:
        """Output of the convolutions, unmasked."""
        states = self.features(waveforms, lengths)
        first, *rest = self._layers
        norm, states = getattr(first, "layer_norm", None), states[:, None]
        if isinstance(norm, nn.GroupNorm):  # over the whole clip: the padding must not count
            kernel, stride = first.conv.kernel_size[0], first.conv.stride[0]
            steps = (lengths - kernel).div(stride, rounding_mode="floor") + 1
            states = first.activation(valid_group_norm(first.conv(states), steps, norm))
        else:
            states = first(states)
        for convolution in rest:
            states = convolution(states)
        return states.transpose(1, 2)

    def features(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch samples"]:
        """The waveforms, normalized if the model wants them so."""
        return (
            normalize_waveforms(waveforms, lengths, epsilon=self._epsilon) if self._normalize else waveforms
        )


class LogMel:
    """Log-mel spectrogram and two convolutions, as in Whisper: a frame every 20 ms, the first at 0 s.

    The spectrogram equals that of `WhisperFeatureExtractor`, with levels down to 80 dB below the highest.

    Args:
        model: The encoder that the convolutions belong to.
        sample_rate: Samples per second of its waveforms.
        normalize: Unused; the extractor takes waveforms as they are.
    """

    def __init__(self, model: TransformersModule, *, sample_rate: int, normalize: bool) -> None:  # noqa: ARG002
        config, size = model.config, model.config.max_source_positions
        padding = (520, 519)  # half a window, and a column on either side of each kernel
        self.grid = FrameGrid((N_FFT, 3, 3), (HOP, 1, 2), sample_rate, padding, size, fixed=True)
        self.num_channels: int = config.d_model
        self._max_samples: int = 2 * HOP * size
        self._model = model
        bins, mels = N_FFT // 2 + 1, config.num_mel_bins
        filters = mel_filter_bank(bins, mels, 0.0, 8000.0, sample_rate, norm="slaney", mel_scale="slaney")
        self._filters = torch.from_numpy(filters.T).float()

    @staticmethod
    def extractor(config: Any) -> dict[str, Any]:  # noqa: ANN401 - transformers' are untyped
        """Settings of the extractor that it equals."""
        seconds = config.max_source_positions * 2 * HOP / MEL_RATE
        kind = {"feature_extractor_type": "WhisperFeatureExtractor"}
        sizes = {"feature_size": config.num_mel_bins, "n_fft": N_FFT, "hop_length": HOP}
        return {**kind, **sizes, "chunk_length": seconds, "sampling_rate": MEL_RATE, "dither": 0.0}

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time channels"]:
        """Output of the convolutions."""
        states = F.gelu(self._model.conv1(self.features(waveforms, lengths)))
        return F.gelu(self._model.conv2(states)).transpose(1, 2)

    def features(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch mels columns"]:
        """Spectrogram of each clip, two columns a frame; zero beyond its last frame."""
        grid, longest = self.grid, self._max_samples
        num_samples = min(waveforms.shape[1], longest)
        # so much silence that the last window neither cuts nor mirrors the clip, except at the window's end
        size = longest if grid.fixed else min(num_samples + N_FFT + 2 * HOP, longest)
        padded = waveforms[:, :num_samples] * valid_mask(lengths, num_samples)
        padded = F.pad(padded, (0, size - num_samples))
        with torch.autocast(waveforms.device.type, enabled=False):
            window = torch.hann_window(N_FFT).to(padded)
            spectrum = torch.stft(padded, N_FFT, HOP, window=window, return_complex=True)
            levels = (self._filters.to(padded) @ spectrum[..., :-1].abs().square()).clamp(1e-10).log10()
        levels = torch.maximum(levels, levels.amax((1, 2), keepdim=True) - 8.0)
        num_columns = lengths.new_tensor([2 * grid.num_frames(length) for length in lengths.tolist()])
        mask = valid_mask(num_columns, 2 * grid.num_frames(num_samples))[:, None]
        return (levels[:, :, : mask.shape[2]] + 4.0) / 4.0 * mask


class EncodedWindow:
    """Last layer of a Whisper encoder, which attends to its whole window, at the frames of the clip alone.

    Args:
        model: The encoder.
        sample_rate: Samples per second of its waveforms.
        normalize: Unused; the extractor takes waveforms as they are.
    """

    def __init__(self, model: TransformersModule, *, sample_rate: int, normalize: bool) -> None:
        model.set_attn_implementation("sdpa")
        window = LogMel(model, sample_rate=sample_rate, normalize=normalize)
        # a column of the spectrogram that the clip does not fill counts for no frame, as in Vox-Profile
        self.grid = replace(window.grid, padding=(520, 360), fixed=False)
        self.num_channels, self.features, self._model = window.num_channels, window.features, model

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time channels"]:
        """Output of the encoder, after its final norm."""
        states: Tensor = self._model(self.features(waveforms, lengths)).last_hidden_state
        return states[:, : self.grid.num_frames(waveforms.shape[1])]


class StackedFilterBank:
    """Kaldi's filter bank, each bin normalized over the clip, and two frames as one, as in Wav2Vec2-BERT.

    The differentiable twin of `SeamlessM4TFeatureExtractor`. An odd frame at the end counts in the
    normalization alone.

    Args:
        model: The speech transformer that reads it.
        sample_rate: Samples per second of the waveforms.
        normalize: Ignored, as by its feature extractor, which always normalizes.
    """

    def __init__(self, model: TransformersModule, *, sample_rate: int, normalize: bool) -> None:  # noqa: ARG002
        self.grid = FrameGrid((N_FFT, 2), (HOP, 2), sample_rate)
        self.num_channels: int = model.config.feature_projection_input_dim

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time channels"]:
        """Normalized log energies."""
        num_bins = self.num_channels // 2
        energies = filter_bank(2.0**15 * waveforms, "povey", num_bins, self.grid.sample_rate)
        rows, counts = energies.transpose(1, 2).flatten(0, 1), _bank_frames(lengths)
        rows = normalize_waveforms(rows, counts.repeat_interleave(num_bins), ddof=1)
        even = rows.view(len(lengths), num_bins, -1).transpose(1, 2)[:, : rows.shape[1] // 2 * 2]
        return even.reshape(len(lengths), -1, self.num_channels).float()

    features = __call__


class PaddedFilterBank:
    """Kaldi's filter bank in a fixed number of frames, as in the Audio Spectrogram Transformer.

    The differentiable twin of `ASTFeatureExtractor` without torchaudio.

    Args:
        model: The transformer that reads it.
        sample_rate: Samples per second of the waveforms.
        mean: Mean of the log energies.
        std: Half of what they are divided by.
    """

    def __init__(
        self, model: TransformersModule, *, sample_rate: int, mean: float, std: float, **_: bool
    ) -> None:
        size, self.num_channels = model.config.max_length, model.config.num_mel_bins
        self.grid = FrameGrid((N_FFT,), (HOP,), sample_rate, max_frames=size, fixed=True)
        self._mean, self._std = mean, std

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time channels"]:
        """Log energies, zero beyond the clip before they are standardized."""
        energies = filter_bank(waveforms, "hann", self.num_channels, self.grid.sample_rate)
        energies = energies * valid_mask(_bank_frames(lengths), energies.shape[1])[:, :, None]
        energies = F.pad(energies, (0, 0, 0, self.grid.num_frames(0) - energies.shape[1]))
        return ((energies - self._mean) / (2 * self._std)).float()

    features = __call__


def filter_bank(
    waveforms: Float[Tensor, "batch samples"], window: str, num_bins: int, sample_rate: int
) -> Float64[Tensor, "batch time bins"]:
    """Log energies of a mel filter bank as Kaldi computes them: no padding, each frame without its mean.

    In double precision: in single, a quiet bin beside a loud one has few digits left.

    Args:
        waveforms: Clips at the scale that the floor of the energies belongs to.
        window: `"povey"` or `"hann"`.
        num_bins: Number of mel filters, from 20 Hz to half the sample rate.
        sample_rate: Samples per second.
    """
    weights, filters = (values.to(waveforms.device) for values in _bank(window, num_bins, sample_rate))
    frames = waveforms.double().unfold(1, N_FFT, HOP)
    frames = frames - frames.mean(2, keepdim=True)
    frames = frames - 0.97 * F.pad(frames, (1, 0), mode="replicate")[:, :, :-1]  # pre-emphasis
    spectra = torch.view_as_real(torch.fft.rfft(frames * weights, KALDI_FFT))
    return (spectra.square().sum(3) @ filters).clamp(min=KALDI_FLOOR).log()


@cache
def _bank(window: str, num_bins: int, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Window and mel filters, as of transformers' feature extractors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of AST's filters are empty, as when it was trained
        filters = mel_filter_bank(
            KALDI_FFT // 2 + 1,
            num_bins,
            max_frequency=sample_rate / 2,
            sampling_rate=sample_rate,
            **KALDI_MEL,
        )
    return torch.from_numpy(window_function(N_FFT, window, periodic=False)), torch.from_numpy(filters)


def _bank_frames(lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    return (lengths - N_FFT) // HOP + 1


class WholeModel:
    """A classifier of waveforms of which nothing but the outputs is known: every frame holds them all.

    Clips of different lengths are run one by one, since it may let padding in.

    Args:
        model: The classifier.
        sample_rate: Samples per second of its waveforms.
        normalize: Scale each waveform to zero mean and unit variance first.
    """

    def __init__(self, model: TransformersModule, *, sample_rate: int, normalize: bool) -> None:
        hop = sample_rate // 50  # as usual
        self.grid = FrameGrid((5 * hop,), (hop,), sample_rate)
        self.num_channels: int = model.config.num_labels
        self._model, self._normalize = model, normalize

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time channels"]:
        """Outputs of the model, at each frame."""
        states = self.features(waveforms, lengths)
        alone = [clip[None, :length] for clip, length in zip(states, lengths.tolist(), strict=True)]
        clips = [states] if bool((lengths == states.shape[1]).all()) else alone
        logits = torch.cat([self._model(clip).logits for clip in clips])
        return logits[:, None].expand(-1, self.grid.num_frames(states.shape[1]), -1)

    def features(self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]) -> Tensor:
        """Waveforms, normalized if need be."""
        return normalize_waveforms(waveforms, lengths) if self._normalize else waveforms


def valid_mask(lengths: Int[Tensor, " batch"], size: int) -> Bool[Tensor, "batch size"]:
    """True at the first `lengths[i]` of `size` positions.

    >>> valid_mask(torch.tensor([1, 3]), 3).int().tolist()
    [[1, 0, 0], [1, 1, 1]]
    """
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def normalize_waveforms(
    waveforms: Float[Tensor, "batch samples"],
    lengths: Int[Tensor, " batch"],
    ddof: int = 0,
    epsilon: float = WAVEFORM_EPSILON,
) -> Float[Tensor, "batch samples"]:
    """Scale each clip's valid samples to zero mean and unit variance; padding becomes zero.

    The differentiable twin of `Wav2Vec2FeatureExtractor(do_normalize=True)`.

    Args:
        waveforms: Clips, or other rows of numbers.
        lengths: Valid samples of each.
        ddof: Subtracted from their number where the variance is divided by it.
        epsilon: Added to the variance.
    """
    mask = valid_mask(lengths, waveforms.shape[1])
    centred = (waveforms - _valid_mean(waveforms * mask, lengths)) * mask
    return centred / torch.sqrt(_valid_mean(centred.square(), lengths - ddof) + epsilon)


def valid_group_norm(
    states: Float[Tensor, "batch channels time"], lengths: Int[Tensor, " batch"], norm: nn.GroupNorm
) -> Float[Tensor, "batch channels time"]:
    """The model's group norm, its statistics taken over each clip's valid steps alone.

    Each clip goes through the very kernel it would go through by itself, so that the result is the
    same in any precision and at any length.

    Args:
        states: Output of the first convolution.
        lengths: Valid steps of each clip.
        norm: The model's own group norm.

    Returns:
        The normalized states, zero in the padding.
    """
    if bool((lengths == states.shape[2]).all()):
        return _group_norm(states, norm)
    alone = (
        _group_norm(clip[None, :, :length], norm)
        for clip, length in zip(states, lengths.tolist(), strict=True)
    )
    return torch.cat([F.pad(clip, (0, states.shape[2] - clip.shape[2])) for clip in alone])


def _group_norm(states: Float[Tensor, "batch channels time"], norm: nn.GroupNorm) -> Tensor:
    return F.group_norm(states, norm.num_groups, norm.weight, norm.bias, norm.eps)


def _valid_mean(
    masked: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch 1"]:
    return masked.sum(1, keepdim=True) / lengths[:, None]
