"""The baseline doctor: before a map is believed, is the question it answers well-posed?

A path from a baseline that the classifier has never met, that sounds to it like the very class that is
explained, or along which everything happens at the first step gives attributions that are exact and say
little. A few forward passes tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wavshap_lightning.attribution.baselines import BaselineDistribution, Baselines
from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.attribution.targets import Target
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.paths import begin
from wavshap_lightning.explainer.recording import Recording
from wavshap_lightning.explainer.settings import RECORDED_FAMILIES, ScoreKind, Stage
from wavshap_lightning.explainer.stages import Stages, open_stages, window_frames
from wavshap_lightning.explainer.targets import PREDICTED, target_named
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import EmotionHead

LARGE_GAP = 0.1
"""Of what is explained, before the gap was closed."""

MOSTLY = 0.5


def ignores_level(classifier: EmotionClassifier) -> bool:
    """Whether a clip gives the same frames however quiet it is, and a path from silence is ill-posed."""
    norm = getattr(classifier.backbone.model.config, "feat_extract_norm", None)
    return norm == "group" or classifier.backbone.normalize


def caveats(
    explanation: Explanation, classifier: EmotionClassifier, *, target: str | None = None
) -> list[str]:
    """Warnings about one target, a sentence or two each; an empty list if there are none.

    They come of silence as a baseline of a model that divides the level out, of a gap above 10 % before it
    was closed, of a tolerance that was not reached, and of frames that together hold most of the attribution
    though the interval of each contains 0.

    Args:
        explanation: What is looked at.
        classifier: What was explained.
        target: As in [`Explanation.values`][wavshap_lightning.explainer.explanation.Explanation.values].
    """
    found = [_silence(explanation, classifier), *_gaps(explanation, target), *_tolerances(explanation)]
    return [words for words in (*found, _noise(explanation, target)) if words]


def _silence(explanation: Explanation, classifier: EmotionClassifier) -> str:
    settings = explanation.settings
    if settings.baselines != "silence" or not ignores_level(classifier):
        return ""
    others = ", ".join(("noise", *RECORDED_FAMILIES[:1]))
    return (
        "Silence is an ill-posed baseline here: this model divides the level out, so that all of the change "
        f"lies at the very beginning of the path. Use another family, such as {others}."
    )


def _gaps(explanation: Explanation, target: str | None) -> list[str]:
    gaps = explanation.relative_gap(target)
    return [
        f"The gap of the path from the {path} was {gap:.0%} before it was closed; take more draws."
        for path, gap in gaps.items()
        if gap is not None and gap > LARGE_GAP
    ]


def _tolerances(explanation: Explanation) -> list[str]:
    words = {path: found.unresolved_in_words() for path, found in explanation.attributions.items()}
    return [f"The tolerance was not reached ({path}): {said}." for path, said in words.items() if said]


def _noise(explanation: Explanation, target: str | None) -> str:
    path = explanation.time_stage
    if path is None:
        return ""
    values, half_widths = (
        explanation.values(path, "frames", target),
        explanation.half_widths(path, "frames", target),
    )
    if half_widths is None:
        return ""
    unresolved = values.abs() <= half_widths
    whole = float(values.abs().sum())
    share = float(values[unresolved].abs().sum()) / whole if whole else 1.0
    if share <= MOSTLY:
        return ""
    return (
        f"Frames whose interval contains 0 hold {share:.0%} of the attribution: the moments are mostly "
        "chance so far; take more draws."
    )


FIRST_STEP = 0.01
"""Where the path is looked at: after its first hundredth."""

QUIETER = 0.1
"""A clip 20 dB quieter, to find out whether level matters."""

NUM_BASELINES = 4
PROBED_PATHS: tuple[Stage, ...] = ("waveform", "frames")

EARLY, UNLIKE, SAME_CLASS, LEVEL_IGNORED = 0.1, 3.0, 0.5, 0.05
"""Above, above, above and below which something is said."""


@dataclass(frozen=True)
class Checkup:
    """What a few forward passes say of a clip and its baselines.

    Args:
        target: What is explained, by name.
        baselines: Their family.
        early_shares: For each path, the share of the total that arises in the first hundredth of it; 0.01
            where the score changes evenly.
        level_response: How far the score moves when the clip is 20 dB quieter, relative to what is explained;
            0 where the classifier divides the level out.
        baseline_probability: The mean probability of the target's class that the classifier gives to
            baselines.
        clip_unlikeness: How unlike the training clips the clip is, where the head knows: the root mean square
            of its pooled features, standardised by those of the training clips; 1 for one of these.
        baseline_unlikeness: The same of the baselines, on average.
    """

    target: str
    baselines: str
    early_shares: Mapping[str, float]
    level_response: float
    baseline_probability: float
    clip_unlikeness: float | None
    baseline_unlikeness: float | None

    def to_dict(self) -> dict[str, Any]:
        """The numbers in plain JSON types."""
        return asdict(self)

    @property
    def warnings(self) -> list[str]:
        """What people must know before they believe a map, a sentence or two each."""
        return [words for words in (*self._of_paths(), self._of_class(), *self._of_likeness()) if words]

    def _of_paths(self) -> list[str]:
        ignored = abs(self.level_response) < LEVEL_IGNORED
        why = " The classifier divides the level of a clip out." if ignored else ""
        return [
            f"{share:.0%} of what is explained arises in the first hundredth of the path from the {path}: "
            f"baselines={self.baselines!r} are ill-posed here, and the map says little.{why} Use another "
            "family."
            for path, share in self.early_shares.items()
            if abs(share) > EARLY
        ]

    def _of_class(self) -> str:
        if self.baseline_probability <= SAME_CLASS:
            return ""
        return (
            f"The baselines ({self.baselines}) themselves sound like {self.target} to the classifier "
            f"(probability {self.baseline_probability:.2f}), so the map says what sets the clip apart from "
            "them, not what makes the class. Use another family, such as recordings."
        )

    def _of_likeness(self) -> list[str]:
        words = []
        if self.clip_unlikeness is not None and self.clip_unlikeness > UNLIKE:
            words.append(
                "The clip is unlike the training clips: its features lie "
                f"{self.clip_unlikeness:.1f} standard deviations from their mean (1 for one of them). "
                "Neither the prediction nor its explanation is backed by what the classifier learned."
            )
        if self.baseline_unlikeness is not None and self.baseline_unlikeness > UNLIKE:
            words.append(
                f"The baselines ({self.baselines}) are unlike the training clips: their features lie "
                f"{self.baseline_unlikeness:.1f} standard deviations from the mean. Along the path the "
                "classifier is asked about sounds it never met; compare with other families."
            )
        return words


@dataclass(frozen=True)
class _Patient:
    """A clip, its baselines and what is asked, at the first stage.

    Args:
        stages: Of the classifier.
        waveform: The clip.
        baselines: As waveforms.
        asked: What is explained.
        seed: Of the baselines.
    """

    stages: Stages
    waveform: Float[Tensor, " samples"]
    baselines: Baselines
    asked: Target
    seed: int

    def some_baselines(self) -> Float[Tensor, "some samples"]:
        """A few of them."""
        return _some(self.baselines, self.seed).to(self.waveform)

    def early_share(self, path: Stage) -> float:
        """The share of the total that arises in the first step from the baselines."""
        begun = begin(path, self.stages, self.waveform, self.baselines)
        some = _some(begun.baselines, self.seed).to(begun.input)
        after_step = some + FIRST_STEP * (begun.input - some)
        at_start, early, at_end = (
            self.asked(begun.score(points))[:, 0].mean() for points in (some, after_step, begun.input[None])
        )
        return _relative(float(early - at_start), float(at_end - at_start))


def examine(
    explainer: Explainer,
    clip: Recording,
    target: str = PREDICTED,
    *,
    recordings: Sequence[Recording] = (),
) -> Checkup:
    """Probe a classifier with a clip and its baselines, before any map is made.

    Args:
        explainer: The classifier and the settings of the explanation.
        clip: As in [`Explainer.explain`][wavshap_lightning.explainer.explainer.Explainer.explain].
        target: See there; of several classes the predicted one is probed.
        recordings: See there.

    Raises:
        WavshapError: As said there.
    """
    classifier, settings = explainer.classifier, explainer.settings
    sound = explainer.open(clip)
    others = [explainer.open(other, f"recordings[{index}]") for index, other in enumerate(recordings)]
    with leave_no_trace(classifier), torch.no_grad():
        pieces = window_frames(settings, classifier.backbone.frame_grid, len(sound.waveform))
        stages = open_stages(classifier, settings.precision, pieces)
        waveform = sound.waveform.to(next(classifier.parameters()).device)
        logits = stages.from_waveforms(waveform[None])
        asked = _one_target(target, classifier.labels, int(logits.argmax()), settings.score)
        baselines = explainer.baselines(stages, sound, others)
        patient = _Patient(stages, waveform, baselines, asked, settings.seed)
        some = patient.some_baselines()
        of_baselines, of_quieter = (
            stages.from_waveforms(waveforms) for waveforms in (some, QUIETER * waveform[None])
        )
        score, quieter = float(asked(logits)[0, 0]), float(asked(of_quieter)[0, 0])
        return Checkup(
            target=classifier.labels[asked.classes[0]],
            baselines=settings.baselines,
            early_shares={
                path: patient.early_share(path) for path in PROBED_PATHS if path in settings.stages
            },
            level_response=_relative(quieter - score, score - float(asked(of_baselines)[:, 0].mean())),
            baseline_probability=float(of_baselines.softmax(1)[:, asked.classes[0]].mean()),
            clip_unlikeness=_unlikeness(classifier.head, stages, waveform[None]),
            baseline_unlikeness=_unlikeness(classifier.head, stages, some),
        )


def _one_target(name: str, labels: Sequence[str], prediction: int, kind: ScoreKind) -> Target:
    asked = target_named(name, labels, prediction, kind)
    return asked if asked.num_targets == 1 else target_named(PREDICTED, labels, prediction, kind)


def _some(baselines: Baselines, seed: int) -> Tensor:
    if not isinstance(baselines, BaselineDistribution):
        return baselines.values[:NUM_BASELINES]
    return baselines.draw(NUM_BASELINES, torch.Generator().manual_seed(seed))


def _relative(change: float, whole: float) -> float:
    return change / whole if abs(whole) > torch.finfo(torch.float32).eps else 0.0


def _unlikeness(head: EmotionHead, stages: Stages, waveforms: Float[Tensor, "clips samples"]) -> float | None:
    """From the running mean and variance with which the head standardises pooled features."""
    norm = next(iter(head.mlp), None)
    if not isinstance(norm, nn.BatchNorm1d) or not norm.num_batches_tracked:
        return None
    mixed = stages.mix(stages.encoder(stages.frontend(waveforms)))
    pooled = head.pooling(mixed, torch.ones(mixed.shape[:2], dtype=torch.bool, device=mixed.device))
    return float(norm(pooled).square().mean(1).sqrt().mean())
