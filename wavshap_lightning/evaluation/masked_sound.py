"""Is what an explanation points at enough for the classifier to say the same?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wavshap_lightning.evaluation.faithfulness import replaced

Logits = Callable[[Float[Tensor, "inputs time channels"]], Float[Tensor, "inputs classes"]]

KEPT = 0.3
SURE = 1e-12


@dataclass(frozen=True)
class MaskedSound:
    """What became of a decision when only the mask was kept, and when only it was removed.

    Of one clip; over clips, take means. With `p` the probability of the explained class, `p(m)` of the clip
    with only the mask kept, `p(-m)` with it removed:

    Args:
        increase: 1 if `p(m) > p`, else 0; its mean is the average increase (AI). The higher the better.
        drop: `max(0, p - p(m)) / p` (AD). The lower the better.
        gain: `max(0, p(m) - p) / (1 - p)` (AG). The higher the better.
        removal_drop: `p - p(-m)` (FF). The higher the better.
        fidelity: 1 if the predicted class is the same with only the mask kept, else 0 (Fid-In). The higher
            the better.
    """

    increase: float
    drop: float
    gain: float
    removal_drop: float
    fidelity: float


def masked_sound(
    logits_of: Logits,
    frames: Float[Tensor, "time channels"],
    kept: Bool[Tensor, " time"],
    fills: Float[Tensor, "fills time channels"],
    label: int,
) -> MaskedSound:
    """The five numbers of one clip, averaged over fills.

    Sources: Chattopadhay et al. (2018) for AI and AD, Zhang et al. (2024) for AG, Paissan, Ravanelli and
    Subakan (2024) for FF and Fid-In of sounds. Where we depart: what is not kept is filled, not multiplied by
    0.

    Args:
        logits_of: `(inputs, time, channels) -> (inputs, classes)`.
        frames: The clip.
        kept: The mask.
        fills: What stands for absence; two kinds at least.
        label: The explained class.
    """
    where = torch.stack([~kept, kept]).to(frames.device)
    changed = torch.cat([frames[None], *(replaced(frames, fill, where) for fill in fills)])
    with torch.no_grad():
        probabilities = logits_of(changed).double().softmax(1)
    whole, rest = probabilities[0], probabilities[1:].reshape(len(fills), 2, -1)
    each = [_compare(whole, only, without, label) for only, without in rest]
    return mean_of(each)


def mean_of(each: Sequence[MaskedSound]) -> MaskedSound:
    """The mean of each number."""
    return MaskedSound(**{name: fmean(getattr(one, name) for one in each) for name in vars(each[0])})


def top_share(values: Float[Tensor, " time"], share: float = KEPT) -> Bool[Tensor, " time"]:
    """The units with the largest attributions, so many for every explanation alike.

    >>> top_share(torch.tensor([1.0, 3.0, 2.0]), 0.5)
    tensor([False,  True,  True])
    """
    chosen = torch.zeros(len(values), dtype=torch.bool)
    count = max(1, ceil(share * len(values)))
    chosen[values.argsort(descending=True, stable=True)[:count].cpu()] = True
    return chosen


def _compare(whole: Tensor, only: Tensor, without: Tensor, label: int) -> MaskedSound:
    p, p_only, p_without = float(whole[label]), float(only[label]), float(without[label])
    return MaskedSound(
        increase=float(p_only > p),
        drop=max(0.0, p - p_only) / max(p, SURE),
        gain=max(0.0, p_only - p) / max(1 - p, SURE),
        removal_drop=p - p_without,
        fidelity=float(whole.argmax() == only.argmax()),
    )
