"""Work that is done in smaller parts where the memory does not hold it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from wavshap_lightning.errors import AttributionError

T = TypeVar("T")
U = TypeVar("U")


def in_parts(
    compute: Callable[[Tensor, int], Tensor], rows: Shaped[Tensor, "rows *any"], size: int | None = None
) -> Float[Tensor, "rows *other"]:
    """What `compute` makes of rows, given some of them and the number of the first.

    Args:
        compute: Each row of its result must depend on that row alone.
        rows: At least one.
        size: Rows at once, all of them if None; halved where memory runs out.

    Raises:
        AttributionError: If the memory does not even hold one row.

    >>> in_parts(lambda part, start: part + start, torch.zeros(5), size=2)
    tensor([0., 0., 2., 2., 4.])
    """
    size, start = size or len(rows), 0
    found: list[Tensor] = []
    while start < len(rows):
        part = rows[start : start + size]
        result = attempt(partial(compute, part), start)
        if result is not None:
            found.append(result)
            start += len(part)
        elif len(part) == 1:
            raise too_little_memory(rows.device)
        else:
            size = len(part) // 2
    return torch.cat(found)


def attempt(compute: Callable[[U], T], argument: U) -> T | None:
    """None if memory ran out; leaving the handler frees what the failed attempt still held."""
    try:
        return compute(argument)
    except torch.OutOfMemoryError:
        return None


def too_little_memory(device: torch.device) -> AttributionError:
    """What there is to say where nothing is left to halve."""
    return AttributionError(
        f"chunk_size=1: the memory of {device} does not hold a single draw; use a shorter clip, a lower "
        "precision or a view that begins later in the model"
    )
