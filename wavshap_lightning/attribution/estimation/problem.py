"""The problem: a score bound to one input and one target, checked when opened, then asked for gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from wavshap_lightning.attribution.targets import Target
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


Score = Callable[[Float[Tensor, "draws *input"]], Float[Tensor, "draws classes"]]

SAME_TOLERANCE = 1e-2
"""Two evaluations of one input differ by less, relative to the logits' size, in any precision."""


@dataclass(frozen=True)
class Problem:
    """The score, input and target that are explained; made by `open_problem`.

    Args:
        logits_of: The score.
        input: The input, without a batch axis.
        input_after: The same after the score's first step, where there is one.
        first: That step, which the score leaves to us.
        target: What is computed from the logits.
        prediction: The class with the largest logit.
        score: The target's scores of the input.
        targets_at_once: Whether one vectorised backward pass serves all targets, instead of one for each.
    """

    logits_of: Score
    input: Float[Tensor, " *input"]
    input_after: Float[Tensor, " *path"]
    first: LinearStep | None
    target: Target
    prediction: int
    score: Float64[Tensor, " targets"]
    targets_at_once: bool = False

    def scores(
        self, inputs: Float[Tensor, "draws *path"], what: str, start: int = 0
    ) -> Float64[Tensor, "draws targets"]:
        """The target's scores of what lies after the first step, without gradients.

        Raises:
            AttributionError: If one is not finite; `what` and the number, counted from `start`, name it.
        """
        with torch.no_grad():
            scores = self.target(_check_logits(self.logits_of(inputs), inputs)).double()
        bad = first_not_finite(scores)
        if bad is not None:
            raise AttributionError(
                f"{what}={start + bad}: its score is {scores[bad].tolist()}; every score must be finite. "
                "Leave it out, or look for an overflow in the model"
            )
        return scores

    def gradients(
        self, positions: Float[Tensor, "draws *path"]
    ) -> tuple[Float[Tensor, "draws targets"], Gradients]:
        """Each target's score and its gradient at each position, by one forward pass for all targets.

        Nothing but the positions is differentiated, so nothing else collects a gradient; of a pooled score
        only what comes after the pooling is.

        Raises:
            AttributionError: If the scores do not follow from the positions in a way that can be
                differentiated.
        """
        if isinstance(self.logits_of, PooledScore):
            scores, of_pooled = self._differentiate(self.logits_of.tail, pool(positions))
            return scores, unpool(positions, of_pooled)
        return self._differentiate(self.logits_of, positions)

    def _differentiate(
        self, logits_of: Score, positions: Float[Tensor, "draws *any"]
    ) -> tuple[Float[Tensor, "draws targets"], Float[Tensor, "draws targets *any"]]:
        positions = positions.detach().requires_grad_()
        scores = self.target(_check_logits(logits_of(positions), positions))
        if not scores.requires_grad:
            raise _no_gradient()
        differentiate = _all_at_once if self.targets_at_once else _one_by_one
        gradients = differentiate(scores.sum(0), positions)
        known = [gradient for gradient in gradients if gradient is not None]
        if len(known) < len(gradients):
            raise _no_gradient()
        return scores.detach(), torch.stack(known, 1)


def open_problem(
    score: Score,
    input: Tensor,  # noqa: A002 - the word for it
    target: Target,
    first: LinearStep | None = None,
) -> Problem:
    """Check score, input and target against one another.

    Args:
        score: From what lies after the first step, where there is one, to logits.
        input: What is explained.
        target: Which scalars.
        first: The score's first, linear step, if it is left to us.

    Raises:
        AttributionError: If the input is empty or not finite, the score returns another shape than `(draws,
            classes)` or is not the same when asked twice or beside another input, the target is not among its
            classes, or the first step and its adjoint do not belong together.
    """
    if not (input.is_floating_point() and input.numel()):
        raise AttributionError(
            f"input: dtype={input.dtype}, shape={tuple(input.shape)}; it must be floating point and hold "
            "at least one number"
        )
    if not input.isfinite().all():
        where = (~input.isfinite()).nonzero()[0].tolist()
        raise AttributionError(
            f"input: element {where} is {float(input[tuple(where)])}; every number must be finite"
        )
    input = input.detach().clone()  # noqa: A001 - an inference tensor has no gradient
    if first is not None:
        check_adjoint(first, input)
    after = image(first, input[None])[0]
    logits = _same_logits(score, after)
    target.check(logits.shape[1])
    prediction, own = int(logits[0].argmax()), target(logits)[0].double()
    return Problem(score, input, after, first, target, prediction, own)


def _same_logits(score: Score, after: Float[Tensor, " *path"]) -> Float[Tensor, "1 classes"]:
    """The input's logits, after it was asked for thrice: twice in one batch, and beside another input."""
    batches = torch.stack([after, after]), torch.stack([after, after / 2])
    with torch.no_grad():
        twice, beside = (_check_logits(score(batch), batch) for batch in batches)
    logits = torch.cat([twice, beside[:1]])
    if not logits.isfinite().all():
        raise AttributionError(f"the logits of the input are {logits[0].tolist()}; they must be finite")
    difference = float((logits - logits[0]).abs().max())
    if difference > SAME_TOLERANCE * max(1.0, float(logits.abs().max())):
        raise AttributionError(
            f"the score gave the same input values that differ by {difference:.3g}; it must depend on each "
            "input alone, neither on the rest of its batch nor on chance: put the model into evaluation mode"
        )
    return logits[:1]


def _one_by_one(totals: Tensor, positions: Tensor) -> Sequence[Tensor | None]:
    last = len(totals) - 1
    return [
        torch.autograd.grad(total, positions, retain_graph=index < last, allow_unused=True)[0]
        for index, total in enumerate(totals.unbind())
    ]


def _all_at_once(totals: Tensor, positions: Tensor) -> Sequence[Tensor | None]:
    own = torch.eye(len(totals), dtype=totals.dtype, device=totals.device)
    found = torch.autograd.grad(totals, positions, own, allow_unused=True, is_grads_batched=True)[0]
    return [None] if found is None else found.unbind()


def _check_logits(logits: object, inputs: Tensor) -> Float[Tensor, "draws classes"]:
    if not isinstance(logits, Tensor):
        raise AttributionError(
            f"the score returned a {type(logits).__name__}; it must return a tensor of logits"
        )
    if logits.ndim != 2 or len(logits) != len(inputs) or logits.shape[1] == 0:
        raise AttributionError(
            f"the score returned shape {tuple(logits.shape)} for inputs of shape {tuple(inputs.shape)}; it "
            f"must return (draws, classes) = ({len(inputs)}, classes)"
        )
    if not logits.is_floating_point():
        raise AttributionError(f"the score returned dtype={logits.dtype}; logits must be floating point")
    return logits if logits.dtype == torch.float64 else logits.float()


def first_not_finite(values: Float[Tensor, "draws *any"]) -> int | None:
    """The first draw with a number that is not finite; None if all are.

    A sum is finite only if every number is, and takes a fifth of the time.
    """
    if values.sum().isfinite():
        return None
    bad = (~values.isfinite()).reshape(len(values), -1).any(1).nonzero()
    return int(bad[0]) if len(bad) else None


def _no_gradient() -> AttributionError:
    return AttributionError(
        "the score does not follow from its input: no gradient comes back. Look for detach(), no_grad, "
        "NumPy or rounding on the way, or a part of the model that ignores the input"
    )
