"""One recording of real speech: the stretch that becomes a clip, and the cue planted in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from wavshap_lightning.audio.io import SAMPLE_RATE
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.corpora.natural.cues import RECORDED_CUES
from wavshap_lightning.corpora.natural.voicing import (
    HOP_SAMPLES,
    HOPS_PER_S,
    Voicing,
    cue_places,
    find_voicing,
    free_places,
    speech_bounds,
)
from wavshap_lightning.corpora.synthetic.cues import Planting, splice_cue
from wavshap_lightning.corpora.synthetic.difficulty import Difficulty
from wavshap_lightning.corpora.synthetic.voice import CONTROL_SAMPLES
from wavshap_lightning.errors import AudioError

LONGEST_S = 30.0
LOUDEST_PEAK = 0.5
_HOP_CONTROLS = HOP_SAMPLES // CONTROL_SAMPLES

_LOOKALIKE_S = (0.08, 0.16)
_LOOKALIKE_STRENGTH = 0.3
_LOOKALIKE_VOICED = 0.5


@dataclass(frozen=True, slots=True)
class Stretch:
    """What of a recording becomes a clip, and what may be planted in it; drawn without regard to a class.

    Args:
        start: First sample at 16 kHz.
        stop: One past its last.
        gain: Factor on it: a half where it is so loud that a cue could exceed full scale, else 1.
        planting: Where the cue goes, counted from `start`.
        lookalikes: Weak and brief cues elsewhere that say nothing about the class, by kind.
    """

    start: int
    stop: int
    gain: float
    planting: Planting
    lookalikes: tuple[tuple[str, Planting], ...] = ()

    @property
    def start_s(self) -> float:
        """Where it begins in the recording, in seconds."""
        return self.start / SAMPLE_RATE

    @property
    def end_s(self) -> float:
        """Where it ends."""
        return self.stop / SAMPLE_RATE

    def cut(self, recording: Float[np.ndarray, " time"]) -> Float[np.ndarray, " stretch"]:
        """The stretch of a recording without cues."""
        return self.gain * recording[self.start : self.stop]


def draw_stretch(
    recording: Float[np.ndarray, " time"], difficulty: Difficulty, generator: np.random.Generator
) -> Stretch:
    """Draw where cues go in a recording at 16 kHz: in a voiced span about as loud as the rest of the speech.

    The silence before and after the speech is left out, since loudness would tell any span of speech from it.

    Raises:
        AudioError: If it is longer than 30 s, or has no such span of the difficulty's length.
    """
    if len(recording) > LONGEST_S * SAMPLE_RATE:
        seconds = len(recording) / SAMPLE_RATE
        raise AudioError(f"it is {seconds:.1f} s long, more than {LONGEST_S:g} s; cut it")
    start, stop = speech_bounds(recording)
    speech = recording[start:stop]
    voicing = find_voicing(speech)
    planting = _draw_planting(voicing, difficulty.span_s, generator)
    lookalikes = _draw_lookalikes(voicing, planting, difficulty.num_lookalikes, generator)
    gain = 1.0 if np.max(np.abs(speech)) <= LOUDEST_PEAK else 0.5
    return Stretch(start, stop, gain, planting, lookalikes)


def plant_cue(
    recording: Float[np.ndarray, " time"], stretch: Stretch, cue: str | None, strength: float
) -> tuple[Float[np.ndarray, " stretch"], tuple[Span, ...]]:
    """The stretch of a recording with its lookalikes and a cue, and the evidence in it.

    Outside the spans of cue and lookalikes it equals the recording sample for sample, up to the stretch's
    gain; inside each it has the recording's energy.

    Args:
        recording: At 16 kHz, the one for which the stretch was drawn.
        stretch: Where everything goes.
        cue: A kind of cue; None for none.
        strength: How far it goes; 0 plants none.
    """
    waveform = stretch.cut(recording)
    for kind, planting in stretch.lookalikes:
        waveform = _spliced(waveform, kind, planting, _LOOKALIKE_STRENGTH)
    if cue is None or strength == 0.0:
        return waveform, ()
    return _spliced(waveform, cue, stretch.planting, strength), (stretch.planting.span(cue),)


def _spliced(
    waveform: Float[np.ndarray, " time"], kind: str, planting: Planting, strength: float
) -> Float[np.ndarray, " time"]:
    span = slice(planting.start * CONTROL_SAMPLES, planting.stop * CONTROL_SAMPLES)
    cued = RECORDED_CUES[kind](waveform, planting, strength)[span]
    spliced = splice_cue(waveform[span], cued, np.zeros(len(cued)))
    result = waveform.copy()
    result[span] = np.clip(spliced, -1.0, 1.0)
    return result


def _draw_planting(voicing: Voicing, span_s: tuple[float, float], generator: np.random.Generator) -> Planting:
    """A span of a drawn length, or of the shortest where that fits nowhere."""
    shortest, drawn = (round(length_s * HOPS_PER_S) for length_s in (span_s[0], generator.uniform(*span_s)))
    for length in (drawn, shortest):
        places = cue_places(voicing, length)
        if len(places):
            return _planting(int(generator.choice(places)), length, generator)
    raise AudioError(
        f"{voicing.voiced.mean():.0%} of its speech is voiced, but no {1000 * span_s[0]:.0f} ms on end that "
        "are about as loud as the rest"
    )


def _draw_lookalikes(
    voicing: Voicing, planting: Planting, num: tuple[int, int], generator: np.random.Generator
) -> tuple[tuple[str, Planting], ...]:
    """As many as `num` says, fewer where there is no room."""
    taken = np.zeros(len(voicing.voiced), dtype=bool)
    taken[planting.start // _HOP_CONTROLS : planting.stop // _HOP_CONTROLS] = True
    kinds = generator.permutation(tuple(RECORDED_CUES))[: generator.integers(*num, endpoint=True)]
    drawn: list[tuple[str, Planting]] = []
    for kind in map(str, kinds):
        length = round(generator.uniform(*_LOOKALIKE_S) * HOPS_PER_S)
        places = free_places(voicing, length, taken, _LOOKALIKE_VOICED)
        if len(places):
            start = int(generator.choice(places))
            taken[start : start + length] = True
            drawn.append((kind, _planting(start, length, generator)))
    return tuple(drawn)


def _planting(start: int, length: int, generator: np.random.Generator) -> Planting:
    swing, phase = generator.random(2).tolist()
    return Planting(start * _HOP_CONTROLS, (start + length) * _HOP_CONTROLS, swing, phase)
