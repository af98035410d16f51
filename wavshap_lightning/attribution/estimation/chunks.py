"""Chunks: as many rows at once as the memory holds, halved for good where it runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from wavshap_lightning.errors import AttributionError

T = TypeVar("T")

CPU_ELEMENTS = 2**18  # about what the caches of a processor hold; larger chunks are not faster
MAX_CHUNK = 64
MAX_CUDA_CHUNK = 256
MEMORY_SHARE = 0.5  # of the free memory of a GPU, as later chunks may need a little more than the first


class Chunks:
    """Chunk size of one run, found and kept; it never changes a result beyond rounding.

    On a CPU a chunk holds about 250 000 input elements: larger ones leave its caches and are not faster. On a
    GPU the first row is measured, and a chunk takes half of the memory that is free.

    Args:
        size: Rows at once; found from the input and the memory if None.
        input: The input that is explained.

    Raises:
        AttributionError: If the size is not positive.

    >>> chunks = Chunks(2, torch.zeros(3))
    >>> list(chunks.run(lambda part: (part.start, part.stop), 5))
    [(0, 2), (2, 4), (4, 5)]
    """

    def __init__(self, size: int | None, input: Tensor) -> None:
        if size is not None and size < 1:
            raise AttributionError(f"chunk_size={size} must be at least 1")
        self._device = input.device
        self._measure = size is None and input.device.type == "cuda"
        found = 1 if self._measure else max(1, min(MAX_CHUNK, CPU_ELEMENTS // input.numel()))
        self.size = found if size is None else size

    def run(self, work: Callable[[slice], T], count: int) -> Iterator[T]:
        """Results of some work on slices that cover `count` rows.

        Where the memory runs out in there, the same rows come again in chunks of half the size.

        Raises:
            AttributionError: If the memory does not even hold one row.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            before = torch.cuda.memory_allocated(self._device) if self._measure else 0
            try:
                yield work(part)  # without a name, so that its memory is free for the next
            except torch.OutOfMemoryError as error:
                self.size = (part.stop - part.start) // 2
                if self.size == 0:
                    raise AttributionError(
                        f"chunk_size=1: the memory of {self._device} does not hold a single draw; use a "
                        "shorter clip, a lower precision or a stage later in the model"
                    ) from error
                continue  # past the error, which holds whatever the failed attempt still held
            start = part.stop
            if self._measure:
                self._measure, self.size = False, self._affordable(before)

    def _affordable(self, before: int) -> int:
        """The largest power of two whose rows fit; an older peak of the process only makes it smaller."""
        one = max(1, torch.cuda.max_memory_allocated(self._device) - before)
        reserved = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        free = torch.cuda.mem_get_info(self._device)[0] + reserved
        affordable = max(1, min(MAX_CUDA_CHUNK, int(MEMORY_SHARE * free / one)))
        return 1 << (affordable.bit_length() - 1)


def in_parts(
    compute: Callable[[Tensor, int], Tensor], rows: Shaped[Tensor, "rows *any"], chunks: Chunks | None = None
) -> Float[Tensor, "rows *other"]:
    """Result of `compute` for all rows, in chunks.

    Args:
        compute: Gets some rows and the number of the first; each row of its result depends on that row alone.
        rows: At least one.
        chunks: Rows at once; all of them, and fewer where memory runs out, if None.

    Raises:
        AttributionError: If the memory does not even hold one row.

    >>> in_parts(lambda part, start: part + start, torch.zeros(5), Chunks(2, torch.zeros(1)))
    tensor([0., 0., 2., 2., 4.])
    """
    chunks = chunks or Chunks(len(rows), rows)
    return torch.cat([*chunks.run(lambda part: compute(rows[part], part.start), len(rows))])
