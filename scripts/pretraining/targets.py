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
PROSODY = ("energy", "tilt", "flux", "periodicity", "log_f0", "log_f0_slope")
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
)


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
    return Targets(frames, torch.cat([*_moments(within), shares], dim=1), voice)


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
) -> tuple[Float[Tensor, "batch frames"], Float[Tensor, "batch frames"]]:
    """Log pitch in octaves and its slope over five frames; NaN where there is no voice."""
    nan = torch.tensor(float("nan"))
    log_f0 = torch.where(voiced, (f0_hz.clamp(min=1.0) / 100.0).log2(), nan)
    slope = torch.full_like(log_f0, float("nan"))
    slope[:, 2:-2] = log_f0[:, 4:] - log_f0[:, :-4]
    return log_f0, torch.where(slope.abs() < 0.7, slope, nan)  # more in 80 ms is an error of the octave


def _moments(prosody: Float[Tensor, "batch frames features"]) -> list[Float[Tensor, "batch features"]]:
    """Mean and standard deviation over the frames that have a value; NaN below five of them."""
    enough = prosody.isfinite().sum(1) >= 5
    mean = prosody.nanmean(1)
    std = (prosody - mean[:, None]).square().nanmean(1).sqrt()
    return [torch.where(enough, values, torch.nan) for values in (mean, std)]
