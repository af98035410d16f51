"""What an estimate came to: attributions with their error, and what is left to know."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float64
from scipy.special import stdtrit
from torch import Tensor

from wavshap_lightning.errors import AttributionError


@dataclass(frozen=True)
class ViewEstimate:
    """The attributions of one view.

    Args:
        values: Attribution of each unit to each target, after the correction.
        stderr: Standard error of each; None for methods without chance.
        degrees_of_freedom: Of Student's t for intervals.
    """

    values: Float64[Tensor, "targets *units"]
    stderr: Float64[Tensor, "targets *units"] | None
    degrees_of_freedom: float = float("inf")

    def half_width(self, level: float = 0.95) -> Float64[Tensor, "targets *units"]:
        """Half the width of the interval that covers the estimated mean with this probability, unit by unit.

        Raises:
            AttributionError: If the method has no standard error.
        """
        if self.stderr is None:
            raise AttributionError("stderr=None: this method has no chance in it, and so no interval")
        return self.stderr * float(stdtrit(self.degrees_of_freedom, (1 + level) / 2))


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Args:
        views: The views' attributions by name.
        num_draws: Gradient evaluations it took.
        mean_baseline_score: Mean score of the baselines for each target; None for methods without baselines.
        baseline_score_std: How far the baselines' scores scatter.
        gap: Sum of the attributions before the correction, minus `score - mean_baseline_score`.
        unresolved: Units of the view of the tolerance whose interval is still too wide; None without
            tolerance.
        draws_needed: How many draws would resolve them, if the error falls as that of independent draws does;
            None if all are resolved.
    """

    views: dict[str, ViewEstimate]
    num_draws: int
    mean_baseline_score: Float64[Tensor, " targets"] | None
    baseline_score_std: Float64[Tensor, " targets"] | None
    gap: Float64[Tensor, " targets"] | None
    unresolved: Bool[Tensor, "targets *units"] | None
    draws_needed: int | None
