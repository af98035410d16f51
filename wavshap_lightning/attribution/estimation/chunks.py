"""How many draws go through the model at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from wavshap_lightning.attribution.estimation.designs import Placement
from wavshap_lightning.attribution.estimation.memory import attempt, too_little_memory
from wavshap_lightning.errors import AttributionError

CPU_ELEMENTS = 2**18
MAX_CHUNK = 64
MAX_CUDA_CHUNK = 256
MEMORY_SHARE = 0.5

T = TypeVar("T")


class Chunks:
    """The chunk size of one run; it never changes the result beyond rounding.

    On a CPU a chunk holds about 250 000 input elements: larger ones leave its caches and are not faster. On a
    GPU the first draw is measured, and a chunk takes half of the memory that is free.

    Args:
        size: Draws at once; found from the input and the memory if None.
        input: What is explained.

    Raises:
        AttributionError: If the size is not positive.
    """

    def __init__(self, size: int | None, input: Tensor) -> None:  # noqa: A002 - the word for it
        if size is not None and size < 1:
            raise AttributionError(f"chunk_size={size} must be at least 1")
        self._measure = size is None and input.device.type == "cuda"
        found = 1 if self._measure else max(1, min(MAX_CHUNK, CPU_ELEMENTS // input.numel()))
        self.size = found if size is None else size
        self._device = input.device

    def feed(
        self, placed: Placement, evaluate: Callable[[Placement], T], accept: Callable[[T], None]
    ) -> None:
        """Evaluate draws and hand over what came out; where memory runs out, halve the chunk, for good.

        Raises:
            AttributionError: If the memory does not even hold one draw.
        """
        before = torch.cuda.memory_allocated(self._device) if self._measure else 0
        found = attempt(evaluate, placed)
        if found is None:
            if len(placed) == 1:
                raise too_little_memory(self._device)
            self.size = min(self.size, len(placed) // 2)
            start = 0
            while start < len(placed):  # the size may fall further on the way
                part = placed[start : start + self.size]
                self.feed(part, evaluate, accept)
                start += len(part)
            return
        accept(found)
        if self._measure:
            self._measure = False
            self.size = self._affordable(before)

    def _affordable(self, before: int) -> int:
        """The largest power of two whose draws fit; an older peak of the process only makes it smaller."""
        one = max(1, torch.cuda.max_memory_allocated(self._device) - before)
        reserved = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        free = torch.cuda.mem_get_info(self._device)[0] + reserved
        affordable = max(1, min(MAX_CUDA_CHUNK, int(MEMORY_SHARE * free / one)))
        return 1 << (affordable.bit_length() - 1)
