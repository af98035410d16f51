"""Budget of an epoch of explanations."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from wavshap_lightning.errors import SettingError

MIN_DRAWS = 4
"""Fewer say nothing of their own error."""

LEAST_DRAWING = 0.25
"""Of the time a clip costs apart from drawing."""


@dataclass(frozen=True)
class Budget:
    """Largest cost of an epoch.

    Args:
        num_draws: Gradient evaluations for each clip and view.
        max_draws: Gradient evaluations of an epoch, over all clips and views.
        max_seconds: Seconds of an epoch, for everything the monitor does.

    Raises:
        SettingError: If a number is out of range.
    """

    num_draws: int = 64
    max_draws: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("num_draws", "max_draws"):
            value = getattr(self, name)
            if value is not None and value < MIN_DRAWS:
                raise SettingError(
                    f"{name}={value} must be at least {MIN_DRAWS}, or no error can be told; raise it"
                )
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise SettingError(
                f"max_seconds={self.max_seconds} must be greater than 0; leave it out for none"
            )


@dataclass(frozen=True)
class ClipAllowance:
    """Largest cost of one clip.

    Args:
        num_draws: Gradient evaluations for each view, at most.
        max_seconds: For drawing; None without a limit.
    """

    num_draws: int
    max_seconds: float | None


class Allowance:
    """Rest of an epoch's budget.

    Args:
        budget: Of the epoch.
        num_clips: How many are to be explained.
        num_views: Paths for each.
        began_s: When the epoch's work began, by the clock; now if None.
        besides_s: What a clip cost apart from drawing, last time.
        now: The clock.
    """

    def __init__(
        self,
        budget: Budget,
        num_clips: int,
        num_views: int,
        *,
        began_s: float | None = None,
        besides_s: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.besides_s = besides_s
        self._now = now
        self._clips_left = num_clips
        self._is_first = True
        self._views = num_views
        self._num_draws = budget.num_draws
        self._draws_left = budget.max_draws
        began_s = now() if began_s is None else began_s
        self._deadline = None if budget.max_seconds is None else began_s + budget.max_seconds

    def next_clip(self) -> ClipAllowance | None:
        """An even share of what is left; None where that does not suffice for one more."""
        draws, seconds = self._share_of_draws(), self._share_of_seconds()
        if draws < MIN_DRAWS or (seconds is not None and seconds <= 0):
            return None
        return ClipAllowance(draws, seconds)

    def spend(self, draws: int, besides_s: float) -> None:
        """Count a clip.

        Args:
            draws: Its gradient evaluations, over all views.
            besides_s: What it took apart from drawing; the next ones are expected to take as much.
        """
        self._clips_left -= 1
        self._is_first = False
        if self._draws_left is not None:
            self._draws_left -= draws
        self.besides_s = max(0.0, besides_s) if self.besides_s == 0 else (self.besides_s + besides_s) / 2

    def _share_of_draws(self) -> int:
        if self._draws_left is None:
            return self._num_draws
        fair = self._draws_left // (self._views * max(self._clips_left, 1))
        affordable = max(fair, MIN_DRAWS) if self._draws_left >= MIN_DRAWS * self._views else 0
        return min(self._num_draws, affordable)

    def _share_of_seconds(self) -> float | None:
        if self._deadline is None:
            return None
        left = self._deadline - self._now()
        even = left / max(self._clips_left, 1)
        if self._is_first:  # whatever clips cost last time, which may have been the first time
            return max(even - self.besides_s, LEAST_DRAWING * even)
        least = LEAST_DRAWING * self.besides_s  # better fewer clips than clips without draws
        return max(even - self.besides_s, min(left - self.besides_s, least))
