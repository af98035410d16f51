"""Whether attributions predict what happens when frames are removed, or when only they are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

Score = Callable[[Float[Tensor, "inputs time channels"]], Float[Tensor, " inputs"]]

SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
INPUTS_AT_ONCE = 8


@dataclass(frozen=True)
class Faithfulness:
    """What removing and keeping the frames with the largest attributions does to the score, over chance.

    Both are in the unit of the score, minus the same for frames in a random order. Attributions that say
    nothing have 0 in both on average.

    Args:
        comprehensiveness: `mean_k [s(x) - s(x without the top k)]`: how much is lost without them. The more
            above 0, the better.
        sufficiency: `mean_k [s(x) - s(only the top k)]`: how much is missing with nothing else. The more
            below 0, the better.
    """

    comprehensiveness: float
    sufficiency: float


def faithfulness(
    score: Score,
    frames: Float[Tensor, "time channels"],
    attributions: Float[Tensor, " time"],
    fills: Float[Tensor, "fills time channels"],
    generator: torch.Generator,
    *,
    shares: Sequence[float] = SHARES,
    num_random: int = 1,
) -> Faithfulness:
    """Comprehensiveness and sufficiency of frames, averaged over shares removed and over fills.

    What is removed is replaced by the same frames of a fill. No fill is neutral, so take two kinds at least.
    Source: DeYoung et al. 2020, "ERASER", section 4; where we depart: minus random order, in the unit of
    the score.

    Args:
        score: The explained score of each input; called without gradients on a few at a time.
        frames: The clip.
        attributions: Of each frame; the largest, not the farthest from zero, come first.
        fills: What stands for absence.
        generator: Draws the random orders.
        shares: Which shares of the frames are removed or kept, each at least one frame.
        num_random: How many random orders.
    """
    orders = [attributions.argsort(descending=True)]
    orders += [torch.randperm(len(frames), generator=generator) for _ in range(num_random)]
    lost = lost_by(score, frames, orders, fills, shares=shares)
    return over_chance(lost[:, 0], lost[:, 1:].mean(1))


def lost_by(
    score: Score,
    frames: Float[Tensor, "time channels"],
    orders: Sequence[Int[Tensor, " time"]],
    fills: Float[Tensor, "fills time channels"],
    *,
    shares: Sequence[float] = SHARES,
) -> Float64[Tensor, "two orders"]:
    """Without the frames that come first in each order, and with only them, minus the score, on average.

    Only differences between orders mean anything: the score of the clip itself is not taken in.

    Args:
        score: As in [`faithfulness`][], like `frames`, `fills` and `shares`.
        frames: See there.
        orders: Orders of the frames.
        fills: See there.
        shares: See there.
    """
    counts = sorted({max(1, ceil(share * len(frames))) for share in shares})
    top = torch.stack([_first_of(order, count) for order in orders for count in counts]).to(frames.device)
    changed = torch.stack([replaced(frames, fill, where) for where in (top, ~top) for fill in fills])
    scores = scores_of(score, changed.flatten(0, 1))
    return -scores.reshape(2, len(fills), len(orders), len(counts)).mean((1, 3))


def over_chance(lost: Float64[Tensor, " two"], by_chance: Float64[Tensor, " two"]) -> Faithfulness:
    """What is lost in an order, minus the same in a random one: the score of the clip cancels."""
    removed, kept = (lost - by_chance).tolist()
    return Faithfulness(removed, kept)


def _first_of(order: Int[Tensor, " time"], count: int) -> Tensor:
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[order[:count].cpu()] = True
    return chosen


def scores_of(score: Score, inputs: Float[Tensor, "inputs time channels"]) -> Float64[Tensor, " inputs"]:
    """The score of inputs, without gradients and a few at a time."""
    with torch.no_grad():
        return torch.cat([score(part) for part in torch.split(inputs, INPUTS_AT_ONCE)]).double()


def replaced(
    frames: Float[Tensor, "time channels"],
    fill: Float[Tensor, "time channels"],
    where: Bool[Tensor, "inputs time"],
) -> Float[Tensor, "inputs time channels"]:
    """The clip with some of its frames taken from a fill."""
    return torch.where(where[:, :, None], fill, frames)
