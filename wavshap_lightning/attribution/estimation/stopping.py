"""When to stop drawing."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, SupportsFloat

from wavshap_lightning.errors import AttributionError

FIRST_DRAWS = 64
MAX_DRAWS = 4096


@dataclass(frozen=True)
class Stopping:
    """A number of draws, a tolerance, seconds, or several: what comes first ends it.

    A tolerance is reached when the half-width of the 95 % interval of every unit is at most `tolerance`
    times the largest absolute attribution of the view, for each target. It is looked at after at most 64
    draws and whenever their number has doubled.

    Args:
        num_draws: Take exactly so many. With a tolerance or seconds: at most so many, in doublings (of 100
            that are 50 and 100).
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
            if value is not None and not (isinstance(value, SupportsFloat) and float(value) > 0):
                raise AttributionError(f"{name}={value!r} must be greater than 0")
        num_draws: Any = self.num_draws
        if num_draws is not None and not isinstance(num_draws, Integral):
            raise AttributionError(f"num_draws={num_draws!r} must be a whole number")
        if num_draws is not None:
            object.__setattr__(self, "num_draws", int(num_draws))  # NumPy's numbers are no JSON

    @property
    def doubles(self) -> bool:
        """Whether the draws come in doublings."""
        return self.tolerance is not None or self.max_seconds is not None

    @property
    def first_draws(self) -> int:
        """How many before it is first looked at: what doubles to the most, or nearly.

        >>> Stopping(100, tolerance=0.1).first_draws, Stopping(tolerance=0.1).first_draws
        (50, 64)
        """
        first = self.max_draws
        while self.doubles and first > FIRST_DRAWS:
            first //= 2
        return first

    @property
    def max_draws(self) -> int:
        """No more than these: `num_draws`, else 4096 for a tolerance, else without end."""
        if self.num_draws is not None:
            return self.num_draws
        return MAX_DRAWS if self.tolerance is not None else 2**62
