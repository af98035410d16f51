"""Integrated gradients: the path integral from each of a fixed set of baselines, by quadrature."""

from __future__ import annotations

from math import log

import numpy as np
import torch

from wavshap_lightning.attribution.baselines import Baselines, declared_only
from wavshap_lightning.attribution.estimation.designs import Points, declared_paths
from wavshap_lightning.attribution.estimation.estimate import Stopping, estimate
from wavshap_lightning.attribution.estimation.moments import WeightedSum
from wavshap_lightning.attribution.estimation.problem import Problem
from wavshap_lightning.attribution.record import Attribution

SILENT_DB = -120.0
"""Level where a path in decibels begins; below it alpha is taken to be 0."""


def integrated_gradients(
    problem: Problem, baselines: Baselines, *, num_nodes: int = 32, decibels: bool = False
) -> Attribution:
    """Attribute the score to each element of the input along the straight path from each baseline.

    `phi_i = (x_i - b_i) int_0^1 d_i f(b + alpha (x - b)) d alpha`, averaged over the set. Source:
    Sundararajan, Taly and Yan (2017). Difference: Gauss-Legendre nodes, whose weights sum to one, instead of
    a Riemann sum. The method is deterministic and has no standard error. The completeness gap shows whether
    there are enough nodes; it is not corrected.

    Args:
        problem: Score, input and target.
        baselines: A fixed set, often with a single baseline.
        num_nodes: Gradient evaluations for each baseline.
        decibels: Space the nodes evenly in decibels of alpha, for paths from silence.

    Raises:
        AttributionError: If the baselines are a distribution, or do not fit the problem.
    """
    baselines = declared_only(baselines)
    points = gauss_legendre(num_nodes, len(baselines), decibels=decibels)
    design = declared_paths(problem, baselines, lambda _: [points], lambda _: WeightedSum())
    settings, stopping = {"num_nodes": num_nodes, "decibels": decibels}, Stopping(num_draws=len(points))
    return estimate(problem, design, stopping, method="integrated_gradients", settings=settings)


def gauss_legendre(num_nodes: int, num_baselines: int = 1, *, decibels: bool = False) -> Points:
    """Gauss-Legendre nodes on the path from each of a fixed set of baselines.

    The quadrature is exact for gradients that are polynomials of alpha up to degree `2 num_nodes - 1`. With
    `decibels`, the nodes cover `20 log10(alpha)` from -120 to 0, for scores that change with the order of
    magnitude of alpha, such as level-normalized ones on the path from silence. The weights then include
    `d alpha / d log(alpha) = alpha`.

    >>> gauss_legendre(2).alphas
    tensor([0.2113, 0.7887], dtype=torch.float64)
    """
    places, weights = (torch.from_numpy(numbers) for numbers in np.polynomial.legendre.leggauss(num_nodes))
    alphas = (places + 1) / 2
    if decibels:
        span = -SILENT_DB / 20 * log(10)
        alphas = torch.exp((alphas - 1) * span)
        weights = weights / 2 * alphas * span
        weights[0] += 1 - weights.sum()  # what lies below the range, all of it close to the first node
    weights = weights / weights.sum() / num_baselines
    baselines = torch.arange(num_baselines).repeat_interleave(num_nodes)
    return Points(alphas.repeat(num_baselines), weights.repeat(num_baselines), baselines)
