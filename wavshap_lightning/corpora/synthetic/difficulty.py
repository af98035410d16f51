"""How hard a planted cue is to find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wavshap_lightning.errors import SettingError


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What makes a clip hard.

    Args:
        span_s: Shortest and longest span of a cue.
        cue_strength: How far cues go, relative to what is asked for.
        num_lookalikes: Fewest and most weak cues of any kind that say nothing about the class.
    """

    span_s: tuple[float, float]
    cue_strength: float
    num_lookalikes: tuple[int, int]


DIFFICULTIES: Mapping[str, Difficulty] = MappingProxyType(
    {
        "easy": Difficulty((0.3, 0.4), 1.0, (0, 0)),
        "medium": Difficulty((0.2, 0.3), 0.8, (1, 2)),
        "hard": Difficulty((0.1, 0.2), 0.7, (2, 3)),
    }
)


def difficulty_named(name: str) -> Difficulty:
    """The difficulty of a name.

    Raises:
        SettingError: If there is none.
    """
    if name not in DIFFICULTIES:
        raise SettingError(f"difficulty={name!r} must be one of {', '.join(DIFFICULTIES)}")
    return DIFFICULTIES[name]
