"""Targets by name: labels, the prediction, all classes, or a margin between two; scores by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from wavshap_lightning.attribution.targets import Target, every_class
from wavshap_lightning.corpora.clip import normalized
from wavshap_lightning.errors import AttributionError, SettingError
from wavshap_lightning.explainer.settings import ALL, LISTENERS, PREDICTED, SECOND, VERSUS, ScoreKind
from wavshap_lightning.models.head import SOFTMAX_TASKS, Task

USUAL_SCORE: dict[Task, ScoreKind] = {"labels": "logit", "dimensions": "value"}
"""Default score of outputs that are not classes."""


def score_of_task(score: ScoreKind, task: Task) -> ScoreKind:
    """Score for a model's outputs: that of the settings, whose default means the usual one of the task.

    Raises:
        SettingError: If the outputs have no such score.

    >>> score_of_task("log_odds", "dimensions"), score_of_task("probability", "classes")
    ('value', 'probability')
    """
    usual = USUAL_SCORE.get(task, "log_odds")
    if score in ("log_odds", usual):
        return usual
    if task not in SOFTMAX_TASKS or score == "value":
        raise SettingError(f"score={score!r} does not exist for {task}; leave it out, for {usual!r}")
    return score


def target_named(
    name: str | Sequence[str],
    labels: Sequence[str],
    kind: ScoreKind,
    ranking: Sequence[int] = (),
    choices: Sequence[int] = (),
) -> Target:
    """Target for one name or several.

    Args:
        name: A label; `"predicted"` for the class with the largest logit (for values, which predict none of
            the dimensions, all of them); `"all"` for every class at once;
            `"happy-vs-sad"` for the margin between two; `"second"` for the class with the second largest
            logit, `"predicted-vs-second"` for its margin; `"listeners"` for the margin between the two
            classes with the most votes. A label with such a name takes precedence. In a list, each name
            stands for a class; repeated classes are explained once.
        labels: The classes, in the order of the logits.
        kind: Score of a class; a margin is always the difference of two logits.
        ranking: Indices of the classes, that with the largest logit first; none where no clip is known.
        choices: Indices of the classes with votes, that with the most first.

    Raises:
        AttributionError: If it is none of these, or the clip has no votes for two classes; the message lists
            the labels.

    >>> target_named("sad-vs-happy", ["happy", "sad"], "log_odds")
    Target(kind='margin', classes=(1,), against=0)
    >>> target_named(["sad", "predicted"], ["happy", "sad"], "log_odds", ranking=[0, 1])
    Target(kind='log_odds', classes=(1, 0), against=None)
    """
    is_value, every = kind == "value", every_class(len(labels), kind)
    ranked = zip((PREDICTED, SECOND), ranking, strict=False)
    known = {ALL: every} | {word: Target(kind, (index,)) for word, index in ranked}
    pairs = {f"{PREDICTED}{VERSUS}{SECOND}": ranking[:2], LISTENERS: choices[:2]}
    if is_value:
        known, pairs = {ALL: every, PREDICTED: every}, {}
    pairs |= {f"{labels[a]}{VERSUS}{labels[b]}": (a, b) for a, b in permutations(range(len(labels)), 2)}
    known |= {word: Target("margin", (pair[0],), pair[1]) for word, pair in pairs.items() if len(pair) > 1}
    known |= {label: Target(kind, (index,)) for index, label in enumerate(labels)}
    known = {normalized(one): target for one, target in known.items()}
    given: list[Any] = [*name] if isinstance(name, list | tuple) else [name]
    names = [normalized(one) if isinstance(one, str) else one for one in given]
    if not names or not all(isinstance(one, str) and one in known for one in names):
        if name == LISTENERS and not is_value:
            voted = ", ".join(labels[index] for index in choices) or "none"
            needed = "votes for two of the classes or more"
            raise AttributionError(f"target={name!r} needs {needed}; those of this clip are for {voted}")
        noun = "dimension" if is_value else "label"
        words = ", ".join(repr(one) for one in (PREDICTED, SECOND, LISTENERS, ALL) if one in known)
        margin = f", or a margin such as {VERSUS.join(labels[:2])!r}" if len(labels) > 1 else ""
        raise AttributionError(
            f"target={name!r} is not a {noun} of this classifier; {noun}s are {', '.join(labels)}; use one, "
            f"{words}{margin}"
        )
    found = [known[one] for one in names]
    if len(found) == 1:
        return found[0]
    if any(one.against is not None or one.num_targets > 1 for one in found):
        raise AttributionError(f"target={name!r}: explain {ALL!r} or a margin alone, without other targets")
    return Target(kind, tuple(dict.fromkeys(one.classes[0] for one in found)))


def check_target(name: str | Sequence[str], labels: Sequence[str], score: ScoreKind, task: Task) -> None:
    """Refuse a target that no clip has; the arguments are those of `target_named` and `score_of_task`.

    Raises:
        SettingError: If the outputs have no such score.
        AttributionError: If there is no such target.
    """
    places = range(len(labels))
    target_named(name, labels, score_of_task(score, task), places, places)


def most_voted(votes: Mapping[str, float], labels: Sequence[str]) -> list[int]:
    """Indices of the classes with votes, that with the most first; of equals the first label first.

    >>> most_voted({"angry": 1.0, "sad": 3.0, "bored": 2.0}, ["angry", "happy", "sad"])
    [2, 0]
    """
    voted = [index for index, label in enumerate(labels) if votes.get(label, 0) > 0]
    return sorted(voted, key=lambda index: -votes[labels[index]])


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
