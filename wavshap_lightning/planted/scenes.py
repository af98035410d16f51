"""Clips of synthetic speech: drawn without regard to the class, with distractors, and a cue planted last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int
from scipy import signal
from scipy.ndimage import gaussian_filter1d

from wavshap_lightning.audio.io import SAMPLE_RATE
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.planted import cues, voices
from wavshap_lightning.planted.cues import CuePlace
from wavshap_lightning.planted.voices import CONTROL_RATE, CONTROL_SAMPLES, Speaker, Tracks, Waveform

Places = Int[np.ndarray, "places 2"]

LEAD_NOISE_DB = -50.0
LEAD_TONE_DB = -36.0
"""Levels of a lead-in relative to the clip: too faint to pass for speech, and well above 16 bits."""

_DURATION_S = (1.5, 2.5)
_LEVEL_DB = (-40.0, -26.0)
_MAX_PEAK = 0.5
_NOISE_DB = (-40.0, -24.0)
_NUM_REFLECTIONS = 6
_REFLECTION_S = (0.004, 0.04)
_REFLECTION_GAIN = 0.25
_RUN_IN = 60  # controls: longer than the last reflection and the ringing of the formants

_OTHER_DISTRACTORS = ("pause", "noise_burst", "click", "tone")
_NUM_OTHERS = (1, 3)
_EDGE_S = 0.02
_GUARD_S = 0.03
_LOUD_DB = (6.0, 10.0)
_LENGTH_S = {"pause": (0.08, 0.15), "noise_burst": (0.06, 0.15), "click": (0.004, 0.01), "tone": (0.08, 0.2)}
_SOUND_DB = {"noise_burst": (-6.0, 3.0), "click": (3.0, 12.0), "tone": (-12.0, -3.0)}
_TONE_HZ = (400.0, 3_000.0)

_LEAD_TONE_HZ = (900.0, 1_100.0)
_LEAD_TONE_PLACE = (0.2, 0.8)
_LEAD_FADE_S = 0.01


def draw_clip(
    speaker: Speaker,
    label: str | Mapping[str, float],
    generator: np.random.Generator,
    cue_strength: float = 1.0,
    difficulty: str = "easy",
) -> tuple[Waveform, tuple[Span, ...]]:
    """Draw one clip at 16 kHz and the evidence in it.

    What is drawn does not depend on the label: generators in the same state give twins that differ
    in the evidence span alone.

    Args:
        speaker: The voice.
        label: The class, one of `CUE_OF_LABEL`, or several whose cues are mixed, with a factor on the
            strength of each.
        generator: Source of randomness.
        cue_strength: Strength of the cue, 0 to 2.
        difficulty: `easy`, `medium` or `hard`: length of the cue's span, extent of the cue, and number of
            misleading weak cues elsewhere.

    Returns:
        The waveform, and the span of the cue; no span where nothing is planted.

    >>> from wavshap_lightning.planted.voices import draw_speaker
    >>> speaker = draw_speaker(np.random.default_rng(0), voice="female")
    >>> waveform, evidence = draw_clip(speaker, "fearful", np.random.default_rng(1))
    >>> [span.kind for span in evidence], 1.5 <= len(waveform) / SAMPLE_RATE <= 2.5
    (['tremor'], True)
    """
    level, factors = cues.DIFFICULTIES[difficulty], {label: 1.0} if isinstance(label, str) else label
    strengths = {
        cue: cue_strength * factor for one, factor in factors.items() if (cue := cues.CUE_OF_LABEL[one])
    }
    # The order of the draws is part of the format: the same seed gives the same bytes.
    shortest_s, longest_s = _DURATION_S
    last_s = generator.uniform(shortest_s, longest_s - voices.EDGE_S[1])
    syllables = voices.draw_syllables(speaker, last_s, generator)
    duration_s = max(shortest_s, syllables[-1].end_s + generator.uniform(*voices.EDGE_S))
    tracks = voices.build_tracks(syllables, speaker, duration_s, generator)
    place = cues.draw_place(tracks, level.span_s, generator)
    tracks, sounds = add_distractors(tracks, syllables, place, generator)
    source = voices.draw_source_noise(tracks.num_controls, generator)
    # Python's numbers, beside which the waveform stays in single precision
    delays_samples = (generator.uniform(*_REFLECTION_S, _NUM_REFLECTIONS) * SAMPLE_RATE).astype(int).tolist()
    tracks = add_lookalikes(tracks, level.num_lookalikes, place, generator)
    speech = _reflect(voices.render_speech(tracks, speaker, source), delays_samples)
    background = np.sqrt(np.mean(speech**2)) * (sounds + _draw_noise(len(speech), generator))
    level_db = speaker.level_db + generator.uniform(*_LEVEL_DB)
    mixed = speech + background
    gain = min(10 ** (level_db / 20) / np.sqrt(np.mean(mixed**2)), _MAX_PEAK / np.max(np.abs(mixed)))
    if not any(strengths.values()):
        return float(gain) * mixed, ()
    cued_tracks = tracks
    for cue, strength in strengths.items():
        cued_tracks = cues.CUES[cue](cued_tracks, place, strength * level.cue_strength)
    begin = (place.start - _RUN_IN) // voices.FRAME_CONTROLS * voices.FRAME_CONTROLS
    rendered = voices.render_speech(cued_tracks, speaker, source, start=begin, stop=place.stop)
    cued = _reflect(rendered, delays_samples)[(place.start - begin) * CONTROL_SAMPLES :]
    mixed[place.samples] = cues.splice_cue(speech[place.samples], cued, background[place.samples])
    return float(gain) * mixed, (place.span("+".join(strengths)),)


def _reflect(waveform: Waveform, delays_samples: Sequence[int]) -> Waveform:
    """Add the reflections of a small room, weaker the later they come."""
    room = waveform.copy()
    for delay in delays_samples:
        room[delay:] += _REFLECTION_GAIN * 10 ** (-delay / SAMPLE_RATE / _REFLECTION_S[1]) * waveform[:-delay]
    return room


def _draw_noise(num_samples: int, generator: np.random.Generator) -> Waveform:
    """Background noise that falls towards high frequencies, in units of the speech's level."""
    noise = signal.lfilter([1.0], [1.0, -0.8], generator.standard_normal(num_samples, dtype=np.float32))
    return 10 ** (generator.uniform(*_NOISE_DB) / 20) * noise / np.sqrt(np.mean(noise**2))


def add_distractors(
    tracks: Tracks, syllables: Sequence[voices.Syllable], place: CuePlace, generator: np.random.Generator
) -> tuple[Tracks, Waveform]:
    """Add salient events unrelated to the class: a loud syllable and one to three others.

    Args:
        tracks: The speech.
        syllables: Syllables of the speech.
        place: Place of the cue, which the distractors must not overlap.
        generator: Source of randomness.

    Returns:
        The speech, with louder syllables and pauses as distractors, and sounds to add to it, in units of
        its root mean square.
    """
    gain, sounds = np.ones(tracks.num_controls), np.zeros(tracks.num_controls * CONTROL_SAMPLES)
    num_others = generator.integers(*_NUM_OTHERS, endpoint=True)
    spoken_s = np.array([(one.start_s, one.end_s) for one in syllables])
    spoken = np.rint(CONTROL_RATE * spoken_s).astype(int)
    for kind in ("loud_syllable", *map(str, generator.permutation(_OTHER_DISTRACTORS)[:num_others])):
        places = spoken if kind == "loud_syllable" else _every_place(_LENGTH_S[kind], len(gain), generator)
        for start, stop in _draw_clear(places, place, generator):
            if kind in _SOUND_DB:
                sound = _draw_sound(kind, (stop - start) * CONTROL_SAMPLES, generator)
                sounds[start * CONTROL_SAMPLES : stop * CONTROL_SAMPLES] += sound
            else:
                gain[start:stop] = 0.0 if kind == "pause" else 10 ** (generator.uniform(*_LOUD_DB) / 20)
    return replace(tracks, gain=tracks.gain * gaussian_filter1d(gain, 6.0)), sounds


def add_lookalikes(
    tracks: Tracks, num: tuple[int, int], place: CuePlace, generator: np.random.Generator
) -> Tracks:
    """Add weak and brief cues of any kind, unrelated to the class.

    Args:
        tracks: The speech.
        num: The fewest and the most of them.
        place: Place of the cue, which they keep clear of.
        generator: Source of randomness.
    """
    kinds = generator.permutation(tuple(cues.CUES))[: generator.integers(*num, endpoint=True)]
    for kind in map(str, kinds):
        found = _draw_clear(_every_place(cues.LOOKALIKE_S, tracks.num_controls, generator), place, generator)
        modulation = generator.random(2)
        for start, stop in found:
            tracks = cues.CUES[kind](tracks, CuePlace(start, stop, *modulation), cues.LOOKALIKE_STRENGTH)
    return tracks


def _every_place(length_s: tuple[float, float], num_controls: int, generator: np.random.Generator) -> Places:
    """First control and one past the last of every place for an event of a drawn length."""
    length, edge = round(generator.uniform(*length_s) * CONTROL_RATE), round(_EDGE_S * CONTROL_RATE)
    starts = np.arange(edge, num_controls - edge - length)
    return np.stack([starts, starts + length], axis=1)


def _draw_clear(places: Places, cue: CuePlace, generator: np.random.Generator) -> list[list[int]]:
    """One of the places at a distance from the cue, in a list; empty if there is none."""
    guard = round(_GUARD_S * CONTROL_RATE)
    clear = places[(places[:, 1] + guard <= cue.start) | (places[:, 0] >= cue.stop + guard)]
    return [generator.choice(clear).tolist()] if len(clear) else []


def _draw_sound(kind: str, num_samples: int, generator: np.random.Generator) -> Float[np.ndarray, " event"]:
    level = 10 ** (generator.uniform(*_SOUND_DB[kind]) / 20)
    if kind == "tone":
        frequency_hz = generator.uniform(*_TONE_HZ)
        carrier = np.sqrt(2) * np.sin(2 * np.pi * frequency_hz * np.arange(num_samples) / SAMPLE_RATE)
    else:
        carrier = generator.standard_normal(num_samples)
    if kind == "click":
        return level * carrier * np.exp(-6 * np.arange(num_samples) / num_samples)
    return level * carrier * signal.windows.tukey(num_samples, 0.5)


def add_lead_in(
    waveform: Waveform, lead_s: float, generator: np.random.Generator, *, tone: bool
) -> Float[np.ndarray, " longer"]:
    """Put near silence before a clip at 16 kHz and, as a shortcut to learn, a faint tone in it.

    What is drawn does not depend on whether there is a tone: twins differ in the tone alone.

    Args:
        waveform: Samples of the clip.
        lead_s: Length of the silence, in seconds.
        generator: Source of randomness.
        tone: Whether there is a tone in the middle of it.

    >>> len(add_lead_in(np.ones(8), 0.5, np.random.default_rng(0), tone=True))
    8008
    """
    level = float(np.sqrt(np.mean(waveform**2)))
    num_samples = round(lead_s * SAMPLE_RATE)
    lead = 10 ** (LEAD_NOISE_DB / 20) * generator.standard_normal(num_samples)
    frequency_hz, phase = generator.uniform(*_LEAD_TONE_HZ), generator.uniform(0, 2 * np.pi)
    if tone:
        time_s = np.arange(num_samples) / SAMPLE_RATE
        start_s, end_s = (place * num_samples / SAMPLE_RATE for place in _LEAD_TONE_PLACE)
        envelope = np.clip(np.minimum(time_s - start_s, end_s - time_s) / _LEAD_FADE_S, 0.0, 1.0)
        unit_power = np.sqrt(2.0) * envelope * np.sin(2 * np.pi * frequency_hz * time_s + phase)
        lead += 10 ** (LEAD_TONE_DB / 20) * unit_power
    return np.concatenate([level * lead, waveform])
