"""A probe clip as it is watched: explained, measured, drawn."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.evaluation.removal import remove_frames
from wavshap_lightning.evaluation.summary import summarise, when_path
from wavshap_lightning.explainer.explain import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.explainer.shares import attribution_shares
from wavshap_lightning.explainer.targets import PREDICTED
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.training.budget import ClipAllowance
from wavshap_lightning.training.dataset import read_waveform
from wavshap_lightning.training.shortcut import OffSpeech

FIRST_CHUNK = 32
"""Draws at once where memory has run out for the first time; halved until they fit."""

KEPT_VIEWS: Mapping[str, tuple[str, ...]] = {
    "frames": ("frames",),
    "layers": ("layers",),
    "waveform": ("frames", "bands"),
}
"""What the page of all epochs is drawn from; the rest of a record is larger by far."""


@dataclass(frozen=True)
class Watched:
    """A clip of the probes.

    Args:
        clip: The clip.
        name: As a file is named.
        key: Of its content.
        why: It was chosen.
    """

    clip: Clip
    name: str
    key: str
    why: str


@dataclass(frozen=True)
class Found:
    """What was found in one clip in one epoch.

    Args:
        watched: The clip.
        waveform: Its samples.
        explanation: Of the scores of its label and of the prediction.
        numbers: By target, then by name.
        seconds: What the explanation took.
    """

    watched: Watched
    waveform: Float[Tensor, " samples"]
    explanation: Explanation
    numbers: Mapping[str, Mapping[str, float]]
    seconds: float

    @property
    def when(self) -> Float[Tensor, " frames"] | None:
        """Attribution of each frame to the label; None without a path that says when."""
        path = when_path(self.explanation)
        return None if path is None else self.explanation.values(path, "frames", self.label).float()

    @property
    def label(self) -> str:
        """What the clip was annotated as."""
        return self.watched.clip.label

    @property
    def num_draws(self) -> int:
        """Gradient evaluations, over all views."""
        return sum(found.num_draws for found in self.explanation.attributions.values())

    @property
    def off_speech(self) -> OffSpeech | None:
        """How much of the attribution to the label lies in pauses and at edges."""
        if "frames" not in self.explanation.attributions:
            return None
        level_db = self.explanation.frame_level_db
        own = self.explanation.shares(target=self.label)
        even = attribution_shares(torch.ones_like(level_db), level_db)
        return OffSpeech(own["pause"] + own["edges"], even["pause"] + even["edges"])

    def with_numbers(self, numbers: Mapping[str, float]) -> Found:
        """With more numbers of the label's score."""
        own = {**self.numbers[self.label], **numbers}
        return replace(self, numbers={**self.numbers, self.label: own})

    def rows(self) -> list[dict[str, Any]]:
        """For the table, one a target."""
        common = {
            "scope": "clip",
            "clip": self.watched.name,
            "why": self.watched.why,
            "label": self.label,
            "prediction": self.explanation.prediction,
        }
        return [{**common, "target": target, **numbers} for target, numbers in self.numbers.items()]


class Watcher:
    """Explains clips with one classifier, with less memory wherever that has run out.

    Args:
        classifier: The classifier, which stays as it is.
        settings: How to explain.
        faithful: Whether to remove and keep frames, too.
        chunk_size: Draws at once; None finds it.
    """

    def __init__(
        self,
        classifier: EmotionClassifier,
        settings: ExplainSettings,
        *,
        faithful: bool,
        chunk_size: int | None = None,
    ) -> None:
        self.classifier = classifier
        self.settings = settings
        self.faithful = faithful
        self.chunk_size = chunk_size

    def watch(self, watched: Watched, share: ClipAllowance) -> Found:
        """Explain a clip and measure the explanation.

        Args:
            watched: The clip.
            share: What it may cost.

        Raises:
            WavshapError: If the clip cannot be read or explained.
        """
        waveform = read_waveform(watched.clip, self.classifier.sample_rate)
        settings = replace(self.settings, num_draws=share.num_draws, max_seconds=share.max_seconds)
        began_s = time.monotonic()
        explanation = self._explain(watched.clip, settings)
        seconds = time.monotonic() - began_s
        label = watched.clip.label
        numbers = {target: summarise(explanation, target) for target in explanation.targets}
        if self.faithful and "frames" in explanation.attributions:
            measured = remove_frames(self.classifier, explanation, waveform, label)
            numbers[label] |= vars(measured)
        return Found(watched, waveform, explanation, numbers, seconds)

    def _explain(self, clip: Clip, settings: ExplainSettings) -> Explanation:
        while True:
            explainer = Explainer(self.classifier, replace(settings, chunk_size=self.chunk_size))
            try:
                return explainer.explain(clip, (clip.label, PREDICTED))
            except torch.OutOfMemoryError:
                if self.chunk_size == 1:
                    raise
            torch.cuda.empty_cache()
            self.chunk_size = FIRST_CHUNK if self.chunk_size is None else self.chunk_size // 2


def slim(explanation: Explanation) -> Explanation:
    """The part of an explanation that the page of all epochs is drawn from."""
    return replace(
        explanation,
        attributions={
            path: replace(
                found, views={name: found.views[name] for name in KEPT_VIEWS[path] if name in found.views}
            )
            for path, found in explanation.attributions.items()
        },
    )
