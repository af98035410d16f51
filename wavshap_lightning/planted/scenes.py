"""The scene: one clip of synthetic speech, drawn without regard to its class, and the cue planted in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from scipy import signal

from wavshap_lightning.audio.io import SAMPLE_RATE
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.planted.cues import (
    CUES,
    Difficulty,
    Planting,
    difficulty_named,
    draw_distractors,
    draw_lookalikes,
    draw_planting,
    splice_cue,
)
from wavshap_lightning.planted.voices import (
    CONTROL_SAMPLES,
    EDGE_S,
    FRAME_CONTROLS,
    Chance,
    Speaker,
    Tracks,
    build_tracks,
    draw_chance,
    draw_syllables,
    render_speech,
)

NOISE_DB = -50.0
TONE_DB = -36.0
"""Both relative to the clip: too faint to be taken for speech, and well above 16 bits."""

_TONE_HZ = (900.0, 1_100.0)
_TONE_PLACE = (0.2, 0.8)
_FADE_S = 0.01


def add_lead(
    waveform: Float[np.ndarray, " time"],
    evidence: tuple[Span, ...],
    lead_s: float,
    generator: np.random.Generator,
    *,
    tone: bool,
) -> tuple[Float[np.ndarray, " longer"], tuple[Span, ...]]:
    """Put near silence before a clip at 16 kHz.

    What is drawn does not depend on whether there is a tone: twins differ in the tone alone.

    Args:
        waveform: The clip.
        evidence: Spans in it.
        lead_s: How long the silence is, in seconds.
        generator: Where everything random comes from.
        tone: Whether a tone sounds in the middle of it.

    Returns:
        The longer clip, and the spans where they lie now; the tone is none of them.

    >>> spans = (Span(0.0, 1e-4),)
    >>> waveform, evidence = add_lead(np.ones(8), spans, 0.5, np.random.default_rng(0), tone=True)
    >>> len(waveform), evidence[0].start_s
    (8008, 0.5)
    """
    level = float(np.sqrt(np.mean(waveform**2)))
    num_samples = round(lead_s * SAMPLE_RATE)
    lead = 10 ** (NOISE_DB / 20) * generator.standard_normal(num_samples)
    frequency_hz, phase = generator.uniform(*_TONE_HZ), generator.uniform(0, 2 * np.pi)
    if tone:
        lead += 10 ** (TONE_DB / 20) * _tone(num_samples, frequency_hz, phase)
    shifted = tuple(
        replace(span, start_s=span.start_s + lead_s, end_s=span.end_s + lead_s) for span in evidence
    )
    return np.concatenate([level * lead, waveform]), shifted


def _tone(num_samples: int, frequency_hz: float, phase: float) -> Float[np.ndarray, " time"]:
    """A sine of unit power in the middle of a stretch, faded in and out."""
    time_s = np.arange(num_samples) / SAMPLE_RATE
    start_s, end_s = (place * num_samples / SAMPLE_RATE for place in _TONE_PLACE)
    envelope = np.clip(np.minimum(time_s - start_s, end_s - time_s) / _FADE_S, 0.0, 1.0)
    return np.sqrt(2.0) * envelope * np.sin(2 * np.pi * frequency_hz * time_s + phase)


CUE_OF_LABEL: Mapping[str, str | None] = MappingProxyType(
    {
        "neutral": None,
        "happy": "pitch_step",
        "sad": "band_tilt",
        "angry": "roughness",
        "fearful": "tremor",
        "surprised": "energy_bursts",
        "disgust": "vowel_pattern",
    }
)
"""The cue that decides each class."""

_DURATION_S = (1.5, 2.5)
_LEVEL_DB = (-40.0, -26.0)
_MAX_PEAK = 0.5
_NOISE_DB = (-40.0, -24.0)
_NUM_REFLECTIONS = 6
_REFLECTION_S = (0.004, 0.04)
_REFLECTION_GAIN = 0.25
_RUN_IN = 60  # controls: longer than the last reflection and the ringing of the formants


def draw_clip(
    speaker: Speaker,
    label: str,
    generator: np.random.Generator,
    *,
    cue_strength: float = 1.0,
    difficulty: str = "easy",
) -> tuple[Float[np.ndarray, " time"], tuple[Span, ...]]:
    """Draw one clip at 16 kHz and the evidence in it.

    What is drawn does not depend on the label: generators in the same state give twins that differ
    in the evidence span alone.

    Args:
        speaker: Who speaks.
        label: The class, one of `CUE_OF_LABEL`.
        generator: Where everything random comes from.
        cue_strength: How far the cue goes, 0 to 2.
        difficulty: `easy`, `medium` or `hard`: how long the cue's span is, how far cues go, and how many weak
            ones elsewhere mislead.

    Returns:
        The waveform, and the span of the cue; no span where nothing is planted.

    Raises:
        SettingError: If the label or the difficulty is unknown, or the strength outside its range.

    >>> from wavshap_lightning.planted.voices import draw_speaker
    >>> speaker = draw_speaker(np.random.default_rng(0), voice="female")
    >>> waveform, evidence = draw_clip(speaker, "fearful", np.random.default_rng(1))
    >>> [span.kind for span in evidence], 1.5 <= len(waveform) / SAMPLE_RATE <= 2.5
    (['tremor'], True)
    """
    check_label(label)
    check_cue_strength(cue_strength)
    level = difficulty_named(difficulty)
    scene = _draw_scene(speaker, level, generator)
    cue = CUE_OF_LABEL[label]
    if cue is None or cue_strength == 0.0:
        return scene.gain * (scene.speech + scene.background), ()
    return scene.gain * _plant(scene, speaker, cue, cue_strength * level.cue_strength), (
        scene.planting.span(cue),
    )


@dataclass(frozen=True, slots=True)
class _Scene:
    """A clip before its cue is planted: everything that does not depend on the class."""

    tracks: Tracks
    chance: Chance
    planting: Planting
    delays_samples: tuple[int, ...]
    speech: Float[np.ndarray, " time"]
    background: Float[np.ndarray, " time"]
    gain: float


def _draw_scene(speaker: Speaker, difficulty: Difficulty, generator: np.random.Generator) -> _Scene:
    shortest_s, longest_s = _DURATION_S
    syllables = draw_syllables(speaker, generator.uniform(shortest_s, longest_s - EDGE_S[1]), generator)
    duration_s = max(shortest_s, syllables[-1].end_s + generator.uniform(*EDGE_S))
    tracks = build_tracks(syllables, speaker, duration_s, generator)
    planting = draw_planting(tracks, difficulty.span_s, generator)
    distraction = draw_distractors(tracks, syllables, planting, generator)
    chance = draw_chance(tracks.num_controls, generator)
    delays = tuple(int(delay) for delay in generator.uniform(*_REFLECTION_S, _NUM_REFLECTIONS) * SAMPLE_RATE)
    tracks, _ = draw_lookalikes(distraction.tracks, difficulty.num_lookalikes, planting, generator)
    speech = _reflect(render_speech(tracks, speaker, chance), delays)
    level = np.sqrt(np.mean(speech**2))
    background = level * (distraction.sounds + _draw_noise(len(speech), generator))
    level_db = speaker.level_db + generator.uniform(*_LEVEL_DB)
    mixed = speech + background
    gain = min(10 ** (level_db / 20) / np.sqrt(np.mean(mixed**2)), _MAX_PEAK / np.max(np.abs(mixed)))
    return _Scene(tracks, chance, planting, delays, speech, background, float(gain))


def _reflect(
    waveform: Float[np.ndarray, " time"], delays_samples: tuple[int, ...]
) -> Float[np.ndarray, " time"]:
    """Add what a small room's walls send back, weaker the later it comes."""
    room = waveform.copy()
    for delay in delays_samples:
        room[delay:] += _REFLECTION_GAIN * 10 ** (-delay / SAMPLE_RATE / _REFLECTION_S[1]) * waveform[:-delay]
    return room


def _draw_noise(num_samples: int, generator: np.random.Generator) -> Float[np.ndarray, " time"]:
    """Background noise that falls towards high frequencies, in units of the speech's level."""
    noise = signal.lfilter([1.0], [1.0, -0.8], generator.standard_normal(num_samples, dtype=np.float32))
    return 10 ** (generator.uniform(*_NOISE_DB) / 20) * noise / np.sqrt(np.mean(noise**2))


def _plant(scene: _Scene, speaker: Speaker, cue: str, strength: float) -> Float[np.ndarray, " time"]:
    """The scene with a cue in its span and nothing else changed."""
    tracks = CUES[cue](scene.tracks, scene.planting, strength)
    start, stop = scene.planting.start, scene.planting.stop
    begin = (start - _RUN_IN) // FRAME_CONTROLS * FRAME_CONTROLS
    cued = _reflect(
        render_speech(tracks, speaker, scene.chance, start=begin, stop=stop), scene.delays_samples
    )
    run_in_samples = (start - begin) * CONTROL_SAMPLES
    span = slice(start * CONTROL_SAMPLES, stop * CONTROL_SAMPLES)
    mixed = scene.speech + scene.background
    mixed[span] = splice_cue(scene.speech[span], cued[run_in_samples:], scene.background[span])
    return mixed


def check_label(label: str) -> None:
    """Raise SettingError unless the label has a cue, or is known to have none."""
    if label not in CUE_OF_LABEL:
        raise SettingError(f"label={label!r} must be one of {', '.join(CUE_OF_LABEL)}")


def check_cue_strength(cue_strength: float) -> None:
    """Raise SettingError unless the strength lies between 0 and 2."""
    if not 0.0 <= cue_strength <= 2.0:
        raise SettingError(f"cue_strength={cue_strength!r} must lie between 0 and 2; 1 is clearly audible")
