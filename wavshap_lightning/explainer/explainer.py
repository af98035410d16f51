"""The explainer: a classifier bound to its stages, baselines and views."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines
from wavshap_lightning.attribution.estimation.problem import Progress
from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.record import Attribution, Provenance, ViewEstimate, tensor_sha256
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.baselines import waveform_baselines
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.paths import attribute, begin, units_of
from wavshap_lightning.explainer.recording import Recording, Sound, open_sound
from wavshap_lightning.explainer.settings import ExplainSettings, Stage, check_within
from wavshap_lightning.explainer.stages import Stages, check_layers_fit, open_stages, window_frames
from wavshap_lightning.explainer.targets import PREDICTED, target_named
from wavshap_lightning.explainer.time_grid import TimeGrid, band_edges_hz, frame_level_db, times_of
from wavshap_lightning.models.checkpoint import trained_state
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.loading import load_classifier


def fingerprint(classifier: EmotionClassifier) -> str:
    """SHA-256 over the backbone's fingerprint, the labels and everything that is trained."""
    parts = [classifier.backbone.fingerprint, *classifier.labels]
    parts += [f"{name} {tensor_sha256(value)}" for name, value in sorted(trained_state(classifier).items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


SHOWN_AFTER_S = 2.0

Report = Callable[[int, int], None]
"""Takes the draws done and those planned so far."""

_HIDDEN: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Within the block no clip shows bars of its own: there is one for all of them."""
    token = _HIDDEN.set(True)
    try:
        yield
    finally:
        _HIDDEN.reset(token)


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Report]]:
    """Bars on standard error, one for each path, once two seconds are over; none without a terminal.

    Yields:
        A function that names a path and gives back what to tell of its progress.
    """
    columns = (TextColumn("{task.description:<16}"), BarColumn(20), TimeRemainingColumn(True))  # noqa: FBT003
    note = TextColumn("{task.completed:.0f}/{task.total:.0f} draws")
    console = Console(stderr=True)
    hidden = _HIDDEN.get() or not console.is_terminal
    bars = RichProgress(*columns, note, console=console, transient=True, disable=hidden)
    began_s = time.monotonic()

    def report(task: TaskID, done: int, planned: int) -> None:
        bars.update(task, completed=done, total=planned)
        if not bars.live.is_started and time.monotonic() - began_s >= SHOWN_AFTER_S:
            bars.start()

    try:
        yield lambda title: partial(report, bars.add_task(title, total=1))
    finally:
        if bars.live.is_started:
            bars.stop()


CHEAPEST_FIRST: tuple[Stage, ...] = ("layers", "frames", "waveform")

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

    def every_path(self, stages: Stages) -> dict[Stage, Attribution]:
        """A record for each path; what the cheapest leave of the time goes to those that follow."""
        found: dict[Stage, Attribution] = {}
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

    def _time_shares(self) -> Iterator[tuple[Stage, float | None]]:
        paths = [path for path in CHEAPEST_FIRST if path in self.settings.stages]
        limit_s, began_s = self.settings.max_seconds, time.monotonic()
        for index, path in enumerate(paths):
            left_s = None if limit_s is None else max(limit_s - (time.monotonic() - began_s), 1e-3)
            yield path, None if left_s is None else left_s / (len(paths) - index)

    def _attribute(
        self,
        path: Stage,
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

    def _precision(self, path: Stage, stages: Stages) -> dict[str, Any]:
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


class Explainer:
    """Explains clips with one classifier and one way to explain.

    The classifier is as it was afterwards: weights, gradients, training flags, random states.

    Args:
        classifier: The classifier, on any device, or whatever
            [`load_classifier`][wavshap_lightning.models.loading.load_classifier] opens.
        settings: How to explain.

    Raises:
        ModelError: If it cannot be opened.
        SettingError: If the settings name a layer that the classifier lacks.
    """

    def __init__(
        self, classifier: EmotionClassifier | str | PathLike[str], settings: ExplainSettings | None = None
    ) -> None:
        self.classifier = _opened(classifier)
        self.settings = settings or ExplainSettings()
        num_layers = self.classifier.backbone.num_layers
        if self.settings.layer is not None and self.settings.layer >= num_layers:
            raise SettingError(f"layer={self.settings.layer} does not exist; use 0 to {num_layers - 1}")

    def explain(
        self,
        clip: Recording,
        target: str | Sequence[str] = PREDICTED,
        *,
        recordings: Sequence[Recording] = (),
    ) -> Explanation:
        """Explain one clip.

        Args:
            clip: A file, a clip of a corpus, or a waveform `(num_samples,)` at the classifier's sample rate.
            target: What is explained: a label, `"predicted"`, `"all"` classes at once (they share the forward
                passes), a margin such as `"happy-vs-sad"`, or a list of some labels.
            recordings: Baselines, where `settings.baselines` names a family of recordings.

        Raises:
            AudioError: If the clip or a recording cannot be read, or is too short, silent or not finite.
            AttributionError: If there is no such target, or clip, baselines and classifier do not go
                together.
            SettingError: If recordings are missing or of no use, a segment lies beyond the clip's end, or the
                layers of the clip take too much memory.

        Warns:
            UserWarning: If the classifier is in training mode, the clip does not influence the score, or the
                tolerance is not reached.
        """
        sound = self.open(clip)
        if isinstance(recordings, str | PathLike | Clip | Tensor | np.ndarray):
            raise SettingError(
                f"recordings is a single {type(recordings).__name__}; give a list, even of one: "
                "recordings=[...]"
            )
        check_layers_fit(self.settings, self.classifier.backbone, len(sound.waveform))
        check_within(self.settings.segments, len(sound.waveform) / self.classifier.sample_rate)
        others = [self.open(other, f"recordings[{index}]") for index, other in enumerate(recordings)]
        provenance = Provenance(sound.sha256, fingerprint(self.classifier))
        grid = self.classifier.backbone.frame_grid
        times = times_of(grid, len(sound.waveform))
        with leave_no_trace(self.classifier):
            waveform = sound.waveform.to(next(self.classifier.parameters()).device)
            pieces = window_frames(self.settings, grid, len(waveform))
            stages = open_stages(self.classifier, self.settings.precision, pieces)
            with torch.no_grad():
                logits = stages.from_waveforms(waveform[None])[0]
            named = target_named(target, self.classifier.labels, int(logits.argmax()), self.settings.score)
            baselines = self.baselines(stages, sound, others)
            run = Run(self.classifier, self.settings, waveform, baselines, named, times, provenance)
            attributions = run.every_path(stages)
        return Explanation(
            attributions={path: attributions[path] for path in self.settings.stages},
            labels=self.classifier.labels,
            logits=tuple(logits.tolist()),
            clip=sound.path,
            clip_sha256=sound.sha256,
            clip_start_s=sound.start_s,
            clip_end_s=sound.end_s,
            sample_rate=self.classifier.sample_rate,
            num_samples=len(sound.waveform),
            times=times,
            band_edges_hz=self._band_edges_hz(),
            frame_level_db=frame_level_db(sound.waveform, grid),
            settings=self.settings,
        )

    def _band_edges_hz(self) -> tuple[float, ...]:
        if "waveform" not in self.settings.stages:
            return ()
        return tuple(band_edges_hz(self.settings.num_bands, self.classifier.sample_rate))

    def open(self, recording: Recording, what: str = "clip") -> Sound:
        """A recording at the classifier's sample rate, checked.

        Args:
            recording: As in `explain`.
            what: What it is for, for messages.

        Raises:
            AudioError: As there.
        """
        shortest = self.classifier.backbone.frame_grid.receptive_field_samples
        return open_sound(recording, self.classifier.sample_rate, shortest, what)

    def baselines(self, stages: Stages, sound: Sound, others: Sequence[Sound]) -> Baselines:
        """The baselines of a clip, on the CPU, where the same seed gives the same ones on every device.

        Args:
            stages: Of the classifier.
            sound: The clip.
            others: Recordings, for the families that consist of them.

        Raises:
            SettingError: If recordings are missing or of no use.
            AttributionError: If the family does not fit the clip or the classifier.
        """
        device = stages.mix_weights.device
        checked = "waveform" in self.settings.stages and not self.settings.decibels

        def score(waveforms: Float[Tensor, "clips samples"]) -> Float[Tensor, "clips classes"]:
            return stages.from_waveforms(waveforms.to(device)).cpu()

        waveforms = [other.waveform for other in others]
        return waveform_baselines(self.settings, sound.waveform, waveforms, score if checked else None)


def _opened(classifier: object) -> EmotionClassifier:
    if isinstance(classifier, EmotionClassifier):
        return classifier
    if isinstance(classifier, str | PathLike):
        return load_classifier(classifier)
    raise SettingError(
        f"classifier is a {type(classifier).__name__}; give an EmotionClassifier, or what load_classifier "
        "opens, such as the path of a checkpoint"
    )


def explain(
    classifier: EmotionClassifier | str | PathLike[str],
    clip: Recording,
    target: str | Sequence[str] = PREDICTED,
    *,
    recordings: Sequence[Recording] = (),
    **settings: Any,  # noqa: ANN401 - each setting has a type of its own
) -> Explanation:
    """Explain one clip: [`Explainer`][] in one line.

    Args:
        classifier: As in [`Explainer`][].
        clip: As in [`Explainer.explain`][], like `target` and `recordings`.
        target: See there.
        recordings: See there.
        settings: The fields of [`ExplainSettings`][wavshap_lightning.explainer.settings.ExplainSettings].

    Raises:
        WavshapError: As these say.
    """
    return Explainer(classifier, ExplainSettings.from_dict(settings)).explain(
        clip, target, recordings=recordings
    )
