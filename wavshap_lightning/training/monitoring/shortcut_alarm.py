"""The shortcut alarm: recognition rises while the model turns from the voice to what is around it.

A class may be told by the recordings instead of the voices: by a click of the recorder, by how much silence
was left standing, by the hum of one room. Recall does not show it as long as the clips that validate were
recorded alike. Attribution does: it gathers in pauses and at the edges of clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ABOVE_CHANCE = 0.1
"""Recall is said to have risen once it stands this much above chance."""

ABOVE_EVEN = 0.1
"""Share of the attribution outside of speech, above the share of the time: what is more is much."""

RISE = 0.05
"""And it must have come up by as much from where it stood at its lowest."""


@dataclass(frozen=True)
class OffSpeech:
    """How much lies in pauses and at the edges of some clips.

    Args:
        share: Of the attribution's magnitude.
        even: Of the time: what attribution spread evenly would have there.
    """

    share: float
    even: float

    @property
    def excess(self) -> float:
        """How much more of the attribution than of the time."""
        return self.share - self.even


@dataclass(frozen=True)
class Glance:
    """One explained epoch, as far as the alarm looks at it.

    Args:
        epoch: Which.
        uar: Unweighted average recall on the validation clips.
        chance: The recall of guessing.
        off_speech: By label, over its probes.
    """

    epoch: int
    uar: float
    chance: float
    off_speech: Mapping[str, OffSpeech]

    @property
    def has_learned(self) -> bool:
        """Tell if recall has risen."""
        return self.uar >= self.chance + ABOVE_CHANCE


def suspects(glances: Sequence[Glance]) -> dict[str, OffSpeech]:
    """The classes for which the alarm goes off in the last epoch.

    It does where recall has risen above chance by 0.1, attribution outside of speech lies above the share of
    the time by 0.1, and it has risen there by 0.05 from its lowest. Where recall had risen already when it
    was first looked at, attribution is taken to have begun evenly spread.

    Args:
        glances: Of all explained epochs, in order.

    >>> first = Glance(0, 0.4, 0.5, {"sad": OffSpeech(0.2, 0.25)})
    >>> suspects([first, Glance(1, 0.9, 0.5, {"sad": OffSpeech(0.5, 0.25)})])
    {'sad': OffSpeech(share=0.5, even=0.25)}
    """
    if not (glances and glances[-1].has_learned):
        return {}
    now = glances[-1]
    return {
        label: found
        for label, found in now.off_speech.items()
        if found.excess >= ABOVE_EVEN and found.excess - _lowest(glances, label) >= RISE
    }


def words(found: Mapping[str, OffSpeech], uar: float) -> str:
    """The alarm as a sentence."""
    classes = ", ".join(
        f"{label} ({one.share:.0%} of the attribution, {one.even:.0%} of the time)"
        for label, one in found.items()
    )
    return (
        f"shortcut alarm: UAR is {uar:.2f}, but part of it may come from the recordings and not from the "
        f"voices. Pauses and edges of clips hold evidence for {classes}; look at the figures of these clips, "
        "and listen to their pauses"
    )


def _lowest(glances: Sequence[Glance], label: str) -> float:
    stood = [glance.off_speech[label].excess for glance in glances if label in glance.off_speech]
    return min([*stood, 0.0]) if glances[0].has_learned else min(stood)
