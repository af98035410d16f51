"""A scorecard in words: what each method beats, and what it cannot be told apart from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from wavshap_lightning.evaluation.metrics import Group
from wavshap_lightning.evaluation.scorecard import Scorecard

Outcome = Literal["beats", "falls behind", "is not distinguishable from", "wins some and loses some against"]

FEWEST_CLIPS = 10
"""With fewer the intervals are too narrow to conclude anything, on a card as on one metric of it."""

RESOLVED = 0.9
"""Reliability from which on a map is called resolved: nine tenths of its scatter is not chance."""

ALIKE = 0.1
"""Likeness above which maps do not depend enough on what was drawn anew, held against the interval."""

SAME_MAP = 0.5
"""Rank correlation above which maps of two classes are much the same."""


def verdict(card: Scorecard, method: str) -> str:
    """What there is to say of one method.

    First whether its maps are resolved, and whether they depend on what was learned and on the class, which
    is no matter of being better than others; then, for each group of metrics that decides anything, what it
    beats: better, with an interval of the paired difference that excludes 0, by one deciding metric at least
    and worse by none.

    Args:
        card: The comparison.
        method: One of its methods.
    """
    if card.num_clips < FEWEST_CLIPS:
        return f"no verdict: {card.num_clips} clips are too few, take {FEWEST_CLIPS} at least"
    parts = [_resolution(card, method), *_sanity(card, method)] if method in card.compared else []
    others = [name for name in (*card.controls, *card.compared) if name != method]
    for group in get_args(Group):
        outcomes = {other: _outcome(card, method, other, group) for other in others}
        said = [
            f"{words} {_listed(name for name, found in outcomes.items() if found == words)}"
            for words in get_args(Outcome)
            if words in outcomes.values()
        ]
        if said:
            parts.append(f"on {group} it {', '.join(said)}")
    return "; ".join(parts)


def verdicts(card: Scorecard) -> dict[str, str]:
    """The verdict on each method that is no control."""
    return {method: verdict(card, method) for method in card.compared}


def _outcome(card: Scorecard, one: str, other: str, group: str) -> Outcome | None:
    """None where nothing decides that both have, on clips enough."""
    signs: list[int] = []
    for metric in card.metrics:
        difference = card.differences[one, other, metric.name]
        if metric.group == group and metric.decides and difference.num_clips >= FEWEST_CLIPS:
            signs.append(difference.sign if metric.higher_is_better else -difference.sign)
    return _sum_up(signs) if signs else None


def _sum_up(signs: Sequence[int]) -> Outcome:
    match (1 in signs, -1 in signs):
        case (True, False):
            return "beats"
        case (False, True):
            return "falls behind"
        case (True, True):
            return "wins some and loses some against"
        case _:
            return "is not distinguishable from"


def _resolution(card: Scorecard, method: str) -> str:
    found = card.estimates.get((method, "reliability"))
    if found is None or not found.num_clips:
        return "without an error of its own"
    if found.low >= RESOLVED:
        return "resolved"
    return f"not resolved (reliability {found.mean:.2f})"


def _sanity(card: Scorecard, method: str) -> list[str]:
    """Whether maps depend on what they should, where that was measured on clips enough."""
    redrawn, other = (card.estimates.get((method, name)) for name in ("all_redrawn", "other_class"))
    words = []
    if redrawn is not None and redrawn.num_clips >= FEWEST_CLIPS:
        alike = f"(likeness with every parameter drawn anew {redrawn.mean:.2f})"
        if redrawn.low > ALIKE:
            words.append(f"does not depend enough on what was learned {alike}")
        elif redrawn.high <= ALIKE:
            words.append(f"depends on what was learned {alike}")
        else:
            words.append(f"may not depend enough on what was learned {alike}")
    if other is not None and other.num_clips >= FEWEST_CLIPS and other.low > SAME_MAP:
        words.append(f"shows much the same for another class (rank correlation {other.mean:.2f})")
    return words


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
