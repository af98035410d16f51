"""One clip on its way through all paths."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines
from wavshap_lightning.attribution.estimate import Progress
from wavshap_lightning.attribution.outcome import ViewEstimate
from wavshap_lightning.attribution.record import Attribution, Provenance
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.explainer.grids import TimeGrid
from wavshap_lightning.explainer.long import window_frames
from wavshap_lightning.explainer.paths import attribute, begin
from wavshap_lightning.explainer.progress import progress_bars
from wavshap_lightning.explainer.settings import ExplainSettings, Path
from wavshap_lightning.explainer.stages import Stages, open_stages
from wavshap_lightning.explainer.units import units_of
from wavshap_lightning.models.classifier import EmotionClassifier

CHEAPEST_FIRST: tuple[Path, ...] = ("layers", "frames", "waveform")

PRECISION_DRAWS = 4
"""Draws that are taken in single precision too, to tell what a lower one does."""


@dataclass(frozen=True)
class Run:
    """One clip, one set of baselines, one target.

    Args:
        classifier: Whose decision is explained.
        settings: How.
        waveform: The clip, where the classifier computes.
        baselines: As waveforms.
        target: What is explained.
        times: Where units lie in time, by path.
        provenance: For the records.
    """

    classifier: EmotionClassifier
    settings: ExplainSettings
    waveform: Float[Tensor, " samples"]
    baselines: Baselines
    target: Target
    times: Mapping[str, TimeGrid]
    provenance: Provenance

    def every_path(self, stages: Stages) -> dict[Path, Attribution]:
        """A record for each path; what the cheapest leave of the time goes to those that follow."""
        found: dict[Path, Attribution] = {}
        with progress_bars() as bar:
            for path, max_seconds in self._time_shares():
                attribution = self._attribute(path, stages, self.settings, max_seconds, bar(path))
                precision = self._precision(path, stages)
                found[path] = replace(
                    attribution,
                    views={name: _on_cpu(view) for name, view in attribution.views.items()},
                    unresolved=None if attribution.unresolved is None else attribution.unresolved.cpu(),
                    settings={**attribution.settings, **precision},
                )
        return found

    def _time_shares(self) -> Iterator[tuple[Path, float | None]]:
        paths = [path for path in CHEAPEST_FIRST if path in self.settings.views]
        limit_s, began_s = self.settings.max_seconds, time.monotonic()
        for index, path in enumerate(paths):
            left_s = None if limit_s is None else max(limit_s - (time.monotonic() - began_s), 1e-3)
            yield path, None if left_s is None else left_s / (len(paths) - index)

    def _attribute(
        self,
        path: Path,
        stages: Stages,
        settings: ExplainSettings,
        max_seconds: float | None = None,
        progress: Progress | None = None,
    ) -> Attribution:
        return attribute(
            begin(path, stages, self.waveform, self.baselines),
            self.target,
            settings,
            units_of(path, settings, stages.mix_weights, self.times, len(self.waveform)),
            self.times[path],
            provenance=self.provenance,
            max_seconds=max_seconds,
            progress=progress,
        )

    def _precision(self, path: Path, stages: Stages) -> dict[str, Any]:
        """The precision and, if it is a lower one, what a few draws came to in it and in single precision."""
        precision = self.settings.precision or self.classifier.backbone.settings.precision
        if precision == "fp32":
            return {"precision": precision}
        few = replace(self.settings, num_draws=PRECISION_DRAWS, tolerance=None, max_seconds=None)
        lowered = self._attribute(path, stages, few)
        pieces = window_frames(self.settings, self.classifier.backbone.frame_grid, len(self.waveform))
        exact = self._attribute(path, open_stages(self.classifier, "fp32", pieces), few)
        return {"precision": precision, "precision_error": _differences(lowered, exact)}


def _on_cpu(view: ViewEstimate) -> ViewEstimate:
    """What was found does not hold memory of a GPU, and is the same when loaded again."""
    stderr = None if view.stderr is None else view.stderr.cpu()
    return replace(view, values=view.values.cpu(), stderr=stderr)


def _differences(found: Attribution, exact: Attribution) -> dict[str, float]:
    """Relative to single precision, by Euclidean length: of the scores, and of each view's attributions."""
    scores = {"score": _relative(torch.tensor(found.score), torch.tensor(exact.score))}
    views = {name: _relative(found.views[name].values, view.values) for name, view in exact.views.items()}
    return scores | views


def _relative(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm().clamp(min=1e-12))
