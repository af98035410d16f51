"""Distractors: events in synthetic speech that catch the eye and say nothing about the class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int
from scipy import signal
from scipy.ndimage import gaussian_filter1d

from wavshap_lightning.audio.io import SAMPLE_RATE
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.planted.voices import CONTROL_RATE, CONTROL_SAMPLES, Syllable, Tracks

_EDGE_S = 0.12
_MIN_VOICED = 0.9

# How far cues go at a strength of 1, in synthetic speech as in recordings.
PITCH_SEMITONES = 7.0
TREMOR_HZ, TREMOR_SEMITONES, TREMOR_DEPTH = (6.0, 10.0), 3.5, 0.9
ROUGH_HZ, ROUGH_DEPTH = (40.0, 70.0), 0.9
MUFFLED_DB = 24.0
BURST_HZ, BURST_DEPTH = (18.0, 24.0), 0.95

_PITCH_SLOPE_S = 0.02
_ROUGH_JITTER = 0.06
_ROUGH_SUBHARMONIC = 0.2
_PATTERN_HZ = ((800.0, 1_250.0, 2_500.0), (280.0, 2_350.0, 3_000.0), (320.0, 750.0, 2_250.0))
_PATTERN_SLOPE_S = 0.015

_FADE_SAMPLES = 240


@dataclass(frozen=True, slots=True)
class Planting:
    """Where a cue goes and how it swings; drawn for every clip, with a cue or without.

    Args:
        start: First control of the span.
        stop: One past its last control.
        swing: Where a modulation's frequency lies in its range, 0 to 1.
        phase: Where the modulation begins, in cycles.
    """

    start: int
    stop: int
    swing: float
    phase: float

    def span(self, kind: str) -> Span:
        """The same in seconds."""
        return Span(self.start / CONTROL_RATE, self.stop / CONTROL_RATE, kind)

    def inside(self, num_controls: int) -> Float[np.ndarray, " controls"]:
        """One inside the span, zero outside."""
        control = np.arange(num_controls)
        return ((control >= self.start) & (control < self.stop)).astype(float)

    def plateau(self, num_controls: int, slope_s: float) -> Float[np.ndarray, " controls"]:
        """One inside the span, zero outside, with soft slopes that lie inside."""
        control = np.arange(num_controls)
        nearest = np.minimum(control - self.start, self.stop - control) / (slope_s * CONTROL_RATE)
        linear = np.clip(nearest, 0.0, 1.0)
        return linear**2 * (3 - 2 * linear)

    def wave(self, num_controls: int, range_hz: tuple[float, float]) -> Float[np.ndarray, " controls"]:
        """A sine at this planting's frequency within `range_hz` inside the span, zero outside."""
        frequency_hz = range_hz[0] + self.swing * (range_hz[1] - range_hz[0])
        cycles = self.phase + frequency_hz * (np.arange(num_controls) - self.start) / CONTROL_RATE
        return np.sin(2 * np.pi * cycles) * self.inside(num_controls)


Cue = Callable[[Tracks, Planting, float], Tracks]


def pitch_step(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Let the pitch leap up by seven semitones, and back at the end of the span."""
    semitones = strength * PITCH_SEMITONES * planting.plateau(tracks.num_controls, _PITCH_SLOPE_S)
    return replace(tracks, f0_hz=tracks.f0_hz * 2 ** (semitones / 12))


def tremor(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Let pitch and level tremble 6 to 10 times a second."""
    wave = strength * planting.wave(tracks.num_controls, TREMOR_HZ)
    gain = np.maximum(0.05, 1 + TREMOR_DEPTH * wave)
    return replace(tracks, f0_hz=tracks.f0_hz * 2 ** (TREMOR_SEMITONES * wave / 12), gain=tracks.gain * gain)


def roughness(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Make the voice rasp: level modulated at 40 to 70 Hz, uneven periods, every second pulse weaker."""
    inside = strength * planting.inside(tracks.num_controls)
    wave = strength * planting.wave(tracks.num_controls, ROUGH_HZ)
    return replace(
        tracks,
        gain=tracks.gain * np.maximum(0.05, 1 + ROUGH_DEPTH * wave),
        jitter=tracks.jitter + _ROUGH_JITTER * inside,
        subharmonic=np.minimum(0.9, tracks.subharmonic + _ROUGH_SUBHARMONIC * inside),
    )


def band_tilt(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Muffle the voice: tilt its energy towards the band below 1 kHz."""
    muffled_db = strength * MUFFLED_DB * planting.inside(tracks.num_controls)
    return replace(tracks, low_cut_db=tracks.low_cut_db - muffled_db)


def energy_bursts(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Break the voice into bursts, 18 to 24 a second; the span keeps its energy."""
    gate = planting.inside(tracks.num_controls) / (
        1 + np.exp(12 * planting.wave(tracks.num_controls, BURST_HZ))
    )
    return replace(tracks, gain=tracks.gain * np.maximum(0.05, 1 - strength * BURST_DEPTH * gate))


def vowel_pattern(tracks: Tracks, planting: Planting, strength: float) -> Tracks:
    """Say a-i-u, whatever was to be said; each vowel takes a third of the span."""
    elapsed = (np.arange(tracks.num_controls) - planting.start) / (planting.stop - planting.start)
    targets_hz = np.array(_PATTERN_HZ)[np.clip(3 * elapsed, 0, 2).astype(int)]
    targets_hz = gaussian_filter1d(targets_hz, _PATTERN_SLOPE_S * CONTROL_RATE, axis=0)
    share = min(1.0, strength) * planting.plateau(tracks.num_controls, _PATTERN_SLOPE_S)[:, None]
    formants_hz = tracks.formants_hz.copy()
    formants_hz[:, :3] = formants_hz[:, :3] ** (1 - share) * targets_hz**share
    return replace(tracks, formants_hz=formants_hz)


CUES: Mapping[str, Cue] = MappingProxyType(
    {
        "pitch_step": pitch_step,
        "band_tilt": band_tilt,
        "roughness": roughness,
        "tremor": tremor,
        "energy_bursts": energy_bursts,
        "vowel_pattern": vowel_pattern,
    }
)


def draw_planting(tracks: Tracks, span_s: tuple[float, float], generator: np.random.Generator) -> Planting:
    """Draw a span, as long as `span_s` allows, among those that are voiced enough and clear of the edges."""
    length = round(generator.uniform(*span_s) * CONTROL_RATE)
    voiced = np.cumsum(np.append(0, tracks.voicing > 0.1))
    edge = round(_EDGE_S * CONTROL_RATE)
    starts = np.arange(edge, tracks.num_controls - edge - length)
    share = (voiced[starts + length] - voiced[starts]) / length
    start = int(generator.choice(starts[share >= min(_MIN_VOICED, share.max())]))
    return Planting(start, start + length, *generator.random(2))


def splice_cue(
    plain: Float[np.ndarray, " span"],
    cued: Float[np.ndarray, " span"],
    background: Float[np.ndarray, " span"],
) -> Float[np.ndarray, " span"]:
    """Fade from plain speech to speech with a cue and back, and add the background.

    The cue's level is set so that the result has the energy of `plain + background`; its first and
    last sample are theirs. With `u` the part that stays and `v` the part that comes,
    the gain `g` solves `|u + g v|^2 = |plain + background|^2`.
    """
    fade = signal.windows.tukey(len(plain), 2 * _FADE_SAMPLES / len(plain))
    stays, comes = (1 - fade) * plain + background, fade * cued
    energy, overlap = np.sum(comes**2), np.sum(stays * comes)
    missing = np.sum((plain + background) ** 2) - np.sum(stays**2)
    gain = (np.sqrt(max(0.0, overlap**2 + energy * missing)) - overlap) / energy
    return stays + gain * comes


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What makes a clip hard.

    Args:
        span_s: Shortest and longest span of a cue.
        cue_strength: How far cues go, relative to what is asked for.
        num_lookalikes: Fewest and most weak cues of any kind that say nothing about the class.
    """

    span_s: tuple[float, float]
    cue_strength: float
    num_lookalikes: tuple[int, int]


DIFFICULTIES: Mapping[str, Difficulty] = MappingProxyType(
    {
        "easy": Difficulty((0.3, 0.4), 1.0, (0, 0)),
        "medium": Difficulty((0.2, 0.3), 0.8, (1, 2)),
        "hard": Difficulty((0.1, 0.2), 0.7, (2, 3)),
    }
)


def difficulty_named(name: str) -> Difficulty:
    """The difficulty of a name.

    Raises:
        SettingError: If there is none.
    """
    if name not in DIFFICULTIES:
        raise SettingError(f"difficulty={name!r} must be one of {', '.join(DIFFICULTIES)}")
    return DIFFICULTIES[name]


_OTHERS = ("pause", "noise_burst", "click", "tone")
_NUM_OTHERS = (1, 3)
_EDGE_S_DISTRACTORS = 0.02
_GUARD_S = 0.03
_LOUD_DB = (6.0, 10.0)
_LENGTH_S = {"pause": (0.08, 0.15), "noise_burst": (0.06, 0.15), "click": (0.004, 0.01), "tone": (0.08, 0.2)}
_LEVEL_DB = {"noise_burst": (-6.0, 3.0), "click": (3.0, 12.0), "tone": (-12.0, -3.0)}
_TONE_HZ = (400.0, 3_000.0)

_LOOKALIKE_S = (0.08, 0.16)
_LOOKALIKE_STRENGTH = 0.3


@dataclass(frozen=True, slots=True)
class Distraction:
    """Speech with its distractors.

    Args:
        tracks: The speech, louder or paused where a distractor says so.
        sounds: What is added to the speech, in units of its root mean square.
        spans: Where the distractors are.
    """

    tracks: Tracks
    sounds: Float[np.ndarray, " time"]
    spans: tuple[Span, ...]


def draw_distractors(
    tracks: Tracks, syllables: Sequence[Syllable], planting: Planting, generator: np.random.Generator
) -> Distraction:
    """Draw a loud syllable and one to three other distractors, all outside the planting's span."""
    gain, sounds = np.ones(tracks.num_controls), np.zeros(tracks.num_controls * CONTROL_SAMPLES)
    spans: list[Span] = []
    for kind in _draw_kinds(generator):
        places = (
            _loud_places(syllables) if kind == "loud_syllable" else _draw_places(kind, len(gain), generator)
        )
        place = _draw_clear(places, planting, generator)
        if place is None:
            continue
        start, stop = place
        spans.append(Span(start / CONTROL_RATE, stop / CONTROL_RATE, kind))
        if kind in _LEVEL_DB:
            sound = _draw_sound(kind, (stop - start) * CONTROL_SAMPLES, generator)
            sounds[start * CONTROL_SAMPLES : stop * CONTROL_SAMPLES] += sound
        else:
            gain[start:stop] = 0.0 if kind == "pause" else 10 ** (generator.uniform(*_LOUD_DB) / 20)
    return Distraction(replace(tracks, gain=tracks.gain * gaussian_filter1d(gain, 6.0)), sounds, tuple(spans))


def draw_lookalikes(
    tracks: Tracks, num: tuple[int, int], planting: Planting, generator: np.random.Generator
) -> tuple[Tracks, tuple[Span, ...]]:
    """Draw weak and brief cues of any kind outside the planting's span; they say nothing about the class.

    Args:
        tracks: The speech.
        num: The fewest and the most of them.
        planting: Where the true cue goes.
        generator: Where everything random comes from.

    Returns:
        The speech with them, and where they are.
    """
    spans: list[Span] = []
    kinds = generator.permutation(tuple(CUES))[: generator.integers(*num, endpoint=True)]
    for kind in map(str, kinds):
        length = round(generator.uniform(*_LOOKALIKE_S) * CONTROL_RATE)
        place = _draw_clear(_places(length, tracks.num_controls), planting, generator)
        lookalike = Planting(*(place or (0, 0)), *generator.random(2))
        if place is not None:
            tracks = CUES[kind](tracks, lookalike, _LOOKALIKE_STRENGTH)
            spans.append(lookalike.span(f"weak_{kind}"))
    return tracks, tuple(spans)


def _draw_kinds(generator: np.random.Generator) -> list[str]:
    num_others = generator.integers(*_NUM_OTHERS, endpoint=True)
    return ["loud_syllable", *map(str, generator.permutation(_OTHERS)[:num_others])]


def _loud_places(syllables: Sequence[Syllable]) -> Int[np.ndarray, "places 2"]:
    """First control and one past the last of each syllable."""
    seconds = np.array([(syllable.start_s, syllable.end_s) for syllable in syllables])
    return np.rint(seconds * CONTROL_RATE).astype(int)


def _draw_places(kind: str, num_controls: int, generator: np.random.Generator) -> Int[np.ndarray, "places 2"]:
    """Every place for a distractor of a drawn length."""
    return _places(round(generator.uniform(*_LENGTH_S[kind]) * CONTROL_RATE), num_controls)


def _places(length: int, num_controls: int) -> Int[np.ndarray, "places 2"]:
    edge = round(_EDGE_S_DISTRACTORS * CONTROL_RATE)
    starts = np.arange(edge, num_controls - edge - length)
    return np.stack([starts, starts + length], axis=1)


def _draw_clear(
    places: Int[np.ndarray, "places 2"], planting: Planting, generator: np.random.Generator
) -> tuple[int, int] | None:
    """One of the places well clear of the planting's span; None where there is none."""
    guard = round(_GUARD_S * CONTROL_RATE)
    before, after = places[:, 1] + guard <= planting.start, places[:, 0] >= planting.stop + guard
    clear = places[before | after]
    if len(clear) == 0:
        return None
    start, stop = clear[generator.integers(len(clear))].tolist()
    return start, stop


def _draw_sound(kind: str, num_samples: int, generator: np.random.Generator) -> Float[np.ndarray, " time"]:
    level = 10 ** (generator.uniform(*_LEVEL_DB[kind]) / 20)
    if kind == "tone":
        frequency_hz = generator.uniform(*_TONE_HZ)
        carrier = np.sqrt(2) * np.sin(2 * np.pi * frequency_hz * np.arange(num_samples) / SAMPLE_RATE)
    else:
        carrier = generator.standard_normal(num_samples)
    if kind == "click":
        return level * carrier * np.exp(-6 * np.arange(num_samples) / num_samples)
    return level * carrier * signal.windows.tukey(num_samples, 0.5)
