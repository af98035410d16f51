"""A probe clip as it is watched: explained, measured, drawn."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.faithfulness import frame_faithfulness
from wavshap_lightning.evaluation.summary import summarize
from wavshap_lightning.explainer.diagnostics import attribution_shares
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import PREDICTED, ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.training.data.dataset import read_waveform
from wavshap_lightning.training.monitoring.budget import ClipAllowance
from wavshap_lightning.training.monitoring.shortcut_alarm import OffSpeech
from wavshap_lightning.training.scores import Predictions

Why = Literal["class", "hardest", "wrong", "named"]


@dataclass(frozen=True, slots=True)
class Probe:
    """A clip to watch.

    Args:
        position: Where it stands in its part of the split.
        why: One of its class, one of the hardest, one of the confidently wrong, or named by the user.
    """

    position: int
    why: Why


def choose_probes(
    predictions: Predictions, *, per_class: int, num_hardest: int, num_wrong: int, seed: int
) -> list[Probe]:
    """Some clips of each class by chance, then the hardest, then the confidently wrong; each clip once.

    Hardest are those with the highest loss, confidently wrong those with the highest probability of a
    class that is not theirs among the misclassified. Of equals the one that stands first is taken.

    Args:
        predictions: Of the part the probes are chosen from.
        per_class: How many of each class.
        num_hardest: How many of the hardest besides.
        num_wrong: How many of the confidently wrong besides.
        seed: Decides the chance.
    """
    labels = predictions.labels
    losses = F.cross_entropy(predictions.logits.double(), labels, reduction="none")
    certainty, predicted = predictions.logits.double().softmax(1).max(1)
    confidence = torch.where(predicted == labels, -torch.inf, certainty)
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    by_class = (
        [row for row in order if int(labels[row]) == label][:per_class]
        for label in sorted(set(labels.tolist()))
    )
    chosen: dict[int, Why] = dict.fromkeys((row for rows in by_class for row in rows), "class")
    chosen |= _next(losses.argsort(descending=True, stable=True).tolist(), num_hardest, chosen, "hardest")
    wrong = confidence.argsort(descending=True, stable=True)[: int((predicted != labels).sum())]
    chosen |= _next(wrong.tolist(), num_wrong, chosen, "wrong")
    return [Probe(int(predictions.positions[row]), why) for row, why in chosen.items()]


def find_probes(names: Sequence[str], clips: Sequence[Clip]) -> list[Probe]:
    """The clips that a user named.

    Args:
        names: Names of clips, names of files, or the last parts of their paths.
        clips: Those to choose from.

    Raises:
        SettingError: If there is no such clip, or several.
    """
    return [Probe(_find(name, clips), "named") for name in names]


def _next(order: Sequence[int], count: int, taken: Iterable[int], why: Why) -> dict[int, Why]:
    already = set(taken)
    return dict.fromkeys([row for row in order if row not in already][:count], why)


def _find(name: str, clips: Sequence[Clip]) -> int:
    found = [position for position, clip in enumerate(clips) if _is_called(clip, name)]
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(str(clips[position].path) for position in found[:3])
        raise SettingError(
            f"clips={name!r} is the name of {len(found)} clips ({paths}, ...); give more of its path"
        )
    example = clips[0].name if clips else "none"
    raise SettingError(
        f"clips={name!r} is none of the {len(clips)} clips of this part; give names such as {example!r}"
    )


def _is_called(clip: Clip, name: str) -> bool:
    path = clip.path.as_posix()
    return name in (clip.name, path) or path.endswith(f"/{name.lstrip('/')}")


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
    """Explanation of one probe clip in one epoch.

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
        path = self.explanation.time_stage
        return None if path is None else self.explanation.values(path, "frames", self.label).float()

    @property
    def label(self) -> str:
        """Annotated class of the clip."""
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
        numbers = {target: summarize(explanation, target) for target in explanation.targets}
        if self.faithful and "frames" in explanation.attributions:
            numbers[label] |= frame_faithfulness(self.classifier, explanation, waveform, label)
        return Found(watched, waveform, explanation, numbers, seconds)

    def _explain(self, clip: Clip, settings: ExplainSettings) -> Explanation:
        while True:
            explainer = Explainer(self.classifier, replace(settings, chunk_size=self.chunk_size))
            try:
                return explainer.explain(clip, (clip.label, PREDICTED), check_baselines=False)
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
