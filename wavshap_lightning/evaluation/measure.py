"""Attribution methods measured on clips, each explained by every method and by model-agnostic controls."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.corpora.clip import Clip, Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.controls import CONTROLS, control_maps
from wavshap_lightning.evaluation.edits import consistency_of_maps
from wavshap_lightning.evaluation.faithfulness import faithfulness_of_maps
from wavshap_lightning.evaluation.localization import inside_spans, localize
from wavshap_lightning.evaluation.similarity import dependence, intraclass_correlation, randomize
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.recording import open_recording
from wavshap_lightning.explainer.settings import METHODS, PREDICTED, ExplainSettings
from wavshap_lightning.explainer.time_grid import times_of
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import SOFTMAX_TASKS
from wavshap_lightning.progress import progress_bars, without_progress_bars

Waveform = Float[Tensor, " samples"]
Frames = Float[Tensor, " time"]
Changes = dict[str, list[tuple[EmotionClassifier, str]]]
"""By metric of sanity, classifiers and labels to explain instead."""

LABEL = "label"


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
    sanity_clips: int = 10,
    others: Sequence[EmotionClassifier] = (),
    seed: int = 0,
) -> dict[str, dict[str, list[float]]]:
    """Measure every metric of every method and control on every clip, for a scorecard.

    A progress bar is shown on standard error if that is a terminal. The classifier is not changed.

    Args:
        classifier: The classifier to explain.
        clips: The clips; localization is measured on those with evidence.
        methods: Settings of each method by name, with `stages=("frames",)`; [`usual_methods`][] if None.
        target: The explained class of each clip: `"label"`, the annotated one, or `"predicted"`.
        sanity_clips: Number of clips, evenly spaced, for the sanity checks; 0 for none. Each method explains
            these clips three times more.
        others: Classifiers with heads trained from other seeds on the same backbone; each method explains
            the sanity clips with each of them too.
        seed: Random seed of fills, orders, removals, randomized parameters and controls.

    Raises:
        AudioError: If a clip cannot be read.
        SettingError: If there is no clip, a label to explain is not one of the classifier's, a method has
            other stages or the name of a control, the outputs are no classes, or the others have other
            classes or another backbone.
    """
    methods = usual_methods(seed) if methods is None else methods
    _check_settings(methods, target)
    _check_inputs(classifier, clips, target, others)
    checked, rows = evenly_spaced(sanity_clips, len(clips)), []
    with leave_no_trace(classifier), progress_bars() as bar, without_progress_bars():
        report = bar("Scorecard")
        for index, clip in enumerate(clips):
            report(index, len(clips))
            clip_seed = seed * 1_000_003 + index  # one unlucky draw must not count in every clip
            generator = torch.Generator().manual_seed(clip_seed)
            waveform, ranked = _open(classifier, clip)
            label = ranked[0] if target == PREDICTED else clip.label
            other_label = next(other for other in ranked if other != label)
            changes: Changes = {}
            if index in checked:
                changes = {
                    "head_redrawn": [(randomize(classifier, "head", clip_seed), label)],
                    "all_redrawn": [(randomize(classifier, "all", clip_seed), label)],
                    "other_class": [(classifier, other_label)],
                    "other_seeds": [(other, label) for other in others],
                }
            maps, numbers = {}, {}
            for name, settings in methods.items():
                maps[name], numbers[name] = _measure_method(settings, classifier, label, waveform, changes)
            for name, values in control_maps(waveform, classifier.backbone.frame_grid, generator).items():
                # A control's map stays the same whatever is changed. That heads agree on it says nothing.
                same = {change: [values] for change in changes} | {"other_seeds": []}
                maps[name], numbers[name] = values, dependence(values, same)
            measured = _measure_maps(classifier, label, waveform, maps, clip.evidence, generator=generator)
            rows.append({name: numbers[name] | measured[name] for name in maps})
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


def _open(classifier: EmotionClassifier, clip: Clip) -> tuple[Waveform, list[str]]:
    """The waveform, and the labels from the most to the least probable."""
    waveform = open_recording(clip, classifier.backbone.frame_grid).waveform
    order = _logits(classifier, waveform).argsort(descending=True)
    return waveform, [classifier.labels[place] for place in order.tolist()]


def _logits(classifier: EmotionClassifier, waveform: Waveform) -> Float[Tensor, " classes"]:
    with torch.no_grad():
        return classifier(waveform[None].to(next(classifier.parameters()).device))[0]


def _measure_method(
    settings: ExplainSettings, classifier: EmotionClassifier, label: str, waveform: Waveform, changes: Changes
) -> tuple[Frames, dict[str, float]]:
    """A method's map, with the metrics of its estimate and of sanity."""
    began_s = time.perf_counter()
    explanation = Explainer(classifier, settings).explain(waveform, label, check_baselines=False)
    numbers = {"seconds": time.perf_counter() - began_s}
    found, values = explanation.attributions["frames"], explanation.values("frames", "frames")
    if found.relative_gap is not None:
        numbers["gap"] = found.relative_gap[0]
    view = found.views.get("spans", found.views["frames"])
    if view.stderr is not None:
        numbers["intraclass_correlation"] = intraclass_correlation(view.values[0], view.stderr[0])
    changed = {name: [_map(settings, *case, waveform) for case in cases] for name, cases in changes.items()}
    return values, numbers | dependence(values, changed)


def _map(settings: ExplainSettings, classifier: EmotionClassifier, label: str, waveform: Waveform) -> Frames:
    found = Explainer(classifier, settings).explain(waveform, label, check_baselines=False)
    return found.values("frames", "frames")


def _measure_maps(
    classifier: EmotionClassifier,
    label: str,
    waveform: Waveform,
    maps: Mapping[str, Frames],
    evidence: Sequence[Span],
    *,
    generator: torch.Generator,
) -> dict[str, dict[str, float]]:
    """Metrics of maps of the same clip, by whatever method: faithfulness, counterfactuals, localization."""
    target = Target("log_odds", (classifier.labels.index(label),))
    grid = classifier.backbone.frame_grid
    times = times_of(grid, len(waveform))["frames"]

    def score(sound: Waveform) -> float:  # slower speech may be longer than the model takes
        return float(target(_logits(classifier, sound[: grid.max_samples])[None])[0, 0])

    numbers = faithfulness_of_maps(classifier, waveform, target, maps, generator)
    edited = consistency_of_maps(score, waveform, times, maps)
    inside = inside_spans(times.center_s(), evidence)
    for name, values in maps.items():
        numbers[name] |= edited[name] | (localize(values, inside) if evidence else {})
    return numbers


def _check_settings(methods: Mapping[str, ExplainSettings], target: str) -> None:
    if target not in (LABEL, PREDICTED):
        raise SettingError(f"target={target!r} must be {LABEL!r} or {PREDICTED!r}")
    for name, settings in methods.items():
        if settings.stages != ("frames",):
            raise SettingError(f"methods[{name!r}] has stages={settings.stages}, not ('frames',)")
        if name in CONTROLS:
            raise SettingError(f"methods[{name!r}]: that is the name of a control; use another")


def _check_inputs(
    classifier: EmotionClassifier, clips: Sequence[Clip], target: str, others: Sequence[EmotionClassifier]
) -> None:
    if not clips:
        raise SettingError("clips=[] is empty; give at least one")
    if "frames" not in classifier.stages:
        raise SettingError("a scorecard removes frames, which this model does not have; give another")
    if classifier.task not in SOFTMAX_TASKS:
        raise SettingError(f"task={classifier.task!r}: a scorecard needs classes or a distribution of votes")
    known = ", ".join(classifier.labels)
    for clip in clips:
        if target == LABEL and clip.label not in classifier.labels:
            wrong = f"path={clip.path}: label={clip.label!r} is unknown to the classifier"
            raise SettingError(f"{wrong}, which knows {known}; use target={PREDICTED!r}")
    for place, other in enumerate(others):
        facts = [(one.labels, one.sample_rate, one.backbone.fingerprint) for one in (other, classifier)]
        if facts[0] != facts[1]:
            backbone = classifier.backbone.settings.name
            needed = f"the classifier's labels ({known}), sample rate and backbone ({backbone})"
            raise SettingError(f"others[{place}] must have {needed}; only the head may differ")
