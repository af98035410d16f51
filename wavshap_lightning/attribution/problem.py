"""The problem: a score bound to one input and one target, checked when opened, then asked for gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from wavshap_lightning.attribution.linear_step import LinearStep, check_adjoint, image
from wavshap_lightning.attribution.pooled_score import Gradients, PooledScore, pool, unpool
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.errors import AttributionError

Score = Callable[[Float[Tensor, "draws *input"]], Float[Tensor, "draws classes"]]

SAME_TOLERANCE = 1e-2
"""Two evaluations of one input differ by less, relative to the logits' size, in any precision."""


@dataclass(frozen=True)
class Problem:
    """What is explained; made by [`open_problem`][wavshap_lightning.attribution.problem.open_problem].

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
