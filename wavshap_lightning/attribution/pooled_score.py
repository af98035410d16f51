"""Scores that see frames only through their mean and variance over time, as pooled classifiers do.

The gradient of such a score at frames `m` is, with `T` frames,

`g_kth = (df_k / dmean_h + 2 df_k / dvariance_h (m_th - mean_h)) / T`:

two numbers a neuron and class, and one array that all classes share. Told so, views of layers cost all
classes hardly more than one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

Frames = Float[Tensor, "draws time hidden"]


@dataclass(frozen=True)
class PooledScore:
    """A score of frames `(draws, time, hidden)` by their mean and variance (divided by `T`) over time.

    Args:
        tail: From these, `(draws, 2, hidden)`, to logits.

    >>> score = PooledScore(lambda pooled: pooled.sum(1))
    >>> score(torch.tensor([[[1.0], [3.0]]]))
    tensor([[3.]])
    """

    tail: Callable[[Float[Tensor, "draws 2 hidden"]], Float[Tensor, "draws classes"]]

    def __call__(self, frames: Frames) -> Float[Tensor, "draws classes"]:
        """Logits of the frames."""
        return self.tail(pool(frames))


@dataclass(frozen=True)
class PooledGradients:
    """Gradients `level_kh + slope_kh apart_th`.

    Args:
        level: What all frames have.
        slope: What grows with the distance from the mean.
        apart: That distance, `m - mean`.
    """

    level: Float[Tensor, "draws targets hidden"]
    slope: Float[Tensor, "draws targets hidden"]
    apart: Frames

    def dense(self) -> Float[Tensor, "draws targets time hidden"]:
        """The same, frame by frame."""
        return self.level[:, :, None] + self.slope[:, :, None] * self.apart[:, None]

    def totals(self, directions: Frames) -> Float64[Tensor, "draws targets"]:
        """Inner products with directions."""
        along, spread = directions.sum(1), (directions * self.apart).sum(1)
        return (self.level * along[:, None] + self.slope * spread[:, None]).sum(2, dtype=torch.float64)

    def numbers(self) -> Float[Tensor, "draws targets both hidden"]:
        """What must be finite."""
        return torch.stack([self.level, self.slope], 2)


Gradients = Float[Tensor, "draws targets *path"] | PooledGradients


def dense(gradients: Gradients) -> Float[Tensor, "draws targets *path"]:
    """Gradients element by element."""
    return gradients.dense() if isinstance(gradients, PooledGradients) else gradients


def numbers(gradients: Gradients) -> Float[Tensor, "draws targets *numbers"]:
    """All numbers gradients consist of."""
    return gradients.numbers() if isinstance(gradients, PooledGradients) else gradients


def totals(
    gradients: Gradients, directions: Float[Tensor, "draws *path"]
) -> Float64[Tensor, "draws targets"]:
    """Inner products of gradients and directions."""
    if isinstance(gradients, PooledGradients):
        return gradients.totals(directions)
    terms = gradients * directions[:, None]
    return terms.reshape(*terms.shape[:2], -1).sum(2, dtype=torch.float64)


def pool(frames: Frames) -> Float[Tensor, "draws 2 hidden"]:
    """Mean and variance over time."""
    mean = frames.mean(1, keepdim=True)
    return torch.cat([mean, (frames - mean).square().mean(1, keepdim=True)], 1)


def unpool(frames: Frames, of_pooled: Float[Tensor, "draws targets 2 hidden"]) -> PooledGradients:
    """Gradients at frames from those at their mean and variance."""
    level, slope = (of_pooled / frames.shape[1]).unbind(2)
    return PooledGradients(level, 2 * slope, frames - frames.mean(1, keepdim=True))
