"""Results: the attributions of a view with their errors, and the record of one explanation."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from math import inf
from typing import Any

import torch
from jaxtyping import Bool, Float64
from scipy.special import stdtrit
from torch import Tensor

from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.errors import AttributionError

VERSIONS: Mapping[str, str] = {
    "wavshap-lightning": version("wavshap-lightning"),
    "torch": torch.__version__,
    "python": platform.python_version(),
}


@dataclass(frozen=True)
class ViewEstimate:
    """Attributions at one resolution, with their errors; on the CPU.

    Args:
        values: Attribution of each unit to each target, after the correction of the completeness gap.
        stderr: Standard error of each; None for deterministic methods.
        degrees_of_freedom: Degrees of freedom of Student's t for intervals.
    """

    values: Float64[Tensor, "targets *units"]
    stderr: Float64[Tensor, "targets *units"] | None
    degrees_of_freedom: float = inf

    def half_width(self) -> Float64[Tensor, "targets *units"]:
        """Half the width of the 95 % interval of each unit.

        Raises:
            AttributionError: If the method has no standard error.
        """
        if self.stderr is None:
            raise AttributionError("stderr=None: this method is deterministic and has no interval")
        return self.stderr * float(stdtrit(self.degrees_of_freedom, 0.975))


@dataclass(frozen=True)
class Attribution:
    """Result of an attribution method. Sequences with one entry per target follow `target.classes`.

    Args:
        method: Name of the method.
        estimand: Text that says over which baselines the values are a mean.
        views: Attributions by view, after the correction.
        target: Scalars that were explained.
        prediction: Class with the largest logit.
        score: The target's scores of the input.
        mean_baseline_score: Mean score of the baselines; None for methods without baselines.
        baseline_score_std: Standard deviation of the baselines' scores.
        gap: Completeness gap before the correction: sum of the attributions minus
            (`score - mean_baseline_score`); None where completeness is not claimed.
        num_draws: Gradient evaluations, or forward passes of methods without gradients.
        seed: Seed that reproduces the draws, given as `generator`; None for deterministic methods.
        settings: All other settings, in plain JSON types.
        provenance: Digests of the clip's audio and of the model's weights, as `clip_sha256` and
            `model_fingerprint`, where the caller gave them.
        versions: Versions of the software.
        unresolved: Units of the first view whose interval is too wide; None without tolerance.
        draws_needed: Number of draws that would resolve them, if the error fell as that of independent draws;
            None if all are resolved.
    """

    method: str
    estimand: str
    views: Mapping[str, ViewEstimate]
    target: Target
    prediction: int
    score: tuple[float, ...]
    mean_baseline_score: tuple[float, ...] | None
    baseline_score_std: tuple[float, ...] | None
    gap: tuple[float, ...] | None
    num_draws: int
    seed: int | None
    settings: Mapping[str, Any]
    provenance: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: dict(VERSIONS))
    unresolved: Bool[Tensor, "targets *units"] | None = None
    draws_needed: int | None = None

    @property
    def resolved(self) -> bool:
        """True if the tolerance was reached, or there was none."""
        return self.unresolved is None or not bool(self.unresolved.any())

    def unresolved_in_words(self) -> str:
        """How many units are not resolved, and how many draws it would take; empty if all are."""
        if self.unresolved is None or self.draws_needed is None:
            return ""
        return (
            f"{int(self.unresolved.sum())} of {self.unresolved.numel()} units are not resolved after "
            f"{self.num_draws} draws; about {self.draws_needed:.2g} draws would resolve them"
        )

    @property
    def relative_gap(self) -> tuple[float, ...] | None:
        """`|gap| / max(|score - mean baseline score|, std of the baselines' scores)` of each target."""
        if self.gap is None or self.mean_baseline_score is None or self.baseline_score_std is None:
            return None
        rows = zip(self.gap, self.score, self.mean_baseline_score, self.baseline_score_std, strict=True)
        return tuple(abs(gap) / max(abs(score - mean), std, 1e-12) for gap, score, mean, std in rows)

    def sums(self, view: str) -> Float64[Tensor, " targets"]:
        """Sum of a view's attributions for each target."""
        values = self.views[view].values
        return values.reshape(len(values), -1).sum(1)


def tensor_sha256(values: Tensor) -> str:
    """Digest of a tensor's numbers, shape and precision."""
    array = values.detach().cpu().contiguous()
    described = f"{array.dtype} {tuple(array.shape)} ".encode()
    return hashlib.sha256(described + array.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
