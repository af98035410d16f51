"""Reading and writing sound: the one place where files become waveforms and back."""

from __future__ import annotations

import os
from hashlib import file_digest
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
import soxr
from jaxtyping import Float, Float32, Int16

from wavshap_lightning.audio.decode import (
    AUDIO_SUFFIXES,
    NativeAudio,
    check_file,
    check_finite,
    check_peak,
    explained,
    read_native,
)
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.files import write_atomically

__all__ = [
    "AUDIO_SUFFIXES",
    "SAMPLE_RATE",
    "NativeAudio",
    "hash_audio_file",
    "load_audio",
    "read_duration_s",
    "read_native",
    "save_audio",
]

SAMPLE_RATE = 16_000

WRITTEN_FORMATS = {".flac": "FLAC", ".wav": "WAV"}


def load_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate: int = SAMPLE_RATE,
    start_s: float | None = None,
    end_s: float | None = None,
) -> Float32[np.ndarray, " num_samples"]:
    """The waveform of a recording, or of a span of it: mono, in [-1, 1], at `sample_rate`.

    Channels are averaged, then the average is resampled (soxr, high quality). Only the span is read, or,
    of an MP3, whose frames lean on those before, everything up to the span's end.

    Args:
        path: A file with one of `AUDIO_SUFFIXES`.
        sample_rate: Samples per second of the waveform returned.
        start_s: Where to begin, in seconds; the file's start if None.
        end_s: Where to end, in seconds, at most `SPAN_SLACK_S` after the file's end; the file's end if None.

    Raises:
        AudioError: If the file is missing, not audio, damaged, cut off or empty, holds a NaN, an infinity
            or values far outside [-1, 1], or the span lies outside it.
        SettingError: If `sample_rate` is below 1.
    """
    _check_sample_rate(sample_rate)
    native = read_native(path, start_s=start_s, end_s=end_s)
    if native.sample_rate == sample_rate:
        return native.waveform
    return np.clip(_resample(native, sample_rate), -1.0, 1.0)


def hash_audio_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the file's bytes, in hexadecimal, read piece by piece.

    Raises:
        AudioError: If the file is missing, empty, or not an audio file by its suffix.
    """
    path = Path(path)
    with explained(path, "read", "check the disk and the file's permissions"):
        check_file(path)
        with path.open("rb") as stream:
            return file_digest(stream, "sha256").hexdigest()


def read_duration_s(path: str | os.PathLike[str]) -> float:
    """How long a recording is, in seconds, from its header alone.

    Raises:
        AudioError: If the file is missing, empty, or not audio.
    """
    path = Path(path)
    with explained(path, "read as audio", "copy it again or convert it"):
        check_file(path)
        return float(soundfile.info(path).duration)


def save_audio(
    path: str | os.PathLike[str],
    waveform: Float[np.ndarray, " num_samples"],
    *,
    sample_rate: int = SAMPLE_RATE,
) -> None:
    """Write a waveform as 16-bit FLAC or WAV, whichever the suffix says, making folders as needed.

    The file appears whole or not at all.

    Args:
        path: Where to write; an existing file is replaced.
        waveform: At least one sample, all in [-1, 1].
        sample_rate: Samples per second.

    Raises:
        AudioError: If the suffix is neither, the waveform has channels, is empty, not finite or outside
            [-1, 1], or the disk refuses.
        SettingError: If `sample_rate` is below 1.
    """
    _check_sample_rate(sample_rate)
    path = Path(path)
    with explained(path, "written", "check the folder, its permissions and the free space"):
        file_format = _written_format(path)
        if waveform.ndim != 1:
            raise AudioError(f"shape={waveform.shape} must be (num_samples,); average the channels first")
        _check_writable(waveform, sample_rate)
        content = BytesIO()
        soundfile.write(content, _to_int16(waveform), sample_rate, subtype="PCM_16", format=file_format)
        write_atomically(path, content.getvalue())


def _check_sample_rate(sample_rate: int) -> None:
    if sample_rate < 1:
        raise SettingError(f"sample_rate={sample_rate} must be at least 1 sample per second, such as 16000")


def _resample(native: NativeAudio, sample_rate: int) -> Float32[np.ndarray, " num_samples"]:
    # soxr rounds the number of samples; it is always rounded up here
    resampled = soxr.resample(native.waveform, native.sample_rate, sample_rate, quality="HQ")
    missing = native.num_samples_at(sample_rate) - len(resampled)
    return np.pad(resampled, (0, max(missing, 0)))[: len(resampled) + missing]


def _written_format(path: Path) -> str:
    try:
        return WRITTEN_FORMATS[path.suffix.lower()]
    except KeyError:
        raise AudioError(f"suffix={path.suffix!r} must be .flac or .wav; choose one of them") from None


def _to_int16(waveform: Float[np.ndarray, " num_samples"]) -> Int16[np.ndarray, " num_samples"]:
    # Left to soundfile, the numbers would be rounded down, not to the nearest.
    return np.clip(np.rint(waveform * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)


def _check_writable(waveform: Float[np.ndarray, " num_samples"], sample_rate: int) -> None:
    if len(waveform) == 0:
        raise AudioError("the waveform has 0 samples and must have at least one; do not save it")
    check_finite(waveform, 0, sample_rate)
    check_peak(waveform, 1.0)
