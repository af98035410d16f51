"""The sound of a clip: its samples, its mel spectrogram, and what sounds where attributions are strong."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import librosa
import numpy as np
import soundfile
import torch
from jaxtyping import Bool, Float, Shaped
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.image import imsave
from scipy.ndimage import convolve1d
from torch import Tensor

from wavshap_lightning.audio.io import hash_audio_file, load_audio
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.time_grid import TimeGrid, stft_times
from wavshap_lightning.viz.theme import number

Samples = Float[np.ndarray, " samples"]
Columns = Float[np.ndarray, " columns"]
GivenWaveform = Tensor | Shaped[np.ndarray, "..."] | None

NUM_MELS = 80
DYNAMIC_RANGE_DB = 70.0
TICKS_HZ = (0.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16_000.0)
ENVELOPE_COLUMNS = 800
"""As many as a figure has pixels for."""

DEFAULT_SHARE = 0.2
FADE_S = 0.01
MAX_GAIN = 10.0
"""Twenty decibels: more would only raise the noise of a pause to the level of a voice."""

FULL_SCALE = 0.99

MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Samples per second that MP3 supports. MP3 is small, browsers play it, and equal sounds give equal bytes."""

MP3_COMPRESSION = 0.5
"""Half of the encoder's range: 3 kB for a second of speech at 16 kHz."""

BLACK = LinearSegmentedColormap.from_list("black", ["#00000000", "#000000c8"], N=64)
"""Gray levels over 70 dB, as many as can be distinguished; fewer levels make the picture smaller."""


def find_waveform(explanation: Explanation, waveform: GivenWaveform) -> tuple[Samples | None, str]:
    """Samples of the clip, given or read from its file, and the reason if there are none.

    Args:
        explanation: Explanation of the clip.
        waveform: The clip as it was explained; None to read its file, if that has not changed since.

    Raises:
        AudioError: If the given waveform is not as long as the explained one.
    """
    if waveform is not None:
        samples = torch.as_tensor(waveform).detach().cpu().double().squeeze().numpy()
        if samples.shape != (explanation.num_samples,):
            raise AudioError(
                f"waveform: shape={samples.shape} must be ({explanation.num_samples},), the clip that was "
                "explained; give that one at the classifier's sample rate, or leave it out"
            )
        return samples, ""
    if not explanation.clip:
        return None, "the clip was given as numbers"
    span = {"start_s": explanation.clip_start_s, "end_s": explanation.clip_end_s}
    try:
        is_same = hash_audio_file(explanation.clip) == explanation.clip_sha256
        samples = load_audio(explanation.clip, sample_rate=explanation.sample_rate, **span)
    except AudioError:
        return None, "the file cannot be read"
    if not is_same or len(samples) != explanation.num_samples:
        return None, "the file has changed since it was explained"
    return samples.astype(np.float64), ""


def log_mel(waveform: Samples, sample_rate: int) -> Float[np.ndarray, "mels columns"]:
    """Level in bands of equal width in mel, in decibels below the loudest.

    Args:
        waveform: Samples of the clip.
        sample_rate: Samples per second; columns are those of attributions of bands.
    """
    windows = stft_times(len(waveform), sample_rate)
    size, hop = windows.size_samples, windows.hop_samples
    before = size - hop + size // 2  # half a window is librosa's, which centers windows in its transform
    power = librosa.feature.melspectrogram(
        y=np.pad(waveform, (before, before + hop)),
        sr=sample_rate,
        n_fft=2 * size,  # so that the lowest bands hold a bin each
        win_length=size,
        hop_length=hop,
        center=False,
        n_mels=NUM_MELS,
    )[:, : windows.count]
    return librosa.power_to_db(power, ref=np.max, top_db=DYNAMIC_RANGE_DB)


def mel_axis(sample_rate: int) -> tuple[float, dict[float, str]]:
    """Upper end of the vertical axis of a spectrogram, and kilohertz by position on it."""
    ticks_hz = [tick for tick in TICKS_HZ if tick <= sample_rate / 2]
    ticks = {float(librosa.hz_to_mel(tick)): number(tick / 1000) for tick in ticks_hz}
    return float(librosa.hz_to_mel(sample_rate / 2)), ticks


def envelope(waveform: Samples, sample_rate: int) -> tuple[Columns, Columns, Columns]:
    """Middle of each of up to 800 columns in seconds, its lowest and its highest sample."""
    starts = np.unique(np.linspace(0, len(waveform), ENVELOPE_COLUMNS, endpoint=False).astype(int))
    middles_s = (starts + np.append(starts[1:], len(waveform))) / 2 / sample_rate
    return middles_s, np.minimum.reduceat(waveform, starts), np.maximum.reduceat(waveform, starts)


def cell_edges_s(times: TimeGrid) -> Float[np.ndarray, " edges"]:
    """Edges in seconds of the units in a figure: half a hop before and after each center.

    The receptive fields of frames overlap; units in a figure do not.

    >>> cell_edges_s(TimeGrid(2, 320, 400, 0, 16_000)).round(4).tolist()
    [0.0025, 0.0225, 0.0425]
    """
    half_s = times.hop_samples / times.sample_rate / 2
    centers_s = times.center_s()
    return np.append(centers_s - half_s, centers_s[-1] + half_s)


def split_by_attribution(
    waveform: Samples, frames: Float[np.ndarray, " frames"], times: TimeGrid, *, share: float = DEFAULT_SHARE
) -> dict[str, Samples]:
    """The strongest frames of a clip alone (`"kept"`), and the clip without them (`"removed"`).

    Both are as long as the clip and fade over 10 ms at every seam. Each is as loud (RMS) as the clip where it
    sounds, within two limits: no sample leaves [-1, 1], and nothing is raised by more than 20 dB.

    Args:
        waveform: Samples of the clip.
        frames: Attribution of each frame.
        times: Time grid of the frames.
        share: Largest share of all frames to take; only frames with evidence for the target are taken.

    Raises:
        SettingError: If the share is not above 0 and at most 1.
    """
    check_share(share)
    count = times.num_within(len(waveform) / times.sample_rate)
    kept = fading_mask(strongest(frames[:count], share), replace(times, count=count), len(waveform))
    return {"kept": _as_loud(waveform, kept), "removed": _as_loud(waveform, 1 - kept)}


def check_share(share: float) -> None:
    """Check a share of frames.

    Raises:
        SettingError: If it is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise SettingError(f"share={share!r} must be above 0 and at most 1, such as {DEFAULT_SHARE}")


def strongest(frames: Float[np.ndarray, " frames"], share: float) -> Bool[np.ndarray, " frames"]:
    """Mask of the strongest frames with evidence for the target, at least one if there is any.

    >>> strongest(np.array([0.1, -3.0, 2.0, 1.0]), 0.5).tolist()
    [False, False, True, True]
    """
    order = np.argsort(-frames, kind="stable")[: max(1, round(share * len(frames)))]
    chosen = np.zeros(len(frames), dtype=bool)
    chosen[order] = frames[order] > 0
    return chosen


def fading_mask(chosen: Bool[np.ndarray, " frames"], times: TimeGrid, num_samples: int) -> Samples:
    """Mask of samples: 1 in the chosen frames, 0 elsewhere, with a raised-cosine fade at every boundary.

    Args:
        chosen: Mask of frames, each as wide as a hop.
        times: Time grid of the frames.
        num_samples: Length of the clip; its first and last frame reach to its ends.
    """
    edges = np.rint(cell_edges_s(times) * times.sample_rate).astype(int).clip(0, num_samples)
    edges[0], edges[-1] = 0, num_samples
    hard = np.repeat(chosen.astype(np.float64), np.diff(edges))
    window = np.hanning(round(FADE_S * times.sample_rate) + 2)
    return np.asarray(convolve1d(hard, window / window.sum(), mode="nearest"))


def _as_loud(waveform: Samples, mask: Samples) -> Samples:
    part = waveform * mask
    power, weight = float(np.square(part).sum()), float(np.square(mask).sum())
    if power == 0:
        return part
    gain = min(np.sqrt(np.square(waveform).mean() * weight / power), MAX_GAIN)
    return part * min(gain, FULL_SCALE / float(np.abs(part).max()))


def sound_url(waveform: Samples, sample_rate: int) -> str:
    """`data:` URL of the sound for a player: MP3, or FLAC at rates that MP3 does not support.

    >>> sound_url(np.zeros(1000), 16_000)[:22]
    'data:audio/mpeg;base64'
    """
    content, clipped = io.BytesIO(), np.clip(waveform, -1.0, 1.0).astype(np.float32)
    is_mp3 = sample_rate in MP3_RATES
    options = {"format": "MP3", "compression_level": MP3_COMPRESSION} if is_mp3 else {"format": "FLAC"}
    soundfile.write(content, clipped, sample_rate, **options)
    return _url("audio/mpeg" if is_mp3 else "audio/flac", content.getvalue())


def spectrogram_url(levels_db: Float[np.ndarray, "mels columns"]) -> str:
    """`data:` URL of a mel spectrogram as a small picture: black, and the louder the more opaque."""
    content = io.BytesIO()
    imsave(content, levels_db[::-1], cmap=BLACK, vmin=-DYNAMIC_RANGE_DB, vmax=0.0, format="png")
    return _url("image/png", content.getvalue())


def _url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
