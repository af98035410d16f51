"""What the backbone is to know of clean speech: in every frame, and of the utterance as a whole."""

from __future__ import annotations

from typing import NamedTuple

import librosa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pretraining.utterances import FRAMES, QUALITIES
from wavshap_lightning.audio.io import SAMPLE_RATE

NUM_MELS = 40
_FLOOR = 1e-9
_SPEECH_DB = 35.0
_SLOPE_FRAMES, _CHANGE_FRAMES = 2, 10  # to either side: 80 ms, 400 ms
_MAX_SLOPE, _MAX_CHANGE = 0.7, 1.2  # octaves; more is an error of the octave
PROSODY = ("energy", "tilt", "flux", "periodicity", "log_f0", "log_f0_slope", "log_f0_change")
FRAME_GROUPS: dict[str, int] = {
    "mel": NUM_MELS,
    "prosody": len(PROSODY),
    "quality": len(QUALITIES),
    "voicing": 1,
}
"""What is told of every frame, and how many numbers each takes.

Log-mel bands, prosody, the qualities of procedural voices, and whether there is voice.
"""

UTTERANCE = (
    *(f"{name}_{moment}" for moment in ("mean", "std") for name in PROSODY),
    "voiced_share",
    "speech_share",
    "rate",
    "log_f0_change_min",
    "log_f0_change_max",
    *(f"{quality}_{statistic}" for statistic in ("mean", "max") for quality in QUALITIES),
)
"""What is told of the utterance: moments, shares, and what happened most strongly in it, however briefly."""


class Targets(NamedTuple):
    """Regression targets; NaN where one is unknown or makes no sense.

    Args:
        frames: The groups of `FRAME_GROUPS` in their order.
        utterance: As `UTTERANCE` names them.
        voice: Index of the espeak-ng variant; -1 where there is none.
    """

    frames: Float[Tensor, "batch frames targets"]
    utterance: Float[Tensor, "batch descriptors"]
    voice: Tensor


def build_targets(
    clean: Float[Tensor, "batch time"],
    *,
    f0_hz: Float[Tensor, "batch frames"],
    periodicity: Float[Tensor, "batch frames"],
    qualities: Float[Tensor, "batch qualities frames"],
    rate: Float[Tensor, " batch"],
    voice: Tensor,
) -> Targets:
    """The targets of clean waveforms at the level they were given."""
    mel = log_mel(clean)
    voiced = f0_hz > 0
    energy = mel.exp().sum(2).log()
    speech = energy > energy.amax(1, keepdim=True) - _SPEECH_DB / 10 * 2.302585
    prosody = torch.stack([energy, _tilt(mel), _flux(mel), periodicity, *_log_f0(f0_hz, voiced)], dim=2)
    nan = torch.tensor(float("nan"))
    prosody[:, :, 1:4] = torch.where(speech[:, :, None], prosody[:, :, 1:4], nan)
    groups = {
        "mel": mel,
        "prosody": prosody,
        "quality": qualities.transpose(1, 2),
        "voicing": voiced[:, :, None].float(),
    }
    frames = torch.cat([groups[name] for name in FRAME_GROUPS], dim=2)
    within = prosody.clone()
    within[:, :, 0] = torch.where(speech, energy, nan)
    shares = torch.stack([(voiced & speech).float().sum(1) / speech.sum(1), speech.float().mean(1), rate], 1)
    change = prosody[:, :, PROSODY.index("log_f0_change")]
    extremes = torch.stack([-_max(-change), _max(change)], dim=1)
    told = [*_moments(within), shares, extremes, qualities.nanmean(2), _max(qualities)]
    return Targets(frames, torch.cat(told, dim=1), voice)


def log_mel(clean: Float[Tensor, "batch time"]) -> Float[Tensor, "batch frames mels"]:
    """Log power in mel bands, a Hann window over each frame's receptive field."""
    size = FRAMES.receptive_field_samples
    pieces = clean.unfold(1, size, FRAMES.hop_samples) * torch.hann_window(size)
    power = torch.fft.rfft(pieces, 2048).abs().square() / size
    filters = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=2048, n_mels=NUM_MELS, fmin=50.0)
    return (power @ torch.from_numpy(filters).T + _FLOOR).log()


def _tilt(log_mel: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch frames"]:
    """Slope of the spectrum over the mel bands."""
    position = torch.linspace(-1.0, 1.0, NUM_MELS)
    return (log_mel * position).mean(2)


def _flux(log_mel: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch frames"]:
    """How much the spectrum moves from the frame before to the frame after."""
    padded = torch.cat([log_mel[:, :1], log_mel, log_mel[:, -1:]], dim=1)
    return (padded[:, 2:] - padded[:, :-2]).abs().mean(2)


def _log_f0(
    f0_hz: Float[Tensor, "batch frames"], voiced: Bool[Tensor, "batch frames"]
) -> list[Float[Tensor, "batch frames"]]:
    """Log pitch in octaves, its slope over 80 ms and its change over 400 ms; NaN where there is no voice."""
    log_f0 = torch.where(voiced, (f0_hz.clamp(min=1.0) / 100.0).log2(), torch.nan)
    slope = _difference(log_f0, _SLOPE_FRAMES, _MAX_SLOPE)
    return [log_f0, slope, _difference(log_f0, _CHANGE_FRAMES, _MAX_CHANGE)]


def _difference(
    values: Float[Tensor, "batch frames"], reach: int, most: float
) -> Float[Tensor, "batch frames"]:
    """From `reach` frames before to as many after each frame; NaN at the edges and beyond `most`."""
    difference = torch.full_like(values, torch.nan)
    difference[:, reach:-reach] = values[:, 2 * reach :] - values[:, : -2 * reach]
    return torch.where(difference.abs() < most, difference, torch.nan)


def _max(values: Float[Tensor, "*batch frames"]) -> Float[Tensor, " *batch"]:
    """The largest value over the frames that have one."""
    largest = torch.where(values.isfinite(), values, -torch.inf).amax(-1)
    return torch.where(largest.isfinite(), largest, torch.nan)


def _moments(prosody: Float[Tensor, "batch frames features"]) -> list[Float[Tensor, "batch features"]]:
    """Mean and standard deviation over the frames that have a value; NaN below five of them."""
    enough = prosody.isfinite().sum(1) >= 5
    mean = prosody.nanmean(1)
    std = (prosody - mean[:, None]).square().nanmean(1).sqrt()
    return [torch.where(enough, values, torch.nan) for values in (mean, std)]
