"""Edits of spans of a clip, whose effects on the score attributions are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import librosa
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from wavshap_lightning.attribution.shapley.players import equal_spans
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.evaluation.similarity import rank_correlation
from wavshap_lightning.explainer.time_grid import TimeGrid

Sound = Float[np.ndarray, " samples"]
Edit = Callable[[Sound, int], Float[np.ndarray, " edited"]]

FADE_S = 0.005
STFT_SIZE, STFT_HOP = 512, 128
TILT_AROUND_HZ = 1000.0
NUM_SPANS, FEWEST_SPANS = 8, 3
SHORTEST_SAMPLES = 2 * STFT_SIZE
"""A span must hold two windows of the phase vocoder, also the shortest."""


def shift_pitch(sound: Sound, sample_rate: int, semitones: float) -> Sound:
    """Shift the pitch at the same length, by librosa's phase vocoder."""
    return librosa.effects.pitch_shift(
        sound, sr=sample_rate, n_steps=semitones, n_fft=STFT_SIZE, hop_length=STFT_HOP
    )


def change_tempo(sound: Sound, _sample_rate: int, rate: float) -> Float[np.ndarray, " edited"]:
    """Make the tempo `rate` times faster at the same pitch, by librosa's phase vocoder."""
    return librosa.effects.time_stretch(sound, rate=rate, n_fft=STFT_SIZE, hop_length=STFT_HOP)


def change_level(sound: Sound, _sample_rate: int, gain_db: float) -> Sound:
    """Make louder or softer.

    >>> change_level(np.ones(2, dtype=np.float32), 16_000, -20.0)
    array([0.1, 0.1], dtype=float32)
    """
    return (sound * 10 ** (gain_db / 20)).astype(sound.dtype)


def tilt_spectrum(sound: Sound, sample_rate: int, db_per_octave: float) -> Sound:
    """Tilt the spectrum by `db_per_octave` around 1 kHz, at the same level."""
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
"""One edit of each kind, clearly audible."""


def edit_span(waveform: Float[Tensor, " samples"], span: Span, edit: Edit, sample_rate: int) -> Tensor:
    """The clip with one span edited and all else as it was; the seams are faded over 5 ms.

    Args:
        waveform: Samples of the clip.
        span: The span, in seconds.
        edit: One of `EDITS`, or any like them; it may change the span's length, and so the clip's.
        sample_rate: Samples per second.
    """
    samples = waveform.detach().cpu().numpy()
    start, end = (min(round(at_s * sample_rate), len(samples)) for at_s in (span.start_s, span.end_s))
    before, inside, after = samples[:start], samples[start:end], samples[end:]
    edited = np.array(edit(inside, sample_rate), dtype=samples.dtype)
    fade = min(round(FADE_S * sample_rate), len(edited) // 2, len(inside) // 2)
    if fade:
        ramp = np.linspace(0, 1, fade, dtype=samples.dtype)
        edited[:fade] = ramp * edited[:fade] + (1 - ramp) * inside[:fade]
        edited[-fade:] = ramp[::-1] * edited[-fade:] + (1 - ramp[::-1]) * inside[-fade:]
    return torch.from_numpy(np.concatenate([before, edited, after])).to(waveform.device)


def consistency_of_maps(
    score: Callable[[Float[Tensor, " samples"]], float],
    waveform: Float[Tensor, " samples"],
    times: TimeGrid,
    maps: Mapping[str, Float[Tensor, " time"]],
) -> dict[str, dict[str, float]]:
    """`consistency_EDIT` of each map: [`size_agreement`][] with the effects of editing span after span.

    The clip is divided into eight spans, or fewer if it is short; a clip too short for three has no such
    metrics.

    Args:
        score: The explained score of a waveform of any length.
        waveform: Samples of the clip.
        times: Positions of its frames.
        maps: Attributions of the frames.
    """
    divided = divide(times, len(waveform))
    if divided is None:
        return {name: {} for name in maps}
    (owner, spans), whole = divided, score(waveform)
    lost = {
        name: [whole - score(edit_span(waveform, span, edit, times.sample_rate)) for span in spans]
        for name, edit in EDITS.items()
    }
    found = {}
    for name, values in maps.items():
        sums = torch.zeros(len(spans), dtype=values.dtype).index_add_(0, owner, values[: len(owner)].cpu())
        found[name] = {f"consistency_{edit}": size_agreement(sums, losses) for edit, losses in lost.items()}
    return found


def size_agreement(attributions: Float[Tensor, " spans"], lost: Sequence[float]) -> float:
    """Spearman's correlation, over spans, of the magnitudes of attributions and of the effects of edits.

    The higher the better; NaN where nothing changes. An edited clip is still a clip, other than one with a
    filled span; but attributions do not predict the direction of its effect, so magnitudes are compared. Our
    own.

    Args:
        attributions: Their sum in each span.
        lost: What the score lost by an edit of each.

    >>> size_agreement(torch.tensor([3.0, -1.0, 0.5]), [-9.0, 4.0, 0.0])
    1.0
    """
    return rank_correlation(attributions.abs(), torch.tensor(lost, dtype=torch.float64).abs())


def divide(times: TimeGrid, num_samples: int) -> tuple[Int[Tensor, " frames"], list[Span]] | None:
    """Span of each frame of the clip, and up to eight equal spans; None if three would be too short.

    Spans meet half-way between the centers of two frames and cover the clip.
    """
    centers_s, rate = times.center_s(), times.sample_rate
    num_frames = times.num_within(num_samples / rate)
    for count in range(min(NUM_SPANS, num_frames), FEWEST_SPANS - 1, -1):
        owner = equal_spans(num_frames, count).owner
        first = np.flatnonzero(np.diff(owner.numpy())) + 1
        between = (centers_s[first - 1] + centers_s[first]) / 2
        edges_s = [0.0, *between.tolist(), num_samples / rate]
        lengths = (round(end_s * rate) - round(start_s * rate) for start_s, end_s in pairwise(edges_s))
        if min(lengths) >= SHORTEST_SAMPLES:
            return owner, [Span(start_s, end_s) for start_s, end_s in pairwise(edges_s)]
    return None
