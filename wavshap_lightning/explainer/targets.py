"""Targets by name: labels, the prediction, all classes, or a margin between two."""

from __future__ import annotations

from collections.abc import Sequence

from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.errors import AttributionError
from wavshap_lightning.explainer.settings import ALL, PREDICTED, VERSUS, ScoreKind


def target_named(
    name: str | Sequence[str], labels: Sequence[str], prediction: int, kind: ScoreKind
) -> Target:
    """Target for one name or several.

    Args:
        name: A label; `"predicted"` for the class with the largest logit; `"all"` for every class at once;
            `"happy-vs-sad"` for the margin between two. Labels come first where one reads like these. Of
            several names each stands for a class, which is explained once even if it is named twice.
        labels: The classes, in the order of the logits.
        prediction: Index of the class with the largest logit.
        kind: Score of a class; a margin is always the difference of two logits.

    Raises:
        AttributionError: If it is no label of the classifier, or not a name; the message lists the labels.

    >>> target_named("sad-vs-happy", ["happy", "sad"], 0, "log_odds")
    Target(kind='margin', classes=(1,), against=0)
    >>> target_named(["sad", "predicted"], ["happy", "sad"], 0, "log_odds")
    Target(kind='log_odds', classes=(1, 0), against=None)
    """
    if isinstance(name, list | tuple) and name:
        each = {one: target_named(one, labels, prediction, kind) for one in name}
        more = [one for one, target in each.items() if target.against is not None or target.num_targets > 1]
        if more:
            raise AttributionError(
                f"target={list(name)} holds {more[0]!r}, which is more than one class; explain it by itself"
            )
        return Target(kind, tuple(dict.fromkeys(target.classes[0] for target in each.values())))
    if not isinstance(name, str):
        raise AttributionError(f"target={name!r} must be a name: one of {', '.join(labels)}")
    if name in labels:
        return Target(kind, (labels.index(name),))
    if name == PREDICTED:
        return Target(kind, (prediction,))
    if name == ALL:
        return every_class(len(labels), kind)
    for label in labels:  # label by label: a label may itself contain "-vs-"
        against = name.removeprefix(f"{label}{VERSUS}")
        if against in labels:
            return Target("margin", (labels.index(label),), against=labels.index(against))
    raise AttributionError(
        f"target={name!r} is no label of this classifier, which knows {', '.join(labels)}; use one of them, "
        f"{PREDICTED!r}, {ALL!r}, or a margin such as {VERSUS.join(labels[:2])!r}"
    )


def target_names(target: Target, labels: Sequence[str]) -> tuple[str, ...]:
    """Name of each scalar of a target.

    Args:
        target: The target.
        labels: The classes, in the order of the logits.

    >>> target_names(Target("margin", (1,), against=0), ["happy", "sad"])
    ('sad-vs-happy',)
    """
    against = "" if target.against is None else f"{VERSUS}{labels[target.against]}"
    return tuple(f"{labels[index]}{against}" for index in target.classes)
