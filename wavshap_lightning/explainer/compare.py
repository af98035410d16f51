"""Two classifiers on one clip: the same draws for both, and the difference with an interval of its own.

With scores `f1, f2` of the two, the attributions of the difference are those of `f2 - f1`: attributions are
linear in the score. Where both see the same input at the beginning of a path, one run explains `f1`, `f2` and
`f2 - f1` at once, draw by draw, so that what chance does to both alike is no part of the difference's
standard error. The waveform is the same for any two; frames are where backbones have the same weights, and
layers where these are frozen besides. Elsewhere each has its own run with the same seed, and the errors count
as if they were independent, `sqrt(se1^2 + se2^2)`, which is no less than the error unless the two err in
opposite directions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.estimation.problem import Score
from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.record import Provenance, ViewEstimate
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import View, summed
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation, plain_times
from wavshap_lightning.explainer.paths import attribute, begin, units_of
from wavshap_lightning.explainer.recording import Recording
from wavshap_lightning.explainer.settings import DEFAULT_DRAWS, Stage
from wavshap_lightning.explainer.stages import Stages, open_stages, window_frames
from wavshap_lightning.explainer.targets import target_named
from wavshap_lightning.explainer.time_grid import TimeGrid, times_of
from wavshap_lightning.models.classifier import EmotionClassifier


@dataclass(frozen=True)
class Difference:
    """Some units of one path under both classifiers.

    Args:
        first: Attributions under the first.
        second: Under the second.
        half_width: Half the widths of the 95 % intervals of `second - first`; None for methods without.
        paired: Whether the interval is that of the difference itself, draw by draw.
    """

    first: ViewEstimate
    second: ViewEstimate
    half_width: Float[Tensor, " units"] | None
    paired: bool

    @property
    def values(self) -> Float[Tensor, " units"]:
        """What the second makes of it more than the first."""
        return self.second.values[0] - self.first.values[0]

    def to_dict(self) -> dict[str, Any]:
        """The second and the difference in plain JSON types."""
        return {
            "attribution": self.second.values[0].tolist(),
            "difference": self.values.tolist(),
            "half_width": None if self.half_width is None else self.half_width.tolist(),
            "paired": self.paired,
        }


@dataclass(frozen=True)
class Comparison:
    """What two classifiers hear in one clip.

    Args:
        first: What the first hears.
        second: What the second hears.
        target: What is compared: a label of both, or a margin.
        differences: By path and view.
    """

    first: Explanation
    second: Explanation
    target: str
    differences: Mapping[tuple[str, str], Difference]

    def to_dict(self) -> dict[str, Any]:
        """The comparison in plain JSON types; see [`plain_comparisons`][]."""
        return plain_comparisons([self])


def plain_comparisons(comparisons: Sequence[Comparison], names: Sequence[str] = ()) -> dict[str, Any]:
    """Comparisons of several classifiers with the same first one, in plain JSON types.

    Under `models` is a row for each classifier, the first one's first. Under `stages`, by stage and view, are
    the attributions of the first and a row for each `other`: its attributions and their difference to the
    first's; None where it has other units, such as another number of layers.

    Args:
        comparisons: Of one clip with the first classifier, in the order of the others.
        names: What the classifiers are called, the first one first; numbered if empty.
    """
    first, target = comparisons[0].first, comparisons[0].target
    names = names or [str(place + 1) for place in range(len(comparisons) + 1)]
    explanations = [first, *(one.second for one in comparisons)]
    keys = dict.fromkeys(key for one in comparisons for key in one.differences)
    paths: dict[str, dict[str, Any]] = {}
    for path, view in keys:
        found = [one.differences.get((path, view)) for one in comparisons]
        known = next(one for one in found if one is not None)
        paths.setdefault(path, {})[view] = {
            **(plain_times(first.times[path]) if view == "frames" else {}),
            "first": known.first.values[0].tolist(),
            "others": [None if one is None else one.to_dict() for one in found],
        }
    return {
        "clip": first.clip,
        "sha256": first.clip_sha256,
        "target": target,
        "models": [_of_model(name, one, target) for name, one in zip(names, explanations, strict=True)],
        "stages": paths,
    }


def _of_model(name: str, explanation: Explanation, target: str) -> dict[str, Any]:
    plain = explanation.to_dict(target=target)
    kept = ("prediction", "probabilities", "score", "settings", "stages")
    fingerprint = next(iter(explanation.attributions.values())).provenance.model_fingerprint
    return {"model": name, "fingerprint": fingerprint, **{key: plain[key] for key in kept}}


COMPARED = {"frames": ("frames",), "layers": ("layers",), "waveform": ("frames", "bands")}
"""Views by path that say the same of both."""

FIRST, SECOND, DIFFERENCE = 0, 1, 2


def compare(
    first: Explainer,
    second: EmotionClassifier,
    clip: Recording,
    explanation: Explanation,
    *,
    recordings: tuple[Tensor, ...] = (),
) -> Comparison:
    """Explain a clip with a second classifier, from the draws of the first.

    Args:
        first: The first, with the settings for both.
        second: The second.
        clip: The clip.
        explanation: What the first found in it. Its only target is compared, or, of several, its prediction.
        recordings: Baselines, as in
            [`Explainer.explain`][wavshap_lightning.explainer.explainer.Explainer.explain].

    Raises:
        SettingError: If the two have different frames or sample rates.
        AttributionError: If the second does not know the target.
        WavshapError: As `Explainer.explain` says.
    """
    check_comparable(first.classifier, second)
    targets = explanation.targets
    target = targets[0] if len(targets) == 1 else explanation.prediction
    draws = max(found.num_draws for found in explanation.attributions.values())
    settings = replace(
        explanation.settings, num_draws=draws or DEFAULT_DRAWS, tolerance=None, max_seconds=None, layer=None
    )
    both = (Explainer(first.classifier, settings), Explainer(second, settings))
    if explanation.settings.tolerance or explanation.settings.max_seconds or len(targets) > 1:
        explanation = both[0].explain(clip, target, recordings=recordings)
    found = (explanation, both[1].explain(clip, target, recordings=recordings))
    alike = _alike(first.classifier, second) if settings.method == "gradient_shap" else ()
    pair = _Pair(both, clip, target, recordings)
    differences: dict[tuple[str, str], Difference] = {}
    for path in settings.stages:
        views = pair.differences(path) if path in alike else _apart(path, *found)
        differences |= {(path, name): difference for name, difference in views.items()}
    return Comparison(found[0], found[1], target, differences)


def check_comparable(first: EmotionClassifier, second: EmotionClassifier) -> None:
    """Refuse classifiers whose frames lie elsewhere.

    Raises:
        SettingError: If they do.
    """
    grids = first.backbone.frame_grid, second.backbone.frame_grid
    if grids[0] != grids[1]:
        raise SettingError(
            f"compare: the backbones {first.backbone.settings.name!r} and {second.backbone.settings.name!r} "
            "have different frames; compare classifiers whose frames lie at the same times"
        )


def _alike(first: EmotionClassifier, second: EmotionClassifier) -> tuple[Stage, ...]:
    """The paths at whose beginning both see the same."""
    one, other = first.backbone, second.backbone
    if (one.fingerprint, one.normalize) != (other.fingerprint, other.normalize):
        return ("waveform",)
    frozen = one.settings.frozen and other.settings.frozen
    return ("waveform", "frames", "layers") if frozen else ("waveform", "frames")


@dataclass(frozen=True)
class _Pair:
    """Two classifiers as one score with three columns: the first's, the second's, and their difference."""

    explainers: tuple[Explainer, Explainer]
    clip: Recording
    target: str
    recordings: tuple[Tensor, ...]

    def differences(self, path: Stage) -> dict[str, Difference]:
        first, second = self.explainers
        settings = first.settings
        sound = first.open(self.clip)
        others = [first.open(other) for other in self.recordings]
        with leave_no_trace(first.classifier), leave_no_trace(second.classifier), _quiet():
            waveform = sound.waveform.to(next(first.classifier.parameters()).device)
            pieces = window_frames(settings, first.classifier.backbone.frame_grid, len(waveform))
            stages = [open_stages(one.classifier, settings.precision, pieces) for one in self.explainers]
            baselines = first.baselines(stages[0], sound, others)
            begun = begin(path, stages[0], waveform, baselines)
            scores = [_rest(path, one) for one in stages]
            targets = [self._target(one) for one in self.explainers]
            found = attribute(
                replace(begun, score=_joint(scores, targets)),
                Target("logit", (FIRST, SECOND, DIFFERENCE)),
                settings,
                self._views(path, stages[0], len(waveform)),
                self._times(len(waveform))[path],
                provenance=Provenance(),
            )
        return {name: _paired(found.views[name]) for name in COMPARED[path]}

    def _times(self, num_samples: int) -> Mapping[str, TimeGrid]:
        return times_of(self.explainers[0].classifier.backbone.frame_grid, num_samples)

    def _target(self, explainer: Explainer) -> Target:
        return target_named(self.target, explainer.classifier.labels, 0, explainer.settings.score)

    def _views(self, path: Stage, stages: Stages, num_samples: int) -> tuple[View, ...]:
        if path == "layers":
            return (summed(1, 2, name="layers"),)
        settings = self.explainers[0].settings
        units = units_of(path, settings, stages.mix_weights, self._times(num_samples), num_samples)
        return tuple(view for view in units if view.name in COMPARED[path])


def _rest(path: Stage, stages: Stages) -> Score:
    rests: dict[Stage, Score] = {
        "waveform": stages.from_waveforms,
        "frames": stages.from_frames,
        "layers": stages.from_layers,
    }
    return rests[path]


def _joint(scores: list[Score], targets: list[Target]) -> Score:
    def score(inputs: Float[Tensor, "inputs _ *rest"]) -> Float[Tensor, "inputs 3"]:
        first, second = (target(one(inputs)) for one, target in zip(scores, targets, strict=True))
        return torch.cat([first, second, second - first], 1)

    return score


def _paired(view: ViewEstimate) -> Difference:
    first, second = (
        replace(
            view,
            values=view.values[[row]].cpu(),
            stderr=None if view.stderr is None else view.stderr[[row]].cpu(),
        )
        for row in (FIRST, SECOND)
    )
    half_width = None if view.stderr is None else view.half_width()[DIFFERENCE].cpu()
    return Difference(first, second, half_width, paired=True)


def _apart(path: Stage, first: Explanation, second: Explanation) -> dict[str, Difference]:
    """From two runs of the same seed, as if their errors were independent."""
    views: dict[str, Difference] = {}
    for name in COMPARED[path]:
        one, other = (explanation.attributions[path].views[name] for explanation in (first, second))
        if one.values.shape != other.values.shape:
            continue  # another number of layers
        known = one.stderr is not None and other.stderr is not None
        half_width = (one.half_width()[0].square() + other.half_width()[0].square()).sqrt() if known else None
        views[name] = Difference(one, other, half_width, paired=False)
    return views


@contextmanager
def _quiet() -> Iterator[None]:
    """Two classifiers that are the same have no difference, and need not be told that it has no influence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
