"""What people must know before they believe an explanation."""

from __future__ import annotations

from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import RECORDED_FAMILIES
from wavshap_lightning.models.classifier import EmotionClassifier

LARGE_GAP = 0.1
"""Of what is explained, before the gap was closed."""

MOSTLY = 0.5
WHEN = ("frames", "waveform")


def ignores_level(classifier: EmotionClassifier) -> bool:
    """Whether a clip gives the same frames however quiet it is, and a path from silence is ill-posed."""
    norm = getattr(classifier.backbone.model.config, "feat_extract_norm", None)
    return norm == "group" or classifier.backbone.normalise


def caveats(
    explanation: Explanation, classifier: EmotionClassifier, *, target: str | None = None
) -> list[str]:
    """Warnings about one target, a sentence or two each; an empty list if there are none.

    They come of silence as a baseline of a model that divides the level out, of a gap above 10 % before it
    was closed, of a tolerance that was not reached, and of frames that together hold most of the attribution
    though the interval of each contains 0.

    Args:
        explanation: What is looked at.
        classifier: What was explained.
        target: As in [`Explanation.values`][wavshap_lightning.explainer.explanation.Explanation.values].
    """
    found = [_silence(explanation, classifier), *_gaps(explanation, target), *_tolerances(explanation)]
    return [words for words in (*found, _noise(explanation, target)) if words]


def _silence(explanation: Explanation, classifier: EmotionClassifier) -> str:
    settings = explanation.settings
    if settings.baselines != "silence" or not ignores_level(classifier):
        return ""
    others = ", ".join(("noise", *RECORDED_FAMILIES[:1]))
    return (
        "Silence is an ill-posed baseline here: this model divides the level out, so that all of the change "
        f"lies at the very beginning of the path. Use another family, such as {others}."
    )


def _gaps(explanation: Explanation, target: str | None) -> list[str]:
    gaps = explanation.relative_gap(target)
    return [
        f"The gap of the path from the {path} was {gap:.0%} before it was closed; take more draws."
        for path, gap in gaps.items()
        if gap is not None and gap > LARGE_GAP
    ]


def _tolerances(explanation: Explanation) -> list[str]:
    words = {path: found.unresolved_in_words() for path, found in explanation.attributions.items()}
    return [f"The tolerance was not reached ({path}): {said}." for path, said in words.items() if said]


def _noise(explanation: Explanation, target: str | None) -> str:
    path = next((path for path in WHEN if path in explanation.attributions), None)
    if path is None:
        return ""
    values, half_widths = (
        explanation.values(path, "frames", target),
        explanation.half_widths(path, "frames", target),
    )
    if half_widths is None:
        return ""
    unresolved = values.abs() <= half_widths
    whole = float(values.abs().sum())
    share = float(values[unresolved].abs().sum()) / whole if whole else 1.0
    if share <= MOSTLY:
        return ""
    return (
        f"Frames whose interval contains 0 hold {share:.0%} of the attribution: the moments are mostly "
        "chance so far; take more draws."
    )
