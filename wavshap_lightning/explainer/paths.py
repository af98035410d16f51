"""The three paths: one method, one set of baselines, from the input of each stage to the logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines, BaselineSet
from wavshap_lightning.attribution.estimate import Progress
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.layer_views import layer_mix
from wavshap_lightning.attribution.linear_step import LinearStep
from wavshap_lightning.attribution.method import Options, Question
from wavshap_lightning.attribution.problem import Score
from wavshap_lightning.attribution.record import Attribution, Provenance
from wavshap_lightning.attribution.saliency import input_x_gradient, saliency, smooth_grad
from wavshap_lightning.attribution.stopping import Stopping
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views import View
from wavshap_lightning.explainer.baselines import at_stage
from wavshap_lightning.explainer.grids import TimeGrid
from wavshap_lightning.explainer.settings import DEFAULT_DRAWS, SPAN_METHODS, ExplainSettings, Path
from wavshap_lightning.explainer.span_methods import take_away
from wavshap_lightning.explainer.stages import Stages


@dataclass(frozen=True)
class Beginning:
    """Where a path begins, and how it goes on.

    Args:
        input: The clip at this stage.
        score: The rest of the classifier.
        baselines: At this stage.
        first: A linear step before the score.
    """

    input: Tensor
    score: Score
    baselines: Baselines
    first: LinearStep | None = None


def begin(path: Path, stages: Stages, waveform: Float[Tensor, " samples"], baselines: Baselines) -> Beginning:
    """A path's beginning.

    Args:
        path: Which.
        stages: Of the classifier.
        waveform: The clip, where the classifier computes.
        baselines: As waveforms.
    """
    with torch.no_grad():
        match path:
            case "waveform":
                return Beginning(waveform, stages.from_waveforms, at_stage(baselines, (), waveform))
            case "frames":
                frames = stages.frontend(waveform[None])[0]
                after = at_stage(baselines, (stages.frontend,), waveform)
                return Beginning(frames, stages.from_frames, after)
            case "layers":
                layers = stages.encoder(stages.frontend(waveform[None]))[0]
                after = at_stage(baselines, (stages.frontend, stages.encoder), waveform)
                return Beginning(layers, stages.classify_mixed, after, layer_mix(stages.mix_weights))


def attribute(
    beginning: Beginning,
    target: Target,
    settings: ExplainSettings,
    views: tuple[View, ...],
    times: TimeGrid,
    *,
    provenance: Provenance,
    max_seconds: float | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Run the method of the settings from one beginning.

    Args:
        beginning: Where.
        target: What is explained.
        settings: How.
        views: At what resolution; a tolerance is meant for the first.
        times: Where frames lie in time.
        provenance: For the record.
        max_seconds: This path's share of the time.
        progress: Told of every chunk.
    """
    options = Options(
        views=views,
        chunk_size=settings.chunk_size,
        provenance=provenance,
        progress=progress,
        first=beginning.first,
    )
    if settings.method in SPAN_METHODS:
        question = Question(beginning.score, beginning.input, target, options)
        return take_away(question, beginning.baselines, settings, times)
    return METHODS[settings.method](beginning, target, settings, _stopping(settings, max_seconds), options)


def _stopping(settings: ExplainSettings, max_seconds: float | None) -> Stopping:
    open_ended = settings.tolerance is not None or max_seconds is not None
    num_draws = settings.num_draws or (None if open_ended else DEFAULT_DRAWS)
    return Stopping(num_draws, settings.tolerance, max_seconds)


def _gradient_shap(
    beginning: Beginning, target: Target, settings: ExplainSettings, stopping: Stopping, options: Options
) -> Attribution:
    return gradient_shap(
        beginning.score,
        beginning.input,
        beginning.baselines,
        target,
        generator=settings.seed,
        stopping=stopping,
        options=options,
    )


def _integrated_gradients(
    beginning: Beginning, target: Target, settings: ExplainSettings, stopping: Stopping, options: Options
) -> Attribution:
    declared = beginning.baselines
    num_baselines = len(declared) if isinstance(declared, BaselineSet) else 1
    return integrated_gradients(
        beginning.score,
        beginning.input,
        declared,
        target,
        num_nodes=max(1, stopping.max_draws // num_baselines),
        decibels=settings.decibels and beginning.input.ndim == 1,
        options=options,
    )


def _smooth_grad(
    beginning: Beginning, target: Target, settings: ExplainSettings, stopping: Stopping, options: Options
) -> Attribution:
    return smooth_grad(
        beginning.score,
        beginning.input,
        target,
        generator=settings.seed,
        stopping=stopping,
        options=options,
    )


Run = Callable[[Beginning, Target, ExplainSettings, Stopping, Options], Attribution]

METHODS: Mapping[str, Run] = {
    "gradient_shap": _gradient_shap,
    "integrated_gradients": _integrated_gradients,
    "smooth_grad": _smooth_grad,
    "saliency": lambda begun, target, _, __, options: saliency(
        begun.score, begun.input, target, options=options
    ),
    "input_x_gradient": lambda begun, target, _, __, options: input_x_gradient(
        begun.score, begun.input, target, options=options
    ),
}
