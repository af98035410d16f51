"""Frame arithmetic: the one place where samples become frames and frames become seconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from jaxtyping import Float

from wavshap_lightning.errors import SettingError


@dataclass(frozen=True)
class FrameGrid:
    """Positions in time of the frames of a stack of strided convolutions.

    WavLM Base, for example: hop 320 samples, receptive field 400 samples, so one second at
    16 kHz holds 49 frames and the first is centered at 12.5 ms.

    Args:
        kernels: Kernel size of each convolution, in steps of its input.
        strides: Stride of each convolution, likewise.
        sample_rate: Samples per second of the waveform.
        padding: Zeros before the clip and after it, in samples.
        max_frames: Number of frames that the model takes at most; None for no limit.
        fixed: Every clip is padded with silence to `max_frames` frames.

    Raises:
        SettingError: If the two lists differ in length, or any number is below one.

    >>> grid = FrameGrid((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), 16_000)
    >>> grid.hop_samples, grid.receptive_field_samples, grid.num_frames(16_000)
    (320, 400, 49)
    >>> float(grid.center_s(49)[0])
    0.0125
    """

    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    sample_rate: int
    padding: tuple[int, int] = (0, 0)
    max_frames: int | None = None
    fixed: bool = False

    def __post_init__(self) -> None:
        if len(self.kernels) != len(self.strides) or not self.kernels:
            raise SettingError(f"kernels={self.kernels}, strides={self.strides}: need one stride per kernel")
        if min(*self.kernels, *self.strides, self.sample_rate) < 1:
            raise SettingError(f"{self}: every number must be at least 1")

    @cached_property
    def hop_samples(self) -> int:
        """Samples between the starts of two neighboring frames."""
        return prod(self.strides)

    @cached_property
    def receptive_field_samples(self) -> int:
        """Samples one frame sees."""
        steps = [prod(self.strides[:depth]) for depth in range(len(self.strides))]
        return 1 + sum((kernel - 1) * step for kernel, step in zip(self.kernels, steps, strict=True))

    @property
    def min_samples(self) -> int:
        """Samples of the shortest clip that has a frame."""
        return max(1, self.receptive_field_samples - sum(self.padding))

    @property
    def max_samples(self) -> int | None:
        """Samples of the longest clip that the model takes; None for no limit."""
        return None if self.max_frames is None else self.min_samples + self.max_frames * self.hop_samples - 1

    def num_frames(self, num_samples: int) -> int:
        """Number of whole frames in `num_samples` samples (0 if it is too short)."""
        if self.fixed and self.max_frames is not None:
            return self.max_frames
        return max(0, (num_samples - self.min_samples) // self.hop_samples + 1)

    def start_s(self, num_frames: int) -> Float[np.ndarray, " num_frames"]:
        """Start of each frame's receptive field, in seconds."""
        return (np.arange(num_frames) * self.hop_samples - self.padding[0]) / self.sample_rate

    def end_s(self, num_frames: int) -> Float[np.ndarray, " num_frames"]:
        """End of each frame's receptive field, in seconds."""
        return self.start_s(num_frames) + self.receptive_field_samples / self.sample_rate

    def center_s(self, num_frames: int) -> Float[np.ndarray, " num_frames"]:
        """Center of each frame, in seconds."""
        return (self.start_s(num_frames) + self.end_s(num_frames)) / 2
