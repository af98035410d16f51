"""Captum's GradientShap, given our model, target and baselines, and otherwise as it comes."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import torch
from captum.attr import GradientShap
from torch import Tensor

from wavshap_lightning.attribution.targets import Target

DEFAULTS = f"Captum {version('captum')}: n_samples=5 unless said, stdevs=0, all draws in one forward pass"


def captum_shap(score: Callable[[Tensor], Tensor], target: Target) -> Callable[[Tensor, Tensor, int], Tensor]:
    """A function of input, baselines and number of draws; Captum takes its chance from global generators."""
    method = GradientShap(lambda inputs: target(score(inputs))[:, 0])

    def attribute(x: Tensor, baselines: Tensor, num_draws: int) -> Tensor:
        return method.attribute(x[None], baselines, n_samples=num_draws)[0].detach()

    return attribute


def captum_mean(
    attribute: Callable[[Tensor, Tensor, int], Tensor],
    x: Tensor,
    baselines: Tensor,
    sum_units: Callable[[Tensor], Tensor],
    *,
    num_draws: int,
    num_calls: int,
) -> tuple[Tensor, Tensor]:
    """Mean over many calls, `num_draws` in all, and its standard error from how the calls differ."""
    each = num_draws // num_calls
    runs = torch.stack([sum_units(attribute(x, baselines, each)).double() for _ in range(num_calls)])
    return runs.mean(0), runs.std(0) / num_calls**0.5
