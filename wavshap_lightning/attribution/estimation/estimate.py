"""The estimator: draws in, attributions with their error out. Every method is a design run by it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from wavshap_lightning.attribution.estimation.chunks import Chunks
from wavshap_lightning.attribution.estimation.designs import Design, Placement
from wavshap_lightning.attribution.estimation.moments import Summary, broadcast
from wavshap_lightning.attribution.estimation.problem import (
    Gradients,
    Problem,
    dense,
    first_not_finite,
    numbers,
    totals,
)
from wavshap_lightning.attribution.estimation.sampling import Points
from wavshap_lightning.attribution.estimation.stopping import Stopping
from wavshap_lightning.attribution.record import Outcome, ViewEstimate
from wavshap_lightning.attribution.views.frames import View, of_terms
from wavshap_lightning.errors import AttributionError

Progress = Callable[[int, int], None]
"""Called after every chunk with the draws done and those planned so far."""

TOTAL = of_terms("total", lambda terms: terms.flatten(2).sum(2))


def estimate(
    problem: Problem,
    design: Design,
    views: Sequence[View],
    stopping: Stopping,
    *,
    chunks: Chunks,
    baseline_scores: Float64[Tensor, "baselines targets"] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Draw until it is enough.

    With terms `y_j = gradient_j * direction_j` of the draws and their totals `s_j`, the attributions are the
    mean of `y`, plus each unit's share of what is missing to `f(x) - mean f(b)`, a number that is known: the
    total is the control variate of every unit. Memory does not grow with the draws.

    Args:
        problem: What is explained.
        design: Which draws.
        views: At what resolution; the first also decides when a tolerance is reached, unless `stopping`
            names another.
        stopping: When to stop.
        chunks: How many draws go at once.
        baseline_scores: Scores of a declared set; those of fresh baselines are computed as they come.
        progress: Told after every chunk.

    Raises:
        AttributionError: If a score or gradient on the way is not finite, or two views share a name.
    """
    _check_views(views, stopping)
    run = _Run(problem, design, views, chunks, baseline_scores)
    deadline = None if stopping.max_seconds is None else time.monotonic() + stopping.max_seconds
    wanted = stopping.first_draws
    while True:
        planned = run.num_draws + wanted
        run.draw(wanted, deadline, None if progress is None else partial(_report, progress, planned))
        outcome = run.outcome(stopping)
        late = deadline is not None and time.monotonic() >= deadline
        reached = stopping.tolerance is not None and outcome.draws_needed is None
        if late or reached or 2 * run.num_draws > stopping.max_draws:
            return outcome
        wanted = run.num_draws


def _report(progress: Progress, planned: int, done: int) -> None:
    progress(done, planned)


@dataclass(frozen=True)
class _Evaluated:
    """Some draws' terms in every view, and what goes with them."""

    units: list[Tensor]
    totals: Float64[Tensor, "draws targets"]
    weights: Float64[Tensor, " draws"]
    fresh_scores: Float64[Tensor, "draws targets"] | None


class _Run:
    """The sums of one run."""

    def __init__(
        self,
        problem: Problem,
        design: Design,
        views: Sequence[View],
        chunks: Chunks,
        baseline_scores: Float64[Tensor, "baselines targets"] | None,
    ) -> None:
        self.num_draws = 0
        self._problem = problem
        self._design = design
        self._views = [*views, TOTAL]
        self._moments = [design.moments_for(view) for view in self._views]
        self._chunks = chunks
        self._baseline_scores = (
            _ScoreSums() if baseline_scores is None else _ScoreSums().plus(baseline_scores)
        )

    def draw(self, count: int, deadline: float | None, progress: Callable[[int], None] | None) -> None:
        for block in self._design.extend(count):
            for moments in self._moments:
                moments.open_block()
            start = 0
            while start < len(block):
                points = block[start : start + self._chunks.size]
                start += len(points)
                self._evaluate(points)
                if progress is not None:
                    progress(self.num_draws)
                if deadline is not None and time.monotonic() >= deadline:
                    return

    def _evaluate(self, points: Points) -> None:
        waiting = points

        def evaluate(placed: Placement) -> _Evaluated:
            return self._terms(waiting[: len(placed)], placed)

        def accept(found: _Evaluated) -> None:
            nonlocal waiting
            waiting = waiting[len(found.totals) :]
            self._accept(found)

        self._chunks.feed(self._design.place(points), evaluate, accept)

    def _terms(self, points: Points, placed: Placement) -> _Evaluated:
        scores, gradients = self._problem.gradients(placed.positions)
        self._check_finite(points, scores, gradients)
        fresh = placed.fresh
        with torch.no_grad():  # a view or a step may hold tensors that would be differentiated
            sums = totals(gradients, placed.directions_after)
            units = self._units(gradients, placed.directions)
        return _Evaluated(
            [*units, sums],
            sums,
            points.weights.to(sums),
            None if fresh is None else self._problem.scores(fresh, "baseline of draw", self.num_draws),
        )

    def _units(self, gradients: Gradients, directions: Float[Tensor, "draws *input"]) -> list[Tensor]:
        """What every view but the total makes of some draws; gradients go back through the step once."""
        views, first = self._views[:-1], self._problem.first
        before = gradients
        if not all(view.after_first for view in views):
            before = dense(gradients) if first is None else first.adjoint(dense(gradients))
        return [_project(view, gradients if view.after_first else before, directions) for view in views]

    def _accept(self, found: _Evaluated) -> None:
        for moments, units in zip(self._moments, found.units, strict=True):
            moments.add(units, found.totals, found.weights)
        if found.fresh_scores is not None:
            self._baseline_scores = self._baseline_scores.plus(found.fresh_scores)
        self.num_draws += len(found.totals)

    def _check_finite(self, points: Points, scores: Tensor, gradients: Gradients) -> None:
        for what, values in (("score", scores), ("gradient", numbers(gradients))):
            index = first_not_finite(values)
            if index is not None:
                raise AttributionError(
                    f"draw={self.num_draws + index} ({self._design.name_draw(points, index)}): the {what} "
                    "is not finite; look for an overflow, a division by zero or a square root of zero in the "
                    "model there"
                )

    def outcome(self, stopping: Stopping) -> Outcome:
        *summaries, total = (moments.summarise() for moments in self._moments)
        scores = self._baseline_scores
        known = scores.count > 0
        gap = total.mean - (self._problem.score - scores.mean) if known else None
        views = {
            view.name: _corrected(summary, gap) for view, summary in zip(self._views, summaries, strict=False)
        }
        unresolved, needed = None, None
        if stopping.tolerance is not None:
            chosen = views[stopping.view or self._views[0].name]
            unresolved, needed = _unresolved(chosen, stopping.tolerance, self.num_draws)
        return Outcome(
            views,
            self.num_draws,
            scores.mean if known else None,
            scores.std if known else None,
            gap,
            unresolved,
            needed,
        )


@dataclass(frozen=True)
class _ScoreSums:
    """Mean and scatter of the baselines' scores."""

    count: int = 0
    sums: Tensor | float = 0.0
    squares: Tensor | float = 0.0
    first: Tensor | float = 0.0

    def plus(self, scores: Float64[Tensor, "baselines targets"]) -> _ScoreSums:
        first = self.first if self.count else scores[0]
        apart = scores - first
        return _ScoreSums(
            self.count + len(scores), self.sums + apart.sum(0), self.squares + apart.square().sum(0), first
        )

    @property
    def mean(self) -> Tensor:
        return torch.as_tensor(self.first + self.sums / self.count)

    @property
    def std(self) -> Tensor:
        apart = self.sums / self.count
        return torch.as_tensor(self.squares / self.count - apart * apart).clamp(min=0).sqrt()


def _corrected(summary: Summary, gap: Float64[Tensor, " targets"] | None) -> ViewEstimate:
    values = summary.mean
    if gap is not None and summary.gap_share is not None:
        values = values - summary.gap_share * broadcast(gap, values)
    return ViewEstimate(values, summary.stderr, summary.degrees_of_freedom)


def _unresolved(found: ViewEstimate, tolerance: float, num_draws: int) -> tuple[Tensor, int | None]:
    largest = found.values.abs().flatten(1).amax(1) if found.values.ndim > 1 else found.values.abs()
    allowed = broadcast(tolerance * largest, found.values)
    half_width = found.half_width()
    unresolved = half_width > allowed
    if not unresolved.any():
        return unresolved, None
    excess = float((half_width / allowed)[unresolved].max())
    return unresolved, ceil(min(num_draws * excess * excess, 2.0**62))


def _project(
    view: View, gradients: Gradients, directions: Float[Tensor, "draws *input"]
) -> Float64[Tensor, "draws targets *units"]:
    units = view.project(gradients, directions)
    expected = numbers(gradients).shape[:2]
    if units.shape[:2] != expected:
        raise AttributionError(
            f"view={view.name!r} turned gradients of (draws, targets)={(*expected,)} into "
            f"shape {tuple(units.shape)}; it must keep both axes and give (draws, targets, *units)"
        )
    return units.double()


def _check_views(views: Sequence[View], stopping: Stopping) -> None:
    names = [view.name for view in views]
    if not names or len({*names}) < len(names):
        raise AttributionError(f"views={names} must hold at least one view, each under a name of its own")
    if stopping.view and stopping.view not in names:
        raise AttributionError(f"stopping.view={stopping.view!r} is not among views={names}")
