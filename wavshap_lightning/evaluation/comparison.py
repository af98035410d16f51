"""Comparisons of systems on the same clips: paired differences, Holm's correction, compact letters.

A system is several training seeds on each test fold. Its score is the mean over folds and seeds, and it is
uncertain for two reasons: other speakers could have been tested, and other seeds could have been drawn. Both
enter the standard error of a difference:

    value = sum of c[speaker]         each speaker's contribution, by linearization; mean over seeds
    variance = m / (m - 1) * sum of (d_a[speaker] - d_b[speaker])^2 + shared_a + shared_b

with the deviation `d` of each of the `m` speakers' contributions from equal ones, paired by speaker and so by
clip, and the covariance `shared` between speakers that a fold's seeds cause: one head tests all speakers of a
fold, whose scores rise and fall together. A bootstrap over speakers alone, or a permutation of their signs,
takes them as independent and finds too many differences. The test is Student's t, with the degrees of freedom
of Satterthwaite for the sum. What it does not cover: other training speakers than those of the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from string import ascii_lowercase

import numpy as np
from jaxtyping import Float64
from scipy import stats

from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.intervals import LEVEL

STEP = 1e-4  # of the numerical derivative by a speaker's weight: exact to about its square
ROUNDED = 1e-12  # differences this small are by rounding

Sums = Float64[np.ndarray, "seeds units outputs sums"]
Values = Callable[[Float64[np.ndarray, "... outputs sums"]], Float64[np.ndarray, "... outputs"]]


@dataclass(frozen=True, slots=True)
class SystemScore:
    """A system's score, with the two sources of its uncertainty.

    Args:
        value: Mean over folds and seeds.
        speakers: Names of the speakers tested, sorted.
        deviations: How far each speaker's contribution to the value is from that of a speaker like all
            others; the value's variance over speakers is `m / (m - 1)` times their sum of squares.
        shared_variance: Variance of the value, over seeds, that speakers of a fold have in common; 0 with a
            single seed, where it is unknown.
        seed_degrees: Degrees of freedom of that variance: over the folds, seeds but one.
    """

    value: float
    speakers: tuple[str, ...]
    deviations: Float64[np.ndarray, " speakers"]
    shared_variance: float
    seed_degrees: int

    def interval(self) -> tuple[float | None, float | None]:
        """Ends of the 95 % interval of a value from 0 to 1, over speakers and seeds; None of one speaker."""
        low, high, _ = _t_test(self.value, self.deviations, [self])
        return None if low is None else max(0.0, low), None if high is None else min(1.0, high)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Difference of two systems.

    Args:
        a: Name of a system.
        b: Name of another one.
        difference: Score of `a` minus score of `b`.
        low: Lower end of its 95 % interval, not corrected; None with a single speaker.
        high: Upper end.
        p: Two-sided p-value of no difference; 1 where it is unknown.
        p_corrected: The same by Holm's method, for all pairs that were compared together.
    """

    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    p: float
    p_corrected: float

    @property
    def different(self) -> bool:
        """A corrected p-value below 5 %."""
        return self.p_corrected < 1.0 - LEVEL


def score_system(sums: Sums, folds: Sequence[int], speakers: Sequence[str], values: Values) -> SystemScore:
    """Score of a system with its uncertainty over speakers and seeds.

    Args:
        sums: Numbers that are added over clips, of each seed and unit: the clips of one speaker in one fold.
        folds: Test fold of each unit. Each fold's seeds are trainings of their own.
        speakers: Speaker of each unit, or each unit's own name where speakers are unknown. A speaker who is
            tested in several folds, as where clips are split at random, counts as one.
        values: Of sums over clips, numbers whose mean over the outputs that have one is the score, as those
            of [`SCORES`][wavshap_lightning.training.scores.SCORES].

    Source: Efron 1982, "The Jackknife, the Bootstrap and Other Resampling Plans", chapter 6 (infinitesimal
    jackknife); Cameron, Gelbach and Miller 2011, "Robust Inference With Multiway Clustering", section 2.
    """
    num_seeds, num_units = sums.shape[:2]
    members = [np.flatnonzero(np.asarray(folds) == fold) for fold in dict.fromkeys(folds)]
    contributions, shares, shared = np.empty((num_seeds, num_units)), np.empty(num_units), 0.0
    for own in members:
        shares[own] = 1.0 / (len(members) * len(own))
        contributions[:, own] = _contributions(sums[:, own], values) / len(members)
        by_seed = contributions[:, own] - contributions[:, own].mean(0)
        # Between units alone: what a seed does to a single unit is part of that unit's deviation.
        shared += ((by_seed.sum(1) ** 2).sum() - (by_seed**2).sum()) / (num_seeds * max(1, num_seeds - 1))
    mean = contributions.mean(0)
    value, (names, owners) = float(mean.sum()), np.unique(np.asarray(speakers), return_inverse=True)
    deviations = np.bincount(owners, mean - value * shares)
    degrees = len(members) * (num_seeds - 1)
    return SystemScore(value, tuple(names.tolist()), deviations, max(0.0, float(shared)), degrees)


def _contributions(sums: Sums, values: Values) -> Float64[np.ndarray, "seeds units"]:
    """Contribution of each unit to the score of a fold: an equal share, and its influence."""
    total, step = sums.sum(1, keepdims=True), STEP * sums
    more, less, score = (np.nanmean(values(x), axis=-1) for x in (total + step, total - step, total))
    influence = (more - less) / (2.0 * STEP)  # sums to zero, as all weights together change no ratio
    return influence - influence.mean(1, keepdims=True) + score / sums.shape[1]


def compare(a: SystemScore, b: SystemScore) -> tuple[float, float | None, float | None, float]:
    """Difference `a - b`, the ends of its 95 % interval, and the two-sided p-value of no difference.

    Raises:
        SettingError: If the systems were not tested on the same speakers.
    """
    if differing := sorted({*a.speakers} ^ {*b.speakers}):
        raise SettingError(
            f"speakers={differing} were tested with one system alone; test both on the same clips"
        )
    difference = a.value - b.value
    return difference, *_t_test(difference, a.deviations - b.deviations, [] if a is b else [a, b])


def _t_test(
    value: float, deviations: Float64[np.ndarray, " speakers"], systems: Sequence[SystemScore]
) -> tuple[float | None, float | None, float]:
    """Ends of the interval of a value, and the p-value of zero.

    Source: Satterthwaite 1946, "An Approximate Distribution of Estimates of Variance Components".
    """
    fewer = len(deviations) - 1
    if fewer < 1:
        return None, None, 1.0
    parts = [((fewer + 1) / fewer * (deviations**2).sum(), fewer)]
    parts += [(one.shared_variance, one.seed_degrees) for one in systems if one.shared_variance]
    variance = sum(part for part, _ in parts)
    error = float(np.sqrt(variance))
    if error <= ROUNDED:  # equal for every speaker
        return value, value, float(abs(value) <= ROUNDED)
    t = stats.t(variance**2 / sum(part**2 / degrees for part, degrees in parts))
    reach = error * float(t.ppf(0.5 + LEVEL / 2.0))
    return value - reach, value + reach, 2.0 * float(t.sf(abs(value) / error))


def compare_all(families: Sequence[Mapping[str, SystemScore]]) -> list[list[Comparison]]:
    """Every pair of systems of each corpus, with p-values corrected for the pairs of all corpora.

    Args:
        families: For each corpus, its systems by name.

    Raises:
        SettingError: If systems of a corpus were not tested on the same speakers.
    """
    pairs = [[(a, b, *compare(own[a], own[b])) for a, b in combinations(own, 2)] for own in families]
    corrected = iter(holm([p for own in pairs for *_, p in own]))
    return [[Comparison(*one, next(corrected)) for one in own] for own in pairs]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected so that one or more false positives among all have at most the chance of one.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    >>> holm([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]
    """
    corrected, least = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return corrected


def compact_letters(ranked: Sequence[str], comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Letters of each system: two systems share a letter exactly where they are not shown to differ.

    Each letter is a set of systems none of which is shown to differ from another one in it, and as large as
    can be. The first system has the letter `a`; those that share a letter with it are to be set in bold.
    After `z` come `a1`, `b1` and so on.

    Args:
        ranked: Names of the systems, the best first.
        comparisons: Those of every pair.

    Source: Piepho 2004, "An Algorithm for a Letter-Based Representation of All-Pairwise Comparisons"
    (insert and absorb).
    """
    groups = {frozenset(ranked)}
    for pair in [frozenset((one.a, one.b)) for one in comparisons if one.different]:
        split = {group - {name} for group in groups for name in (pair if pair <= group else ("",))}
        groups = {group for group in split if not any(group < other for other in split)}
    places = sorted(sorted(map(ranked.index, group)) for group in groups)
    letters = [f"{ascii_lowercase[i % 26]}{i // 26 or ''}" for i in range(len(places))]
    own = [
        [letter for letter, group in zip(letters, places, strict=True) if i in group]
        for i in range(len(ranked))
    ]
    return {name: "".join(letters) for name, letters in zip(ranked, own, strict=True)}
