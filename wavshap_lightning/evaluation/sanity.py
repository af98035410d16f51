"""Sanity checks: do maps depend on the trained parameters, on the class, and on the seed of the head?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.evaluation.stability import likeness, mean_rank_correlation, rank_correlation
from wavshap_lightning.models.classifier import EmotionClassifier

CONSTANT_SPREAD = 0.1


@torch.no_grad()
def randomize(classifier: EmotionClassifier, part: Literal["head", "all"], seed: int) -> EmotionClassifier:
    """A copy whose head alone, or every parameter, is drawn from the normal law.

    An explanation of what was learned must not look the same then. Every tensor has a seed of its own.
    Source: Adebayo et al. (2018). Where we depart: each tensor keeps its mean and deviation, so that signals
    keep their size; biases and gains are drawn too.

    Args:
        classifier: The classifier; it is as it was afterwards. Of the head's copy a frozen backbone is
            shared, since nothing changes it.
        part: What is randomized.
        seed: Of all draws.
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

    `head_redrawn`, `all_redrawn`: [`likeness`][wavshap_lightning.evaluation.stability.likeness] to the map
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
