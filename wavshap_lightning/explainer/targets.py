"""Targets by name: which scalar is explained, in the words of the labels."""

from __future__ import annotations

from collections.abc import Sequence

from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.errors import AttributionError
from wavshap_lightning.explainer.settings import ScoreKind

PREDICTED, ALL, VERSUS = "predicted", "all", "-vs-"


def target_named(
    name: str | Sequence[str], labels: Sequence[str], prediction: int, kind: ScoreKind
) -> Target:
    """The target that a name, or several, stand for.

    Args:
        name: A label; `"predicted"` for the class with the largest logit; `"all"` for every class at once;
            `"happy-vs-sad"` for the margin between two. Labels come first where one reads like these. Of
            several names each stands for a class, which is explained once however often it is meant.
        labels: The classes, in the order of the logits.
        prediction: The class with the largest logit.
        kind: Which score of a class; a margin is always the difference of two logits.

    Raises:
        AttributionError: If no label is meant, or it is not a name; the message lists them.

    >>> target_named("sad-vs-happy", ["happy", "sad"], 0, "log_odds")
    Target(kind='margin', classes=(1,), against=0)
    >>> target_named(["sad", "predicted"], ["happy", "sad"], 0, "log_odds")
    Target(kind='log_odds', classes=(1, 0), against=None)
    """
    if isinstance(name, list | tuple) and name:
        each = [target_named(one, labels, prediction, kind) for one in name]
        _check_classes(name, each)
        return Target(kind, tuple(dict.fromkeys(one.classes[0] for one in each)))
    if not isinstance(name, str):
        raise AttributionError(
            f"target={name!r} must be a name: one of {', '.join(labels)}, or {PREDICTED!r}, {ALL!r}"
        )
    if name in labels:
        return Target(kind, (labels.index(name),))
    if name == PREDICTED:
        return Target(kind, (prediction,))
    if name == ALL:
        return every_class(len(labels), kind)
    for label in labels:  # a label may hold the word between the two itself
        against = name.removeprefix(f"{label}{VERSUS}")
        if against in labels:
            return Target("margin", (labels.index(label),), against=labels.index(against))
    first = list(labels[:2])
    raise AttributionError(
        f"target={name!r} is no label of this classifier, which knows {', '.join(labels)}; use one of them, "
        f"{PREDICTED!r}, {ALL!r}, or a margin such as {VERSUS.join(first)!r}"
    )


def _check_classes(names: Sequence[str], targets: Sequence[Target]) -> None:
    for name, target in zip(names, targets, strict=True):
        if target.against is not None or target.num_targets > 1:
            raise AttributionError(
                f"target={list(names)} holds {name!r}, which is more than one class; explain it by itself"
            )


def target_names(target: Target, labels: Sequence[str]) -> tuple[str, ...]:
    """A name for each scalar of a target.

    >>> target_names(Target("margin", (1,), against=0), ["happy", "sad"])
    ('sad-vs-happy',)
    """
    against = "" if target.against is None else f"{VERSUS}{labels[target.against]}"
    return tuple(f"{labels[index]}{against}" for index in target.classes)
