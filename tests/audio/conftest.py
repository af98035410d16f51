"""Sounds and the files that the tests of this ring read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

SAMPLE_RATE = 16_000
# File name, libsndfile's words for the format, and the error that its coding may make.
FORMATS = {
    "u8.wav": ("WAV", "PCM_U8", 0.01),
    "s16.wav": ("WAV", "PCM_16", 1e-4),
    "s24.wav": ("WAV", "PCM_24", 1e-4),
    "s32.wav": ("WAV", "PCM_32", 1e-4),
    "float.wav": ("WAV", "FLOAT", 1e-4),
    "double.wav": ("WAV", "DOUBLE", 1e-4),
    "extensible.wav": ("WAVEX", "PCM_16", 1e-4),
    "rf64.wav": ("RF64", "PCM_16", 1e-4),
    "s16.flac": ("FLAC", "PCM_16", 1e-4),
    "s24.flac": ("FLAC", "PCM_24", 1e-4),
    "vorbis.ogg": ("OGG", "VORBIS", 0.05),
    "opus.opus": ("OGG", "OPUS", 0.05),
    "opus.ogg": ("OGG", "OPUS", 0.05),
    "lame.mp3": ("MP3", "MPEG_LAYER_III", 0.05),
    "s16.aiff": ("AIFF", "PCM_16", 1e-4),
    "s16.aif": ("AIFF", "PCM_16", 1e-4),
    "s16.au": ("AU", "PCM_16", 1e-4),
    "ulaw.au": ("AU", "ULAW", 0.02),
    "s16.snd": ("AU", "PCM_16", 1e-4),
    "s16.caf": ("CAF", "PCM_16", 1e-4),
    "s16.sph": ("NIST", "PCM_16", 1e-4),
    "s16.w64": ("W64", "PCM_16", 1e-4),
    "s16.rf64": ("RF64", "PCM_16", 1e-4),
    "s16.voc": ("VOC", "PCM_16", 1e-4),
    "vorbis.oga": ("OGG", "VORBIS", 0.05),
    "flac.wav": ("FLAC", "PCM_16", 1e-4),
    "s16": ("WAV", "PCM_16", 1e-4),
    "s16.raw": ("WAV", "PCM_16", 1e-4),
}
TONES = ((211.0, 0.3), (523.0, 0.2), (1_187.0, 0.1))


@pytest.fixture(params=FORMATS)
def format_name(request) -> str:
    """The file name of each format in turn."""
    return request.param


@pytest.fixture(scope="session")
def formats() -> dict[str, tuple[str, str, float]]:
    return FORMATS


@pytest.fixture(scope="session")
def tones() -> Callable[..., np.ndarray]:
    """Makes three sines well below every Nyquist frequency: the same sound at any sample rate."""

    def make(num_samples: int, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
        time_s = np.arange(num_samples) / sample_rate
        return sum(level * np.sin(2 * np.pi * frequency_hz * time_s) for frequency_hz, level in TONES)

    return make


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """Writes samples to a file and returns its path."""

    def write_samples(
        path: Path, samples: np.ndarray, sample_rate: int = SAMPLE_RATE, subtype: str = "PCM_16"
    ) -> Path:
        soundfile.write(path, samples, sample_rate, subtype=subtype)
        return path

    return write_samples


@pytest.fixture(scope="session")
def write_format(tones) -> Callable[..., Path]:
    """Writes the tones at 48 kHz in one of the formats and returns the path."""

    def write_tones(folder: Path, name: str, num_samples: int = 48_000) -> Path:
        file_format, subtype, _ = FORMATS[name]
        samples = tones(num_samples, 48_000)
        soundfile.write(folder / name, samples, 48_000, format=file_format, subtype=subtype)
        return folder / name

    return write_tones
