"""Sounds and spectrograms that fit into a page."""

from __future__ import annotations

import base64
import io

import numpy as np
import soundfile
from jaxtyping import Float
from PIL import Image

from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.viz.hearing import DYNAMIC_RANGE_DB, log_mel

Samples = Float[np.ndarray, " samples"]
Columns = Float[np.ndarray, " columns"]

OPAQUE = 200
"""Of the loudest, out of 255: colour over it must be seen."""

MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Samples per second that MP3 knows: it is small, browsers play it, and the same sound is the same bytes."""

COMPRESSION = 0.5
"""Half of what the encoder can: 3 kB a second of speech at 16 kHz."""

GREY_LEVELS = 64
"""Steps of a level of 70 dB that can be seen apart."""


def sound_url(waveform: Samples, sample_rate: int) -> str:
    """The sound for a player, as a `data:` URL: MP3, or FLAC at rates that MP3 does not know.

    >>> sound_url(np.zeros(1000), 16_000)[:22]
    'data:audio/mpeg;base64'
    """
    content = io.BytesIO()
    clipped = np.clip(waveform, -1.0, 1.0).astype(np.float32)
    if sample_rate in MP3_RATES:
        soundfile.write(
            content,
            clipped,
            sample_rate,
            format="MP3",
            subtype="MPEG_LAYER_III",
            compression_level=COMPRESSION,
        )
        return _url("audio/mpeg", content.getvalue())
    soundfile.write(content, clipped, sample_rate, format="FLAC", subtype="PCM_16")
    return _url("audio/flac", content.getvalue())


def spectrogram_url(waveform: Samples, times: TimeGrid) -> str:
    """A mel spectrogram as a `data:` URL of a small picture, low bands at the foot: black, loud is opaque.

    Args:
        waveform: The clip.
        times: Where the windows lie: a column each.
    """
    loudness = 1.0 + log_mel(waveform.astype(np.float64), times) / DYNAMIC_RANGE_DB
    levels = np.rint(loudness[::-1] * (GREY_LEVELS - 1)).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(levels)).convert("L")
    picture = Image.frombytes("P", picture.size, picture.tobytes())
    picture.putpalette([0] * 3 * GREY_LEVELS)
    alphas = np.linspace(0, OPAQUE, GREY_LEVELS).astype(np.uint8)
    content = io.BytesIO()
    picture.save(content, "PNG", transparency=alphas.tobytes(), optimize=True)
    return _url("image/png", content.getvalue())


def envelope(waveform: Samples, columns: int) -> tuple[Columns, Columns, Columns]:
    """The lowest and highest sample of each column, and the place of its middle among the samples."""
    starts = np.unique(np.linspace(0, len(waveform), columns, endpoint=False).astype(int))
    middles = (starts + np.append(starts[1:], len(waveform))) / 2
    return np.minimum.reduceat(waveform, starts), np.maximum.reduceat(waveform, starts), middles


def _url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
