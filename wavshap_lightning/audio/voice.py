"""Voices: the acoustic cues of a clip, measured, and the clip with some of its cues moved to a reference.

Analysis and synthesis are those of WORLD (Morise, Yokomori and Ozawa 2016, WORLD: a vocoder-based
high-quality speech synthesis system for real-time applications), with F0 by Harvest (Morise 2017). They need
the extra `cues`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64
from scipy.ndimage import binary_opening, gaussian_filter

from wavshap_lightning.audio.segments import is_speech
from wavshap_lightning.errors import AudioError, SettingError

CUES = ("pitch_level", "pitch_range", "loudness", "tempo", "spectrum")

HOP_S = 0.005
LOWEST_HZ, HIGHEST_HZ = 65.0, 700.0
SYNTHESIS_HZ = (40.0, 1000.0)
"""F0 of edited sounds is kept within these limits, which errors of the tracker would leave."""

# Harvest finds an F0 nearly everywhere. D4C, which measures the aperiodicity, calls a frame voiced where this
# share of the power below 7.9 kHz lies below 4 kHz, and gives the others an aperiodicity of one. Cues are
# measured where D4C and DIO, a second tracker, agree that there is an F0: in a whisper there is none. Where
# there is one, sounds are synthesized with the aperiodicity of every frame: classifiers take them for the
# clip more often than sounds whose weakly voiced frames are noise.
VOICED_SHARE, APERIODIC = 0.85, 0.999
LEAST_VOICED_S = 0.1
TRACKERS_DIFFER_SEMITONES = 3.0

# The active span is that of speech in the mean level in dB of all bands up to 4 kHz. A filter, such as
# another microphone or an edit of the spectrum, shifts that level everywhere alike. In the power of all bands
# some sounds at the ends would pass or miss the limit then, and tempo would seem to have changed.
SPEECH_TO_HZ, LEVEL_SIGMA_S, LEAST_SPEECH_S = 4000.0, 0.0075, 0.06

# Outside the active span the clip stays as it is, noise of the room included.
FADE_S = 0.01

# What WORLD synthesizes is 0.5 dB louder than the clip, and blurred. Envelopes are corrected by how those of
# a first synthesis differ, smoothed over frames and frequencies, as both are noisy; in nats of power.
SIGMA_HZ, MAX_CORRECTION = 125.0, 2.3

BAND_HZ, BRIGHT_FROM_HZ = 250.0, 1000.0
MAX_BAND_GAIN_DB = 30.0
"""Bands that are empty, as those above a telephone's, are not filled further than this."""

UNITS = {
    "pitch_level": "{:+.1f} semitones",
    "pitch_range": "{:+.1f} semitones",
    "loudness": "{:+.1f} dB",
    "tempo": "{:.2f} times as long",
    "spectrum": "{:+.1f} dB above 1 kHz",
}
"""Format of the physical difference of each cue, as [`differences`][] gives it."""

Numbers = Float64[np.ndarray, " numbers"]
Spectra = Float64[np.ndarray, "frames bins"]


@dataclass(frozen=True)
class VoiceMeasures:
    """The five cues of a voice as plain numbers: those of a clip, or those of a reference to move a clip to.

    Args:
        pitch_level: Median F0 in semitones above 1 Hz; None if fewer than 100 ms are voiced.
        pitch_range: Tenth to ninetieth percentile of F0 in semitones; None likewise.
        loudness: Level of the active span, from the first to the last speech, in dB relative to full scale.
        tempo: Duration of the active span in seconds.
        spectrum: Long-term envelope: mean level in bands of 250 Hz, in dB relative to the power of a frame.
    """

    pitch_level: float | None
    pitch_range: float | None
    loudness: float
    tempo: float
    spectrum: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "spectrum", tuple(self.spectrum))  # a list where it was read from JSON

    @property
    def brightness_db(self) -> float:
        """Mean level of the bands above 1 kHz, relative to that of the bands below."""
        split = round(BRIGHT_FROM_HZ / BAND_HZ)
        return float(np.mean(self.spectrum[split:]) - np.mean(self.spectrum[:split]))


@dataclass(frozen=True, eq=False)
class Voice:
    """A clip analyzed by WORLD; made by [`analyze_voice`][].

    Args:
        measures: Its cues.
        sample_rate: Samples per second.
        samples: The clip.
        active_s: Start of the first and end of the last speech, in seconds.
        f0: F0 of each frame of 5 ms in Hz; 0 where Harvest finds none.
        envelope: Smoothed power spectrum of each frame, such that the synthesis has that of the clip.
        aperiodicity: Share of the amplitude that is noise, in each frame and bin.
        tracker_disagreement: Share of the voiced frames in which a second tracker (DIO) gives an F0 more than
            3 semitones away; None without such frames.
    """

    measures: VoiceMeasures
    sample_rate: int
    samples: Float64[np.ndarray, " samples"]
    active_s: tuple[float, float]
    f0: Numbers
    envelope: Spectra
    aperiodicity: Spectra
    tracker_disagreement: float | None


def analyze_voice(waveform: Float[np.ndarray, " samples"], sample_rate: int) -> Voice:
    """Analyze a clip and measure its cues.

    Args:
        waveform: Samples in [-1, 1].
        sample_rate: Samples per second.

    Raises:
        AudioError: If the clip is silent.
        SettingError: If the extra `cues` is not installed.
    """
    world, samples = load_world(), np.ascontiguousarray(waveform, dtype=np.float64)
    if not samples.any():
        raise AudioError(f"all {len(samples)} samples are silent; give a clip with a voice in it")
    limits = {"f0_floor": LOWEST_HZ, "f0_ceil": HIGHEST_HZ, "frame_period": 1000 * HOP_S}
    f0, times = world.harvest(samples, sample_rate, **limits)
    envelope = world.cheaptrick(samples, f0, times, sample_rate, f0_floor=LOWEST_HZ)
    aperiodicity = world.d4c(samples, f0, times, sample_rate, threshold=VOICED_SHARE)
    narrow = envelope[:, : round(SPEECH_TO_HZ / sample_rate * 2 * envelope.shape[1])]
    level_db = gaussian_filter(10 * np.log10(narrow).mean(1), LEVEL_SIGMA_S / HOP_S)
    speech = np.flatnonzero(binary_opening(is_speech(level_db), np.ones(round(LEAST_SPEECH_S / HOP_S))))
    start_s, end_s = times[speech[[0, -1]]].tolist() if len(speech) else (0.0, len(samples) / sample_rate)
    active = (times >= start_s) & (times <= end_s)
    other = world.stonemask(samples, *world.dio(samples, sample_rate, **limits), sample_rate)
    voiced = active & (f0 > 0) & (aperiodicity[:, 0] < APERIODIC) & (other > 0)
    voiced &= voiced.sum() * HOP_S >= LEAST_VOICED_S
    semitones, others = (12 * np.log2(one[voiced]) for one in (f0, other))
    low, median, high = np.quantile(semitones, [0.1, 0.5, 0.9]).tolist() if voiced.any() else (0.0, None, 0.0)
    apart = np.abs(semitones - others) > TRACKERS_DIFFER_SEMITONES
    measures = VoiceMeasures(
        pitch_level=median,
        pitch_range=None if median is None else high - low,
        loudness=_level_db(samples, (start_s, end_s), sample_rate),
        tempo=end_s - start_s,
        spectrum=_long_term(envelope[voiced if voiced.any() else active], sample_rate),
    )
    threshold = 0.0 if voiced.any() else VOICED_SHARE
    aperiodicity = world.d4c(samples, f0, times, sample_rate, threshold=threshold)
    first = world.synthesize(f0, envelope, aperiodicity, sample_rate, 1000 * HOP_S)
    again = world.cheaptrick(first, f0, times, sample_rate, f0_floor=LOWEST_HZ)
    wrong = gaussian_filter(np.log(envelope / again), (1, SIGMA_HZ / sample_rate * 2 * envelope.shape[1]))
    envelope *= np.exp(wrong.clip(-MAX_CORRECTION, MAX_CORRECTION))
    disagreement = float(apart.mean()) if len(apart) else None
    return Voice(measures, sample_rate, samples, (start_s, end_s), f0, envelope, aperiodicity, disagreement)


def load_world() -> ModuleType:
    """The library WORLD.

    Raises:
        SettingError: If it is not installed.
    """
    try:
        import pyworld  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingError("acoustic cues need WORLD: pip install 'wavshap-lightning[cues]'") from error
    return pyworld


def _level_db(samples: Numbers, span_s: tuple[float, float], sample_rate: int) -> float:
    start, end = (round(at_s * sample_rate) for at_s in span_s)
    return 10 * float(np.log10(max(np.square(samples[start:end]).mean(), 1e-18)))


def _long_term(envelope: Spectra, sample_rate: int) -> tuple[float, ...]:
    """Mean level of each band over frames, relative to the power of the frame."""
    level_db = 10 * np.log10(envelope / envelope.sum(1, keepdims=True)).mean(0)
    num_bands = round(sample_rate / 2 / BAND_HZ)
    return tuple(float(band.mean()) for band in np.array_split(level_db, num_bands))


def mean_measures(measures: Sequence[VoiceMeasures]) -> VoiceMeasures:
    """Mean of each cue over clips; that of pitch over the clips that have one.

    Args:
        measures: Of one clip or more, at one sample rate.

    Raises:
        AudioError: If there are none, or two have another sample rate.
    """
    if len({len(one.spectrum) for one in measures}) != 1:
        raise AudioError(f"measures: {len(measures)} clips; give one or more, all of the same sample rate")
    known = {cue: [value for one in measures if (value := getattr(one, cue)) is not None] for cue in CUES}
    means: dict[str, Any] = {cue: np.mean(of, 0).tolist() if of else None for cue, of in known.items()}
    return VoiceMeasures(**means)


def differences(clip: VoiceMeasures, reference: VoiceMeasures) -> dict[str, float]:
    """Physical difference of each cue that both have: the clip minus the reference.

    Semitones of the level and of the range of pitch; dB of loudness; for tempo how many times as long the
    clip is; for the spectrum dB of the bands above 1 kHz against those below.

    Raises:
        AudioError: If the two have other sample rates.
    """
    if len(clip.spectrum) != len(reference.spectrum):
        raise AudioError("clip and reference have other sample rates; measure both at the same")
    found = {"loudness": clip.loudness - reference.loudness, "tempo": clip.tempo / reference.tempo}
    found["spectrum"] = clip.brightness_db - reference.brightness_db
    if clip.pitch_level is not None and reference.pitch_level is not None:
        found |= {cue: getattr(clip, cue) - getattr(reference, cue) for cue in CUES[:2]}
    return {cue: found[cue] for cue in CUES if cue in found}


def resynthesize(
    voice: Voice, reference: VoiceMeasures, amounts: Mapping[str, float] | None = None, *, shift: float = 0.0
) -> Float32[np.ndarray, " samples"]:
    """Synthesize a clip with some cues moved to a reference.

    With the amount `a` of a cue and the measures `own` and `ref`:

    - pitch level: the median of F0 becomes `own + a (ref - own)` semitones;
    - pitch range: F0 is scaled around its median, in semitones, to the range `own + a (ref - own)`;
    - loudness: the clip is amplified until the level of the active span is `own + a (ref - own)` dB. Without
      an amount it is that of the clip;
    - tempo: the active span is stretched evenly to the duration `own (ref / own)^a`; before and after it
      nothing changes;
    - spectrum: every frame of the active span is filtered by `a (ref - own)` dB, of which the difference is
      30 dB at most, and keeps its power.

    Unvoiced and silent stretches stay what they are; before and after the active span the samples are those
    of the clip. The same arguments give the same samples. Loud sounds may leave [-1, 1]: if they were turned
    down, every cue would change their level.

    Args:
        voice: The clip.
        reference: Where the cues are moved to.
        amounts: How far, by cue: 0, where none is given, is the clip's own, 1 the reference; other sizes lie
            between and beyond.
        shift: Semitones by which F0 is shifted besides.

    Raises:
        AudioError: If a cue is unknown, or the clip or the reference lacks it.
    """
    own, amounts = voice.measures, dict(amounts or {})
    if unknown := amounts.keys() - differences(own, reference).keys():
        raise AudioError(f"amounts={sorted(unknown)}: clip and reference must both have them; leave them out")
    moves = dict.fromkeys(CUES, 0.0) | amounts
    gain_db = moves.pop("loudness") * (reference.loudness - own.loudness)
    samples = _synthesize(voice, reference, tuple(moves.items()), shift)
    return (samples * 10 ** (gain_db / 20)).astype(np.float32)


@lru_cache(maxsize=8)  # of the 32 combinations of cues, pairs differ in loudness alone
def _synthesize(
    voice: Voice, reference: VoiceMeasures, moves: tuple[tuple[str, float], ...], shift: float
) -> Float64[np.ndarray, " samples"]:
    """The sound with all cues but its loudness moved."""
    own, amounts, rate, (start_s, end_s) = voice.measures, dict(moves), voice.sample_rate, voice.active_s
    added_s = own.tempo * ((reference.tempo / own.tempo) ** amounts["tempo"] - 1)
    span_s = start_s, end_s + added_s
    num_samples = len(voice.samples) + round(added_s * rate)
    at_s = HOP_S * np.arange(int(num_samples / (rate * HOP_S)) + 1)
    whole_s = len(voice.f0) * HOP_S
    source_s = np.interp(at_s, [0, *span_s, whole_s + added_s], [0, start_s, end_s, whole_s])
    frames = np.minimum(np.rint(source_s / HOP_S).astype(int), len(voice.f0) - 1)
    envelope, active = voice.envelope[frames], (at_s >= start_s) & (at_s <= span_s[1])
    gain_db = np.subtract(reference.spectrum, own.spectrum).clip(-MAX_BAND_GAIN_DB, MAX_BAND_GAIN_DB)
    bins = np.linspace(0, len(gain_db), envelope.shape[1]) - 0.5
    gain = 10 ** (amounts["spectrum"] * np.interp(bins, np.arange(len(gain_db)), gain_db) / 10)
    filtered = envelope[active] * gain
    envelope[active] = filtered * (envelope[active].sum(1) / filtered.sum(1))[:, None]
    f0, semitones = voice.f0.copy(), 12 * np.log2(voice.f0[voice.f0 > 0])
    if own.pitch_level is not None and own.pitch_range is not None and reference.pitch_level is not None:
        up = amounts["pitch_level"] * (reference.pitch_level - own.pitch_level)
        wider = amounts["pitch_range"] * ((reference.pitch_range or 0.0) / max(own.pitch_range, 0.1) - 1)
        semitones = own.pitch_level + up + max(0.0, 1 + wider) * (semitones - own.pitch_level)
    f0[f0 > 0] = np.clip(2 ** ((semitones + shift) / 12), *SYNTHESIS_HZ)
    samples = load_world().synthesize(f0[frames], envelope, voice.aperiodicity[frames], rate, 1000 * HOP_S)
    samples *= 10 ** ((own.loudness - _level_db(samples, span_s, rate)) / 20)
    index = np.arange(num_samples)
    places = np.where(index < start_s * rate, index, index - num_samples + len(voice.samples))
    share = np.interp(index / rate, [start_s - FADE_S, *span_s, span_s[1] + FADE_S], [0, 1, 1, 0])
    return share * samples[:num_samples] + (1 - share) * voice.samples[places.clip(0)]
