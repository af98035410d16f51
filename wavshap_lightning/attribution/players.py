"""Players: the parts of an input that are there or not, for methods that take them away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from wavshap_lightning.errors import AttributionError


@dataclass(frozen=True)
class Players:
    """Who owns which place along the first axis after the score's first step.

    Args:
        owner: The player each place belongs to, from 0.
        count: How many players; one may own nothing.
        name: What the players are.
        places: What the places are.

    Raises:
        AttributionError: If an owner is no player.
    """

    owner: Int64[Tensor, " places"]
    count: int
    name: str = "spans"
    places: str = "frames"

    def __post_init__(self) -> None:
        if len(self.owner) == 0 or not ((self.owner >= 0) & (self.owner < self.count)).all():
            raise AttributionError(
                f"owner: {len(self.owner)} places must each belong to one of count={self.count} players, "
                "counted from 0"
            )

    def fill(
        self,
        present: Bool[Tensor, "coalitions players"],
        input: Float[Tensor, "places *rest"],  # noqa: A002 - the word for it
        baseline: Float[Tensor, "places *rest"],
    ) -> Float[Tensor, "coalitions places *rest"]:
        """The input where its owner is present, the baseline elsewhere."""
        kept = present.to(input.device)[:, self.owner.to(input.device)]
        return torch.where(kept.reshape(*kept.shape, *(1,) * (input.ndim - 1)), input, baseline)

    def spread(self, values: Float64[Tensor, "targets players"]) -> Float64[Tensor, "targets places"]:
        """Each player's value shared evenly among its places; the sum is that of players who own any.

        >>> Players(torch.tensor([0, 0, 1]), 2).spread(torch.tensor([[4.0, 3.0]]).double())
        tensor([[2., 2., 3.]], dtype=torch.float64)
        """
        sizes = torch.bincount(self.owner, minlength=self.count).clamp(min=1)
        return (values / sizes.to(values))[:, self.owner.to(values.device)]


def equal_spans(num_places: int, count: int, *, places: str = "frames") -> Players:
    """Neighbours in spans as equal as can be; never more spans than places.

    >>> equal_spans(5, 2).owner
    tensor([0, 0, 0, 1, 1])

    Raises:
        AttributionError: If there would be no span.
    """
    if count < 1:
        raise AttributionError(f"count={count} must be at least 1: into how many spans the input is cut")
    count = min(count, num_places)
    return Players(torch.arange(num_places) * count // num_places, count, places=places)


def all_coalitions(count: int) -> Bool[Tensor, "coalitions players"]:
    """Every subset of so many players; player `i` is in number `n` if bit `i` of it is set.

    >>> all_coalitions(2).int()
    tensor([[0, 0],
            [1, 0],
            [0, 1],
            [1, 1]], dtype=torch.int32)
    """
    numbers = torch.arange(2**count)
    return (numbers[:, None] >> torch.arange(count)) % 2 == 1


def members(membership: Float[Tensor, "players places"], *, name: str, places: str = "frames") -> Players:
    """Players from a table of who owns what, each place belonging to one.

    Raises:
        AttributionError: If a place belongs to several, or to none.
    """
    if not ((membership == 0) | (membership == 1)).all() or not (membership.sum(0) == 1).all():
        raise AttributionError(
            "membership: each place must belong to exactly one player; leave nothing shared"
        )
    return Players(membership.argmax(0), len(membership), name, places)
