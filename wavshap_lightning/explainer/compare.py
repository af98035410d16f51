"""Two classifiers on one clip: the same draws for both, and the difference with its own interval.

With scores `f1, f2` of the two, the attributions of the difference are those of `f2 - f1`: attributions are
linear in the score. Where both see the same input at the beginning of a path, one run explains `f1`, `f2` and
`f2 - f1` at once, draw by draw, so that the sampling error common to both is no part of the difference's
standard error. The waveform is the same for any two; frames are where backbones have the same weights, and
layers where these are frozen besides. Elsewhere each has its own run with the same seed, and the errors count
as if they were independent, `sqrt(se1^2 + se2^2)`, which is no less than the error unless the two err in
opposite directions.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.record import ViewEstimate
from wavshap_lightning.attribution.reliability import measure_agreement
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.attribution.views.frames import summed
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.recording import AudioSource
from wavshap_lightning.explainer.settings import DEFAULT_DRAWS, STAGES, Stage
from wavshap_lightning.explainer.stage_attribution import OpenClip, open_clip
from wavshap_lightning.models.classifier import EmotionClassifier

# Views by stage that have the same meaning in both classifiers.
COMPARED = {"frames": ("frames",), "layers": ("frames", "layers"), "waveform": ("frames", "bands")}

# Numbers of each classifier; those of dimensions have values, the others a prediction and probabilities.
KEPT = ("task", "values", "prediction", "probabilities", "score", "settings", "stages")

FIRST, SECOND, DIFFERENCE = 0, 1, 2


@dataclass(frozen=True)
class Difference:
    """Attributions of one view by both classifiers.

    Args:
        first: Attributions of the first classifier.
        second: Attributions of the second classifier.
        half_width: Half-widths of the 95 % intervals of `second - first`; None for methods without intervals.
        paired: Whether the difference was estimated draw by draw.
    """

    first: ViewEstimate
    second: ViewEstimate
    half_width: Float[Tensor, " units"] | None
    paired: bool

    @property
    def values(self) -> Float[Tensor, " units"]:
        """Attributions of the second classifier minus those of the first."""
        return self.second.values[0] - self.first.values[0]


@dataclass(frozen=True)
class Comparison:
    """Explanations of one clip by two classifiers, and their differences.

    Args:
        first: Explanation by the first.
        second: Explanation by the second.
        target: Target that is compared: a label of both, or a margin.
        differences: By stage and view.
    """

    first: Explanation
    second: Explanation
    target: str
    differences: Mapping[tuple[str, str], Difference]


def agreement_of(explanations: Sequence[Explanation]) -> dict[str, Any] | None:
    """Agreement of several classifiers about the strongest frames of a clip, for the target of the first.

    Args:
        explanations: Of one clip, by two classifiers or more.

    Returns:
        The fields of [`Agreement`][wavshap_lightning.attribution.reliability.Agreement] in plain JSON types;
        None unless all have two frames or more, from the same stage and at the same times.

    Raises:
        AttributionError: If one of them did not explain the target.
    """
    first, target = explanations[0], explanations[0].default_target
    (stage, times), *others = {(one.time_stage, one.times.get(one.time_stage or "")) for one in explanations}
    if stage is None or times is None or others or (count := times.num_within(first.duration_s)) < 2:
        return None
    maps = torch.stack([one.values(stage, "frames", target)[:count].double() for one in explanations])
    found = [one.reliability(stage=stage, target=target) for one in explanations]
    return vars(measure_agreement(maps, [one.survival for one in found if one is not None]))


def plain_comparisons(comparisons: Sequence[Comparison], names: Sequence[str]) -> dict[str, Any]:
    """Comparisons of several classifiers with the same first one, in plain JSON types.

    `models` holds an object for each classifier, beginning with the first. `stages` holds, by stage and view,
    the attributions of the first and an object for each `other`: its attributions and their difference from
    the first's, or None if it has other units, such as another number of layers. `agreement` is that of all.

    Args:
        comparisons: Of one clip with the first classifier, in the order of the others.
        names: Names of the classifiers, beginning with the first.
    """
    first, target = comparisons[0].first, comparisons[0].target
    stages: dict[str, dict[str, Any]] = {}
    for stage, view in dict.fromkeys(key for one in comparisons for key in one.differences):
        found = [one.differences.get((stage, view)) for one in comparisons]
        known = next(one for one in found if one is not None)
        columns = first.to_columns(view, stage=stage)
        stages.setdefault(stage, {})[view] = {
            **{end: columns[end].tolist() for end in ("start_s", "end_s") if end in columns},
            "first": known.first.values[0].tolist(),
            "others": [None if one is None else _plain_difference(one) for one in found],
        }
    models, explanations = [], [first, *(one.second for one in comparisons)]
    for name, explanation in zip(names, explanations, strict=True):
        plain = explanation.to_dict(target=target)
        fingerprint = next(iter(explanation.attributions.values())).provenance["model_fingerprint"]
        kept = {key: plain[key] for key in KEPT if key in plain}
        models.append({"model": name, "fingerprint": fingerprint, **kept})
    facts = {"clip": first.clip, "sha256": first.clip_sha256, "target": target}
    return {**facts, "models": models, "agreement": agreement_of(explanations), "stages": stages}


def _plain_difference(difference: Difference) -> dict[str, Any]:
    half_width = difference.half_width
    return {
        "attribution": difference.second.values[0].tolist(),
        "difference": difference.values.tolist(),
        "half_width": None if half_width is None else half_width.tolist(),
        "paired": difference.paired,
    }


def compare(
    first: Explainer,
    second: EmotionClassifier,
    clip: AudioSource,
    explanation: Explanation,
    *,
    recordings: Sequence[AudioSource] = (),
) -> Comparison:
    """Explain a clip with a second classifier, using the same draws, and compare.

    Args:
        first: The first classifier, with the settings for both.
        second: The second classifier.
        clip: A file, a clip of a corpus, or a waveform at the classifiers' sample rate.
        explanation: Explanation by the first. If it has several targets, its default one is compared.
        recordings: Baselines, where the settings name a family of recordings.

    Raises:
        SettingError: If the two have different frames, sample rates or kinds of outputs.
        AttributionError: If the second classifier does not have the target's classes.
        WavshapError: If one of them cannot explain the clip.
    """
    check_comparable(first.classifier, second)
    target, asked = explanation.default_target, explanation.settings
    draws = max(found.num_draws for found in explanation.attributions.values())
    settings = replace(asked, num_draws=draws or DEFAULT_DRAWS, tolerance=None, max_seconds=None, layer=None)
    settings = replace(settings, baselines=first.settings.baselines)  # as the first chose, so the second does
    with (
        open_clip(first.classifier, clip, settings, recordings) as one,
        open_clip(second, clip, one.settings, one.recordings) as other,
    ):
        settings = one.settings
        again = partial(Explainer.explain, target=target, recordings=one.recordings, check_baselines=False)
        if asked.tolerance or asked.max_seconds or len(explanation.targets) > 1:
            explanation = again(Explainer(first.classifier, settings), one.recording)
        found = (explanation, again(Explainer(second, settings), one.recording))
        alike = _alike(first.classifier, second) if settings.method == "gradient_shap" else ()
        differences: dict[tuple[str, str], Difference] = {
            (stage, view): difference
            for stage in STAGES
            if stage in settings.stages and stage in second.stages
            for view, difference in (
                _paired(stage, one, other, target) if stage in alike else _apart(stage, *found)
            ).items()
        }
    return Comparison(*found, target, differences)


def check_comparable(first: EmotionClassifier, second: EmotionClassifier) -> None:
    """Raise if two classifiers have outputs of another meaning or name, or frames that lie at other times.

    Args:
        first: The first classifier.
        second: The second classifier.

    Raises:
        SettingError: If they do not.
    """
    if first.task != second.task or not {*first.labels} & {*second.labels}:
        names = " and of ".join(f"{one.task} ({', '.join(one.labels)})" for one in (first, second))
        raise SettingError(f"compare: models of {names}; compare two of one kind, with common labels")
    if first.backbone.frame_grid != second.backbone.frame_grid:
        facts = "{0.name!r} (pad_to_window={0.pad_to_window}, {1} Hz)"
        names = " and ".join(facts.format(one.backbone.settings, one.sample_rate) for one in (first, second))
        raise SettingError(
            f"compare: {names} have different frames; compare models with frames at the same times"
        )


def _alike(first: EmotionClassifier, second: EmotionClassifier) -> tuple[Stage, ...]:
    """Stages at whose input both see the same."""
    one, other = first.backbone, second.backbone
    if (one.fingerprint, one.normalize) != (other.fingerprint, other.normalize):
        return ("waveform",)
    frozen = one.settings.frozen and other.settings.frozen
    return ("waveform", "frames", "layers") if frozen else ("waveform", "frames")


def _paired(stage: Stage, first: OpenClip, second: OpenClip, target: str) -> dict[str, Difference]:
    """Both classifiers as one score with three columns: the first's, the second's, and their difference."""
    scores = [one.stages.score(stage) for one in (first, second)]
    targets = [one.target(target) for one in (first, second)]

    def joint(inputs: Float[Tensor, "inputs _ *rest"]) -> Float[Tensor, "inputs 3"]:
        one, other = (target(score(inputs)) for target, score in zip(targets, scores, strict=True))
        return torch.cat([one, other, other - one], 1)

    # Two heads mix the layers differently, so that the path goes through the layers themselves.
    of_layers = (summed(0, 2, name="frames", smooth_variance=True), summed(1, 2, name="layers"))
    views = of_layers if stage == "layers" else first.views(stage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # equal classifiers differ by 0, which is no defect
        found = first.attribute(
            stage,
            Target("logit", (FIRST, SECOND, DIFFERENCE)),
            score=joint,
            views=[view for view in views if view.name in COMPARED[stage]],
        )
    return {name: _difference(found.views[name]) for name in COMPARED[stage]}


def _difference(view: ViewEstimate) -> Difference:
    """From the first, the second and their difference as three targets."""
    first, second, difference = (
        replace(view, values=view.values[[row]], stderr=None if view.stderr is None else view.stderr[[row]])
        for row in (FIRST, SECOND, DIFFERENCE)
    )
    half_width = None if difference.stderr is None else difference.half_width()[0]
    return Difference(first, second, half_width, paired=True)


def _apart(stage: Stage, first: Explanation, second: Explanation) -> dict[str, Difference]:
    """From two runs of the same seed, as if their errors were independent."""
    differences: dict[str, Difference] = {}
    for name in COMPARED[stage]:
        one, other = (explanation.attributions[stage].views[name] for explanation in (first, second))
        if one.values.shape != other.values.shape:
            continue  # another number of layers
        known = one.stderr is not None and other.stderr is not None
        half_width = torch.hypot(one.half_width()[0], other.half_width()[0]) if known else None
        differences[name] = Difference(one, other, half_width, paired=False)
    return differences
