"""Chunks: as many rows at once as the memory holds, halved for good where it runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from wavshap_lightning.errors import AttributionError

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
        input: What is explained.

    Raises:
        AttributionError: If the size is not positive.

    >>> chunks = Chunks(2, torch.zeros(3))
    >>> for part in chunks.parts(5):
    ...     with chunks:
    ...         print(part.start, part.stop)
    0 2
    2 4
    4 5
    """

    def __init__(self, size: int | None, input: Tensor) -> None:
        if size is not None and size < 1:
            raise AttributionError(f"chunk_size={size} must be at least 1")
        self.failed = False
        self._device = input.device
        self._measure = size is None and input.device.type == "cuda"
        found = 1 if self._measure else max(1, min(MAX_CHUNK, CPU_ELEMENTS // input.numel()))
        self.size = found if size is None else size

    def __enter__(self) -> None:
        self.failed = False

    def __exit__(self, *raised: object) -> bool:
        # Swallowing the error drops its traceback, and with it whatever the failed attempt still held.
        self.failed = isinstance(raised[1], torch.OutOfMemoryError)
        return self.failed

    def parts(self, count: int) -> Iterator[slice]:
        """Slices that cover `count` rows; the work on each is to be done `with` these chunks as a context.

        Where the memory runs out in there, `failed` is true, and the same rows come again in chunks of half
        the size.

        Raises:
            AttributionError: If the memory does not even hold one row.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            before = torch.cuda.memory_allocated(self._device) if self._measure else 0
            yield part
            if not self.failed:
                start = part.stop
                if self._measure:
                    self._measure, self.size = False, self._affordable(before)
            elif part.stop - part.start > 1:
                self.size = (part.stop - part.start) // 2
            else:
                raise AttributionError(
                    f"chunk_size=1: the memory of {self._device} does not hold a single draw; use a shorter "
                    "clip, a lower precision or a stage later in the model"
                )

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
    found: list[Tensor] = []
    chunks = chunks or Chunks(len(rows), rows)
    for part in chunks.parts(len(rows)):
        with chunks:
            found.append(compute(rows[part], part.start))
    return torch.cat(found)
