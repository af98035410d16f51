"""Does an explanation stay when the clip changes by less than one hears?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

Explain = Callable[[Float[Tensor, " samples"]], Float[Tensor, " units"]]

SNRS_DB = (30.0, 40.0)


def sensitivities(
    explain: Explain,
    waveform: Float[Tensor, " samples"],
    generator: torch.Generator,
    *,
    snrs_db: Sequence[float] = SNRS_DB,
    num_perturbations: int = 2,
) -> dict[float, float]:
    """`mean |phi(x + noise) - phi(x)| / |phi(x)|` by Euclidean length, minus the same without noise.

    White noise at a ratio to the clip. What the method's own chance contributes is taken off: without noise
    nothing but chance can differ, and with the same draws, as they should be, that is 0. The lower the
    better. Source: Yeh et al. (2019), section 2.2; where we depart: the mean for the largest, which grows
    with the number of perturbations, and noise of a stated level.

    Args:
        explain: Attributions of a waveform; every time with the same draws.
        waveform: The clip.
        generator: Draws the noise.
        snrs_db: How far the noise lies below the clip, in decibels, one after the other.
        num_perturbations: How often noise is drawn for each.

    Returns:
        The sensitivity at each ratio.
    """
    before = explain(waveform)
    by_chance = _moved(before, explain(waveform))
    found: dict[float, float] = {}
    for snr_db in snrs_db:
        noisy = [explain(add_noise(waveform, snr_db, generator)) for _ in range(num_perturbations)]
        found[snr_db] = fmean(_moved(before, one) for one in noisy) - by_chance
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
