"""Chunks: as many rows at once as the memory holds, halved for good where it runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from wavshap_lightning.errors import AttributionError

CPU_ELEMENTS = 2**18
MAX_CHUNK = 64
MAX_CUDA_CHUNK = 256
MEMORY_SHARE = 0.5


class Chunks:
    """Chunk size of one run, found and kept; it never changes a result beyond rounding.

    On a CPU a chunk holds about 250 000 input elements: larger ones leave its caches and are not faster. On a
    GPU the first row is measured, and a chunk takes half of the memory that is free.

    Args:
        size: Rows at once; found from the input and the memory if None.
        input: What is explained.

    Raises:
        AttributionError: If the size is not positive.

    >>> for part, attempt in Chunks(2, torch.zeros(3)).parts(5):
    ...     with attempt:
    ...         print(part.start, part.stop)
    0 2
    2 4
    4 5
    """

    def __init__(self, size: int | None, input: Tensor) -> None:  # noqa: A002 - the word for it
        if size is not None and size < 1:
            raise AttributionError(f"chunk_size={size} must be at least 1")
        self._device = input.device
        self._measure = size is None and input.device.type == "cuda"
        found = 1 if self._measure else max(1, min(MAX_CHUNK, CPU_ELEMENTS // input.numel()))
        self.size = found if size is None else size

    def parts(self, count: int) -> Iterator[tuple[slice, Attempt]]:
        """Slices that cover `count` rows; work on one inside `with attempt`, and only there.

        Where the memory runs out in an attempt, the same rows come again in chunks of half the size.

        Raises:
            AttributionError: If the memory does not even hold one row.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            before = torch.cuda.memory_allocated(self._device) if self._measure else 0
            attempt = Attempt()
            yield part, attempt
            if not attempt.failed:
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


class Attempt:
    """Context in which the memory may run out; `failed` tells afterwards."""

    failed = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        # Swallowing the error drops its traceback, and with it whatever the failed attempt still held.
        self.failed = isinstance(error, torch.OutOfMemoryError)
        return self.failed


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
    for part, attempt in (chunks or Chunks(len(rows), rows)).parts(len(rows)):
        with attempt:
            found.append(compute(rows[part], part.start))
    return torch.cat(found)
