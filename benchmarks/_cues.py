"""Cues measured and edited without the code that is tested, and several scores of one sound side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import librosa
import numpy as np
import torch
from _common import SAMPLE_RATE
from jaxtyping import Float, Int
from scipy import signal
from torch import Tensor, nn

from wavshap_lightning.attribution.targets import every_class
from wavshap_lightning.models.classifier import EmotionClassifier

PITCH_HZ = (65.0, 700.0)
EDGE_HZ = 2.0  # a frame without pitch comes out at an end
FRAME_SAMPLES, HOP_SAMPLES = 1_024, 160
PITCH_WITHIN_DB, LOUD_WITHIN_DB = 25.0, 30.0
ACTIVE_WITHIN_DB = 40.0
LOWEST_HZ, SPLIT_HZ, HIGHEST_HZ = 50.0, 1_000.0, 5_000.0
TINY = 1e-14

Waveform = Float[np.ndarray, " samples"]


# Measured


def pitch_semitones(waveform: Waveform) -> Float[np.ndarray, " frames"]:
    """Semitones above 1 Hz of the loud frames, by YIN (de Cheveigné and Kawahara 2002)."""
    shape = {"frame_length": FRAME_SAMPLES, "hop_length": HOP_SAMPLES}
    low, high = PITCH_HZ
    hz = librosa.yin(waveform, fmin=low, fmax=high, sr=SAMPLE_RATE, **shape)
    level_db = librosa.power_to_db(librosa.feature.rms(y=waveform, **shape)[0] ** 2, ref=np.max, top_db=None)
    inside = (hz > low + EDGE_HZ) & (hz < high - EDGE_HZ)
    return 12 * np.log2(hz[inside & (level_db > -PITCH_WITHIN_DB)])


def pitch_level(waveform: Waveform) -> float:
    """Median pitch in semitones above 1 Hz; 0 without any."""
    found = pitch_semitones(waveform)
    return float(np.median(found)) if len(found) else 0.0


def pitch_range(waveform: Waveform) -> float:
    """Semitones from the 10th to the 90th percentile of the pitch."""
    found = pitch_semitones(waveform)
    return float(np.subtract(*np.percentile(found, [90, 10]))) if len(found) else 0.0


def loudness(waveform: Waveform) -> float:
    """Level in dB re full scale, from the first to the last sound within 40 dB of the loudest frame."""
    active = librosa.effects.trim(waveform, top_db=ACTIVE_WITHIN_DB)[0]
    return float(10 * np.log10(np.mean(active**2) + TINY))


def tempo(waveform: Waveform) -> float:
    """Logarithm of the seconds between the same two sounds."""
    return float(np.log(len(librosa.effects.trim(waveform, top_db=ACTIVE_WITHIN_DB)[0]) / SAMPLE_RATE))


def spectrum(waveform: Waveform) -> float:
    """Power from 1 to 5 kHz against that below 1 kHz in dB, mean of the loud frames (the alpha ratio)."""
    shape = {"nperseg": FRAME_SAMPLES // 2, "noverlap": FRAME_SAMPLES // 2 - HOP_SAMPLES}
    hz, _, power = signal.spectrogram(waveform, SAMPLE_RATE, **shape)
    whole = power.sum(0)
    power = power[:, whole > whole.max() * 10 ** (-LOUD_WITHIN_DB / 10)]
    above = power[(hz >= SPLIT_HZ) & (hz < HIGHEST_HZ)].sum(0)
    below = power[(hz >= LOWEST_HZ) & (hz < SPLIT_HZ)].sum(0)
    return float(np.mean(10 * np.log10((above + TINY) / (below + TINY))))


MEASURES: Mapping[str, Callable[[Waveform], float]] = {
    "pitch_level": pitch_level,
    "pitch_range": pitch_range,
    "loudness": loudness,
    "tempo": tempo,
    "spectrum": spectrum,
}
"""One number for each cue."""


# Edited

SHIFT_SEMITONES, WIDER, GAIN_DB, SLOWER, TILT_DB_PER_OCTAVE = 4.0, 1.8, 8.0, 1.3, 4.0


def edit_pitch(waveform: Waveform, *, shift: float = 0.0, wider: float = 1.0) -> Waveform:
    """Shift the pitch by semitones and widen it around its median, by WORLD as it comes (Morise et al. 2016).

    There is no other free vocoder at hand that leaves the formants where they are.
    """
    import pyworld

    low, high = PITCH_HZ
    sound = waveform.astype(np.float64)
    hz, times = pyworld.harvest(sound, SAMPLE_RATE, low, high)
    shape = {"fft_size": FRAME_SAMPLES}
    envelope = pyworld.cheaptrick(sound, hz, times, SAMPLE_RATE, **shape)
    noise = pyworld.d4c(sound, hz, times, SAMPLE_RATE, **shape)
    voiced = hz > 0
    middle = np.median(hz[voiced])
    hz[voiced] = middle * (hz[voiced] / middle) ** wider * 2 ** (shift / 12)
    return pyworld.synthesize(hz, envelope, noise, SAMPLE_RATE)[: len(sound)]


def edit_tempo(waveform: Waveform, slower: float) -> Waveform:
    """Stretch by a phase vocoder, at the same level, of which it loses some."""
    stretched = librosa.effects.time_stretch(waveform, rate=1 / slower, n_fft=FRAME_SAMPLES)
    return as_loud_as(waveform, stretched)


def edit_spectrum(waveform: Waveform, tilt_db: float) -> Waveform:
    """Tilt the spectrum by dB an octave around 1 kHz, at the same level."""
    spectra = np.fft.rfft(waveform)
    hz = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE).clip(100.0, HIGHEST_HZ)
    tilted = np.fft.irfft(spectra * 10 ** (tilt_db * np.log2(hz / SPLIT_HZ) / 20), len(waveform))
    return as_loud_as(waveform, tilted)


def as_loud_as(waveform: Waveform, edited: Waveform) -> Waveform:
    """The edited clip at the level of the clip."""
    return edited * np.sqrt(np.mean(waveform**2) / np.mean(edited**2))


EDITS: Mapping[str, Callable[[Waveform, int], Waveform]] = {
    "pitch_level": lambda sound, way: edit_pitch(sound, shift=way * SHIFT_SEMITONES),
    "pitch_range": lambda sound, way: edit_pitch(sound, wider=WIDER**way),
    "loudness": lambda sound, way: sound * 10 ** (way * GAIN_DB / 20),
    "tempo": lambda sound, way: edit_tempo(sound, SLOWER**way),
    "spectrum": lambda sound, way: edit_spectrum(sound, way * TILT_DB_PER_OCTAVE),
}
"""An edit of each cue, upwards (1) or downwards (-1)."""


def planted(waveform: Waveform, cue: str, way: int) -> Waveform:
    """The clip with one cue edited, and no louder than full scale."""
    found = EDITS[cue](waveform.astype(np.float64), way)
    return (found / max(1.0, np.abs(found).max())).astype(np.float32)


# Scored


class SideBySide(nn.Module):
    """Log-odds of several classifiers, and what is measured of a sound, as the values of one model.

    The sounds of an explanation are then made once for all.

    Args:
        classifiers: By name, of the same classes.
        measured: Cues to measure.
    """

    task, warnings = "dimensions", ()

    def __init__(self, classifiers: Mapping[str, EmotionClassifier], measured: Sequence[str] = ()) -> None:
        super().__init__()
        first = next(iter(classifiers.values()))
        self.classifiers, self.measured = nn.ModuleList(classifiers.values()), measured
        self.sample_rate, self.backbone = first.sample_rate, first.backbone
        self.labels = (*(f"{name}: {one}" for name in classifiers for one in first.labels), *measured)
        self.eval()

    def part(self, _: str) -> SideBySide:
        """Itself: it has a single task."""
        return self

    @torch.no_grad()
    def forward(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch values"]:
        """Values of each sound, in the order of `labels`."""
        columns = []
        for one in self.classifiers:
            logits = one(waveforms, lengths)
            columns.append(every_class(logits.shape[1])(logits).double())
        if self.measured:
            ends = [waveforms.shape[1]] * len(waveforms) if lengths is None else lengths.tolist()
            sounds = (row[:end] for row, end in zip(waveforms.double().numpy(), ends, strict=True))
            columns.append(
                torch.tensor([[MEASURES[cue](sound) for cue in self.measured] for sound in sounds])
            )
        return torch.cat(columns, 1)

    def values(self, waveform: Waveform) -> dict[str, float]:
        """Values of one sound by name."""
        row = self(torch.from_numpy(np.asarray(waveform, dtype=np.float32))[None])[0]
        return dict(zip(self.labels, row.tolist(), strict=True))
