"""The three paths: one method, one set of baselines, from the input of each stage to the logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines, BaselineSet
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.estimation.problem import Progress, Score
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.record import Attribution, Provenance
from wavshap_lightning.attribution.saliency import input_x_gradient, saliency, smooth_grad
from wavshap_lightning.attribution.shapley.game import Players, equal_spans, members
from wavshap_lightning.attribution.shapley.perturbation import lime, occlusion
from wavshap_lightning.attribution.shapley.shapley import kernel_shap, shapley
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import View, grouped, summed
from wavshap_lightning.attribution.views.layers import layer_detail, layer_frame, layer_mix, layer_neuron
from wavshap_lightning.attribution.views.spectral import band_frame
from wavshap_lightning.explainer.baselines import at_stage
from wavshap_lightning.explainer.settings import DEFAULT_DRAWS, ExplainSettings, Stage
from wavshap_lightning.explainer.stages import Stages
from wavshap_lightning.explainer.time_grid import STFT, TimeGrid, mel_band_edges, segment_membership

Map = Callable[[Float[Tensor, "draws targets *units"]], Float[Tensor, "draws targets *coarser"]]


def units_of(
    path: Stage,
    settings: ExplainSettings,
    mix_weights: Float[Tensor, " layer"],
    times: Mapping[str, TimeGrid],
    num_samples: int,
) -> tuple[View, ...]:
    """The views of a path; a tolerance is meant for the first.

    Args:
        path: Which.
        settings: What was asked for.
        mix_weights: What the head weighs layers with.
        times: Where units lie in time, by path.
        num_samples: Length of the clip.
    """
    match path:
        case "frames":
            return _with_segments(summed(1, name="frames", smooth_variance=True), settings, times[path])
        case "layers":
            return _layer_units(settings, mix_weights)
        case "waveform":
            frames = grouped(times[path].hop_samples, name="frames")
            return (
                *_with_segments(frames, settings, times[path]),
                *_band_units(settings, num_samples, times[path].sample_rate),
            )


def _band_units(settings: ExplainSettings, num_samples: int, sample_rate: int) -> tuple[View, ...]:
    edges = mel_band_edges(settings.num_bands, sample_rate).tolist()
    by_frame = band_frame(num_samples, window=STFT.window, hop=STFT.hop, band_edges=edges)
    return (by_frame, coarser(by_frame, "bands", lambda units: units.sum(3)))


def _layer_units(settings: ExplainSettings, mix_weights: Float[Tensor, " layer"]) -> tuple[View, ...]:
    by_frame = layer_frame(mix_weights)
    layers = coarser(by_frame, "layers", lambda units: units.sum(3))
    in_full = () if settings.layer is None else (layer_detail(mix_weights, settings.layer),)
    return (by_frame, layer_neuron(mix_weights), layers, *in_full)


def coarser(view: View, name: str, add_up: Map) -> View:
    """Sums of a view's units, with errors of their own.

    Args:
        view: Whose units.
        name: What the sums are.
        add_up: The sums; linear.
    """
    return View(
        name,
        lambda gradients, directions: add_up(view.project(gradients, directions)),
        after_step=view.after_step,
    )


def _with_segments(frames: View, settings: ExplainSettings, times: TimeGrid) -> tuple[View, ...]:
    if not settings.segments:
        return (frames,)
    membership = segment_membership(times, tuple((start_s, end_s) for start_s, end_s in settings.segments))
    return (frames, coarser(frames, "segments", lambda units: units @ membership.to(units).T))


FRAMES_A_SPAN = 5
EXACT_SPANS, FITTED_SPANS = 8, 16
DEFAULT_EVALUATIONS = 512


def players_of(settings: ExplainSettings, times: TimeGrid) -> Players:
    """The settings' segments and what is left of the clip, or equal spans."""
    if settings.segments:
        spans = tuple((start_s, end_s) for start_s, end_s in settings.segments)
        return members(segment_membership(times, spans), name="segments")
    usual = {"occlusion": -(-times.count // FRAMES_A_SPAN), "shapley": EXACT_SPANS}
    return equal_spans(times.count, settings.num_spans or usual.get(settings.method, FITTED_SPANS))


@dataclass(frozen=True)
class Beginning:
    """Where a path begins, and how it goes on.

    Args:
        input: The clip at this stage.
        score: The rest of the classifier.
        baselines: At this stage.
    """

    input: Tensor
    score: Score
    baselines: Baselines


def begin(
    path: Stage, stages: Stages, waveform: Float[Tensor, " samples"], baselines: Baselines
) -> Beginning:
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
                return Beginning(layers, layer_mix(stages.mix_weights, stages.classify_mixed), after)


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
    """Run the method of the settings from one stage.

    Args:
        beginning: Input, rest of the classifier and baselines at the stage.
        target: What is explained.
        settings: Method, draws and seed.
        views: Resolutions of the result; a tolerance is meant for the first.
        times: Times of the frames.
        provenance: Clip and model, for the record.
        max_seconds: This stage's share of the time.
        progress: Called after every chunk with the draws done and planned.
    """
    score, clip, baselines = beginning.score, beginning.input, beginning.baselines
    seed, chunk_size = settings.seed, settings.chunk_size
    num_baselines = len(baselines) if isinstance(baselines, BaselineSet) else 1
    stopping = _stopping(settings, max_seconds)
    match settings.method:
        case "gradient_shap":
            found = gradient_shap(
                score,
                clip,
                baselines,
                target,
                generator=seed,
                stopping=stopping,
                views=views,
                chunk_size=chunk_size,
                progress=progress,
            )
        case "integrated_gradients":
            found = integrated_gradients(
                score,
                clip,
                baselines,
                target,
                num_nodes=max(1, stopping.max_draws // num_baselines),
                decibels=settings.decibels and clip.ndim == 1,
                views=views,
                chunk_size=chunk_size,
                progress=progress,
            )
        case "smooth_grad":
            found = smooth_grad(
                score,
                clip,
                target,
                generator=seed,
                stopping=stopping,
                views=views,
                chunk_size=chunk_size,
                progress=progress,
            )
        case "saliency":
            found = saliency(score, clip, target, views=views)
        case "input_x_gradient":
            found = input_x_gradient(score, clip, target, views=views)
        case _:
            players = players_of(settings, times)
            span_method = _span_method(settings, num_baselines)
            found = span_method(
                score, clip, baselines, players, target, chunk_size=chunk_size, progress=progress
            )
    return replace(found, provenance=provenance)


def _span_method(settings: ExplainSettings, num_baselines: int) -> Callable[..., Attribution]:
    """The method that replaces spans of frames, with its own settings filled in."""
    if settings.method in ("occlusion", "shapley"):
        return occlusion if settings.method == "occlusion" else shapley
    # an even number, as all baselines take part in each
    num_coalitions = (settings.num_draws or DEFAULT_EVALUATIONS) // num_baselines // 2 * 2
    fitted = kernel_shap if settings.method == "kernel_shap" else lime
    return partial(fitted, generator=settings.seed, num_coalitions=num_coalitions)


def _stopping(settings: ExplainSettings, max_seconds: float | None) -> Stopping:
    open_ended = settings.tolerance is not None or max_seconds is not None
    num_draws = settings.num_draws or (None if open_ended else DEFAULT_DRAWS)
    return Stopping(num_draws, settings.tolerance, max_seconds)
