"""Synthetic voices: speakers, the syllables they say, and source-filter synthesis of the waveform.

Glottal pulses and breath excite a vocal tract (an all-pole filter); consonant noise has a band of its own.
Everything a voice does is written on control tracks, one value per millisecond, so that a change to the
speech is a change to a track.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float
from scipy import fft, signal
from scipy.ndimage import gaussian_filter1d

from wavshap_lightning.audio.io import SAMPLE_RATE

Waveform = Float[np.ndarray, " time"]
Track = Float[np.ndarray, " controls"]
Spectrum = Complex[np.ndarray, "frames bins"]

SourceNoise = tuple[Waveform, Track, Track]
"""Random part of a rendering, drawn beforehand so that two renderings can share it: white noise behind breath
and consonants, and standard normal deviations of the pulses' times and levels, looked up by time."""

CONTROL_SAMPLES = 16
CONTROL_RATE = SAMPLE_RATE // CONTROL_SAMPLES  # one control per millisecond

FRAME_CONTROLS = 10
"""Controls from one position of the formants to the next; between them the sound is cross-faded."""

VOICES = ("male", "female", "child")

EDGE_S = (0.04, 0.1)
"""Shortest and longest time before the first syllable of a clip and after the last."""

_PITCH_HZ = {"male": (105.0, 140.0), "female": (170.0, 230.0), "child": (260.0, 330.0)}
_TRACT_SCALE = {"male": (0.94, 1.04), "female": (1.12, 1.22), "child": (1.28, 1.38)}
# Formants of American English vowels, adult men; the averages of Peterson and Barney (1952), rounded.
_VOWELS_HZ = np.array(
    [
        (270, 2290, 3010),
        (530, 1840, 2480),
        (660, 1720, 2410),
        (730, 1090, 2440),
        (570, 840, 2410),
        (300, 870, 2240),
    ]
)
_LOCUS_HZ = ((250.0, 900.0, 2_200.0), (380.0, 2_000.0, 2_800.0))
_UPPER_FORMANTS_HZ = (3_500.0, 4_500.0, 5_500.0)
_PAUSE_S = (0.07, 0.16)
_PAUSE_PROBABILITY = 0.12
_ONSET_S = {"glide": (0.04, 0.07), "nasal": (0.05, 0.08), "fricative": (0.07, 0.12), "plosive": (0.05, 0.09)}
_BURST_S = 0.012

_HOP_SAMPLES = FRAME_CONTROLS * CONTROL_SAMPLES
_WINDOW_SAMPLES = 2 * _HOP_SAMPLES
_PADDING_SAMPLES = _WINDOW_SAMPLES - _HOP_SAMPLES
_FFT_SAMPLES = 5 * _HOP_SAMPLES  # more than half of it is room for the filter to ring
_BINS_HZ = fft.rfftfreq(_FFT_SAMPLES, 1 / SAMPLE_RATE).astype(np.float32)
_BANDWIDTHS_HZ = np.array([70.0, 90.0, 130.0, 180.0, 240.0, 300.0])
_TILT_CORNER_HZ = 250.0
_RUMBLE_CORNER_HZ = 70.0
_FRICATION_OCTAVES = 0.5
_LOW_BAND_HZ = 1_000.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """Parameters of a synthetic voice.

    Args:
        base_pitch_hz: Middle of the pitch range.
        tract_scale: Formant frequencies relative to an adult male's.
        tilt_db: Spectral tilt: loss per octave above 250 Hz.
        breathiness: Level of the breath relative to the pulses.
        rate_hz: Syllables per second.
        level_db: Recording level relative to other speakers.
    """

    base_pitch_hz: float
    tract_scale: float
    tilt_db: float
    breathiness: float
    rate_hz: float
    level_db: float


@dataclass(frozen=True, slots=True)
class Syllable:
    """One consonant and one vowel.

    Args:
        start_s: Start of the consonant, in seconds from the start of the clip.
        vowel_s: Start of the vowel.
        end_s: End of the vowel.
        consonant: `glide`, `nasal`, `fricative` or `plosive`.
        hiss_hz: Center of the consonant's noise band, where it has one.
        formants_hz: First three formants in the consonant, early and late in the vowel.
        level_db: Level relative to the other syllables.
        accent: Pitch relative to the phrase's, in semitones.
    """

    start_s: float
    vowel_s: float
    end_s: float
    consonant: str
    hiss_hz: float
    formants_hz: Float[np.ndarray, "3 3"]
    level_db: float
    accent: float


@dataclass(frozen=True, slots=True)
class Tracks:
    """Control tracks of a voice, one value per millisecond.

    Args:
        f0_hz: Fundamental frequency.
        voicing: Level of the pulses; 0 where there is no voice.
        frication: Level of the consonant noise.
        frication_hz: Center of the consonant noise's band.
        formants_hz: Resonances of the vocal tract.
        gain: Factor on everything above.
        jitter: Standard deviation of a pulse's time, as a fraction of the period.
        shimmer: Standard deviation of a pulse's level, as a fraction of it.
        subharmonic: Attenuation of every second pulse, 0 to 1.
        low_cut_db: Attenuation of the band below 1 kHz.
    """

    f0_hz: Track
    voicing: Track
    frication: Track
    frication_hz: Track
    formants_hz: Float[np.ndarray, "controls formants"]
    gain: Track
    jitter: Track
    shimmer: Track
    subharmonic: Track
    low_cut_db: Track

    @property
    def num_controls(self) -> int:
        """Milliseconds of speech."""
        return len(self.f0_hz)


def draw_speaker(generator: np.random.Generator, *, voice: str) -> Speaker:
    """Draw a speaker.

    Args:
        generator: Source of randomness.
        voice: Kind of voice: `male`, `female` or `child`.
    """
    return Speaker(
        base_pitch_hz=generator.uniform(*_PITCH_HZ[voice]),
        tract_scale=generator.uniform(*_TRACT_SCALE[voice]),
        tilt_db=generator.uniform(3.0, 6.0),
        breathiness=generator.uniform(0.02, 0.12),
        rate_hz=generator.uniform(3.6, 5.2),
        level_db=generator.uniform(-4.0, 4.0),
    )


def draw_syllables(
    speaker: Speaker, longest_s: float, generator: np.random.Generator
) -> tuple[Syllable, ...]:
    """Draw syllables, with occasional pauses, that end before `longest_s` seconds."""
    now_s = generator.uniform(*EDGE_S)
    syllables: list[Syllable] = []
    while (syllable := _draw_syllable(speaker, now_s, generator)).end_s <= longest_s:
        syllables.append(syllable)
        pauses = generator.random() < _PAUSE_PROBABILITY
        now_s = syllable.end_s + pauses * generator.uniform(*_PAUSE_S)
    return tuple(syllables)


def _draw_syllable(speaker: Speaker, start_s: float, generator: np.random.Generator) -> Syllable:
    consonant = tuple(_ONSET_S)[generator.integers(len(_ONSET_S))]
    onset_s = generator.uniform(*_ONSET_S[consonant])
    nucleus_s = max(0.07, generator.uniform(0.8, 1.2) / speaker.rate_hz - onset_s)
    early, late = _VOWELS_HZ[generator.integers(len(_VOWELS_HZ), size=2)]
    locus = generator.uniform(*_LOCUS_HZ)
    return Syllable(
        start_s=start_s,
        vowel_s=start_s + onset_s,
        end_s=start_s + onset_s + nucleus_s,
        consonant=consonant,
        hiss_hz=generator.uniform(2_200.0, 5_500.0),
        formants_hz=generator.uniform(0.95, 1.05) * np.array([locus, early, (early + late) / 2]),
        level_db=generator.uniform(-3.0, 3.0),
        accent=generator.uniform(-1.0, 1.0),
    )


def build_tracks(
    syllables: tuple[Syllable, ...], speaker: Speaker, duration_s: float, generator: np.random.Generator
) -> Tracks:
    """Write syllables on control tracks, and draw the slow random flutter of the pitch."""
    num_controls = round(duration_s * CONTROL_RATE)
    voicing, frication, accent = np.zeros((3, num_controls))
    hiss_hz = np.full(num_controls, 3_000.0)
    formants_hz = np.tile([500.0, 1_500.0, 2_500.0, *_UPPER_FORMANTS_HZ], (num_controls, 1))
    for syllable in syllables:
        _write_source(syllable, voicing, frication)
        _write_formants(syllable, formants_hz)
        whole = _controls(syllable.start_s, syllable.end_s)
        hiss_hz[whole], accent[whole] = syllable.hiss_hz, syllable.accent
    formants_hz[:, :3] = gaussian_filter1d(formants_hz[:, :3], 16.0, axis=0, truncate=3.0)
    declination = np.linspace(1.0, -1.0, num_controls)
    flutter = 0.2 * gaussian_filter1d(generator.standard_normal(num_controls), 15.0)
    flutter *= np.sqrt(30 * np.sqrt(np.pi))  # the filter's loss of power
    semitones = gaussian_filter1d(accent, 40.0, truncate=3.0) + declination + flutter
    return Tracks(
        f0_hz=speaker.base_pitch_hz * 2 ** (semitones / 12),
        voicing=gaussian_filter1d(voicing, 11.0),
        frication=gaussian_filter1d(frication, 2.5),
        frication_hz=hiss_hz,
        formants_hz=formants_hz,
        gain=np.ones(num_controls),
        jitter=np.full(num_controls, 0.006),
        shimmer=np.full(num_controls, 0.05),
        subharmonic=np.zeros(num_controls),
        low_cut_db=np.zeros(num_controls),
    )


def _controls(start_s: float, end_s: float) -> slice:
    return slice(round(start_s * CONTROL_RATE), round(end_s * CONTROL_RATE))


def _write_source(syllable: Syllable, voicing: Track, frication: Track) -> None:
    level = 10 ** (syllable.level_db / 20)
    onset = _controls(syllable.start_s, syllable.vowel_s)
    vowel = _controls(syllable.vowel_s, syllable.end_s)
    voicing[vowel] = level * np.linspace(1.0, 0.7, vowel.stop - vowel.start)
    if syllable.consonant in {"glide", "nasal"}:
        voicing[onset] = level * (0.6 if syllable.consonant == "glide" else 0.35)
    elif syllable.consonant == "fricative":
        frication[onset] = 0.25 * level
    else:
        frication[_controls(syllable.vowel_s - _BURST_S, syllable.vowel_s)] = 0.6 * level


def _write_formants(syllable: Syllable, formants_hz: Float[np.ndarray, "controls formants"]) -> None:
    middle_s = (syllable.vowel_s + syllable.end_s) / 2
    times = (syllable.start_s, syllable.vowel_s, middle_s, syllable.end_s)
    for target, start_s, end_s in zip(syllable.formants_hz, times[:-1], times[1:], strict=True):
        formants_hz[_controls(start_s, end_s), :3] = target


def draw_source_noise(num_controls: int, generator: np.random.Generator) -> SourceNoise:
    """Draw the random part of renderings of `num_controls` milliseconds of speech."""
    noise = generator.standard_normal(num_controls * CONTROL_SAMPLES, dtype=np.float32)
    period, level = generator.standard_normal((2, num_controls))
    return noise, period, level


def render_speech(
    tracks: Tracks, speaker: Speaker, source: SourceNoise, *, start: int = 0, stop: int | None = None
) -> Float[np.ndarray, " rendered"]:
    """Waveform at 16 kHz of control tracks; deterministic.

    Args:
        tracks: The control tracks.
        speaker: The voice.
        source: The random part.
        start: First millisecond wanted, a multiple of `FRAME_CONTROLS`. The ringing of what came before
            it is missing.
        stop: One past the last millisecond wanted; the end if None.
    """
    stop = tracks.num_controls if stop is None else stop
    wanted = slice(start * CONTROL_SAMPLES, stop * CONTROL_SAMPLES)
    breath = speaker.breathiness * source[0] * _per_sample(tracks.voicing * tracks.gain)
    voiced = (glottal_pulses(tracks, source) + breath)[wanted]
    hissing = (source[0] * _per_sample(tracks.frication * tracks.gain))[wanted]
    at_frame = np.append(np.arange(start, stop, FRAME_CONTROLS), stop - 1)
    spectrum = fft.rfft(_frames(voiced), _FFT_SAMPLES)
    spectrum *= _tract_response(tracks, speaker, at_frame)
    consonants = _frames(hissing)
    audible = consonants.any(axis=1)
    band = _band_response(tracks.frication_hz[at_frame[audible]])
    spectrum[audible] += fft.rfft(consonants[audible], _FFT_SAMPLES) * band
    return _overlap_add(spectrum, len(voiced))


def glottal_pulses(tracks: Tracks, source: SourceNoise) -> Waveform:
    """Glottal pulses of equal power at any pitch, placed with sub-sample precision."""
    _, period, loudness = source
    controls = np.arange(tracks.num_controls)
    phase = np.cumsum(tracks.f0_hz) / CONTROL_RATE
    at_control = np.interp(np.arange(np.ceil(phase[0]), phase[-1]), phase, controls)
    nearest = at_control.astype(int)
    period_samples = SAMPLE_RATE / tracks.f0_hz[nearest]
    shift = np.clip(tracks.jitter * period, -0.4, 0.4)[nearest]
    every_second = np.arange(len(nearest)) % 2
    level = (tracks.voicing * tracks.gain * (1 + tracks.shimmer * loudness))[nearest]
    level *= np.sqrt(period_samples) * (1 - tracks.subharmonic[nearest] * every_second)
    at_sample = at_control * CONTROL_SAMPLES + shift * period_samples
    return _place_impulses(at_sample, level, tracks.num_controls * CONTROL_SAMPLES)


def _place_impulses(
    at_sample: Float[np.ndarray, " pulses"], level: Float[np.ndarray, " pulses"], num_samples: int
) -> Waveform:
    """Impulses at fractional positions, each a Hann-windowed sinc of eight samples."""
    first = np.floor(at_sample).astype(int)
    offset = np.arange(-3, 5)
    distance = offset - (at_sample - first)[:, None]
    taps = np.sinc(distance) * np.cos(np.pi * distance / 8) ** 2 * level[:, None]
    position = np.clip(first[:, None] + offset, 0, num_samples - 1)
    return np.bincount(position.ravel(), taps.ravel(), num_samples).astype(np.float32)


def _per_sample(track: Track) -> Waveform:
    return np.repeat(track.astype(np.float32), CONTROL_SAMPLES)


def _frames(waveform: Waveform) -> Float[np.ndarray, "frames window"]:
    """Overlapping frames under windows that sum to one."""
    padded = np.pad(waveform, (_PADDING_SAMPLES, _PADDING_SAMPLES + -len(waveform) % _HOP_SAMPLES))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[::_HOP_SAMPLES]
    return frames * signal.windows.hann(_WINDOW_SAMPLES, sym=False).astype(np.float32)


def _overlap_add(spectrum: Spectrum, num_samples: int) -> Waveform:
    pieces = fft.irfft(spectrum, _FFT_SAMPLES).reshape(len(spectrum), -1, _HOP_SAMPLES)
    total = np.zeros((len(spectrum) + pieces.shape[1], _HOP_SAMPLES), np.float32)
    for late in range(pieces.shape[1]):
        total[late : late + len(spectrum)] += pieces[:, late]
    return total.ravel()[_PADDING_SAMPLES : _PADDING_SAMPLES + num_samples]


def _tract_response(tracks: Tracks, speaker: Speaker, at_frame: np.ndarray) -> Spectrum:
    """Formants (minimum phase) times the tilt of source and lips (zero phase); power 1 in every frame."""
    denominator = fft.rfft(_all_pole(tracks.formants_hz[at_frame] * speaker.tract_scale), _FFT_SAMPLES)
    octaves = np.log2(np.maximum(_BINS_HZ, _TILT_CORNER_HZ) / _TILT_CORNER_HZ)
    rumble = _BINS_HZ**2 / (_BINS_HZ**2 + _RUMBLE_CORNER_HZ**2)
    below = 1 / (1 + (_BINS_HZ / _LOW_BAND_HZ) ** 8)
    low_cut = 10 ** (-np.outer(tracks.low_cut_db[at_frame], below) / 20) if tracks.low_cut_db.any() else 1.0
    tilt = (rumble * 10 ** (-speaker.tilt_db * octaves / 20) * low_cut).astype(np.float32)
    weight = tilt / (denominator.real**2 + denominator.imag**2)
    power = np.mean(tilt * weight, axis=1, keepdims=True)
    return denominator.conj() * (weight / np.sqrt(power))


def _all_pole(formants_hz: Float[np.ndarray, "frames formants"]) -> Float[np.ndarray, "frames taps"]:
    """Denominator of a cascade of resonators."""
    radius = np.exp(-np.pi * _BANDWIDTHS_HZ / SAMPLE_RATE)
    angle = 2 * np.pi * formants_hz / SAMPLE_RATE
    product = np.zeros((len(formants_hz), 2 + 2 * formants_hz.shape[1] + 1))  # two zeros, then the taps
    product[:, 2] = 1.0
    for formant in range(formants_hz.shape[1]):
        first, second = -2 * radius[formant] * np.cos(angle[:, formant, None]), radius[formant] ** 2
        product[:, 2:] += first * product[:, 1:-1] + second * product[:, :-2]
    return product[:, 2:].astype(np.float32)


def _band_response(center_hz: Float[np.ndarray, " frames"]) -> Float[np.ndarray, "frames bins"]:
    """A bell over log frequency around each frame's consonant."""
    distinct_hz, which = np.unique(center_hz, return_inverse=True)
    octaves = np.log2(np.maximum(_BINS_HZ, 50.0) / distinct_hz[:, None])
    return np.exp(-0.5 * (octaves / _FRICATION_OCTAVES) ** 2).astype(np.float32)[which]
