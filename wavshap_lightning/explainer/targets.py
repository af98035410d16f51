"""Targets by name: labels, the prediction, all classes, or a margin between two; scores by task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.corpora.clip import normalized
from wavshap_lightning.errors import AttributionError, SettingError
from wavshap_lightning.explainer.settings import ALL, PREDICTED, VERSUS, ScoreKind
from wavshap_lightning.models.head import Task

USUAL_SCORE: dict[Task, ScoreKind] = {"classes": "log_odds", "labels": "logit", "dimensions": "value"}


def score_of_task(score: ScoreKind, task: Task) -> ScoreKind:
    """Score for a model's outputs: that of the settings, whose default means the usual one of the task.

    Raises:
        SettingError: If the outputs have no such score.

    >>> score_of_task("log_odds", "dimensions"), score_of_task("probability", "classes")
    ('value', 'probability')
    """
    usual = USUAL_SCORE[task]
    if score in ("log_odds", usual):
        return usual
    if task != "classes" or score == "value":
        raise SettingError(f"score={score!r} does not exist for {task}; leave it out, for {usual!r}")
    return score


def target_named(
    name: str | Sequence[str], labels: Sequence[str], prediction: int, kind: ScoreKind
) -> Target:
    """Target for one name or several.

    Args:
        name: A label; `"predicted"` for the class with the largest logit (for values, which predict none of
            the dimensions, all of them); `"all"` for every class at once;
            `"happy-vs-sad"` for the margin between two. A label with such a name takes precedence. In a list,
            each name stands for a class; repeated classes are explained once.
        labels: The classes, in the order of the logits.
        prediction: Index of the class with the largest logit.
        kind: Score of a class; a margin is always the difference of two logits.

    Raises:
        AttributionError: If it is none of these; the message lists the labels.

    >>> target_named("sad-vs-happy", ["happy", "sad"], 0, "log_odds")
    Target(kind='margin', classes=(1,), against=0)
    >>> target_named(["sad", "predicted"], ["happy", "sad"], 0, "log_odds")
    Target(kind='log_odds', classes=(1, 0), against=None)
    """
    known = {
        f"{label}{VERSUS}{other}": Target("margin", (index,), against=against)
        for index, label in enumerate(labels)
        for against, other in enumerate(labels)
        if index != against
    }
    every = every_class(len(labels), kind)
    known |= {PREDICTED: every if kind == "value" else Target(kind, (prediction,)), ALL: every}
    known |= {label: Target(kind, (index,)) for index, label in enumerate(labels)}
    known = {normalized(one): target for one, target in known.items()}
    given: list[Any] = [*name] if isinstance(name, list | tuple) else [name]
    names = [normalized(one) if isinstance(one, str) else one for one in given]
    if not names or not all(isinstance(one, str) and one in known for one in names):
        noun = "dimension" if kind == "value" else "label"
        margin = f", or a margin such as {VERSUS.join(labels[:2])!r}" if len(labels) > 1 else ""
        raise AttributionError(
            f"target={name!r} is not a {noun} of this classifier; {noun}s are {', '.join(labels)}; use one, "
            f"{PREDICTED!r}, {ALL!r}{margin}"
        )
    found = [known[one] for one in names]
    if len(found) == 1:
        return found[0]
    if any(one.against is not None or one.num_targets > 1 for one in found):
        raise AttributionError(f"target={name!r}: explain {ALL!r} or a margin alone, without other targets")
    return Target(kind, tuple(dict.fromkeys(one.classes[0] for one in found)))


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
