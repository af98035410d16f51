"""What a synthetic voice says: syllables of consonant and vowel, in phrases with pauses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from wavshap_lightning.corpora.synthetic.voice import CONTROL_RATE, Speaker, Tracks

VOICES = ("male", "female", "child")

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
EDGE_S = (0.04, 0.1)
"""How long a clip lasts before its first syllable and after its last."""

_PAUSE_S = (0.07, 0.16)
_PAUSE_PROBABILITY = 0.12
_ONSET_S = {"glide": (0.04, 0.07), "nasal": (0.05, 0.08), "fricative": (0.07, 0.12), "plosive": (0.05, 0.09)}
_BURST_S = 0.012


@dataclass(frozen=True, slots=True)
class Syllable:
    """One consonant and one vowel.

    Args:
        start_s: Where the consonant begins, in seconds from the start of the clip.
        vowel_s: Where the vowel begins.
        end_s: Where the vowel ends.
        consonant: `glide`, `nasal`, `fricative` or `plosive`.
        hiss_hz: Middle of the consonant's noise band, where it has one.
        formants_hz: First three formants in the consonant, early and late in the vowel.
        level_db: Level of the syllable relative to others.
        accent: Pitch of the syllable relative to the phrase's, in semitones.
    """

    start_s: float
    vowel_s: float
    end_s: float
    consonant: str
    hiss_hz: float
    formants_hz: Float[np.ndarray, "3 3"]
    level_db: float
    accent: float


def draw_speaker(generator: np.random.Generator, *, voice: str) -> Speaker:
    """Draw a speaker whose `voice` is like a `male`, a `female` or a `child` one."""
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
    """Draw as many syllables, with pauses here and there, as end before `longest_s`."""
    now_s = generator.uniform(*EDGE_S)
    syllables: list[Syllable] = []
    while True:
        syllable = _draw_syllable(speaker, now_s, generator)
        if syllable.end_s > longest_s:
            return tuple(syllables)
        syllables.append(syllable)
        pauses = generator.random() < _PAUSE_PROBABILITY
        now_s = syllable.end_s + pauses * generator.uniform(*_PAUSE_S)


def _draw_syllable(speaker: Speaker, start_s: float, generator: np.random.Generator) -> Syllable:
    consonant = tuple(_ONSET_S)[generator.integers(len(_ONSET_S))]
    onset_s = generator.uniform(*_ONSET_S[consonant])
    vowel_s = max(0.07, generator.uniform(0.8, 1.2) / speaker.rate_hz - onset_s)
    early, late = _VOWELS_HZ[generator.integers(len(_VOWELS_HZ), size=2)]
    locus = generator.uniform(*_LOCUS_HZ)
    return Syllable(
        start_s=start_s,
        vowel_s=start_s + onset_s,
        end_s=start_s + onset_s + vowel_s,
        consonant=consonant,
        hiss_hz=generator.uniform(2_200.0, 5_500.0),
        formants_hz=generator.uniform(0.95, 1.05) * np.array([locus, early, (early + late) / 2]),
        level_db=generator.uniform(-3.0, 3.0),
        accent=generator.uniform(-1.0, 1.0),
    )


def build_tracks(
    syllables: tuple[Syllable, ...], speaker: Speaker, duration_s: float, generator: np.random.Generator
) -> Tracks:
    """Write syllables on control tracks, and draw what no syllable says: the flutter of the pitch."""
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
    flutter = (
        0.2 * gaussian_filter1d(generator.standard_normal(num_controls), 15.0) * np.sqrt(30 * np.sqrt(np.pi))
    )
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


def _write_source(
    syllable: Syllable, voicing: Float[np.ndarray, " controls"], frication: Float[np.ndarray, " controls"]
) -> None:
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
