"""Attribution methods measured on clips, each explained by every method and by model-agnostic controls."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from torch import Tensor

from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.controls import edge_map, energy_map, random_map
from wavshap_lightning.evaluation.edits import consistency_of_maps
from wavshap_lightning.evaluation.faithfulness import faithfulness_of_maps
from wavshap_lightning.evaluation.localization import inside_spans, localize
from wavshap_lightning.evaluation.sanity import dependence, randomize
from wavshap_lightning.evaluation.stability import reliability, sensitivities
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.recording import open_recording
from wavshap_lightning.explainer.settings import METHODS, PREDICTED, ExplainSettings
from wavshap_lightning.explainer.stage_attribution import without_progress_bars
from wavshap_lightning.explainer.time_grid import times_of
from wavshap_lightning.models.classifier import EmotionClassifier

Waveform = Float[Tensor, " samples"]
Frames = Float[Tensor, " time"]
Changes = Mapping[str, Sequence[tuple[EmotionClassifier, str]]]
"""By metric of sanity, classifiers and classes to explain instead."""

LABEL = "label"
CONTROLS = ("random", "energy", "edges")
SANITY_CLIPS = 10


def usual_methods(seed: int = 0) -> dict[str, ExplainSettings]:
    """The eight methods of the scorecard, along the path from the frames, otherwise with their defaults."""
    names = [name for name in METHODS if name != "shapley"]  # its cost doubles with every span
    return {name: ExplainSettings(stages=("frames",), method=name, seed=seed) for name in names}  # type: ignore[arg-type]


def measure(
    classifier: EmotionClassifier,
    clips: Sequence[Clip],
    methods: Mapping[str, ExplainSettings] | None = None,
    *,
    target: str = PREDICTED,
    sanity_clips: int = SANITY_CLIPS,
    others: Sequence[EmotionClassifier] = (),
    edits: bool = True,
    stability: bool = False,
    seed: int = 0,
) -> dict[str, dict[str, list[float]]]:
    """Every metric of every method and control on every clip, as a scorecard takes them.

    With a bar on standard error, where that is a terminal. The classifier is as it was afterwards.

    Args:
        classifier: The one to explain.
        clips: The clips; localization is measured on those with evidence.
        methods: By name, how each explains, along the path from the frames; [`usual_methods`][] if None.
        target: The explained class of each clip: `"label"`, the annotated one, or `"predicted"`.
        sanity_clips: Number of clips, evenly spaced, for the sanity checks; 0 for none. Each method explains
            these clips three times more.
        others: Classifiers that differ in the head alone, trained from other seeds: each method explains the
            clips of `sanity_clips` with each of them too.
        edits: Compare attributions with the effects of edits of pitch, tempo, level and tilt.
        stability: Explain each clip with noise by each method too, which is the most costly part.
        seed: Of fills, orders, removals, randomized parameters and controls.

    Raises:
        AudioError: If a clip cannot be read.
        SettingError: If there is no clip, one's label is unknown to the classifier and is to be explained, a
            method takes other paths or has a control's name, or the others have other classes or another
            backbone.
    """
    methods = usual_methods(seed) if methods is None else methods
    _check(classifier, clips, target, sanity_clips)
    _check_methods(methods)
    _check_others(classifier, others)
    checked, rows, console = evenly_spaced(sanity_clips, len(clips)), [], Console(stderr=True)
    with leave_no_trace(classifier), without_progress_bars():
        shown = track(clips, "Scorecard", console=console, transient=True, disable=not console.is_terminal)
        for index, clip in enumerate(shown):
            grid, rate = classifier.backbone.frame_grid, classifier.sample_rate
            waveform = open_recording(clip, rate, min_samples=grid.receptive_field_samples).waveform
            order = _logits(classifier, waveform).argsort(descending=True).tolist()
            ranked = [classifier.labels[place] for place in order]
            label = ranked[0] if target == PREDICTED else clip.label
            clip_seed = seed * 1_000_003 + index  # one unlucky draw must not count in every clip
            changes = _changes(classifier, label, ranked, others, clip_seed) if index in checked else {}
            numbers = _measure_clip(
                classifier,
                waveform,
                label,
                methods,
                changes,
                generator=torch.Generator().manual_seed(clip_seed),
                evidence=clip.evidence,
                edits=edits,
            )
            if stability:
                for name, settings in methods.items():
                    numbers[name] |= _sensitivities(classifier, waveform, label, settings, seed)
            rows.append(numbers)
    names = dict.fromkeys(name for row in rows for numbers in row.values() for name in numbers)
    return {
        method: {name: [row[method].get(name, float("nan")) for row in rows] for name in names}
        for method in (*methods, *CONTROLS)
    }


def evenly_spaced(count: int, num_clips: int) -> set[int]:
    """Numbers of some of the clips, from the first to the last.

    >>> sorted(evenly_spaced(3, 7))
    [0, 3, 6]
    """
    return {round(place * (num_clips - 1) / max(count - 1, 1)) for place in range(count)}


def _measure_clip(
    classifier: EmotionClassifier,
    waveform: Waveform,
    label: str,
    methods: Mapping[str, ExplainSettings],
    changes: Changes,
    *,
    generator: torch.Generator,
    evidence: Sequence[Span],
    edits: bool,
) -> dict[str, dict[str, float]]:
    """All metrics of each method and control, but for those of stability."""
    maps: dict[str, Frames] = {}
    numbers: dict[str, dict[str, float]] = {}
    for name, settings in methods.items():
        maps[name], numbers[name] = _measure_method(classifier, waveform, label, settings, changes)
    grid = classifier.backbone.frame_grid
    controls = {
        "random": random_map(grid.num_frames(len(waveform)), generator),
        "energy": energy_map(waveform, grid),
        "edges": edge_map(waveform, grid),
    }
    for name, values in controls.items():
        # A control's map stays the same whatever is changed. That heads agree on it says nothing.
        same = {change: [values] for change in changes if change != "other_seeds"}
        maps[name], numbers[name] = values, dependence(values, same)
    target, times = (
        Target("log_odds", (classifier.labels.index(label),)),
        times_of(grid, len(waveform))["frames"],
    )

    def score(sound: Waveform) -> float:
        return float(target(_logits(classifier, sound)[None])[0, 0])

    groups = [faithfulness_of_maps(classifier, waveform, target, maps, generator)]
    if edits:
        groups.append(consistency_of_maps(score, waveform, times, maps))
    if evidence:
        inside = inside_spans(times.center_s(), evidence)
        groups.append({name: localize(values, inside) for name, values in maps.items()})
    for group in groups:
        for name, metrics in group.items():
            numbers[name] |= metrics
    return numbers


def _measure_method(
    classifier: EmotionClassifier, waveform: Waveform, label: str, settings: ExplainSettings, changes: Changes
) -> tuple[Frames, dict[str, float]]:
    """A method's map, with the metrics of its estimate and of sanity."""
    began_s = time.perf_counter()
    explanation = _explain(classifier, waveform, label, settings)
    numbers = {"seconds": time.perf_counter() - began_s}
    found, values = explanation.attributions["frames"], explanation.values("frames", "frames")
    if found.relative_gap is not None:
        numbers["gap"] = found.relative_gap[0]
    view = found.views.get("spans", found.views["frames"])
    if view.stderr is not None:
        numbers["reliability"] = reliability(view.values[0], view.stderr[0])
    changed = {
        change: [
            _explain(model, waveform, other, settings).values("frames", "frames") for model, other in cases
        ]
        for change, cases in changes.items()
    }
    return values, numbers | dependence(values, changed)


def _explain(
    classifier: EmotionClassifier, waveform: Waveform, label: str, settings: ExplainSettings
) -> Explanation:
    return Explainer(classifier, settings).explain(waveform, label, check_baselines=False)


def _sensitivities(
    classifier: EmotionClassifier, waveform: Waveform, label: str, settings: ExplainSettings, seed: int
) -> dict[str, float]:
    def explain(sound: Waveform) -> Frames:
        return _explain(classifier, sound, label, settings).values("frames", "frames")

    found = sensitivities(explain, waveform, torch.Generator().manual_seed(seed), num_perturbations=1)
    return {f"sensitivity_{snr_db:.0f}": value for snr_db, value in found.items()}


def _changes(
    classifier: EmotionClassifier,
    label: str,
    ranked: Sequence[str],
    others: Sequence[EmotionClassifier],
    seed: int,
) -> Changes:
    """Parameters randomized, the most probable other class, and heads of other seeds."""
    changes = {
        "head_redrawn": [(randomize(classifier, "head", seed), label)],
        "all_redrawn": [(randomize(classifier, "all", seed), label)],
        "other_class": [(classifier, next(other for other in ranked if other != label))],
    }
    return changes | ({"other_seeds": [(other, label) for other in others]} if others else {})


def _logits(classifier: EmotionClassifier, waveform: Waveform) -> Float[Tensor, " classes"]:
    with torch.no_grad():
        return classifier(waveform[None].to(next(classifier.parameters()).device))[0]


def _check(classifier: EmotionClassifier, clips: Sequence[Clip], target: str, sanity_clips: int) -> None:
    if not clips:
        raise SettingError("clips=[] is empty; give at least one")
    if target not in (LABEL, PREDICTED):
        raise SettingError(f"target={target!r} must be {LABEL!r} or {PREDICTED!r}")
    if sanity_clips < 0:
        raise SettingError(f"sanity_clips={sanity_clips} must be at least 0, which is none")
    for clip in clips:
        if target == LABEL and clip.label not in classifier.labels:
            raise SettingError(
                f"path={clip.path}: label={clip.label!r} is unknown to the classifier, which knows "
                f"{', '.join(classifier.labels)}; use target={PREDICTED!r}"
            )


def _check_methods(methods: Mapping[str, ExplainSettings]) -> None:
    for name, settings in methods.items():
        if settings.stages != ("frames",):
            raise SettingError(
                f"methods[{name!r}] has stages={list(settings.stages)}; methods are compared along "
                "stages=['frames']"
            )
        if name in CONTROLS:
            raise SettingError(f"methods[{name!r}]: that is the name of a control; use another")


def _check_others(classifier: EmotionClassifier, others: Sequence[EmotionClassifier]) -> None:
    for place, other in enumerate(others):
        if other.labels != classifier.labels or other.sample_rate != classifier.sample_rate:
            raise SettingError(
                f"others[{place}] knows {', '.join(other.labels)} at {other.sample_rate} Hz, the classifier "
                f"{', '.join(classifier.labels)} at {classifier.sample_rate} Hz; compare heads of the same "
                "classes, in the same order"
            )
        if other.backbone.fingerprint != classifier.backbone.fingerprint:
            raise SettingError(
                f"others[{place}].backbone.fingerprint={other.backbone.fingerprint[:12]} must be the "
                f"classifier's, {classifier.backbone.fingerprint[:12]}: others differ in the seed of the "
                "head alone; train them on the same backbone"
            )
