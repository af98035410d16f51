"""A clip opened in a classifier, and its attributions from the input of each stage."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.attribution.baselines import (
    Baselines,
    declared_only,
    noise,
    recordings,
    silence,
    spectral_noise,
    time_shifted,
)
from wavshap_lightning.attribution.estimation.estimate import Stopping
from wavshap_lightning.attribution.estimation.problem import Progress, Score, open_problem
from wavshap_lightning.attribution.gradient_shap import gradient_shap
from wavshap_lightning.attribution.integrated_gradients import integrated_gradients
from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.record import Attribution, tensor_sha256
from wavshap_lightning.attribution.saliency import input_x_gradient, saliency, smooth_grad
from wavshap_lightning.attribution.shapley.perturbation import lime, occlusion
from wavshap_lightning.attribution.shapley.players import Players, equal_spans, fewest_coalitions
from wavshap_lightning.attribution.shapley.shapley import kernel_shap, shapley
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import View, grouped, summed
from wavshap_lightning.attribution.views.layers import layer_detail, layer_frame, layer_neuron
from wavshap_lightning.attribution.views.spectral import band_frame
from wavshap_lightning.audio.segments import Segment
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.defaults import REFERENCE_DRAWS, choose_baselines, choose_stages
from wavshap_lightning.explainer.recording import AudioSource, Recording, open_recording
from wavshap_lightning.explainer.settings import (
    AUTO,
    DEFAULT_DRAWS,
    RECORDED_FAMILIES,
    ExplainSettings,
    Stage,
)
from wavshap_lightning.explainer.stages import Stages
from wavshap_lightning.explainer.targets import most_voted, score_of_task, target_named
from wavshap_lightning.explainer.time_grid import TimeGrid, mel_band_edges, segment_membership, times_of
from wavshap_lightning.models.backbone import has_bf16
from wavshap_lightning.models.checkpoint import trained_state
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.progress import progress_bars

# The cheapest comes first, so that the time it leaves goes to those that need it.
STAGE_ORDER: tuple[Stage, ...] = ("layers", "frames", "waveform")

# Draws that are taken in both precisions, to measure the error of the lower one.
PRECISION_DRAWS = 4

# Largest error, relative to the map, at which `precision="auto"` takes the lower one. Where it was that small
# on heads of Whisper, 32 draws differed from the same in fp32 by a quarter of their intervals' half-width.
MAX_PRECISION_ERROR = 0.02

FRAMES_A_SPAN = 5
EXACT_SPANS, FITTED_SPANS = 8, 16
DEFAULT_EVALUATIONS = 512

# Declared where no number is given: methods other than GradientSHAP need a fixed set, if any.
DECLARED_IF_NEEDED = 4

DRAWN = {"noise": noise, "spectral_noise": spectral_noise, "time_shifted": time_shifted}


@dataclass(frozen=True)
class OpenClip:
    """A clip and its baselines in a classifier; made by [`open_clip`][].

    Args:
        classifier: The classifier that is explained.
        settings: Settings of the explanation.
        recording: The clip, as it was read.
        waveform: The clip, on the device of the classifier.
        stages: Stages of the classifier, which encode each baseline once.
        baselines: Baselines as waveforms, on the CPU, where a seed gives the same ones on every device.
        logits: Logits of the clip.
        reasons: Reasons of the settings that were chosen, by name.
        recordings: Recordings that the baselines consist of; none for other families.
    """

    classifier: EmotionClassifier
    settings: ExplainSettings
    recording: Recording
    waveform: Float[Tensor, " samples"]
    stages: Stages
    baselines: Baselines
    logits: Float[Tensor, " classes"]
    reasons: Mapping[str, str]
    recordings: Sequence[Tensor]

    @property
    def times(self) -> dict[str, TimeGrid]:
        """Position of the units in time, by stage, and of the columns of `band_frame` as `"stft"`."""
        return times_of(self.classifier.backbone.frame_grid, len(self.waveform))

    def target(self, name: str | Sequence[str]) -> Target:
        """Target by name, as in [`target_named`][wavshap_lightning.explainer.targets.target_named]."""
        labels, choices = self.classifier.labels, most_voted(self.recording.votes, self.classifier.labels)
        ranking = self.logits.argsort(descending=True, stable=True).tolist()
        return target_named(name, labels, self.settings.score, ranking, choices)

    def attribute_stages(self, target: Target) -> dict[str, Attribution]:
        """Attributions from every stage of the settings.

        Args:
            target: Scalars to explain.
        """
        found: dict[str, Attribution] = {}
        order = [stage for stage in STAGE_ORDER if stage in self.settings.stages]
        provenance = {
            "clip_sha256": self.recording.sha256,
            "model_fingerprint": fingerprint(self.classifier),
        }
        with progress_bars() as bar:
            for stage, max_seconds in time_shares(order, self.settings.max_seconds):
                clip, precision = self._in_precision(stage, target)
                attribution = clip.attribute(stage, target, max_seconds=max_seconds, progress=bar(stage))
                chosen = {**attribution.settings, **precision}
                found[stage] = replace(attribution, provenance=provenance, settings=chosen)
        return {stage: found[stage] for stage in self.settings.stages}

    def attribute(
        self,
        stage: Stage,
        target: Target,
        *,
        score: Score | None = None,
        views: Sequence[View] | None = None,
        max_seconds: float | None = None,
        progress: Progress | None = None,
    ) -> Attribution:
        """Attributions from one stage by the method of the settings.

        Args:
            stage: Stage whose input the score is attributed to.
            target: Scalars to explain.
            score: Function of the stage's input to explain; the classifier if None.
            views: Resolutions of the result; those of the stage if None.
            max_seconds: Time limit of this stage.
            progress: Called after every chunk with the draws done and those planned.
        """
        settings = self.settings
        clip, baselines = self.stages.begin(stage, self.waveform, self.baselines)
        logits = self.logits if score is None else None
        score = score or self.stages.score(stage)
        views = views or self.views(stage)
        open_ended = settings.tolerance is not None or max_seconds is not None
        max_draws = settings.num_draws or (None if open_ended else DEFAULT_DRAWS)
        stopping = Stopping(max_draws, settings.tolerance, max_seconds)
        with open_problem(
            score, clip, target, views=views, chunk_size=settings.chunk_size, progress=progress, logits=logits
        ) as problem:
            match settings.method:
                case "gradient_shap":
                    found = gradient_shap(problem, baselines, generator=settings.seed, stopping=stopping)
                case "smooth_grad":
                    found = smooth_grad(problem, generator=settings.seed, stopping=stopping)
                case "saliency":
                    found = saliency(problem)
                case "input_x_gradient":
                    found = input_x_gradient(problem)
                case "integrated_gradients":
                    num_nodes = max(1, stopping.max_draws // len(declared_only(baselines)))
                    decibels = settings.decibels and stage == "waveform"
                    found = integrated_gradients(problem, baselines, num_nodes=num_nodes, decibels=decibels)
                case "occlusion":
                    found = occlusion(problem, baselines, self.spans())
                case "shapley":
                    found = shapley(problem, baselines, self.spans())
                case "kernel_shap" | "lime":
                    fitted = kernel_shap if settings.method == "kernel_shap" else lime
                    spans = self.spans()
                    count = self._num_coalitions(spans.count, len(declared_only(baselines)))
                    found = fitted(problem, baselines, spans, generator=settings.seed, num_coalitions=count)
        return found

    def _num_coalitions(self, num_spans: int, num_baselines: int) -> int:
        """Number for each baseline, which is even because coalitions come with their complements."""
        method, num_draws = self.settings.method, self.settings.num_draws or DEFAULT_EVALUATIONS
        least = fewest_coalitions(num_spans)
        if method == "kernel_shap":
            least = min(least, 2**num_spans - 2)  # all that there are, with which it is exact
        if num_draws // num_baselines < least:
            needed = f"at least {least * num_baselines} for {num_spans} spans and {num_baselines} baselines"
            raise SettingError(f"num_draws={num_draws}, method={method!r}: take {needed}")
        return num_draws // num_baselines // 2 * 2

    def spans(self) -> Players:
        """Spans of frames that are removed: the segments and the rest, or equal spans and the padding."""
        settings, times = self.settings, self.times["frames"]
        if settings.segments:
            membership = segment_membership(times, settings.segments)
            return Players(membership.argmax(0), len(membership), "segments")
        count = times.num_within(self.recording.duration_s)
        usual = {"occlusion": -(-count // FRAMES_A_SPAN), "shapley": EXACT_SPANS}
        spans = equal_spans(count, settings.num_spans or usual.get(settings.method, FITTED_SPANS))
        if count == times.count:
            return spans
        return Players(F.pad(spans.owner, (0, times.count - count), value=spans.count), spans.count + 1)

    def views(self, stage: Stage) -> tuple[View, ...]:
        """Views of a stage; a tolerance applies to the first of them.

        Args:
            stage: Stage whose input the score is attributed to.
        """
        settings, times = self.settings, self.times[stage]
        if stage == "layers":
            weights, layer = self.stages.mix_weights, settings.layer
            by_frame = layer_frame(weights)
            frames = replace(coarser(by_frame, "frames", lambda units: units.sum(2)), smooth_variance=True)
            by_layer = coarser(by_frame, "layers", lambda units: units.sum(3))
            views = [frames, by_frame, layer_neuron(weights), by_layer]
            views += [] if layer is None else [layer_detail(weights, layer)]
        elif stage == "frames":
            frames = summed(1, name="frames", smooth_variance=True)
            views = [frames]
        else:
            frames = grouped(times.hop_samples, name="frames")
            edges = mel_band_edges(settings.num_bands, self.recording.sample_rate).tolist()
            by_band = band_frame(edges)
            views = [frames, by_band, coarser(by_band, "bands", lambda units: units.sum(3))]
        tiers = {"segments": [Segment("", *span) for span in settings.segments], **self.recording.tiers}
        views += [_sums_over(frames, name, times, tier) for name, tier in tiers.items() if tier]
        return tuple(views)

    def _in_precision(self, stage: Stage, target: Target) -> tuple[OpenClip, dict[str, Any]]:
        """The clip in the precision for a stage, and for the record its name, its error and the reason."""
        asked = self.settings.precision or self.classifier.backbone.settings.precision
        if asked == "fp32":
            return self, {"precision": asked}
        if asked == "auto" and not has_bf16(self.waveform.device):
            return self, {"precision": "fp32", "precision_reason": "no bf16 instructions"}
        lowered, full = (self._other, self) if asked == "auto" else (self, self._other)
        few = replace(self.settings, num_draws=PRECISION_DRAWS, tolerance=None, max_seconds=None)
        found, exact = (replace(one, settings=few).attribute(stage, target) for one in (lowered, full))
        errors = {"score": _relative_error(torch.tensor(found.score), torch.tensor(exact.score))}
        for name, view in exact.views.items():
            errors[name] = _relative_error(found.views[name].values, view.values)
        if asked == "bf16":
            return lowered, {"precision": asked, "precision_error": errors}
        name = next(iter(exact.views))
        small = errors[name] <= MAX_PRECISION_ERROR
        used, precision, word = (lowered, "bf16", "at most") if small else (full, "fp32", "above")
        reason = f"error of {name} in bf16 {word} {MAX_PRECISION_ERROR:g}"
        return used, {"precision": precision, "precision_reason": reason, "precision_error": errors}

    @cached_property
    def _other(self) -> OpenClip:
        """The clip in bf16 where its precision is to be chosen, else in fp32."""
        stages = Stages(self.classifier, "bf16" if self.settings.precision == "auto" else "fp32")
        return replace(self, stages=stages, logits=stages.logits(self.waveform))


@contextmanager
def open_clip(
    classifier: EmotionClassifier,
    source: AudioSource,
    settings: ExplainSettings,
    recordings: Sequence[AudioSource] = (),
) -> Iterator[OpenClip]:
    """Read a clip and its baselines, and pass the clip through a classifier, which is restored afterwards.

    Args:
        classifier: The classifier to explain.
        source: The clip.
        settings: Settings of the explanation.
        recordings: Baselines, where `settings.baselines` names a family of recordings.

    Yields:
        The clip in the classifier.

    Raises:
        AudioError: If the clip or a recording cannot be read, or is too short, too long, silent or not
            finite.
        SettingError: If recordings are missing or not needed, a segment lies beyond the clip's end, or the
            outputs have no such score.
        AttributionError: If the family of baselines does not fit the clip or the classifier.
    """
    classifier = classifier.part(classifier.task)
    settings, reasons = choose_stages(settings, classifier)
    settings = replace(settings, score=score_of_task(settings.score, classifier.task))
    if any(one.dtype != torch.float32 for one in classifier.parameters()):
        classifier = deepcopy(classifier).float()  # gradients overflow in half precision
    grid = classifier.backbone.frame_grid
    recording = open_recording(source, grid)
    if isinstance(recordings, str) or not isinstance(recordings, Sequence):
        raise SettingError(f"recordings is a {type(recordings).__name__}; give a list, even of one")
    read = partial(open_recording, grid=replace(grid, max_frames=None))  # they are cut to the clip
    others = [read(one, name=f"recordings[{index}]").waveform for index, one in enumerate(recordings)]
    for start_s, end_s in settings.segments:
        if start_s >= recording.duration_s:
            end = f"the clip's end at {recording.duration_s:.3f} s"
            raise SettingError(f"segments=[{start_s:g}, {end_s:g}] begins after {end}; leave it out")
    with leave_no_trace(classifier):
        device = next(classifier.parameters()).device
        stages = Stages(classifier, settings.precision)
        waveform = recording.waveform.to(device)
        logits = stages.logits(waveform)
        if settings.baselines == AUTO:
            others, reasons["baselines"] = choose_baselines(
                classifier, stages, waveform, logits, others, count=settings.num_baselines
            )
            settings = replace(settings, baselines="other_clips" if others else "noise")
            limits = (settings.num_draws, settings.tolerance, settings.max_seconds)
            if others and settings.stages == ("layers",) and not any(limits):
                settings = replace(settings, num_draws=REFERENCE_DRAWS)

        # Silence is ill-posed only on the waveform; in decibels it is meant.
        is_checked = "waveform" in settings.stages and not settings.decibels
        score = (lambda sounds: stages.from_waveforms(sounds.to(device)).cpu()) if is_checked else None
        baselines = waveform_baselines(settings, recording.waveform, others, score)
        yield OpenClip(classifier, settings, recording, waveform, stages, baselines, logits, reasons, others)


def waveform_baselines(
    settings: ExplainSettings,
    waveform: Float[Tensor, " samples"],
    others: Sequence[Tensor],
    score: Score | None,
) -> Baselines:
    """Baselines of a clip, as waveforms.

    Args:
        settings: Family and number of the baselines.
        waveform: Samples of the clip.
        others: Recordings, for the families that consist of them.
        score: Function from waveforms to logits, to check that silence is well-posed; None to skip the check.

    Raises:
        SettingError: If recordings are missing, not needed, or fewer than `num_baselines`.
        AttributionError: If the family does not fit the clip or the score.
    """
    family, count = settings.baselines, settings.num_baselines
    generator = torch.Generator().manual_seed(settings.seed)
    if (family in RECORDED_FAMILIES) != bool(others):
        needed = f"give recordings for {', '.join(RECORDED_FAMILIES)}, and for nothing else"
        raise SettingError(f"baselines={family!r}, recordings: {len(others)} were given; {needed}")
    if family == "silence":
        return silence(waveform, score)
    if family in DRAWN:
        if count is None and settings.method != "gradient_shap":
            count = DECLARED_IF_NEEDED
        drawn = DRAWN[family](waveform)
        return drawn if count is None else drawn.declare(count, generator)
    if count is not None and count > len(others):
        raise SettingError(f"num_baselines={count}, but there are only {len(others)} recordings; give more")
    if count is not None:
        others = [others[index] for index in torch.randperm(len(others), generator=generator)[:count]]
    return recordings(waveform, others, family)


def coarser(view: View, name: str, add_up: Callable[[Float[Tensor, "draws targets *units"]], Tensor]) -> View:
    """View of sums of another view's units, with standard errors of their own.

    Args:
        view: View whose units are summed.
        name: Name of the new view.
        add_up: The sums; linear.
    """

    def project(gradients: Tensor, directions: Tensor) -> Tensor:
        return add_up(view.project(gradients, directions))

    return View(name, project)


def _sums_over(frames: View, name: str, times: TimeGrid, tier: Sequence[Segment]) -> View:
    """View of sums over segments, and over the rest."""
    membership = segment_membership(times, [(one.start_s, one.end_s) for one in tier])
    return coarser(frames, name, lambda units: units @ membership.to(units).T)


def time_shares(
    stages: Sequence[Stage], max_seconds: float | None, now: Callable[[], float] = time.monotonic
) -> Iterator[tuple[Stage, float | None]]:
    """Each stage with an equal share of the time that is left when its turn comes.

    Args:
        stages: Stages in the order in which they are explained.
        max_seconds: Time limit of all together; None for no limit.
        now: Clock, in seconds.
    """
    began_s = now()
    for index, stage in enumerate(stages):
        left_s = None if max_seconds is None else max(max_seconds - (now() - began_s), 1e-3)
        yield stage, None if left_s is None else left_s / (len(stages) - index)


def fingerprint(classifier: EmotionClassifier) -> str:
    """SHA-256 over the backbone's fingerprint, the labels and everything that is trained."""
    parts = [classifier.backbone.fingerprint, *classifier.labels]
    scale = classifier.outputs[0].scale
    parts += [] if classifier.task == "classes" else [classifier.task]  # as before there were others
    parts += [] if scale is None else [f"scale {scale}"]
    parts += [f"{name} {tensor_sha256(value)}" for name, value in sorted(trained_state(classifier).items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _relative_error(lowered: Tensor, full: Tensor) -> float:
    """Euclidean distance, relative to the numbers of full precision."""
    return float((lowered - full).norm() / full.norm().clamp(min=1e-12))
