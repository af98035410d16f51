"""Diagnostics: reasons not to trust an explanation, one list for terminal, JSON, figure and page.

Attributions can be exact and still mislead if the baseline is unlike the training data, or is itself
predicted as the explained class, or if the score changes only at the very beginning of the path. A few
forward passes detect this. The other diagnostics follow from the attributions and their standard errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.attribution.baselines import BaselineDistribution, Baselines
from wavshap_lightning.attribution.record import Attribution, ViewEstimate
from wavshap_lightning.attribution.reliability import measure_reliability
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.audio.segments import is_speech
from wavshap_lightning.explainer.leak import Span, measure_leak, strongest_span
from wavshap_lightning.explainer.recording import AudioSource, Recording
from wavshap_lightning.explainer.settings import PREDICTED, RECORDED_FAMILIES, STAGES, ExplainSettings, Stage
from wavshap_lightning.explainer.stage_attribution import OpenClip, open_clip
from wavshap_lightning.explainer.time_grid import TimeGrid
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import EmotionHead, logits_to_outputs

# The path is probed after its first hundredth, and the clip 20 dB quieter.
FIRST_STEP, QUIETER = 0.01, 0.1
NUM_BASELINES = 4

LARGEST = {
    "ill_posed_baseline": 0.1,
    "baselines_predicted_as_target": 0.5,
    "clip_out_of_distribution": 3.0,
    "baselines_out_of_distribution": 3.0,
    "completeness_gap": 0.1,
    "attribution_outside_speech": 0.5,
    "leak": 0.35,
    "context": 0.5,
}
"""Magnitude above which there is a warning."""

WARNINGS = {
    "ill_posed_baseline": "{value:.0%} of the score difference arises in the first hundredth of the path at "
    "stage {stage}: baselines={baselines!r} are ill-posed here, and the attributions are unreliable.{gain} "
    "Use another family.",
    "baselines_predicted_as_target": "The baselines ({baselines}) are themselves predicted as {target} "
    "(probability {value:.2f}): the attributions show how the clip differs from them, not what makes it "
    "{target}. Use another family, such as recordings.",
    "clip_out_of_distribution": "The clip is unlike the training clips: its features lie {value:.1f} "
    "standard deviations from their mean (about 1 for a training clip). Neither the prediction nor its "
    "explanation is supported by the training data.",
    "baselines_out_of_distribution": "The baselines ({baselines}) are unlike the training clips: their "
    "features lie {value:.1f} standard deviations from the mean. Inputs along the path are out of "
    "distribution; compare with other families.",
    "completeness_gap": "The completeness gap of the path from the {stage} is {value:.0%} (before "
    "correction); take more draws.",
    "attribution_outside_speech": "{value:.0%} of the magnitude of the attributions lies in pauses and at "
    "the edges: the classifier may have learned properties of the recordings instead of the voices.",
    "leak": "{value:.0%} of the effect of the loudest sound and of that where the attributions are "
    "strongest reaches the score through other frames: the map of frames shows where the classifier reads a "
    "sound, not where it is. The map of the waveform does (--stages waveform).",
    "context": "{value:.0%} of the effect of the loudest sound and of that where the attributions are "
    "strongest reaches the score through the context of other frames: the map of layers may point beside a "
    "sound. Compare it with that of frames (--stages frames).",
}
"""Messages of these warnings."""

STAGES_DISAGREE = (
    "The strongest 100 ms of two maps lie apart: they begin at {} and {}. Maps of frames and layers "
    "localize evidence better than the waveform's, unless there is a leak."
)
SILENCE_IS_ILL_POSED = (
    "Silence is an ill-posed baseline: the classifier is invariant to input gain, so that all of the change "
    f"lies at the very beginning of the path. Use noise or {RECORDED_FAMILIES[0]}."
)
PADDED = (
    "The model adds silence to the clip. {share:.0%} of the magnitude of the attributions lies there, "
    "{total:+.3g} in sum; it is part of all sums, and not drawn."
)
SMALL_LEVEL_RESPONSE = 0.05
LARGE_UNRESOLVED_SHARE = 0.5
LEAST_CERTAIN_SHARE = 0.5

Severity = Literal["warning", "note"]


@dataclass(frozen=True)
class Diagnostic:
    """A reason not to trust an explanation.

    Args:
        name: Kind of the finding, such as `"completeness_gap"`.
        severity: `"warning"` if the explanation may mislead, `"note"` if it is only less exact.
        message: The finding and the remedy, a sentence or two.
        value: The measured value; None if there is none.
    """

    name: str
    severity: Severity
    message: str
    value: float | None = None


def _warnings_above(name: str, value: float | None, **words: str) -> Iterator[Diagnostic]:
    """The warning of this name, if the value is too large."""
    if value is not None and abs(value) > LARGEST[name]:
        yield Diagnostic(name, "warning", WARNINGS[name].format(value=value, **words), float(value))


def baseline_diagnostics(checks: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Diagnostics of the baselines and the clip.

    Args:
        checks: Numbers from [`run_baseline_checks`][].
    """
    invariant = abs(checks["level_response"]) < SMALL_LEVEL_RESPONSE
    gain = " The classifier is invariant to input gain." if invariant else ""
    words = {"baselines": checks["baselines"], "target": checks["target"], "gain": gain}
    ill_posed = [
        found
        for stage, share in checks["early_shares"].items()
        for found in _warnings_above("ill_posed_baseline", share, stage=stage, **words)
    ]
    if checks["baselines"] == "silence" and checks["gain_invariant"] and not ill_posed:
        yield Diagnostic("ill_posed_baseline", "warning", SILENCE_IS_ILL_POSED, checks["level_response"])
    yield from ill_posed
    yield from _warnings_above("baselines_predicted_as_target", checks["baseline_probability"], **words)
    yield from _warnings_above("clip_out_of_distribution", checks["clip_unlikeness"])
    yield from _warnings_above("baselines_out_of_distribution", checks["baseline_unlikeness"], **words)
    for stage, leak in checks.get("leaks", {}).items():
        yield from _warnings_above("leak" if stage == "frames" else "context", leak)


def recording_diagnostics(recording: Recording) -> Iterator[Diagnostic]:
    """Diagnostics of a recording as it was read: whether its upper bands can hold anything."""
    top_hz = (recording.native_rate or recording.sample_rate) / 2
    if top_hz < recording.sample_rate / 2:
        found = f"{recording.native_rate} samples per second: nothing lies above {top_hz:g} Hz"
        message = f"The file has {found}, and bands above it show nothing of the voice."
        yield Diagnostic("empty_bands", "note", message, top_hz)


def stage_diagnostics(classifier: EmotionClassifier) -> Iterator[Diagnostic]:
    """A note of the stages that the classifier lacks."""
    if missing := [stage for stage in STAGES if stage not in classifier.stages]:
        words = f"{' and '.join(classifier.stages)} alone, not to its {' or '.join(missing)}"
        yield Diagnostic(
            "missing_stages", "note", f"The score of this model can be attributed to its {words}."
        )


def diagnose(
    classifier: EmotionClassifier,
    clip: AudioSource,
    target: str = PREDICTED,
    *,
    settings: ExplainSettings | None = None,
    recordings: Sequence[AudioSource] = (),
) -> list[Diagnostic]:
    """Run the diagnostics of a clip and its baselines, without computing attributions.

    An [`Explanation`][wavshap_lightning.explainer.explanation.Explanation] holds these, and those of its
    attributions, under `diagnostics`.

    Args:
        classifier: The classifier to explain.
        clip: A file, a clip of a corpus, or a waveform at the classifier's sample rate.
        target: A label, `"predicted"` or a margin; of several classes the predicted one is probed.
        settings: Settings of the explanation; the defaults if None.
        recordings: Baselines, where the settings name a family of recordings.

    Raises:
        WavshapError: If the clip, the target and the settings do not go together.
    """
    with open_clip(classifier, clip, settings or ExplainSettings(), recordings) as opened:
        checks = run_baseline_checks(opened, opened.target(target))
        found = [*stage_diagnostics(classifier), *recording_diagnostics(opened.recording)]
        return [*found, *baseline_diagnostics(checks)]


@torch.no_grad()
def run_baseline_checks(
    clip: OpenClip, target: Target, attributions: Mapping[str, Attribution] | None = None
) -> dict[str, Any]:
    """Numbers from a few forward passes of a clip and its baselines, in plain JSON types.

    - `target`, `baselines`: the class that is explained, and the family of the baselines;
    - `early_shares`: share of the score difference that arises in the first hundredth of the path, by stage;
      0.01 if the score changes linearly;
    - `level_response`: change of the score when the clip is attenuated by 20 dB, relative to the explained
      difference; 0 if the classifier is invariant to input gain;
    - `baseline_probability`: mean probability of the target's class for the baselines; None for dimensions;
    - `gain_invariant`: whether the model normalizes the level of a clip by construction;
    - `clip_unlikeness`: root mean square of the clip's pooled features, standardized by those of the training
      clips; 1 for one of these, None where the head keeps no such statistics;
    - `baseline_unlikeness`: the same for the baselines, on average;
    - `leaks`: [`measure_leak`][wavshap_lightning.explainer.leak.measure_leak], by stage.

    Args:
        clip: The clip in the classifier.
        target: Scalar to explain; of several classes the predicted one is probed, of dimensions the first.
        attributions: By stage, whose leaks are measured.
    """
    asked = target if target.num_targets == 1 else clip.target(PREDICTED)
    stages, seed = clip.stages, clip.settings.seed
    some = _some(clip.baselines, seed).to(clip.waveform)
    of_baselines = stages.from_waveforms(some)
    of_quieter = stages.from_waveforms(QUIETER * clip.waveform[None])
    score, quieter = (float(asked(logits)[0, 0]) for logits in (clip.logits[None], of_quieter))
    probed: tuple[Stage, ...] = ("waveform", "frames")
    change = score - float(asked(of_baselines)[:, 0].mean())
    backbone, task = clip.classifier.backbone, clip.classifier.task
    outputs = logits_to_outputs(of_baselines, task)[:, asked.classes[0]]
    is_group_norm = getattr(backbone.model.config, "feat_extract_norm", None) == "group"
    return {
        "target": clip.classifier.labels[asked.classes[0]],
        "baselines": clip.settings.baselines,
        "early_shares": {
            stage: _early_share(clip, stage, asked) for stage in probed if stage in clip.settings.stages
        },
        "level_response": _relative(quieter - score, change),
        "baseline_probability": None if task == "dimensions" else float(outputs.mean()),
        "gain_invariant": is_group_norm or backbone.normalize,
        "clip_unlikeness": _unlikeness(clip, clip.waveform[None]),
        "baseline_unlikeness": _unlikeness(clip, some),
        "leaks": {
            stage: measure_leak(clip, stage, attributions[stage], some, asked.classes[0])
            for stage in STAGES
            if attributions and stage != "waveform" and stage in attributions
        },
    }


def _early_share(clip: OpenClip, stage: Stage, target: Target) -> float:
    """Share of the total that arises in the first step from the baselines."""
    x, baselines = clip.stages.begin(stage, clip.waveform, clip.baselines)
    some, score = _some(baselines, clip.settings.seed).to(x), clip.stages.score(stage)
    after_step = some + FIRST_STEP * (x - some)
    at_start, early, at_end = (
        float(target(score(points))[:, 0].mean()) for points in (some, after_step, x[None])
    )
    return _relative(early - at_start, at_end - at_start)


def _some(baselines: Baselines, seed: int) -> Tensor:
    if not isinstance(baselines, BaselineDistribution):
        return baselines.values[:NUM_BASELINES]
    return baselines.draw(NUM_BASELINES, torch.Generator().manual_seed(seed))


def _relative(change: float, whole: float) -> float:
    return change / whole if abs(whole) > torch.finfo(torch.float32).eps else 0.0


def _unlikeness(clip: OpenClip, waveforms: Float[Tensor, "clips samples"]) -> float | None:
    stages, head = clip.stages, clip.classifier.head
    found = unlikeness(head, stages.pool(stages.mix(stages.encoder(stages.frontend(waveforms)))))
    return None if found.isnan().any() else float(found.mean())


def unlikeness(head: EmotionHead, pooled: Float[Tensor, "clips features"]) -> Float[Tensor, " clips"]:
    """Root mean square of pooled features, standardized by the mean and variance of the training clips.

    About 1 for a training clip, NaN where the head keeps no such statistics.
    """
    norm = next(iter(head.mlp), None)
    if not isinstance(norm, nn.BatchNorm1d) or not norm.num_batches_tracked:
        return pooled.new_full((len(pooled),), torch.nan)
    return norm(pooled).square().mean(1).sqrt()


def attribution_diagnostics(
    attributions: Mapping[str, Attribution], index: int, frame_level_db: Float[Tensor, " frames"]
) -> Iterator[Diagnostic]:
    """Diagnostics that follow from the attributions of one target.

    Args:
        attributions: By stage.
        index: Index of the target among those explained.
        frame_level_db: Level of each frame, in decibels.
    """
    for stage, found in attributions.items():
        gap = None if found.relative_gap is None else found.relative_gap[index]
        yield from _warnings_above("completeness_gap", gap, stage=stage)
        if not found.resolved:
            needed = None if found.draws_needed is None else float(found.draws_needed)
            message = f"The tolerance was not reached ({stage}): {found.unresolved_in_words()}."
            yield Diagnostic("tolerance_not_reached", "warning", message, needed)
    timed = next((stage for stage in STAGES if stage in attributions), STAGES[0])
    view = attributions[timed].views.get("frames")
    if view is None:
        return
    if timed != "waveform":
        shares = attribution_shares(view.values[index], frame_level_db)
        yield from _warnings_above("attribution_outside_speech", shares["pause"] + shares["edges"])
        if "padding" in shares:
            total = float(view.values[index, len(frame_level_db) :].sum())
            message = PADDED.format(share=shares["padding"], total=total)
            yield Diagnostic("attribution_to_padding", "note", message, shares["padding"])
    count = None if timed == "waveform" else len(frame_level_db)
    yield from _unresolved_frames(view, index, count)


def stage_disagreements(
    attributions: Mapping[str, Attribution], index: int, times: Mapping[str, TimeGrid], duration_s: float
) -> Iterator[Diagnostic]:
    """Notes of pairs of stages that are resolved in time and certainly differ in the strongest moment.

    The strongest 100 ms of the two are 100 ms apart or more, and in either map the sum over its own is larger
    in magnitude than that over the other's, by more than the 95 % half-width of the difference (of units with
    independent errors).

    Args:
        attributions: By stage.
        index: Index of the target among those explained.
        times: Position of the units in time, by stage.
        duration_s: Duration of the clip.
    """
    views = {stage: found.views["frames"] for stage, found in attributions.items() if "frames" in found.views}
    spans = {name: strongest_span(one.values[index], times[name], duration_s) for name, one in views.items()}
    for one, other in permutations(views, 2):  # the earlier one first
        margins = (
            _margin(views[name], index, times[name], spans[name], spans[rival])
            for name, rival in ((one, other), (other, one))
        )
        start, end = spans[one]
        if end + (end - start) <= spans[other][0] and min(margins) > 0:
            places = (f"{spans[name][0] / times[name].sample_rate:.2f} s ({name})" for name in (one, other))
            yield Diagnostic("stages_disagree", "note", STAGES_DISAGREE.format(*places))


def _margin(view: ViewEstimate, index: int, times: TimeGrid, own: Span, other: Span) -> float:
    """How much larger a map's sum over its own span is than over another, less the 95 % half-width."""
    centers = torch.from_numpy(times.center_s()) * times.sample_rate
    first, second = ((centers >= start) & (centers < end) for start, end in (own, other))
    values = view.values[index]
    errors = torch.zeros_like(values) if view.stderr is None else view.half_width()[index]
    return float(values[first].sum().abs() - values[second].sum().abs() - errors[first | second].norm())


def _unresolved_frames(view: ViewEstimate, index: int, count: int | None) -> Iterator[Diagnostic]:
    """The diagnostic for the first `count` frames, those of the clip."""
    found = measure_reliability(view, index, count)
    if found is None:
        return
    values, half_widths = view.values[index, :count], view.half_width()[index, :count]
    unresolved = values.abs() <= half_widths
    share, num_resolved = _share(values, unresolved), int((~unresolved).sum())
    mostly_noise = share > LARGE_UNRESOLVED_SHARE or not values.any()
    rest = f"; the others, whose intervals contain 0, hold {share:.0%} of the attribution" if share else ""
    if mostly_noise or 2 * num_resolved < len(values) or found.certain_share < LEAST_CERTAIN_SHARE:
        yield Diagnostic(
            "unresolved_frames",
            "warning" if mostly_noise else "note",
            f"{found.in_words('frames')}. {num_resolved} of {len(values)} frames are resolved{rest}. "
            "More draws resolve more.",
            share,
        )


def attribution_shares(
    values: Float[Tensor, " frames"], level_db: Float[Tensor, " clip_frames"]
) -> dict[str, float]:
    """Shares of the attributions' magnitude in speech, pauses, edges and any padding, which sum to one.

    Args:
        values: Attribution of each frame.
        level_db: Level of each frame of the clip; further frames are padding. A frame that is
            [too quiet for speech][wavshap_lightning.audio.segments.is_speech] is a pause, and an edge before
            the first or after the last frame of speech.

    >>> attribution_shares(torch.tensor([1.0, 2.0, -1.0, 4.0]), torch.tensor([-90.0, -20.0, -80.0, -25.0]))
    {'speech': 0.75, 'pause': 0.125, 'edges': 0.125}
    """
    speech = torch.from_numpy(is_speech(level_db.numpy()))
    between = speech.cummax(0).values & speech.flip(0).cummax(0).values.flip(0)
    places = {"speech": speech, "pause": between & ~speech, "edges": ~between}
    padding = len(values) - len(level_db)
    places |= {"padding": torch.zeros_like(speech)} if padding else {}
    return {
        name: _share(values, F.pad(inside, (0, padding), value=name == "padding"))
        for name, inside in places.items()
    }


def _share(values: Float[Tensor, " frames"], inside: Bool[Tensor, " frames"]) -> float:
    whole = float(values.abs().sum())
    return float(values[inside].abs().sum()) / whole if whole else 0.0
