"""Distractors: events in synthetic speech that catch the eye and say nothing about the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy import signal
from scipy.ndimage import gaussian_filter1d

from wavshap_lightning.audio.io import SAMPLE_RATE
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.corpora.synthetic.cues import CUES, Planting
from wavshap_lightning.corpora.synthetic.speech import Syllable
from wavshap_lightning.corpora.synthetic.voice import CONTROL_RATE, CONTROL_SAMPLES, Tracks

_OTHERS = ("pause", "noise_burst", "click", "tone")
_NUM_OTHERS = (1, 3)
_EDGE_S = 0.02
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
    edge = round(_EDGE_S * CONTROL_RATE)
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
