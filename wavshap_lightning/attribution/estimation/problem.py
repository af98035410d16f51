"""Problems: a score bound to one input and one target, with its scores and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from wavshap_lightning.attribution.estimation.chunks import Chunks
from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import View, elements
from wavshap_lightning.errors import AttributionError

Logits = Float[Tensor, "draws classes"]
Inputs = Float[Tensor, "draws *input"]
Score = Callable[[Inputs], Logits]
Positions = Float[Tensor, "draws *path"]
Gradients = Float[Tensor, "draws targets *path"]
Scores = Float64[Tensor, "draws targets"]

Progress = Callable[[int, int], None]
"""Called after every chunk with the draws done and those planned so far."""

NO_GRADIENT = (
    "the score does not follow from its input: no gradient comes back. Look for detach(), no_grad, NumPy or "
    "rounding on the way, or a part of the model that ignores the input"
)
CHECK_SEED = 0
SAME_TOLERANCE = 1e-2
"""Two evaluations of one input differ by less, relative to the logits' size, in any precision."""


@dataclass(frozen=True)
class LinearFirst:
    """A score `f(A x)` whose first step `A` is linear and maps to a smaller space.

    Its gradient is `A^T` times the gradient of `f`, and a straight path stays straight under `A`. Gradients
    are therefore taken after the step and directions before it, and a view combines the two. A mix of layers
    is thus explained layer by layer at the cost of explaining the mix.

    Args:
        apply: `A`, from `(draws, *input)` to `(draws, *path)`; linear, without an offset, and differentiable.
        rest: `f`, from `(draws, *path)` to logits.

    >>> weights = torch.tensor([0.25, 0.75])
    >>> mix = LinearFirst(lambda x: x @ weights, torch.tanh)
    >>> mix.apply(torch.tensor([[[4.0, 0.0], [0.0, 4.0]]]))
    tensor([[1., 3.]])
    """

    apply: Callable[[Inputs], Positions]
    rest: Score

    def __call__(self, inputs: Inputs) -> Logits:
        """Logits of inputs."""
        return self.rest(self.apply(inputs))


@dataclass(frozen=True)
class Problem:
    """Score, input and target of one explanation: the first argument of every method.

    [`open_problem`][] makes it.

    Args:
        score: Function to logits, from the values after the linear first step if there is one.
        step: The score with its linear first step; None if it has none.
        input: The input, without a batch axis.
        input_after: The input after the first step.
        target: Scalars computed from the logits.
        prediction: Index of the largest logit.
        target_scores: The target's scores of the input.
        views: Resolutions of the result.
        chunks: Batches of draws that fit into memory.
        progress: Called after every chunk with the number of draws done and planned.
    """

    score: Score
    step: LinearFirst | None
    input: Float[Tensor, " *input"]
    input_after: Float[Tensor, " *path"]
    target: Target
    prediction: int
    target_scores: Float64[Tensor, " targets"]
    views: tuple[View, ...]
    chunks: Chunks
    progress: Progress

    def after_step(self, values: Inputs) -> Positions:
        """Values after the linear first step; the same values where there is none."""
        return values if self.step is None else _after(self.step, values)

    def scores(self, inputs: Positions, start: int = 0, *, what: str) -> Scores:
        """The target's scores of values after the first step, without gradients.

        Args:
            inputs: The values.
            start: Number of the first, for a message.
            what: What they are, for a message.

        Raises:
            AttributionError: If a score is not finite.
        """
        with torch.no_grad():
            scores = self.target(_check_logits(self.score(inputs), inputs)).double()
        bad = first_not_finite(scores)
        if bad is not None:
            raise AttributionError(f"{what}={start + bad}: score={scores[bad].tolist()}, not finite; omit it")
        return scores

    def gradients(self, positions: Positions) -> tuple[Float[Tensor, "draws targets"], Gradients]:
        """Each target's score and its gradient at each position, by one forward pass for all targets.

        Nothing but the positions is differentiated, so nothing else collects a gradient.

        Raises:
            AttributionError: If no gradient comes back from the scores to the positions.
        """
        positions = positions.detach().requires_grad_()
        scores = self.target(_check_logits(self.score(positions), positions))
        if not scores.requires_grad:
            raise AttributionError(NO_GRADIENT)
        found, last = [], scores.shape[1] - 1
        for index, total in enumerate(scores.sum(0).unbind()):
            (gradient,) = torch.autograd.grad(total, positions, retain_graph=index < last, allow_unused=True)
            if gradient is None:
                raise AttributionError(NO_GRADIENT)
            found.append(gradient)
        return scores.detach(), torch.stack(found, 1)


@contextmanager
def open_problem(
    score: Score,
    input: Tensor,
    target: Target,
    *,
    views: Sequence[View] | None = None,
    chunk_size: int | None = None,
    progress: Progress | None = None,
    logits: Float[Tensor, " classes"] | None = None,
) -> Iterator[Problem]:
    """Context with a problem; the model behind the score is restored when the context ends.

    Args:
        score: Function from inputs `(draws, *input)` to logits `(draws, classes)`, or a `LinearFirst`.
        input: The input that is explained.
        target: Scalars computed from the logits.
        views: Resolutions of the result, the first for a tolerance; the elements of the input if None.
        chunk_size: Number of draws in one batch; chosen from the input size and the memory if None.
        progress: Called after every chunk with the number of draws done and planned.
        logits: The input's, from a score that [`checked_logits`][] has checked before; None to check it now.

    Raises:
        AttributionError: If two views share a name, the input is empty or not finite, the score returns
            another shape than `(draws, classes)` or differs between two calls or beside another input, the
            target is not among its classes, or the linear step is not linear.
    """
    if not (input.is_floating_point() and input.numel() and input.isfinite().all()):
        kind = f"dtype={input.dtype}, shape={tuple(input.shape)}"
        raise AttributionError(f"input: {kind}; it must be of finite floating point numbers, at least one")
    views = (elements(),) if views is None else tuple(views)
    names = [view.name for view in views]
    if not names or len({*names}) < len(names):
        raise AttributionError(f"views={names} must hold at least one view, each with a different name")
    step = score if isinstance(score, LinearFirst) else None
    rest = score if step is None else step.rest
    with leave_no_trace(score):
        own = input.detach().clone()  # an inference tensor has no gradient
        after = own if step is None else _checked_step(step, own)
        logits = checked_logits(rest, after) if logits is None else logits
        target.check(len(logits))
        scores = target(logits[None])[0].double()
        prediction, chunks = int(logits.argmax()), Chunks(chunk_size, after)
        told = progress or (lambda *_: None)
        yield Problem(rest, step, own, after, target, prediction, scores, views, chunks, told)


def checked_logits(score: Score, input: Float[Tensor, " *path"]) -> Float[Tensor, " classes"]:
    """Logits of an input, evaluated twice to check that neither chance nor its batch change them.

    Args:
        score: Function to logits, without a linear first step.
        input: The input, without a batch axis.

    Raises:
        AttributionError: If the logits are not finite, or differ beside another input.
    """
    with torch.no_grad():
        # another that is softer and reversed, as many models ignore the level, and some the order
        batches = torch.stack([input, input.flip(0) / 2]), input[None]
        beside, alone = logits = [_check_logits(score(batch), batch)[0] for batch in batches]
    if not all(one.isfinite().all() for one in logits):
        raise AttributionError(f"the logits of the input are {alone.tolist()}; they must be finite")
    difference = float((beside - alone).abs().max())
    if difference > SAME_TOLERANCE * max(1.0, float(alone.abs().max())):
        raise AttributionError(
            f"the score gave the same input values that differ by {difference:.3g}; it must depend on each "
            "input alone, neither on the rest of its batch nor on chance: put the model into evaluation mode"
        )
    return alone


def _after(step: LinearFirst, values: Inputs) -> Positions:
    """Values after the step, taken through it row by row, which needs little memory."""
    with torch.no_grad():
        rows = [step.apply(row[None]) for row in values]
    if any(len(row) != 1 for row in rows):
        raise AttributionError(f"apply: {(1, *values.shape[1:])} became {tuple(rows[0].shape)}, losing draws")
    return torch.cat(rows)


def _checked_step(step: LinearFirst, input: Float[Tensor, " *input"]) -> Float[Tensor, " *path"]:
    """The input after the step, for which `A x = A d + A (x - d)` must hold for a random `d`."""
    generator = torch.Generator().manual_seed(CHECK_SEED)
    drawn = torch.randn(input.shape, generator=generator, dtype=torch.float32).to(input)
    after = _after(step, torch.stack([input, drawn, input - drawn]))
    whole, one, other = after.double()
    difference = float((whole - one - other).norm())
    if not difference <= torch.finfo(input.dtype).eps ** 0.5 * float(after.double().norm()):
        raise AttributionError(f"linear step: apply(x) - apply(d) - apply(x - d) is {difference:.3g}, not 0")
    return after[0]


def _check_logits(logits: Tensor, inputs: Tensor) -> Logits:
    if not logits.is_floating_point() or logits.ndim != 2 or len(logits) != len(inputs) or not logits.numel():
        raise AttributionError(
            f"the score returned {logits.dtype} of shape {tuple(logits.shape)} for inputs of shape "
            f"{tuple(inputs.shape)}; it must return floating point logits, ({len(inputs)}, classes)"
        )
    return logits if logits.dtype == torch.float64 else logits.float()


def first_not_finite(values: Float[Tensor, "draws *any"]) -> int | None:
    """Index of the first row with a number that is not finite; None if all are finite."""
    if values.sum().isfinite():  # a fifth of the time of asking every number
        return None
    bad = (~values.isfinite()).reshape(len(values), -1).any(1).nonzero()
    return int(bad[0]) if len(bad) else None
