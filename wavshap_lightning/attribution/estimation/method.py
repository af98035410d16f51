"""What every method does: freeze, check, run, write the record."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines, BaselineSet
from wavshap_lightning.attribution.estimation.chunks import Chunks
from wavshap_lightning.attribution.estimation.designs import Design
from wavshap_lightning.attribution.estimation.estimate import Progress, estimate
from wavshap_lightning.attribution.estimation.memory import in_parts
from wavshap_lightning.attribution.estimation.problem import LinearStep, Problem, Score, open_problem
from wavshap_lightning.attribution.estimation.stopping import Stopping
from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.record import Attribution, Outcome, Provenance, tensor_sha256
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import View, elements


@dataclass(frozen=True)
class Options:
    """What all methods have in common.

    Args:
        views: At what resolution attributions and errors are stated.
        chunk_size: Draws that go through the model at once; found from input and memory if None.
        modules: Modules, or callables that hold some, which the score reaches in a way that cannot be seen.
        provenance: Clip and model, for the record.
        progress: Told after every chunk.
        first: The score's first, linear step, done outside of it: input, baselines and attributions are as
            they are before the step, `score` takes what comes after it.
        targets_at_once: Differentiate all targets in one vectorised backward pass: faster where the score is
            small, as a head is, and takes the memory of all of them; slower for deep networks.
    """

    views: tuple[View, ...] = field(default_factory=lambda: (elements(),))
    chunk_size: int | None = None
    modules: tuple[Callable[..., Any], ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    progress: Progress | None = None
    first: LinearStep | None = None
    targets_at_once: bool = False


@dataclass(frozen=True)
class Method:
    """What a record says of a method.

    Args:
        name: Of the method.
        stopping: When to stop.
        baselines: Those the path starts from; None for methods without a path.
        seed: Of the design's generator; None where there is no chance.
        settings: What is particular to the method, in plain JSON types.
    """

    name: str
    stopping: Stopping
    baselines: Baselines | None = None
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What is explained to any method.

    Args:
        score: From what lies after the first step, where there is one, to logits.
        input: The input.
        target: Which scalars.
        options: How the answer is stated.
    """

    score: Score
    input: Tensor
    target: Target
    options: Options = field(default_factory=Options)


def explain(method: Method, design_for: Callable[[Problem], Design], question: Question) -> Attribution:
    """Run a method that places draws; errors and warnings are those of the parts.

    Args:
        method: Which.
        design_for: Makes the plan of draws for a problem.
        question: What is explained.
    """
    options = question.options

    def run(problem: Problem) -> Outcome:
        problem = replace(problem, targets_at_once=options.targets_at_once)
        design = design_for(problem)
        chunks = Chunks(options.chunk_size, problem.input)
        return estimate(
            problem,
            design,
            options.views,
            method.stopping,
            chunks=chunks,
            baseline_scores=_declared_scores(problem, design, method.baselines, chunks.size),
            progress=options.progress,
        )

    return run_method(method, run, question)


def run_method(method: Method, run: Callable[[Problem], Outcome], question: Question) -> Attribution:
    """Run any method: whatever finds an outcome for a problem."""
    options = question.options
    steps = () if options.first is None else (options.first.apply, options.first.adjoint)
    with leave_no_trace(question.score, *options.modules, *steps):
        problem = open_problem(question.score, question.input, question.target, options.first)
        outcome = run(problem)
    _warn_of_no_influence(outcome, problem.target)
    found = _record(method, problem, outcome, options)
    if not found.resolved:
        warnings.warn(f"tolerance={method.stopping.tolerance}: {found.unresolved_in_words()}", stacklevel=4)
    return found


def _declared_scores(
    problem: Problem, design: Design, baselines: Baselines | None, chunk_size: int
) -> Float64[Tensor, "baselines targets"] | None:
    declared = design.declared()
    if declared is None or baselines is None:
        return None
    what = f"baselines={baselines.name!r}: baseline"
    return in_parts(lambda part, start: problem.scores(part, what, start), declared, chunk_size)


def _warn_of_no_influence(outcome: Outcome, target: Target) -> None:
    moved = [view.values.reshape(len(view.values), -1).any(1) for view in outcome.views.values()]
    still = [index for index, any_ in zip(target.classes, torch.stack(moved).any(0), strict=True) if not any_]
    if still:
        warnings.warn(
            f"the input does not influence the {target.kind} of classes={still}: every attribution is 0",
            stacklevel=5,
        )


def _record(method: Method, problem: Problem, outcome: Outcome, options: Options) -> Attribution:
    settings = {
        "stopping": asdict(method.stopping),
        "baselines": method.baselines.name if method.baselines is not None else None,
        "views": [*outcome.views],
        **method.settings,
    }
    return Attribution(
        method=method.name,
        estimand=_estimand(method.baselines),
        views=outcome.views,
        target=problem.target,
        prediction=problem.prediction,
        score=_floats(problem.score),
        mean_baseline_score=_optional(outcome.mean_baseline_score),
        baseline_score_std=_optional(outcome.baseline_score_std),
        gap=_optional(outcome.gap),
        num_draws=outcome.num_draws,
        seed=method.seed,
        settings=settings,
        input_sha256=tensor_sha256(problem.input),
        provenance=options.provenance,
        unresolved=outcome.unresolved,
        draws_needed=outcome.draws_needed,
    )


def _estimand(baselines: Baselines | None) -> str:
    if baselines is None:
        return "the gradient at or around the input"
    if isinstance(baselines, BaselineSet):
        return f"the mean over exactly {len(baselines)} declared baselines ({baselines.name})"
    return f"the mean over the distribution of baselines ({baselines.name})"


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(values.tolist())


def _optional(values: Tensor | None) -> tuple[float, ...] | None:
    return None if values is None else _floats(values)
