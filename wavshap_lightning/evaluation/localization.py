"""Localization: do attributions lie where the evidence is known to lie?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import mannwhitneyu
from torch import Tensor

from wavshap_lightning.corpora.clip import Span

Units = Float[Tensor, " units"]
Inside = Bool[Tensor, " units"]


def localize(values: Units, inside: Inside) -> dict[str, float]:
    """Metrics of how well attributions find the evidence; higher is better, NaN if undefined.

    `auc`: [`roc_auc`][], 0.5 by chance; `absolute_auc`: the same of magnitudes; `mass`:
    [`relevance_mass`][], by chance the evidence's share of the units; [`pointing`][]; `iou`: [`overlap`][].

    Args:
        values: Attributions of units.
        inside: Mask of the units in the evidence.
    """
    return {
        "auc": roc_auc(values, inside),
        "absolute_auc": roc_auc(values.abs(), inside),
        "mass": relevance_mass(values, inside),
        "pointing": pointing(values, inside),
        "iou": overlap(values, inside),
    }


def inside_spans(centers_s: Float[np.ndarray, " units"], spans: Sequence[Span]) -> Inside:
    """Mask of the units whose center lies in one of the given time spans.

    >>> inside_spans(np.array([0.1, 0.2, 0.3]), [Span(0.15, 0.3)])
    tensor([False,  True, False])
    """
    within = [(span.start_s <= centers_s) & (centers_s < span.end_s) for span in spans]
    return torch.from_numpy(np.any(within, axis=0) if within else np.zeros(len(centers_s), dtype=bool))


def roc_auc(values: Units, inside: Inside) -> float:
    """Area under the ROC curve, from ranks.

    `(R - n (n + 1) / 2) / (n m)`, where `R` sums the ranks of the `n` inside among all `n + m`, equal values
    sharing theirs. Source: Hanley and McNeil (1982). NaN where all units lie inside, or none does.

    >>> roc_auc(torch.tensor([0.0, 2.0, 1.0, 1.0]), torch.tensor([False, True, True, False]))
    0.875
    """
    within, outside = values[inside].double().cpu(), values[~inside].double().cpu()
    if not (len(within) and len(outside)):
        return float("nan")
    wins = mannwhitneyu(within, outside, method="asymptotic").statistic
    return float(wins / (len(within) * len(outside)))


def relevance_mass(values: Units, inside: Inside) -> float:
    """`sum_inside A+ / sum A+`, with `A+` what is positive. NaN where nothing is.

    Source: Arras, Osman and Samek (2022), relevance mass accuracy.

    >>> relevance_mass(torch.tensor([3.0, 1.0, -9.0]), torch.tensor([True, False, False]))
    0.75
    """
    positive = values.double().clamp(min=0)
    total = float(positive.sum())
    return float(positive[inside].sum()) / total if total > 0 and inside.any() else float("nan")


def pointing(values: Units, inside: Inside) -> float:
    """1 if the largest attribution lies inside, 0 if not; NaN without evidence.

    Source: Zhang et al. (2018), the pointing game. Differences: no margin.
    """
    return float(inside[values.argmax()]) if inside.any() else float("nan")


def overlap(values: Units, inside: Inside) -> float:
    """Intersection over union of the evidence and the equally many units with the largest attributions.

    >>> overlap(torch.tensor([3.0, 1.0, 2.0, 0.0]), torch.tensor([True, True, False, False]))
    0.3333333333333333
    """
    count = int(inside.sum())
    if not count:
        return float("nan")
    found = torch.zeros_like(inside)
    found[values.argsort(descending=True, stable=True)[:count]] = True
    return float((found & inside).sum()) / float((found | inside).sum())
