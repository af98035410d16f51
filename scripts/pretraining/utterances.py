"""Clean utterances and what is known of them: spoken by espeak-ng, or by procedural voices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import parselmouth
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from pretraining.espeak import EspeakVoice, speak
from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.audio.io import SAMPLE_RATE
from wavshap_lightning.models.pretrained import tiny_config
from wavshap_lightning.planted.voices import (
    CONTROL_RATE,
    VOICES,
    Speaker,
    Syllable,
    Tracks,
    build_tracks,
    draw_source_noise,
    draw_speaker,
    draw_syllables,
    render_speech,
)

WINDOW_S = 3.2
NUM_SAMPLES = round(WINDOW_S * SAMPLE_RATE)
FRAMES = FrameGrid(tuple(tiny_config().conv_kernel), tuple(tiny_config().conv_stride), SAMPLE_RATE)
NUM_FRAMES = FRAMES.num_frames(NUM_SAMPLES)
FRAME_S = FRAMES.center_s(NUM_FRAMES)
"""Middle of each frame of the backbone."""

QUALITIES = ("jitter", "shimmer", "subharmonic", "low_cut", "tremor", "roughness", "breath", "tilt", "effort")
"""What is known of a procedural voice in every frame, each scaled to about 0 to 1."""

_PITCH_FLOOR_HZ, _PITCH_CEILING_HZ = 60.0, 700.0


@dataclass(frozen=True, slots=True)
class Utterance:
    """A window of clean speech and what is known of it.

    Args:
        waveform: At 16 kHz, peak at most 1.
        f0_hz: Fundamental frequency of each frame; 0 where unvoiced.
        periodicity: Height of the normalised autocorrelation at the period, 0 to 1.
        qualities: One row a quality; NaN where unknown.
        rate: Speaking rate relative to the voice's own, natural logarithm.
        voice: Index of the espeak-ng variant; -1 for procedural voices.
    """

    waveform: Float[np.ndarray, " time"]
    f0_hz: Float[np.ndarray, " frames"]
    periodicity: Float[np.ndarray, " frames"]
    qualities: Float[np.ndarray, "qualities frames"]
    rate: float
    voice: int


# espeak-ng

_ONSETS = "b d f g h j k l m n p r s t v w z bl br dr fl gr kl kr pl pr sk sl sp st tr".split()
_NUCLEI = "a e i o u a e i o u ai au ei".split()
_CODAS = ["", "", "", "", "n", "s", "r", "l", "t", "m"]
_ENDS = [".", ".", ".", "?", "!", "..."]


def draw_text(generator: np.random.Generator, num_words: int) -> str:
    """Nonsense in Latin letters, with commas and an end."""
    words = [_draw_word(generator) for _ in range(num_words)]
    words = [word + "," * bool(generator.random() < 0.12) for word in words]
    return " ".join(words).rstrip(",") + _ENDS[generator.integers(len(_ENDS))]


def _draw_word(generator: np.random.Generator) -> str:
    parts = (_ONSETS, _NUCLEI, _CODAS)
    count = generator.choice([1, 2, 3], p=[0.35, 0.45, 0.2])
    return "".join(str(generator.choice(part)) for _ in range(count) for part in parts)


def draw_ssml(generator: np.random.Generator, text: str) -> str:
    """Let part of a text stand out in pitch, range or rate, now and then."""
    if generator.random() < 0.6:
        return text
    words = text.split()
    start, stop = sorted(generator.integers(0, len(words) + 1, size=2))
    marks = f'pitch="{generator.integers(-40, 60):+d}%" rate="{generator.integers(70, 150)}%"'
    marked = f"<prosody {marks}>{' '.join(words[start:stop])}</prosody>"
    return " ".join([*words[:start], marked, *words[stop:]])


def espeak_utterance(
    voice: EspeakVoice, variant: int, generator: np.random.Generator, *, num_words: int | None = None
) -> Utterance:
    """One utterance in one voice."""
    count = num_words or int(generator.integers(2, 9))
    spoken = speak(
        draw_ssml(generator, draw_text(generator, count)), voice, seed=int(generator.integers(2**31))
    )
    waveform = place(spoken, generator)
    f0_hz, periodicity = measure_pitch(waveform)
    unknown = np.full((len(QUALITIES), NUM_FRAMES), np.nan, np.float32)
    rate = float(np.log(voice.rate_wpm / 175))
    return Utterance(waveform, f0_hz, periodicity, unknown, rate, variant)


def place(spoken: Float[np.ndarray, " spoken"], generator: np.random.Generator) -> Float[np.ndarray, " time"]:
    """Put speech somewhere in a window, or a part of it where it is too long; peak at 0.9."""
    peak = max(1e-4, float(np.abs(spoken).max()))
    room = NUM_SAMPLES - len(spoken)
    window = np.zeros(NUM_SAMPLES, np.float32)
    if room >= 0:
        start = int(generator.integers(room + 1))
        window[start : start + len(spoken)] = spoken
    else:
        start = int(generator.integers(-room + 1))
        window[:] = spoken[start : start + NUM_SAMPLES]
    return window * np.float32(0.9 / peak)


def measure_pitch(
    waveform: Float[np.ndarray, " time"],
) -> tuple[Float[np.ndarray, " frames"], Float[np.ndarray, " frames"]]:
    """Pitch (0 where unvoiced) and periodicity in the middle of each frame, by Praat's autocorrelation."""
    sound = parselmouth.Sound(waveform.astype(float), SAMPLE_RATE)
    pitch = sound.to_pitch_ac(time_step=0.01, pitch_floor=_PITCH_FLOOR_HZ, pitch_ceiling=_PITCH_CEILING_HZ)
    nearest = np.clip(np.round((FRAME_S - pitch.t1) / pitch.dt).astype(int), 0, pitch.n_frames - 1)
    found = pitch.selected_array[nearest]
    return found["frequency"].astype(np.float32), found["strength"].astype(np.float32)


# Procedural voices


@dataclass(frozen=True, slots=True)
class Manner:
    """How a procedural voice speaks, whoever it is.

    Args:
        pitch: Shift of the pitch in semitones.
        movement: Standard deviation of the slow pitch contour in semitones.
        rate: Natural logarithm of the rate relative to the speaker's own.
        effort: -1 (weak) to 1 (loud): flattens or steepens the spectrum and moves pitch and first formant.
        breath: Breath added to the voice.
        tremor: Depth of the tremor, 0 to 1.
        roughness: Depth of the level modulation at 30 to 80 Hz, 0 to 1.
        jitter: Unevenness of the periods.
        shimmer: Unevenness of the pulses' levels.
        subharmonic: How much every second pulse is weaker.
        low_cut_db: Attenuation below 1 kHz.
        everywhere: Whether roughness, tremor and the like last throughout or for a part.
    """

    pitch: float = 0.0
    movement: float = 1.5
    rate: float = 0.0
    effort: float = 0.0
    breath: float = 0.0
    tremor: float = 0.0
    roughness: float = 0.0
    jitter: float = 0.006
    shimmer: float = 0.05
    subharmonic: float = 0.0
    low_cut_db: float = 0.0
    everywhere: bool = True


def draw_manner(generator: np.random.Generator) -> Manner:
    """Any manner: most qualities are absent most of the time."""

    def now_and_then(probability: float, low: float, high: float) -> float:
        return float(generator.uniform(low, high)) if generator.random() < probability else 0.0

    return Manner(
        pitch=float(generator.normal(0.0, 4.0)),
        movement=float(generator.uniform(0.0, 5.0)),
        rate=float(generator.normal(0.0, 0.25)),
        effort=float(generator.uniform(-1.0, 1.0)),
        breath=now_and_then(0.4, 0.0, 0.6),
        tremor=now_and_then(0.3, 0.2, 1.0),
        roughness=now_and_then(0.3, 0.2, 1.0),
        jitter=0.006 + now_and_then(0.4, 0.0, 0.06),
        shimmer=0.05 + now_and_then(0.4, 0.0, 0.3),
        subharmonic=now_and_then(0.25, 0.1, 0.7),
        low_cut_db=now_and_then(0.25, 6.0, 24.0),
        everywhere=bool(generator.random() < 0.5),
    )


def procedural_utterance(speaker: Speaker, manner: Manner, generator: np.random.Generator) -> Utterance:
    """One utterance of a procedural voice in a manner."""
    moved = replace(
        speaker,
        base_pitch_hz=speaker.base_pitch_hz * 2 ** ((manner.pitch + 3.0 * manner.effort) / 12),
        rate_hz=speaker.rate_hz * np.exp(manner.rate),
        tilt_db=speaker.tilt_db - 2.5 * manner.effort,
        breathiness=speaker.breathiness + manner.breath,
    )
    syllables: tuple[Syllable, ...] = ()
    while not syllables:
        syllables = draw_syllables(moved, generator.uniform(1.2, WINDOW_S), generator)
    tracks = build_tracks(syllables, moved, WINDOW_S, generator)
    tracks, depths = _apply(tracks, manner, generator)
    source = draw_source_noise(tracks.num_controls, generator)
    waveform = render_speech(tracks, moved, source).astype(np.float32)
    waveform *= np.float32(0.9 / max(1e-4, np.abs(waveform).max()))
    at_frame = np.minimum((FRAME_S * CONTROL_RATE).astype(int), tracks.num_controls - 1)
    voiced = tracks.voicing[at_frame] > 0.1
    _, periodicity = measure_pitch(waveform)
    qualities = _qualities(tracks, moved, manner, depths)[:, at_frame]
    qualities[:, ~voiced] = np.nan
    f0_hz = np.where(voiced, tracks.f0_hz[at_frame], 0.0).astype(np.float32)
    return Utterance(waveform, f0_hz, periodicity, qualities, manner.rate, -1)


def draw_procedural_speaker(generator: np.random.Generator) -> Speaker:
    """Any speaker."""
    return draw_speaker(generator, voice=VOICES[generator.integers(len(VOICES))])


def _apply(
    tracks: Tracks, manner: Manner, generator: np.random.Generator
) -> tuple[Tracks, Float[np.ndarray, "2 controls"]]:
    """Write a manner on the tracks; the depth of tremor and roughness at every control."""
    num = tracks.num_controls
    inside = np.ones(num) if manner.everywhere else _part(num, generator)
    time_s = np.arange(num) / CONTROL_RATE
    contour = gaussian_filter1d(generator.standard_normal(num), 1_000 / generator.uniform(4.0, 14.0))
    contour *= manner.movement / max(1e-6, contour.std())
    tremor = (
        manner.tremor
        * inside
        * np.sin(2 * np.pi * (generator.uniform(4.0, 12.0) * time_s + generator.random()))
    )
    rasp = (
        manner.roughness
        * inside
        * np.sin(2 * np.pi * (generator.uniform(30.0, 80.0) * time_s + generator.random()))
    )
    formants_hz = tracks.formants_hz.copy()
    formants_hz[:, 0] *= 1 + 0.12 * manner.effort
    loudness = 10 ** (gaussian_filter1d(generator.standard_normal(num), 80.0) * 5.0 * manner.movement / 20)
    changed = replace(
        tracks,
        f0_hz=np.clip(tracks.f0_hz * 2 ** ((contour + 3.0 * tremor) / 12), 60.0, 700.0),
        gain=tracks.gain * loudness * np.maximum(0.05, 1 + 0.9 * tremor) * np.maximum(0.05, 1 + 0.9 * rasp),
        jitter=tracks.jitter + (manner.jitter - 0.006) * inside,
        shimmer=tracks.shimmer + (manner.shimmer - 0.05) * inside,
        subharmonic=np.minimum(0.9, tracks.subharmonic + manner.subharmonic * inside),
        low_cut_db=tracks.low_cut_db + manner.low_cut_db * inside,
        formants_hz=formants_hz,
    )
    return changed, np.stack([manner.tremor * inside, manner.roughness * inside])


def _part(num_controls: int, generator: np.random.Generator) -> Float[np.ndarray, " controls"]:
    """One within a part of 0.3 to 1.2 s, zero outside."""
    length = int(generator.uniform(0.3, 1.2) * CONTROL_RATE)
    start = int(generator.integers(num_controls - length))
    inside = np.zeros(num_controls)
    inside[start : start + length] = 1.0
    return inside


def _qualities(
    tracks: Tracks, speaker: Speaker, manner: Manner, depths: Float[np.ndarray, "2 controls"]
) -> Float[np.ndarray, "qualities controls"]:
    """What `QUALITIES` names, at every control."""
    constant = np.ones(tracks.num_controls)
    rows = (
        tracks.jitter / 0.06,
        tracks.shimmer / 0.3,
        tracks.subharmonic / 0.7,
        tracks.low_cut_db / 24.0,
        *depths,
        speaker.breathiness / 0.6 * constant,
        speaker.tilt_db / 8.0 * constant,
        (manner.effort + 1) / 2 * constant,
    )
    return np.stack(rows).astype(np.float32)
