"""The clip's sound for a figure: its waveform, if it can be had, and its mel spectrogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from transformers.audio_utils import (
    hertz_to_mel,
    mel_filter_bank,
    power_to_db,
    spectrogram,
    window_function,
)

from wavshap_lightning.audio.io import hash_audio_file, load_audio
from wavshap_lightning.errors import AudioError
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.time_grid import MEL_SCALE, TimeGrid

Samples = Float[np.ndarray, " samples"]
GivenWaveform = Tensor | Shaped[np.ndarray, "..."] | None

NUM_MELS = 80
DYNAMIC_RANGE_DB = 70.0


@dataclass(frozen=True)
class Sound:
    """What can be heard of a clip.

    Args:
        waveform: Its samples; None where they are not to be had.
        missing: Why not, and what to do, for people; empty where they are there.
    """

    waveform: Samples | None
    missing: str = ""


def find_sound(explanation: Explanation, waveform: GivenWaveform) -> Sound:
    """The clip's waveform: the one given, or its file's if that is still the one explained.

    Args:
        explanation: Of which clip.
        waveform: The clip as it was explained, or None.

    Raises:
        AudioError: If the waveform given is not as long as the one explained.
    """
    if waveform is not None:
        return Sound(_checked(explanation, torch.as_tensor(waveform).detach().cpu().double().numpy()))
    if not explanation.clip:
        return Sound(None, "the clip was given as numbers. Give them again, as waveform=[...]")
    try:
        if hash_audio_file(explanation.clip) != explanation.clip_sha256:
            return Sound(
                None, "the file has changed since it was explained. Give its waveform, as waveform=[...]"
            )
        read = load_audio(
            explanation.clip,
            sample_rate=explanation.sample_rate,
            start_s=explanation.clip_start_s,
            end_s=explanation.clip_end_s,
        )
    except AudioError:
        return Sound(None, "the file cannot be read. Give its waveform, as waveform=[...]")
    if len(read) != explanation.num_samples:
        return Sound(None, "the file is read as another length now. Give its waveform, as waveform=[...]")
    return Sound(read.astype(np.float64))


def _checked(explanation: Explanation, waveform: Shaped[np.ndarray, "..."]) -> Samples:
    if waveform.shape != (explanation.num_samples,):
        raise AudioError(
            f"waveform: shape={waveform.shape} must be ({explanation.num_samples},), the clip that was "
            "explained; give that one at the classifier's sample rate, or leave it out"
        )
    return waveform


def log_mel(waveform: Samples, times: TimeGrid) -> Float[np.ndarray, "mels columns"]:
    """The level in bands of equal width in mel, in decibels below the loudest.

    Args:
        waveform: The clip.
        times: Where the windows lie: one column each.
    """
    size = times.size_samples
    num_bins = size + 1  # as of windows twice as long, so that there are bins in the lowest bands
    before = -times.first_sample
    after = (times.count - 1) * times.hop_samples + size - before - len(waveform)
    power = spectrogram(
        np.pad(waveform[max(-before, 0) :], (max(before, 0), max(after, 0))),  # a coarse grid begins later
        window_function(size, "hann"),
        frame_length=size,
        hop_length=times.hop_samples,
        fft_length=2 * size,
        power=2.0,
        center=False,
        mel_filters=_mel_filters(num_bins, times.sample_rate),
        dtype=np.dtype(np.float64),
    )[:, : times.count]
    return power_to_db(power, reference=power.max(), db_range=DYNAMIC_RANGE_DB)


def _mel_filters(num_bins: int, sample_rate: int) -> Float[np.ndarray, "bins mels"]:
    """Triangles of equal width in mel and equal area in hertz."""
    return mel_filter_bank(
        num_bins, NUM_MELS, 0.0, sample_rate / 2, sample_rate, norm=MEL_SCALE, mel_scale=MEL_SCALE
    )


def hz_to_mel(hertz: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Where frequencies lie on the vertical axis."""
    return np.asarray(hertz_to_mel(hertz, MEL_SCALE), dtype=np.float64)
