"""Similarity of maps, and the sanity checks that rest on it.

The checks ask whether maps depend on the trained parameters, on the class, and on the seed of the head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from itertools import combinations
from statistics import fmean
from typing import Literal

import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

from wavshap_lightning.models.classifier import EmotionClassifier

CONSTANT_SPREAD = 0.1


def correlation(first: Float[Tensor, " units"], second: Float[Tensor, " units"]) -> float:
    """Pearson's correlation of two lists of attributions; NaN where one of them is constant.

    Between epochs of a training, or between epochs and the first one, it says how far an explanation has
    drifted. Take both with the same draws, or chance counts as drift.

    Args:
        first: Attributions of some units.
        second: Of the same units.

    >>> correlation(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([-2.0, -4.0, -8.0]))
    -1.0
    """
    both = torch.stack([first, second]).double()
    centred = both - both.mean(1, keepdim=True)
    products = centred @ centred.T
    spread = (products[0, 0] * products[1, 1]).sqrt()
    return float((products[0, 1] / spread).clamp(-1, 1)) if spread > 0 else float("nan")


def intraclass_correlation(values: Float[Tensor, " units"], stderr: Float[Tensor, " units"]) -> float:
    """Share of the variance of the attributions that is not Monte Carlo noise.

    `1 - mean(SE^2) / var(values)`, not below 0: the correlation to be expected between two runs with other
    draws. NaN where the attributions are constant or an error is not known yet.

    Source: the intraclass correlation of single measurements (Shrout and Fleiss 1979), with the variance of
    the errors known.

    >>> round(intraclass_correlation(torch.tensor([1.0, -1.0]), torch.tensor([0.2, 0.4])), 3)
    0.9
    """
    variance = float(values.double().var(unbiased=False))
    by_chance = float(stderr.double().square().mean())
    if not (variance > 0 and by_chance < float("inf")):
        return float("nan")
    return max(0.0, 1.0 - by_chance / variance)


def rank_correlation(first: Float[Tensor, " units"], second: Float[Tensor, " units"]) -> float:
    """Spearman's correlation: of ranks, equal values sharing theirs; NaN where one list is constant.

    >>> rank_correlation(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.1, 0.2, 0.3]))
    1.0
    """
    return correlation(ranks_of(first), ranks_of(second))


def ranks_of(values: Float[Tensor, " units"]) -> Float[Tensor, " units"]:
    """Ranks from 1; equal values get their mean rank."""
    return torch.from_numpy(rankdata(values.double().cpu().numpy()))


def mean_rank_correlation(*maps: Float[Tensor, " units"]) -> float:
    """Mean Spearman correlation over all pairs of maps for which it is defined.

    For maps of one clip from heads trained with different seeds, it shows how much an explanation depends on
    the seed: the higher, the less. NaN for fewer than two maps.

    >>> mean_rank_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]))
    -1.0
    """
    pairs = [rank_correlation(first, second) for first, second in combinations(maps, 2)]
    known = [value for value in pairs if not math.isnan(value)]
    return fmean(known) if known else float("nan")


def likeness(first: Float[Tensor, " time"], second: Float[Tensor, " time"]) -> float:
    """The magnitude of Spearman's correlation, above what the same maps come to when shifted in time.

    `|rho(A, B)| - mean_k |rho(A, B shifted by k)|` over all circular shifts. Neighboring frames resemble one
    another, so that maps that have nothing to do with each other have correlations far from 0, the farther
    the smoother they are; here these come to 0 on average, whatever the method. Two maps of the same order
    come close to 1. The correction is our own. NaN where one map is constant.

    >>> map = torch.randn(400, generator=torch.Generator().manual_seed(0))
    >>> round(likeness(map, -map), 2)
    0.96
    """
    ranks = torch.stack([ranks_of(first), ranks_of(second)]).double()
    centred = ranks - ranks.mean(1, keepdim=True)
    size = float(centred.norm(dim=1).prod())
    if size == 0 or len(first) < 2:
        return float("nan")
    spectra = torch.fft.rfft(centred)
    shifted = torch.fft.irfft(spectra[0] * spectra[1].conj(), n=len(first)).abs() / size
    return float(shifted[0] - shifted[1:].mean())


@torch.no_grad()
def randomize(classifier: EmotionClassifier, part: Literal["head", "all"], seed: int) -> EmotionClassifier:
    """Copy a classifier, with the parameters of the head, or all, drawn from normal distributions.

    An explanation of what was learned must change then. Every tensor has a seed of its own.
    Source: Adebayo et al. (2018). Differences: each tensor keeps its mean and standard deviation, so that
    activations keep their scale; biases and gains are randomized too.

    Args:
        classifier: The classifier, which is not changed. With `part="head"` the copy shares a frozen
            backbone.
        part: Parameters to randomize: `"head"` or `"all"`.
        seed: Random seed.
    """
    backbone = classifier.backbone
    shared = part == "head" and backbone.settings.frozen
    changed = deepcopy(classifier, {id(backbone): backbone} if shared else None)
    parameters = dict(changed.named_parameters())
    for place, (name, parameter) in enumerate(parameters.items()):
        if part == "all" or name.startswith("head."):
            generator = torch.Generator().manual_seed(seed * len(parameters) + place)
            values = parameter.detach().double()
            mean, spread = float(values.mean()), float(values.std(unbiased=False))
            if spread == 0:  # a gain or bias that has learned nothing yet
                spread = CONSTANT_SPREAD * (abs(mean) or 1.0)
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(mean + spread * drawn)
    return changed


def dependence(
    values: Float[Tensor, " time"], changed: Mapping[str, Sequence[Float[Tensor, " time"]]]
) -> dict[str, float]:
    """Similarity of a map to those of the same clip after changes that it should, or should not, depend on.

    `head_redrawn`, `all_redrawn`: [`likeness`][] to the map
    with randomized parameters, the lower the better (Adebayo et al. 2018). `other_class`: Spearman's
    correlation with the map of another class, 1 for class-independent maps (Sixt, Granz and Landgraf 2020).
    `other_seeds`: the mean of Spearman's correlation over all pairs of heads, the higher the better.

    Args:
        values: The map.
        changed: Maps by the same method with the same draws, by change: one each, but of other seeds any
            number.
    """
    measures: Mapping[str, Callable[..., float]] = {
        "head_redrawn": likeness,
        "all_redrawn": likeness,
        "other_class": rank_correlation,
        "other_seeds": mean_rank_correlation,
    }
    return {change: measures[change](values, *maps) for change, maps in changed.items()}
