"""When to stop drawing."""

from __future__ import annotations

from dataclasses import dataclass

from wavshap_lightning.errors import AttributionError

FIRST_DRAWS = 64
MAX_DRAWS = 4096


@dataclass(frozen=True)
class Stopping:
    """A number of draws, a tolerance, seconds, or several: what comes first ends it.

    A tolerance is reached when the half-width of the 95 % interval of every unit is at most `tolerance`
    times the largest absolute attribution of the view, for each target. It is looked at after 64 draws
    and whenever their number has doubled.

    Args:
        num_draws: Take exactly so many. With a tolerance or seconds: at most so many.
        tolerance: Relative half-width to reach.
        max_seconds: Stop after the chunk during which these are over. What came out depends on the machine.
        view: Which view the tolerance is for; the first if empty.

    Raises:
        AttributionError: If nothing is given, or a number is not positive.
    """

    num_draws: int | None = None
    tolerance: float | None = None
    max_seconds: float | None = None
    view: str = ""

    def __post_init__(self) -> None:
        given = {"num_draws": self.num_draws, "tolerance": self.tolerance, "max_seconds": self.max_seconds}
        if all(value is None for value in given.values()):
            raise AttributionError("stopping: give num_draws, tolerance or max_seconds")
        for name, value in given.items():
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise AttributionError(f"{name}={value!r} must be greater than 0")
        if self.num_draws is not None and not isinstance(self.num_draws, int):
            raise AttributionError(f"num_draws={self.num_draws!r} must be a whole number")

    @property
    def doubles(self) -> bool:
        """Whether the draws come in doublings."""
        return self.tolerance is not None or self.max_seconds is not None

    @property
    def first_draws(self) -> int:
        """How many before it is first looked at."""
        return min(FIRST_DRAWS, self.max_draws) if self.doubles else self.max_draws

    @property
    def max_draws(self) -> int:
        """No more than these: `num_draws`, else 4096 for a tolerance, else without end."""
        if self.num_draws is not None:
            return self.num_draws
        return MAX_DRAWS if self.tolerance is not None else 2**62
