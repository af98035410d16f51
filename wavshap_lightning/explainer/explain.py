"""The explainer: a classifier bound to its stages, baselines and views."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.attribution.baselines import Baselines
from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.record import Provenance
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.baselines import waveform_baselines
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.fingerprint import fingerprint
from wavshap_lightning.explainer.grids import band_edges_hz, frame_level_db, times_of
from wavshap_lightning.explainer.long import check_layers_fit, window_frames
from wavshap_lightning.explainer.run import Run
from wavshap_lightning.explainer.settings import ExplainSettings, check_within
from wavshap_lightning.explainer.sound import Recording, Sound, open_sound
from wavshap_lightning.explainer.stages import Stages, open_stages
from wavshap_lightning.explainer.targets import PREDICTED, target_named
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.open import open_classifier


class Explainer:
    """Explains clips with one classifier and one way to explain.

    The classifier is as it was afterwards: weights, gradients, training flags, random states.

    Args:
        classifier: The classifier, on any device, or whatever
            [`open_classifier`][wavshap_lightning.models.open.open_classifier] opens.
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
            attributions={path: attributions[path] for path in self.settings.views},
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
        if "waveform" not in self.settings.views:
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
        checked = "waveform" in self.settings.views and not self.settings.decibels

        def score(waveforms: Float[Tensor, "clips samples"]) -> Float[Tensor, "clips classes"]:
            return stages.from_waveforms(waveforms.to(device)).cpu()

        waveforms = [other.waveform for other in others]
        return waveform_baselines(self.settings, sound.waveform, waveforms, score if checked else None)


def _opened(classifier: object) -> EmotionClassifier:
    if isinstance(classifier, EmotionClassifier):
        return classifier
    if isinstance(classifier, str | PathLike):
        return open_classifier(classifier)
    raise SettingError(
        f"classifier is a {type(classifier).__name__}; give an EmotionClassifier, or what open_classifier "
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
