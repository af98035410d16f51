"""A score's first, linear step, done outside of it: gradients are taken after it, directions before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.errors import AttributionError

CHECK_SEED = 0


@dataclass(frozen=True)
class LinearStep:
    """A linear map `A` from the input's space to a smaller one, where the score `f` begins.

    What is explained is `f(A x)`. Its gradient is `A^T` times the gradient of `f`, and the path from a
    baseline goes straight on both sides, so that positions are needed after the step alone and directions
    before it alone: a mix of layers is explained layer by layer at the cost of explaining the mix.

    Args:
        apply: `A`, from `(draws, *input)` to `(draws, *path)`; linear, without an offset.
        adjoint: `A^T`, from gradients `(draws, targets, *path)` to `(draws, targets, *input)`.

    >>> weights = torch.tensor([0.25, 0.75])
    >>> mix = LinearStep(lambda x: x @ weights, lambda gradients: gradients[..., None] * weights)
    >>> mix.apply(torch.tensor([[[4.0, 0.0], [0.0, 4.0]]]))
    tensor([[1., 3.]])
    """

    apply: Callable[[Float[Tensor, "draws *input"]], Float[Tensor, "draws *path"]]
    adjoint: Callable[[Float[Tensor, "draws targets *path"]], Float[Tensor, "draws targets *input"]]


def image(first: LinearStep | None, values: Float[Tensor, "draws *input"]) -> Float[Tensor, "draws *path"]:
    """Where values lie after the step, if there is one; taken through it row by row, to need little memory.

    Raises:
        AttributionError: If what comes out is not one row a row.
    """
    if first is None:
        return values
    with torch.no_grad():
        rows = [first.apply(row[None]) for row in values]
    if any(len(row) != 1 for row in rows):
        raise AttributionError(
            f"first.apply turned shape {(1, *values.shape[1:])} into {tuple(rows[0].shape)}; it must keep "
            "the first axis, (draws, *input) to (draws, *path)"
        )
    return torch.cat(rows)


def check_adjoint(first: LinearStep, like: Float[Tensor, " *input"]) -> None:
    """Compare `<A d, g>` with `<d, A^T g>` on one random pair.

    Raises:
        AttributionError: If they differ, or the adjoint gives another shape than the input's.
    """
    generator = torch.Generator().manual_seed(CHECK_SEED)
    direction = torch.randn(like.shape, generator=generator).to(like)[None]
    after = image(first, direction)
    drawn = torch.randn(after.shape, generator=generator).to(after)
    gradient = after + drawn * after.square().mean().sqrt()  # not at right angles: an error cannot hide
    with torch.no_grad():
        back = first.adjoint(gradient[:, None])
    if back.shape != (1, 1, *like.shape):
        raise AttributionError(
            f"first.adjoint turned gradients of shape {(1, 1, *after.shape[1:])} into {tuple(back.shape)}; "
            f"it must give {(1, 1, *like.shape)}, (draws, targets, *input)"
        )
    before, behind = _inner(direction, back[:, 0]), _inner(after, gradient)
    allowed = torch.finfo(like.dtype).eps ** 0.5 * float(after.double().norm() * gradient.double().norm())
    if not abs(before - behind) <= allowed:
        raise AttributionError(
            f"first: <A d, g>={behind:.6g}, but <d, A^T g>={before:.6g} for a random d and g: the adjoint is "
            "not that of apply, or apply is not linear; leave offsets to the score"
        )


def _inner(one: Tensor, other: Tensor) -> float:
    return float((one.double() * other.double()).sum())
