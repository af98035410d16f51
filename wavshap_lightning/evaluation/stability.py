"""Stability: correlation of maps, reliability of an estimate, sensitivity to inaudible noise."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor


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


def reliability(values: Float[Tensor, " units"], stderr: Float[Tensor, " units"]) -> float:
    """Share of the variance of the attributions that is not Monte Carlo noise.

    `1 - mean(SE^2) / var(values)`, not below 0: the correlation to be expected between two runs with other
    draws. NaN where the attributions are constant or an error is not known yet.

    Source: the reliability coefficient of classical test theory (Lord and Novick 1968, section 3.3).

    >>> round(reliability(torch.tensor([1.0, -1.0]), torch.tensor([0.2, 0.4])), 3)
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
    """Ranks from 1, equal values sharing theirs."""
    return torch.from_numpy(rankdata(values.double().cpu().numpy()))


SNRS_DB = (30.0, 40.0)


def sensitivities(
    explain: Callable[[Float[Tensor, " samples"]], Float[Tensor, " units"]],
    waveform: Float[Tensor, " samples"],
    generator: torch.Generator,
    *,
    num_perturbations: int = 1,
) -> dict[str, float]:
    """`mean |phi(x + noise) - phi(x)| / |phi(x)|` by Euclidean length, minus the same without noise.

    White noise at 30 and 40 dB below the clip: `sensitivity_30` and `sensitivity_40`. The lower the better.
    Without noise nothing but chance can differ; with the same draws, as they should be, that is 0. Source:
    Yeh et al. (2019), section 2.2; where we depart: the mean for the largest, which grows with the number of
    perturbations, and noise of a stated level.

    Args:
        explain: Attributions of a waveform; every time with the same draws.
        waveform: The clip.
        generator: Draws the noise.
        num_perturbations: How often noise is drawn for each ratio.
    """
    before = explain(waveform)
    by_chance = _moved(before, explain(waveform))
    found = {}
    for snr_db in SNRS_DB:
        noisy = [explain(add_noise(waveform, snr_db, generator)) for _ in range(num_perturbations)]
        found[f"sensitivity_{snr_db:.0f}"] = fmean(_moved(before, one) for one in noisy) - by_chance
    return found


def add_noise(
    waveform: Float[Tensor, " samples"], snr_db: float, generator: torch.Generator
) -> Float[Tensor, " samples"]:
    """White noise whose root mean square lies exactly `snr_db` below the clip's."""
    drawn = torch.randn(len(waveform), generator=generator).to(waveform)
    level = waveform.square().mean().sqrt() * 10 ** (-snr_db / 20)
    return waveform + drawn * (level / drawn.square().mean().sqrt())


def _moved(before: Tensor, after: Tensor) -> float:
    size = float(before.double().norm())
    return float((after - before).double().norm()) / size if size > 0 else float("nan")
