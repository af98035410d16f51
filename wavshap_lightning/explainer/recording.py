"""What is explained: a recording, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from wavshap_lightning.attribution.record import tensor_sha256
from wavshap_lightning.audio.io import hash_audio_file, load_audio
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AudioError

Recording = str | PathLike[str] | Clip | Tensor | Shaped[np.ndarray, "..."]
"""A file, a clip of a corpus, or a waveform `(num_samples,)` at the classifier's sample rate."""

MAX_PEAK = 2.0
"""Samples lie in [-1, 1]; what overshoots more was never divided by its full scale."""


@dataclass(frozen=True)
class Sound:
    """A waveform and where it comes from.

    Args:
        waveform: On the CPU, at the classifier's sample rate.
        path: Its file; empty if it came as numbers.
        sha256: Digest of the file's bytes, or of the numbers.
        what: What it is for, for messages.
        start_s: Where in the file it begins; None for the start.
        end_s: Where in the file it ends; None for the end.
    """

    waveform: Float32[Tensor, " samples"]
    path: str
    sha256: str
    what: str = "clip"
    start_s: float | None = None
    end_s: float | None = None

    @property
    def name(self) -> str:
        """Words for it, for a message."""
        return f"path={self.path}" if self.path else self.what


def open_sound(recording: Recording, sample_rate: int, shortest: int, what: str = "clip") -> Sound:
    """Read a recording, or take a waveform as it is.

    Args:
        recording: What to open.
        sample_rate: The classifier's.
        shortest: Samples that one frame sees.
        what: What it is for, for messages.

    Raises:
        AudioError: If it is no recording, cannot be read, has channels, is shorter than one frame, silent,
            not finite or not in [-1, 1].
    """
    sound = _opened(recording, sample_rate, what)
    _check(sound, sample_rate, shortest)
    return sound


def _opened(recording: Recording, sample_rate: int, what: str) -> Sound:
    if isinstance(recording, Tensor | np.ndarray):
        waveform = _from_numbers(recording, what)
        return Sound(waveform, "", tensor_sha256(waveform), what)
    if not isinstance(recording, str | PathLike | Clip):
        raise AudioError(
            f"{what} is a {type(recording).__name__}; give a file, a clip of a corpus, or a waveform as a "
            "tensor or an array"
        )
    start_s, end_s = (recording.start_s, recording.end_s) if isinstance(recording, Clip) else (None, None)
    path = recording.path if isinstance(recording, Clip) else recording
    waveform = torch.from_numpy(load_audio(path, sample_rate=sample_rate, start_s=start_s, end_s=end_s))
    return Sound(waveform, fspath(path), hash_audio_file(path), what, start_s, end_s)


def _from_numbers(numbers: Tensor | Shaped[np.ndarray, "..."], what: str) -> Float32[Tensor, " samples"]:
    if isinstance(numbers, np.ndarray):
        numbers = np.array(numbers)  # torch takes neither reversed nor read-only arrays as they are
    waveform = torch.as_tensor(numbers).detach()
    if waveform.ndim != 1:
        raise AudioError(
            f"{what}: shape={tuple(waveform.shape)} must be (num_samples,); explain clips one by one, and "
            "average their channels first"
        )
    if not waveform.is_floating_point():
        raise AudioError(
            f"{what}: dtype={waveform.dtype} must be floating point with samples in [-1, 1]; divide whole "
            "numbers by their full scale, which is 32768 for 16 bits"
        )
    return waveform.to("cpu", torch.float32, copy=True)


def _check(sound: Sound, sample_rate: int, shortest: int) -> None:
    waveform = sound.waveform
    if len(waveform) < shortest:
        raise AudioError(
            f"{sound.name} has {len(waveform)} samples at {sample_rate} Hz, one frame needs {shortest}; give "
            "a longer clip"
        )
    finite = waveform.isfinite()
    if not finite.all():
        first_s = int(finite.int().argmin()) / sample_rate
        raise AudioError(
            f"{sound.name}: the sample at {first_s:.4f} s is not finite; record or export it again"
        )
    peak = float(waveform.abs().max())
    if peak == 0:
        raise AudioError(
            f"{sound.name}: peak={peak:g}, all {len(waveform)} samples are silent, and there is nothing to "
            "explain; give a clip with sound in it"
        )
    if peak > MAX_PEAK:
        raise AudioError(
            f"{sound.name}: peak={peak:.6g}, and samples must lie in [-1, 1]; divide them by their full "
            "scale, which is 32768 for 16-bit numbers"
        )
