"""Recording conditions, and how far each tells a class: hum, noise floor, leading silence, duration, level.

If the clips of one class were recorded otherwise than the rest, a model learns the recording, and so does its
test. Emotions differ in level and duration for good reasons, and in hum for none: a condition is said to tell
a class where it separates it from the others further than speech does.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.stats import rankdata

from wavshap_lightning.audio.io import load_native
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AudioError

CONDITIONS = {
    "hum": ("dB", 0.75),
    "noise floor": ("dB", 0.85),
    "leading silence": ("s", 0.85),
    "duration": ("s", 0.9),
    "level": ("dBFS", 0.98),
}
"""Unit of each condition, and the area under the ROC curve from which on it tells a class.

The areas lie above the largest of the first twelve actors of RAVDESS, who all were recorded in one studio:
0.57 for hum, 0.74 for the noise floor, 0.63 for leading silence, 0.76 for duration and 0.89 for level.
"""

WINDOW_S, STEP_S = 0.25, 0.02
QUIET_SHARE = 0.2
"""Quantile over the windows that is taken for the background: speech is louder, or at another frequency."""

MAINS_HZ, NUM_HARMONICS, BESIDE_HZ = (50.0, 60.0), 5, 16.0
NOISE_HZ = (500.0, 4000.0)
SPEECH_RANGE_DB = 35.0
"""Leading silence ends with the first step that is no further below the loudest."""

LEAST_POWER = 1e-14
NUM_PERMUTATIONS, LEVEL = 499, 0.05

Areas = Float64[np.ndarray, "labels conditions"]


def measure_conditions(
    waveform: Float[np.ndarray, " num_samples"], sample_rate: int
) -> Float64[np.ndarray, " conditions"]:
    """The conditions of one recording, in the order and units of `CONDITIONS`.

    Hum is how far the background rises at the first five harmonics of 50 or 60 Hz above what is 16 Hz beside
    them; the noise floor is the background from 500 to 4000 Hz.

    Args:
        waveform: Samples of one channel, in [-1, 1].
        sample_rate: Samples per second.
    """
    size, step = int(WINDOW_S * sample_rate), int(STEP_S * sample_rate)
    padded = np.pad(waveform.astype(np.float64), (0, max(0, size - len(waveform))))
    window = np.hanning(size)
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 4] * window)
    background_db = _decibels(np.quantile(np.abs(spectra) ** 2, QUIET_SHARE, axis=0) / (window**2).sum())
    noise = slice(*(round(edge_hz * WINDOW_S) for edge_hz in NOISE_HZ))
    steps_db = _decibels(np.mean(padded[: len(padded) // step * step].reshape(-1, step) ** 2, axis=1))
    silent_steps = np.argmax(steps_db >= steps_db.max() - SPEECH_RANGE_DB)
    hum, duration_s = max(_hum(background_db, mains) for mains in MAINS_HZ), len(waveform) / sample_rate
    level_db = _decibels(np.mean(padded**2))
    return np.array([hum, background_db[noise].mean(), STEP_S * silent_steps, duration_s, level_db])


def _hum(background_db: Float64[np.ndarray, " bins"], mains_hz: float) -> float:
    at_hz = mains_hz * np.arange(1, NUM_HARMONICS + 1) + np.array([[0.0], [-BESIDE_HZ], [BESIDE_HZ]])
    at, below, above = background_db[np.rint(at_hz * WINDOW_S).astype(int)]
    return float(np.mean(at - (below + above) / 2))


def _decibels(power: Any) -> Any:  # noqa: ANN401 - a number or an array, as it was given
    return 10.0 * np.log10(power + LEAST_POWER)


def class_conditions(clips: Sequence[Clip], *, seed: int = 0) -> list[dict[str, Any]]:
    """How far each recording condition tells each class, in plain JSON types.

    Clips are compared within speakers, or all together if a class shares no speaker with another. The area
    under the ROC curve is 0.5 for a condition that says nothing, and 0 or 1 for one that tells the class
    alone. The p-value is that of the largest distance from 0.5 among all conditions and classes when labels
    are permuted within speakers (Westfall and Young 1993, single-step maxT), so that it counts all checks.
    Clips that cannot be read are left out: the audit names them.

    Args:
        clips: Clips of one corpus.
        seed: Random seed of the permutations.

    Returns:
        A row for each condition and class: `condition`, `unit`, `label`, `median` of the class, `others` (the
        median of the other classes), `area`, `p`, and whether it `tells` the class.
    """
    with ThreadPoolExecutor() as pool:
        measured = dict(zip(clips, pool.map(_measure, clips), strict=True))
    known = [clip for clip in clips if measured[clip] is not None]
    labels, of_clip = np.unique([clip.label for clip in known], return_inverse=True)
    if len(labels) < 2:
        return []
    values, generator = np.array([measured[clip] for clip in known]), np.random.default_rng(seed)
    strata = _strata(known)
    ranks, codes = [rankdata(values[own], axis=0) for own in strata], [of_clip[own] for own in strata]
    areas = mean_areas(ranks, codes, len(labels))
    drawn = ([*map(generator.permutation, codes)] for _ in range(NUM_PERMUTATIONS))
    largest = [float(np.abs(mean_areas(ranks, one, len(labels)) - 0.5).max()) for one in drawn]
    rows = []
    for (place, name), (code, label) in product(enumerate(CONDITIONS), enumerate(labels.tolist())):
        unit, limit = CONDITIONS[name]
        area, own = float(areas[code, place]), of_clip == code
        p = float(np.mean([True, *(one >= abs(area - 0.5) for one in largest)]))
        median, others = (float(np.median(values[some, place])) for some in (own, ~own))
        row: dict[str, Any] = {"condition": name, "unit": unit, "label": label, "median": median}
        row |= {"others": others, "area": round(area, 4), "p": p}
        rows.append(row | {"tells": p <= LEVEL and abs(area - 0.5) >= limit - 0.5})
    return rows


def mean_areas(
    ranks: Sequence[Float64[np.ndarray, "_ conditions"]],
    codes: Sequence[Int[np.ndarray, " _"]],
    num_labels: int,
) -> Areas:
    """Area under the ROC curve of each label against the others, averaged over the strata that have both.

    Args:
        ranks: Ranks of each stratum's clips by each condition, from 1; ties share their mean.
        codes: Label of each clip, as a number.
        num_labels: Number of labels, each in at least one stratum with another one.
    """
    sums, counts = np.zeros((num_labels, ranks[0].shape[1])), np.zeros((num_labels, 1))
    for rank, code in zip(ranks, codes, strict=True):
        member = np.eye(num_labels)[code]
        inside = member.sum(0)[:, None]
        pairs = inside * (len(code) - inside)
        sums += (member.T @ rank - inside * (inside + 1) / 2) / np.maximum(pairs, 1) * (pairs > 0)
        counts += pairs > 0
    return sums / counts


def _measure(clip: Clip) -> Float64[np.ndarray, " conditions"] | None:
    with suppress(AudioError):
        return measure_conditions(*load_native(clip.path, start_s=clip.start_s, end_s=clip.end_s))
    return None


def _strata(clips: Sequence[Clip]) -> list[Int[np.ndarray, " _"]]:
    """Places of the clips of each speaker, or of all clips if a class is never beside another."""
    speakers = [clip.speaker for clip in clips]
    strata = [np.flatnonzero([one == speaker for one in speakers]) for speaker in sorted({*speakers})]
    labels = [{clips[place].label for place in own.tolist()} for own in strata]
    beside = set().union(*(found for found in labels if len(found) > 1))
    return strata if beside == {clip.label for clip in clips} else [np.arange(len(clips))]
