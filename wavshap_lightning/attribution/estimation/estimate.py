"""The estimator: runs a design of draws until it is enough, and gives attributions with their error."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines
from wavshap_lightning.attribution.estimation.chunks import Chunks, in_parts
from wavshap_lightning.attribution.estimation.designs import Design, Placement, Points
from wavshap_lightning.attribution.estimation.problem import Problem, first_not_finite
from wavshap_lightning.attribution.record import Attribution, ViewEstimate
from wavshap_lightning.errors import AttributionError

FIRST_DRAWS = 64
MAX_DRAWS = 4096


@dataclass(frozen=True)
class Stopping:
    """Stopping rule: a number of draws, a tolerance, a time limit, or several; the first reached applies.

    A tolerance is reached when the half-width of the 95 % interval of every unit is at most `tolerance`
    times the largest absolute attribution of the first view, for each target. It is checked after at most 64
    draws and whenever their number has doubled.

    Args:
        num_draws: Exact number of draws. With a tolerance or a time limit: the maximum, reached by doubling
            (for 100: 50, then 100).
        tolerance: Half-width to reach, relative to the largest absolute attribution.
        max_seconds: Time limit in seconds, checked after each chunk. The result depends on the machine.

    Raises:
        AttributionError: If nothing is given, or a number is not positive.
    """

    num_draws: int | None = None
    tolerance: float | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in vars(self).values() if value is not None]
        if not given or not all(value > 0 for value in given):
            raise AttributionError(f"{self}: give num_draws, tolerance or max_seconds, each greater than 0")

    @property
    def first_draws(self) -> int:
        """Number of draws before the first check: what doubles to the most, or nearly.

        >>> Stopping(100, tolerance=0.1).first_draws, Stopping(tolerance=0.1).first_draws
        (50, 64)
        """
        first, doubles = self.max_draws, self.tolerance is not None or self.max_seconds is not None
        while doubles and first > FIRST_DRAWS:
            first //= 2
        return first

    @property
    def max_draws(self) -> int:
        """Upper limit of draws: `num_draws`, else 4096 for a tolerance, else without end."""
        if self.num_draws is not None:
            return self.num_draws
        return MAX_DRAWS if self.tolerance is not None else 2**62


def estimate(
    problem: Problem,
    design: Design,
    stopping: Stopping,
    *,
    method: str,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Attribution:
    """Draw until it is enough.

    With terms `y_j = gradient_j * direction_j` of the draws and their totals `s_j`, the attributions are the
    mean of `y`, minus each unit's share of the completeness gap, which is known: the total is the control
    variate of every unit. Memory does not grow with the draws but by a few numbers each.

    Args:
        problem: Score, input and target.
        design: Which draws are taken.
        stopping: When to stop.
        method: Name of the method, for the record.
        seed: Seed of the design, for the record; None where there is no chance.
        settings: What is particular to the method, in plain JSON types, for the record.
        clock: Gives the time in seconds.

    Raises:
        AttributionError: If a score or gradient on the way is not finite.

    Warns:
        UserWarning: If the input does not influence a target, or the tolerance was not reached.
    """
    run = _Run(problem, design)
    deadline = None if stopping.max_seconds is None else clock() + stopping.max_seconds
    wanted, unresolved, needed = stopping.first_draws, None, None

    def late() -> bool:
        return deadline is not None and clock() >= deadline

    while True:
        run.draw(wanted, late)
        found, gap = run.views()
        if stopping.tolerance is not None:
            unresolved, needed = _unresolved(found[problem.views[0].name], stopping.tolerance, run.num_draws)
        reached = stopping.tolerance is not None and needed is None
        if late() or reached or 2 * run.num_draws > stopping.max_draws:
            break
        wanted = run.num_draws
    return build_record(
        problem,
        design.baselines,
        run.baseline_scores,
        stopping,
        method=method,
        views=found,
        gap=gap,
        num_draws=run.num_draws,
        seed=seed,
        settings=settings,
        unresolved=unresolved,
        draws_needed=needed,
    )


def build_record(
    problem: Problem,
    baselines: Baselines | None,
    baseline_scores: Float64[Tensor, "baselines targets"] | None,
    stopping: Stopping,
    *,
    views: Mapping[str, ViewEstimate],
    gap: Float64[Tensor, " targets"] | None,
    settings: Mapping[str, Any] | None,
    **fields: Any,  # noqa: ANN401 - those of the record, as they are
) -> Attribution:
    """The record of a method, after warnings to the method's caller that it has found nothing, or too little.

    Args:
        problem: Score, input and target.
        baselines: Baselines of the method; None for one without.
        baseline_scores: Their scores.
        stopping: When it was to stop.
        views: Attributions by view.
        gap: Completeness gap before the correction; None where completeness is not claimed.
        settings: What is particular to the method, in plain JSON types.
        fields: All other fields of the record that do not follow from the problem.

    Warns:
        UserWarning: If the input does not influence a target, or the tolerance was not reached.
    """
    scores, name = baseline_scores, None if baselines is None else baselines.name
    found = Attribution(
        estimand="the gradient at or around the input" if baselines is None else baselines.estimand,
        views=views,
        target=problem.target,
        prediction=problem.prediction,
        score=tuple(problem.target_scores.tolist()),
        mean_baseline_score=None if scores is None else tuple(scores.mean(0).tolist()),
        baseline_score_std=None if scores is None else tuple(scores.std(0, unbiased=False).tolist()),
        gap=None if gap is None else tuple(gap.tolist()),
        settings={"stopping": asdict(stopping), "baselines": name, "views": [*views], **(settings or {})},
        **fields,
    )
    rows = [view.values.reshape(problem.target.num_targets, -1) for view in views.values()]
    moved = torch.cat(rows, 1).any(1).tolist()
    still = [index for index, any_ in zip(problem.target.classes, moved, strict=True) if not any_]
    if still:
        words = f"the input does not influence the {problem.target.kind} of classes={still}"
        warnings.warn(f"{words}: every attribution is 0", stacklevel=4)
    if not found.resolved:
        warnings.warn(f"tolerance={stopping.tolerance}: {found.unresolved_in_words()}", stacklevel=4)
    return found


class _Run:
    """Sums of one run of the estimator."""

    def __init__(self, problem: Problem, design: Design) -> None:
        self.num_draws = 0
        self._problem = problem
        self._design = design
        self._moments = [design.moments(view) for view in problem.views]
        self._shapes: list[torch.Size] = []
        self._scores: list[Float64[Tensor, "baselines targets"]] = []
        if design.declared is not None and design.baselines is not None:
            scored = partial(problem.scores, what=f"baselines={design.baselines.name!r}: baseline")
            self._scores.append(in_parts(scored, design.declared, Chunks(problem.chunks.size, problem.input)))

    def draw(self, count: int, late: Callable[[], bool]) -> None:
        """Take so many draws, or fewer if it gets late."""
        planned, chunks, progress = self.num_draws + count, self._problem.chunks, self._problem.progress
        for block in self._design.extend(count):
            for moments in self._moments:
                moments.open_block()
            start = 0
            while start < len(block):
                points = block[start : start + chunks.size]
                start += len(points)
                placed = self._design.place(points)  # once: a stream of baselines does not go back
                for draws in chunks.run(partial(self._evaluate, points, placed), len(points)):
                    self._add(*draws)
                    del draws  # their memory is for the next chunk
                progress(self.num_draws, planned)
                if late():
                    return

    def _evaluate(self, points: Points, placed: Placement, part: slice) -> tuple[Any, ...]:
        """A part of some draws, with rows of terms in every view, and scores of fresh baselines."""
        points, placed = points[part], placed.rows(part)
        scores, gradients = self._problem.gradients(placed.positions)
        for what, values in (("score", scores), ("gradient", gradients)):
            index = first_not_finite(values)
            if index is not None:
                raise AttributionError(
                    f"draw={self.num_draws + index} ({self._place_of(points, index)}): the {what} is not "
                    "finite; look for an overflow, a division by zero or a square root of zero in the model"
                )
        with torch.no_grad():  # a view may hold tensors that would be differentiated
            totals = gradients * placed.directions_after[:, None]
            totals = totals.reshape(*scores.shape, -1).sum(2, keepdim=True, dtype=torch.float64)
            rows, self._shapes = [], []
            for view in self._problem.views:
                terms = view.project(gradients, placed.directions)
                if terms.shape[:2] != scores.shape:
                    raise AttributionError(
                        f"view={view.name!r} turned gradients of (draws, targets)={(*scores.shape,)} into "
                        f"shape {tuple(terms.shape)}; it must keep both axes: (draws, targets, *units)"
                    )
                self._shapes.append(terms.shape[1:])
                rows.append(torch.cat([terms.reshape(*scores.shape, -1), totals], 2))  # of float64, as totals
        fresh = placed.fresh
        if fresh is not None:
            fresh = self._problem.scores(fresh, self.num_draws, what="baseline of draw")
        return points, rows, fresh

    def _place_of(self, points: Points, index: int) -> str:
        """Words for one of some draws, for a message."""
        if self._design.baselines is None:
            return "at or near the input"
        own = "a baseline of its own" if points.baselines is None else f"baseline={points.baselines[index]}"
        return f"{own}, alpha={points.alphas[index]:.4f}"

    def _add(self, points: Points, rows: list[Tensor], fresh_scores: Tensor | None) -> None:
        for moments, terms in zip(self._moments, rows, strict=True):
            moments.add(terms, points.weights.to(terms), points.baselines)
        if fresh_scores is not None:
            self._scores.append(fresh_scores)
        self.num_draws += len(points)

    @property
    def baseline_scores(self) -> Float64[Tensor, "baselines targets"] | None:
        return torch.cat(self._scores) if self._scores else None

    def views(self) -> tuple[dict[str, ViewEstimate], Float64[Tensor, " targets"] | None]:
        """Attributions by view after the correction, and the completeness gap before."""
        scores, gap = self.baseline_scores, None
        if scores is not None:
            gap = self._moments[0].mean[:, -1] - (self._problem.target_scores - scores.mean(0))
        found = zip(self._problem.views, self._moments, self._shapes, strict=True)
        return {view.name: moments.estimate(gap, shape) for view, moments, shape in found}, gap


def _unresolved(found: ViewEstimate, tolerance: float, num_draws: int) -> tuple[Tensor, int | None]:
    """Units whose interval is too wide, and how many draws would resolve them."""
    half_width, rows = found.half_width(), found.values.reshape(len(found.values), -1)
    allowed = (tolerance * rows.abs().amax(1)).reshape(-1, *(1,) * (found.values.ndim - 1))
    unresolved = half_width > allowed
    if not unresolved.any():
        return unresolved, None
    excess = float((half_width / allowed)[unresolved].max())
    return unresolved, ceil(min(num_draws * excess * excess, 2.0**62))
