"""Degradations of a recording, from mild to severe: noise, rooms, channels, level, tempo and silence.

All of them are a line or two of NumPy, or a codec of libsndfile, so that a step of the ladder is the same on
every machine, with nothing to install. The same seed draws the same noise for every level of a kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float
from scipy import signal

from wavshap_lightning.audio.io import resample
from wavshap_lightning.evaluation.edits import Sound, change_tempo

LOWEST_HZ, MAINS_HZ, NUM_HARMONICS, NUM_BABBLERS = 20.0, 50.0, 10, 5
CHORDS = np.array([[0, 4, 7], [9, 12, 16], [5, 9, 12], [7, 11, 14]])
"""I, vi, IV and V, in semitones above the key."""

CHORD_S, DECAY_S, KEYS_HZ, EARLY_S = 0.6, 0.3, (110.0, 220.0), 0.005
"""The tail of a room begins `EARLY_S` after the direct sound."""

PHONE_RATE, PHONE_BAND_HZ, PHONE_CODECS = 8_000, (300.0, 3_400.0), {64.0: "ULAW", 13.0: "GSM610"}
MP3_RATE, MP3_KBPS = 16_000, (8.0, 160.0)
"""Sample rate, and lowest and highest bit rate at it, between which libsndfile interpolates."""

MP3_DELAY_SAMPLES = 576 + 529
"""Of LAME's encoder and of the decoder, which MP3 files with short frames do not record."""


class Scene(NamedTuple):
    """A sound to degrade.

    Args:
        sound: Samples in [-1, 1].
        rate: Samples per second.
        drawn: Source of randomness.
        others: Other clips, for babble.
    """

    sound: Sound
    rate: int
    drawn: np.random.Generator
    others: Sequence[Float[np.ndarray, " _"]] = ()


# Noise


def mix(sound: Sound, noise: Sound, snr_db: float) -> Sound:
    """A sound with noise at a signal-to-noise ratio: 20 log10 of the ratio of the RMS over the whole clip.

    Args:
        sound: The sound.
        noise: As many samples.
        snr_db: The ratio in decibels.
    """
    return sound + noise * (10 ** (-snr_db / 20) * _rms(sound) / _rms(noise))


def colored_noise(scene: Scene, slope: float) -> Sound:
    """Noise with a power that falls with frequency to the power of `slope`: 0 white, 1 pink, 2 brown."""
    hertz = np.maximum(np.fft.rfftfreq(len(scene.sound), 1 / scene.rate), LOWEST_HZ)
    white = np.fft.rfft(scene.drawn.standard_normal(len(scene.sound)))
    return np.fft.irfft(white * hertz ** (-slope / 2), len(scene.sound))


def hum(scene: Scene) -> Sound:
    """50 Hz of the mains and its first harmonics."""
    orders, time_s = np.arange(1, NUM_HARMONICS + 1), np.arange(len(scene.sound))[:, None] / scene.rate
    turns = MAINS_HZ * orders * time_s + scene.drawn.random(NUM_HARMONICS)
    return (np.sin(2 * np.pi * turns) / orders).sum(1)


def babble(scene: Scene) -> Sound:
    """Up to five other clips at once, at equal levels, each from a random place on and repeated."""
    chosen = (scene.others[i] for i in scene.drawn.permutation(len(scene.others))[:NUM_BABBLERS].tolist())
    voices = [np.roll(one / _rms(one), scene.drawn.integers(len(one))) for one in chosen]
    return np.sum([np.resize(one, len(scene.sound)) for one in voices], axis=0)


def music(scene: Scene) -> Sound:
    """Four plucked chords again and again, in a random key."""
    place, since_s = np.divmod(np.arange(len(scene.sound)) / scene.rate, CHORD_S)
    hertz = scene.drawn.uniform(*KEYS_HZ) * 2 ** (CHORDS[place.astype(int) % len(CHORDS)] / 12)
    notes = (np.sin(2 * np.pi * k * hertz * since_s[:, None]).sum(1) / k for k in range(1, 6))
    return np.sum([*notes], axis=0) * np.exp(-since_s / DECAY_S)


# Rooms and channels


def reverberate(scene: Scene, rt60_s: float) -> Sound:
    """A sound in a room, at the same level: a tail as strong as the direct sound, 60 dB down after `rt60_s`.

    Source: exponentially decaying noise, after Polack 1988, "La transmission de l'énergie sonore dans les
    salles".
    """
    time_s = np.arange(round(rt60_s * scene.rate)) / scene.rate
    tail = scene.drawn.standard_normal(len(time_s)) * 10 ** (-3 * time_s / rt60_s) * (time_s >= EARLY_S)
    echo = signal.fftconvolve(scene.sound, tail / np.linalg.norm(tail))[: len(scene.sound)]
    return (scene.sound + echo) * (_rms(scene.sound) / _rms(scene.sound + echo))


def transmit(scene: Scene, channel_rate: int, delay: int = 0, **coding: Any) -> Sound:  # noqa: ANN401
    """A sound through a codec of libsndfile and back, at its own times.

    Args:
        scene: The sound.
        channel_rate: Samples per second in the channel.
        delay: Samples by which the codec delays sounds, where it does not record that in the file.
        **coding: Those of `soundfile.write`: `format`, `subtype`, `compression_level`, `bitrate_mode`.
    """
    sent, file = resample(_playable(scene.sound), scene.rate, channel_rate), BytesIO()
    soundfile.write(file, sent, channel_rate, **coding)
    received = soundfile.read(BytesIO(file.getvalue()), dtype="float32")[0]
    received = received[delay if len(received) > len(sent) else 0 :]
    received = np.pad(received, (0, len(sent)))[: len(sent)]
    return resample(received, channel_rate, scene.rate)[: len(scene.sound)]


def telephone(scene: Scene, kbps: float) -> Sound:
    """A sound over the telephone: 300 to 3400 Hz, 8 kHz, mu-law (64 kbit/s) or GSM 06.10 (13 kbit/s)."""
    band = signal.butter(4, PHONE_BAND_HZ, "bandpass", fs=scene.rate, output="sos")
    narrow = signal.sosfiltfilt(band, scene.sound, padlen=0)  # forward and back, so that nothing is delayed
    return transmit(scene._replace(sound=narrow), PHONE_RATE, format="WAV", subtype=PHONE_CODECS[kbps])


def mp3(scene: Scene, kbps: float) -> Sound:
    """A sound as MP3 of a bit rate, at 16 kHz."""
    level = min((MP3_KBPS[1] - kbps) / (MP3_KBPS[1] - MP3_KBPS[0]), 0.9999)  # libsndfile refuses 1
    coding = {"format": "MP3", "compression_level": level, "bitrate_mode": "CONSTANT"}
    return transmit(scene, MP3_RATE, MP3_DELAY_SAMPLES, **coding)


# Level and time


def set_level(scene: Scene, peak_db: float) -> Sound:
    """A sound with its peak at a level relative to full scale, rounded to 16 bits as in a file."""
    return np.round(scene.sound * (10 ** (peak_db / 20) / _peak(scene.sound)) * 2**15) / 2**15


def overdrive(scene: Scene, over_db: float) -> Sound:
    """A sound clipped so far below its peak, as by an input that is turned up too far; the peak is kept."""
    return np.clip(scene.sound * 10 ** (over_db / 20), -_peak(scene.sound), _peak(scene.sound))


def times_after(kind: str, level: float, time_s: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
    """Times in the degraded sound of times in the clip.

    >>> times_after("tempo", 2.0, np.array([1.0])), times_after("silence", 0.5, np.array([1.0]))
    (array([0.5]), array([1.5]))
    """
    return time_s / level if kind == "tempo" else time_s + level * (kind == "silence")


# The ladder


class Kind(NamedTuple):
    """A kind of degradation.

    Args:
        apply: The degradation.
        unit: Unit of its levels.
        levels: Levels, mild ones first; those of the tempo from slow to fast.
    """

    apply: Callable[[Scene, float], Float[np.ndarray, " degraded"]]
    unit: str
    levels: tuple[float, ...]


def _noisy(draw: Callable[[Scene], Sound]) -> Kind:
    return Kind(lambda x, snr_db: mix(x.sound, draw(x), snr_db), "dB SNR", (20.0, 10.0, 5.0, 0.0, -5.0))


KINDS: Mapping[str, Kind] = {
    "white noise": _noisy(partial(colored_noise, slope=0.0)),
    "pink noise": _noisy(partial(colored_noise, slope=1.0)),
    "traffic": _noisy(partial(colored_noise, slope=2.0)),
    "hum": _noisy(hum),
    "babble": _noisy(babble),
    "music": _noisy(music),
    "reverberation": Kind(reverberate, "s RT60", (0.2, 0.4, 0.8, 1.6)),
    "telephone": Kind(telephone, "kbit/s", (64.0, 13.0)),
    "MP3": Kind(mp3, "kbit/s", (64.0, 32.0, 16.0, 8.0)),
    "level": Kind(set_level, "dBFS", (0.0, -10.0, -20.0, -30.0, -40.0)),
    "clipping": Kind(overdrive, "dB", (6.0, 12.0, 18.0, 24.0)),
    "tempo": Kind(lambda x, to: change_tempo(x.sound, x.rate, to), "x", (0.7, 0.85, 1.2, 1.5)),
    "silence": Kind(lambda x, s: np.pad(x.sound, round(s * x.rate)), "s", (0.5, 1.0, 2.0)),
}
"""All kinds by name, in the order in which they are shown."""


def degrade(kind: str, level: float, scene: Scene) -> Float[np.ndarray, " degraded"]:
    """A degraded sound, within [-1, 1]: where it would be louder, all of it is made softer.

    Args:
        kind: One of `KINDS`.
        level: Level in the unit of the kind.
        scene: The sound.
    """
    return _playable(KINDS[kind].apply(scene, level))


def _playable(sound: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " samples"]:
    return (sound / max(1.0, _peak(sound))).astype(np.float32)


def _peak(sound: Sound) -> float:
    return max(float(np.abs(sound).max()), 1e-12)


def _rms(sound: Sound) -> float:
    return max(float(np.sqrt(np.mean(np.square(sound)))), 1e-12)
