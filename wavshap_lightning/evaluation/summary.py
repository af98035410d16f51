"""One explanation in a handful of numbers."""

from __future__ import annotations

from wavshap_lightning.evaluation.agreement import reliability
from wavshap_lightning.evaluation.concentration import evenness, magnitude_shares
from wavshap_lightning.explainer.explanation import Explanation

WHEN = ("frames", "waveform")


def summarise(explanation: Explanation, target: str) -> dict[str, float]:
    """What there is to say of one target, by name.

    `probability`, `score` and `baseline_score` of the target; for each path `gap/PATH` (relative, before the
    correction) and `draws/PATH`; of the frames `reliability`, `entropy` (1: spread evenly, 0: all in one) and
    `share/speech`, `share/pause`, `share/edges`; of the layers `layers/00` and so on, shares of the
    magnitude, where that path was taken.

    Args:
        explanation: Which.
        target: One of its targets, a label.
    """
    index = explanation.targets.index(target)
    numbers = {"probability": explanation.probabilities[target], "score": explanation.score[target]}
    for path, found in explanation.attributions.items():
        if found.mean_baseline_score is not None:
            numbers["baseline_score"] = found.mean_baseline_score[index]
        if found.relative_gap is not None:
            numbers[f"gap/{path}"] = found.relative_gap[index]
        numbers[f"draws/{path}"] = float(found.num_draws)
    return numbers | _of_frames(explanation, target) | _of_layers(explanation, target)


def when_path(explanation: Explanation) -> str | None:
    """The path whose frames say when: `"frames"`, else `"waveform"`; None if it has neither."""
    return next((path for path in WHEN if path in explanation.attributions), None)


def _of_frames(explanation: Explanation, target: str) -> dict[str, float]:
    path = when_path(explanation)
    if path is None:
        return {}
    values = explanation.values(path, "frames", target)
    stderr = explanation.attributions[path].views["frames"].stderr
    numbers = {"entropy": evenness(values)}
    if stderr is not None:
        numbers["reliability"] = reliability(values, stderr[explanation.targets.index(target)])
    if path == "frames":
        numbers |= {f"share/{where}": share for where, share in explanation.shares(target=target).items()}
    return numbers


def _of_layers(explanation: Explanation, target: str) -> dict[str, float]:
    if "layers" not in explanation.attributions:
        return {}
    shares = magnitude_shares(explanation.values("layers", "layers", target)).tolist()
    return {f"layers/{layer:02d}": share for layer, share in enumerate(shares)}
