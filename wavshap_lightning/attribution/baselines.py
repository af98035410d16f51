"""The two kinds of baselines: a declared set, and a distribution.

What is estimated differs, and so does what its standard error means. Attributions over a *declared set*
are a mean over exactly these baselines: their error vanishes with more draws, and they say nothing of
others. Attributions over a *distribution* are a mean over all that could be drawn: every draw takes a
fresh one, and the error includes the luck of the draw. A few drawn baselines, declared as a set, may be
far from their distribution's mean at any number of draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.memory import in_parts
from wavshap_lightning.errors import AttributionError

Encode = Callable[[Float[Tensor, "clips *input"]], Float[Tensor, "clips *encoded"]]


@dataclass(frozen=True)
class BaselineSet:
    """A declared set: the mean over exactly these baselines is what is estimated.

    Args:
        values: The baselines, one a row.
        name: Which family they are of.

    Raises:
        AttributionError: If they are no rows of a tensor, there is none, or one is not finite.
    """

    values: Float[Tensor, "baselines *input"]
    name: str = "declared"

    def __post_init__(self) -> None:
        if not isinstance(self.values, Tensor) or self.values.ndim == 0:
            raise AttributionError(
                f"baselines={self.name!r} are a {type(self.values).__name__} without rows; give a tensor "
                "(baselines, *input), one baseline a row"
            )
        if len(self.values) == 0:
            raise AttributionError(f"baselines={self.name!r} is empty; declare at least one baseline")
        bad = _rows_not_finite(self.values)
        if bad:
            raise AttributionError(
                f"baselines={self.name!r}: those with indices {bad} hold NaN or infinity; leave them out"
            )

    def __len__(self) -> int:
        return len(self.values)

    def through(self, encode: Encode) -> BaselineSet:
        """These baselines one stage further on, for an input that went through the same stage.

        Args:
            encode: The stage; called without gradients, once, or in parts where memory runs out.
        """
        return replace(self, values=_encoded(encode, self.values))


@dataclass(frozen=True)
class BaselineDistribution:
    """A distribution: the mean over all it could yield is what is estimated.

    Args:
        stream: Makes an endless (or `capacity` long) iterator of single baselines from a generator; every
            draw takes the next. All randomness comes from the generator.
        name: Which family they are of.
        capacity: How many different baselines there are; None if without end.
        encode: A stage every baseline goes through after it was drawn.

    >>> steps = BaselineDistribution(lambda generator: iter([torch.zeros(2), torch.ones(2)]))
    >>> steps.draw(2, torch.Generator())
    tensor([[0., 0.],
            [1., 1.]])
    """

    stream: Callable[[torch.Generator], Iterator[Tensor]]
    name: str = "distribution"
    capacity: int | None = None
    encode: Encode | None = None

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "count *input"]:
        """Fresh baselines.

        Raises:
            AttributionError: If `count` is not positive, or there are not so many.
        """
        if count < 1:
            raise AttributionError(f"count={count} must be at least 1: ask for as many baselines as you need")
        return self.encoded(take(self.stream(generator), count, self.name))

    def encoded(self, values: Float[Tensor, "count *input"]) -> Float[Tensor, "count *encoded"]:
        """What was drawn, after the stage."""
        return values if self.encode is None else _encoded(self.encode, values)

    def declare(self, count: int, generator: torch.Generator) -> BaselineSet:
        """Draw some and declare them: from here on the mean over exactly these is meant."""
        return BaselineSet(self.draw(count, generator), self.name)

    def through(self, encode: Encode) -> BaselineDistribution:
        """These baselines one stage further on; `encode` sees every baseline after it was drawn."""
        before = self.encode
        chained = encode if before is None else (lambda values: encode(before(values)))
        return replace(self, encode=chained)


def _encoded(encode: Encode, values: Tensor) -> Tensor:
    with torch.no_grad():
        return in_parts(lambda part, _: encode(part), values)


Baselines = BaselineSet | BaselineDistribution


def check_kind(baselines: object) -> None:
    """Refuse what says neither of itself.

    Raises:
        AttributionError: If these are neither a declared set nor a distribution.
    """
    if not isinstance(baselines, BaselineSet | BaselineDistribution):
        raise AttributionError(
            f"baselines are a {type(baselines).__name__}; say what is meant: BaselineSet(values) for the "
            "mean over exactly these, BaselineDistribution(stream) for the mean over all that could be drawn"
        )


def take(stream: Iterator[Tensor], count: int, name: str) -> Float[Tensor, "count *input"]:
    """The next `count` baselines of a stream.

    Raises:
        AttributionError: If the stream ends before, or what it gives is not of one shape.
    """
    drawn = list(islice(stream, count))
    if len(drawn) < count:
        raise AttributionError(
            f"baselines={name!r} ended: {count} more were asked for, {len(drawn)} came; a distribution gives "
            "every draw a fresh baseline, so take fewer draws, give more recordings, or declare them as a set"
        )
    kinds = {tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__ for one in drawn}
    if len(kinds) > 1 or not isinstance(drawn[0], Tensor):
        raise AttributionError(
            f"baselines={name!r}: the stream gave {', '.join(map(str, kinds))}; it must give tensors of the "
            "input's shape"
        )
    return torch.stack(drawn)


def _rows_not_finite(values: Tensor) -> list[int]:
    finite = values.flatten(1).isfinite().all(1) if values.ndim > 1 else values.isfinite()
    return (~finite).nonzero().flatten().tolist()
