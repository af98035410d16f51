"""The shortcut alarm: UAR rises while attribution moves from the speech to pauses and edges.

A class may be recognizable from the recordings instead of the voices: by a click of the recorder, by the
amount of silence, by the hum of one room. Validation UAR does not reveal it if the validation clips were
recorded in the same way. Attribution does: it concentrates in pauses and at the edges of clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch

from wavshap_lightning.explainer.diagnostics import attribution_shares
from wavshap_lightning.explainer.explanation import Explanation

ABOVE_CHANCE = 0.1
"""Recall has risen once it is this much above chance."""

ABOVE_EVEN = 0.1
"""Share of the attribution outside of speech that counts as much, above the share of the time."""

RISE = 0.05
"""Smallest rise of that difference above its minimum so far."""


OffSpeech = dict[str, float]
"""Attribution in pauses and at the edges of clips; see [`measure_off_speech`][]."""


class EpochShares(TypedDict):
    """One explained epoch, as far as the alarm depends on it.

    Args:
        epoch: Number of the epoch.
        uar: Unweighted average recall on the validation clips.
        chance: Recall of guessing.
        off_speech: By label, means over its probe clips.
    """

    epoch: int
    uar: float
    chance: float
    off_speech: dict[str, OffSpeech]


def measure_off_speech(explanation: Explanation, target: str) -> OffSpeech:
    """Attribution of a clip in pauses and at its edges; the frames must have been explained.

    `share` is the share of the attribution's magnitude, `even` the share of the time, which an evenly spread
    attribution would have.
    """
    level_db = explanation.frame_level_db
    own = explanation.shares(target=target)
    even = attribution_shares(torch.ones_like(level_db), level_db)
    return {"share": own["pause"] + own["edges"], "even": even["pause"] + even["edges"]}


def suspects(epochs: Sequence[EpochShares]) -> dict[str, OffSpeech]:
    """Classes for which the alarm is raised in the last epoch.

    It is raised if UAR is at least 0.1 above chance, the share of the attribution outside of speech exceeds
    the share of the time by at least 0.1, and that difference is at least 0.05 above its minimum so far. If
    UAR was above chance in the first explained epoch already, the minimum is at most 0, as if attribution
    had been evenly spread before.

    Args:
        epochs: All explained epochs, in order.

    >>> first = EpochShares(epoch=0, uar=0.4, chance=0.5, off_speech={"sad": {"share": 0.2, "even": 0.25}})
    >>> later = EpochShares(epoch=1, uar=0.9, chance=0.5, off_speech={"sad": {"share": 0.5, "even": 0.25}})
    >>> suspects([first, later])
    {'sad': {'share': 0.5, 'even': 0.25}}
    """
    has_learned = [epoch["uar"] >= epoch["chance"] + ABOVE_CHANCE for epoch in epochs]
    found: dict[str, OffSpeech] = {}
    for label, now in epochs[-1]["off_speech"].items() if epochs and has_learned[-1] else ():
        known = [epoch["off_speech"][label] for epoch in epochs if label in epoch["off_speech"]]
        excess = [one["share"] - one["even"] for one in known]
        lowest = min(excess) if not has_learned[0] else min(0.0, *excess)
        if excess[-1] >= ABOVE_EVEN and excess[-1] - lowest >= RISE:
            found[label] = now
    return found


def describe_alarm(found: Mapping[str, OffSpeech], score: str) -> str:
    """The alarm as a sentence."""
    classes = ", ".join(
        f"{label} ({one['share']:.0%} of the attribution, {one['even']:.0%} of the time)"
        for label, one in found.items()
    )
    return (
        f"shortcut alarm: {score}, but part of it may come from the recordings and not from the "
        f"voices. Pauses and edges of clips hold evidence for {classes}; look at the figures of these clips, "
        "and listen to their pauses"
    )
