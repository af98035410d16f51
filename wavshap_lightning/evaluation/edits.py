"""A clip edited span by span, once for all maps that are held against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import librosa
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.shapley.game import Players, equal_spans
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.evaluation.stability import rank_correlation
from wavshap_lightning.explainer.time_grid import TimeGrid, times_of
from wavshap_lightning.models.classifier import EmotionClassifier

Sound = Float[np.ndarray, " samples"]
Edit = Callable[[Sound, int], Float[np.ndarray, " edited"]]
SoundScore = Callable[[Float[Tensor, " samples"]], float]

FADE_S = 0.005
STFT_SIZE, STFT_HOP = 512, 128
TILT_AROUND_HZ = 1000.0


def shift_pitch(sound: Sound, sample_rate: int, semitones: float) -> Sound:
    """The same as long, higher or lower, by librosa's phase vocoder."""
    return librosa.effects.pitch_shift(
        sound, sr=sample_rate, n_steps=semitones, n_fft=STFT_SIZE, hop_length=STFT_HOP
    )


def change_tempo(sound: Sound, _sample_rate: int, rate: float) -> Float[np.ndarray, " edited"]:
    """As high, faster (`rate` above 1) or slower, by librosa's phase vocoder; the length changes."""
    return librosa.effects.time_stretch(sound, rate=rate, n_fft=STFT_SIZE, hop_length=STFT_HOP)


def change_level(sound: Sound, _sample_rate: int, gain_db: float) -> Sound:
    """Louder or softer.

    >>> change_level(np.ones(2, dtype=np.float32), 16_000, -20.0)
    array([0.1, 0.1], dtype=float32)
    """
    return (sound * 10 ** (gain_db / 20)).astype(sound.dtype)


def tilt_spectrum(sound: Sound, sample_rate: int, db_per_octave: float) -> Sound:
    """Brighter or duller around 1 kHz, at the level it had."""
    spectrum = np.fft.rfft(sound)
    hertz = np.maximum(np.fft.rfftfreq(len(sound), 1 / sample_rate), TILT_AROUND_HZ / 32)
    gain = 10 ** (db_per_octave * np.log2(hertz / TILT_AROUND_HZ) / 20)
    tilted = np.fft.irfft(spectrum * gain, len(sound))
    level = float(np.sqrt(np.mean(sound**2))) / max(float(np.sqrt(np.mean(tilted**2))), 1e-12)
    return (level * tilted).astype(sound.dtype)


EDITS: Mapping[str, Edit] = {
    "pitch": partial(shift_pitch, semitones=3.0),
    "tempo": partial(change_tempo, rate=0.8),
    "level": partial(change_level, gain_db=-12.0),
    "tilt": partial(tilt_spectrum, db_per_octave=-6.0),
}
"""One edit of each kind, as strong as one hears clearly."""


def edit_span(waveform: Float[Tensor, " samples"], span: Span, edit: Edit, sample_rate: int) -> Tensor:
    """The clip with one span edited and all else as it was; the seams are faded over 5 ms.

    Args:
        waveform: The clip.
        span: Where, in seconds.
        edit: What is done there; it may change the span's length, and so the clip's.
        sample_rate: Samples per second.
    """
    samples = waveform.detach().cpu().numpy()
    start, end = (min(round(at_s * sample_rate), len(samples)) for at_s in (span.start_s, span.end_s))
    before, inside, after = samples[:start], samples[start:end], samples[end:]
    edited = np.asarray(edit(inside, sample_rate), dtype=samples.dtype)
    fade = min(round(FADE_S * sample_rate), len(edited) // 2, len(inside) // 2)
    if fade:
        ramp = np.linspace(0, 1, fade, dtype=samples.dtype)
        edited = edited.copy()
        edited[:fade] = ramp * edited[:fade] + (1 - ramp) * inside[:fade]
        edited[-fade:] = ramp[::-1] * edited[-fade:] + (1 - ramp[::-1]) * inside[-fade:]
    return torch.from_numpy(np.concatenate([before, edited, after])).to(waveform.device)


def observe(
    score: SoundScore,
    waveform: Float[Tensor, " samples"],
    spans: Sequence[Span],
    *,
    edit: Edit,
    sample_rate: int,
) -> tuple[float, ...]:
    """Loss of the score when one span after the other is edited; comparable with any number of maps.

    Args:
        score: The explained score of a waveform of any length.
        waveform: The clip.
        spans: Where it is edited, one after the other.
        edit: One of `EDITS`, or any like them.
        sample_rate: Samples per second.
    """
    whole = score(waveform)
    return tuple(whole - score(edit_span(waveform, span, edit, sample_rate)) for span in spans)


def size_agreement(attributions: Float[Tensor, " spans"], observed: Sequence[float]) -> float:
    """Spearman's correlation, over spans, of the magnitudes of attributions and of observed changes.

    The higher the better; NaN where nothing changes. An edit keeps the clip a clip, where filling a span with
    something else may not; but which way it moves the score an attribution does not say, so sizes are
    compared. Our own.

    Args:
        attributions: Their sum in each span.
        observed: What the score lost by an edit of each; see [`observe`][].

    >>> size_agreement(torch.tensor([3.0, -1.0, 0.5]), [-9.0, 4.0, 0.0])
    1.0
    """
    changes = torch.tensor(observed, dtype=torch.float64)
    return rank_correlation(attributions.double().abs().cpu(), changes.abs())


NUM_SPANS, FEWEST_SPANS = 8, 3
SHORTEST_SAMPLES = 2 * STFT_SIZE
"""A span must hold two windows of the phase vocoder, also the shortest."""


@dataclass(frozen=True)
class EditedSpans:
    """Effects of editing the spans of a clip on the score.

    Args:
        spans: Who owns which frame.
        observed: By edit, what the score lost, span by span.
    """

    spans: Players
    observed: Mapping[str, tuple[float, ...]]

    def agreements(self, values: Float[Tensor, " time"]) -> dict[str, float]:
        """`consistency_EDIT` of a map of frames, by edit; see [`size_agreement`][]."""
        sums = torch.zeros(self.spans.count, dtype=values.dtype)
        sums.index_add_(0, self.spans.owner, values.cpu())
        return {
            f"consistency_{name}": size_agreement(sums, observed) for name, observed in self.observed.items()
        }


def edit_spans(
    classifier: EmotionClassifier, waveform: Float[Tensor, " samples"], target: Target
) -> EditedSpans | None:
    """Edit eight spans, or fewer of a short clip, in four ways; None where it is too short for three.

    Args:
        classifier: In evaluation mode; asked once for each edited clip.
        waveform: The clip.
        target: What is explained; one scalar.
    """
    times = times_of(classifier.backbone.frame_grid, len(waveform))["frames"]
    divided = _divide(times, len(waveform), classifier.sample_rate)
    if divided is None:
        return None
    (spans, where), device = divided, next(classifier.parameters()).device

    def score(sound: Float[Tensor, " samples"]) -> float:
        with torch.no_grad():
            return float(target(classifier(sound[None].to(device)))[0, 0])

    observed = {
        name: observe(score, waveform, where, edit=edit, sample_rate=classifier.sample_rate)
        for name, edit in EDITS.items()
    }
    return EditedSpans(spans, observed)


def _divide(times: TimeGrid, num_samples: int, sample_rate: int) -> tuple[Players, list[Span]] | None:
    """As many spans as are long enough, each of them; None where these are fewer than three."""
    for count in range(min(NUM_SPANS, times.count), FEWEST_SPANS - 1, -1):
        spans = equal_spans(times.count, count)
        where = _spans_of(spans, times, num_samples / sample_rate)
        lengths = (round(span.end_s * sample_rate) - round(span.start_s * sample_rate) for span in where)
        if min(lengths) >= SHORTEST_SAMPLES:
            return spans, where
    return None


def _spans_of(spans: Players, times: TimeGrid, duration_s: float) -> list[Span]:
    """From half-way between two frames of different owners to the next such place; all of the clip."""
    centers_s = times.center_s()
    first = [int((spans.owner == place).nonzero()[0]) for place in range(1, spans.count)]
    between = [float(centers_s[index - 1] + centers_s[index]) / 2 for index in first]
    edges = [0.0, *between, duration_s]
    return [Span(start_s, end_s) for start_s, end_s in pairwise(edges)]
