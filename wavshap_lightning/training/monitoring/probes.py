"""Probe clips: how they are chosen, and explained one by one within the time for an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.faithfulness import frame_faithfulness
from wavshap_lightning.evaluation.summary import summarize
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.settings import PREDICTED, ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.training.data.dataset import read_waveform
from wavshap_lightning.training.monitoring.error_log import ErrorLog
from wavshap_lightning.training.scores import Predictions


def choose_probes(
    predictions: Predictions, *, per_class: int, num_hardest: int, num_wrong: int, seed: int
) -> dict[int, str]:
    """Some clips of each class by chance, then the hardest, then the confidently wrong; each clip once.

    Hardest are those with the highest loss, confidently wrong those with the highest probability of a
    class that is not theirs among the misclassified. Of equals the one that stands first is taken.

    Args:
        predictions: Of the split the probes are chosen from.
        per_class: Number of clips of each class.
        num_hardest: Number of the hardest besides.
        num_wrong: Number of the confidently wrong besides.
        seed: Random seed of the clips of each class.

    Returns:
        By position in the split, why a clip was chosen: `class`, `hardest` or `wrong`.
    """
    labels, logits = predictions.labels.tolist(), predictions.logits.double()
    certainty, predicted = logits.softmax(1).max(1)
    losses = F.cross_entropy(logits, predictions.labels, reduction="none")
    shuffled = np.random.default_rng(seed).permutation(len(labels)).tolist()
    hardest = losses.argsort(descending=True, stable=True).tolist()
    surest = certainty.argsort(descending=True, stable=True).tolist()
    wrong = [row for row in surest if predicted[row] != labels[row]]
    chosen: dict[int, str] = {}
    for label in sorted(set(labels)):
        chosen |= dict.fromkeys([row for row in shuffled if labels[row] == label][:per_class], "class")
    for why, ranked, count in (("hardest", hardest, num_hardest), ("wrong", wrong, num_wrong)):
        chosen |= dict.fromkeys([row for row in ranked if row not in chosen][:count], why)
    return {int(predictions.positions[row]): why for row, why in chosen.items()}


def find_probes(names: Sequence[str], clips: Sequence[Clip]) -> dict[int, str]:
    """Positions of the clips that a user named, all chosen because they are `named`.

    Args:
        names: Names of clips, names of files, or the last parts of their paths.
        clips: Those to choose from.

    Raises:
        SettingError: If there is no such clip, or several.
    """
    positions = []
    for name in names:
        found = [position for position, clip in enumerate(clips) if _is_called(clip, name)]
        if len(found) != 1:
            near = [str(clips[position].path) for position in found] or [clip.name for clip in clips]
            raise SettingError(
                f"clips={name!r} fits {len(found)} of the {len(clips)} clips of this split and must fit one; "
                f"give a name or the end of a path, such as {', '.join(near[:3])}"
            )
        positions += found
    return dict.fromkeys(positions, "named")


def _is_called(clip: Clip, name: str) -> bool:
    path = clip.path.as_posix()
    return name in (clip.name, path) or path.endswith(f"/{name.lstrip('/')}")


@dataclass(frozen=True)
class Probe:
    """A clip that is explained again and again while training goes on.

    Args:
        clip: The clip.
        name: Its name as the name of a file, different from all others.
        key: Digest of its content.
        why: Why it was chosen.
    """

    clip: Clip
    name: str
    key: str
    why: str


@dataclass(frozen=True)
class ProbeResult:
    """Explanation of one probe clip in one epoch.

    Args:
        probe: The clip.
        waveform: Its samples.
        explanation: Of the scores of its label and of the prediction.
        numbers: Summary of the explanation, by target and then by name.
    """

    probe: Probe
    waveform: Float[Tensor, " samples"]
    explanation: Explanation
    numbers: dict[str, dict[str, float]]

    def rows(self) -> list[dict[str, Any]]:
        """Rows for the table, one a target."""
        common = {
            "scope": "clip",
            "clip": self.probe.name,
            "why": self.probe.why,
            "label": self.probe.clip.label,
            "prediction": self.explanation.prediction,
        }
        return [{**common, "target": target, **numbers} for target, numbers in self.numbers.items()]


def file_names(names: Sequence[str]) -> list[str]:
    """Names of clips as names of files, each different.

    >>> file_names(["a/b", "a_b", "c d"])
    ['a_b', 'a_b-2', 'c_d']
    """
    plain = ["".join(sign if sign.isalnum() or sign in "-_.@" else "_" for sign in name) for name in names]
    return [
        name if plain.index(name) == place else f"{name}-{plain[: place + 1].count(name)}"
        for place, name in enumerate(plain)
    ]


MIN_DRAWING = 0.25
"""Smallest time for the draws of a clip, relative to an even share."""

FIRST_CHUNK = 32
"""Draws at once after memory has run out for the first time; halved until they fit."""


class TimeBudget:
    """Seconds of an epoch, shared evenly among the clips that are left.

    What a clip costs apart from its draws (reading, figures) is learned from clip to clip and from epoch to
    epoch.

    Args:
        max_seconds: Seconds of an epoch, for everything the monitor does; no limit if None.
        now: The clock, in seconds.

    Raises:
        SettingError: If there are no seconds.
    """

    def __init__(self, max_seconds: float | None, *, now: Callable[[], float] = time.monotonic) -> None:
        if max_seconds is not None and not max_seconds > 0:
            raise SettingError(f"max_seconds={max_seconds} must be greater than 0; leave it out for no limit")
        self.max_seconds = inf if max_seconds is None else max_seconds
        self.now = now
        self._overhead_s = 0.0

    def begin_epoch(self, num_clips: int, began_s: float | None = None) -> None:
        """Begin an epoch with all of its seconds.

        Args:
            num_clips: Number of clips to explain.
            began_s: When the work of the epoch began, by the clock; now if None.
        """
        self._ends_s = (self.now() if began_s is None else began_s) + self.max_seconds
        self._clips_left, self._is_first = num_clips, True

    def next_clip(self) -> float:
        """Seconds for the draws of the next clip, infinite without a limit; 0 if it is to be left out.

        The first clip is explained whatever clips have cost before, which may have been the very first time.
        """
        left_s = self._ends_s - self.now()
        if left_s <= (0.0 if self._is_first else self._overhead_s):
            return 0.0
        even_s = left_s / self._clips_left
        return max(even_s - self._overhead_s, MIN_DRAWING * even_s)

    def spend(self, overhead_s: float) -> None:
        """Count a clip.

        Args:
            overhead_s: Seconds it took apart from drawing; the next ones are expected to take as much.
        """
        self._clips_left -= 1
        self._is_first = False
        self._overhead_s = (self._overhead_s + overhead_s) / 2 if self._overhead_s else overhead_s


class ProbeExplainer:
    """Explains probe clips, with less memory wherever that has run out.

    Args:
        settings: How to explain.
        budget: Time for an epoch.
        faithfulness: Remove and keep frames of each clip, too.
    """

    def __init__(self, settings: ExplainSettings, budget: TimeBudget, *, faithfulness: bool) -> None:
        self.settings, self.budget, self.faithfulness = settings, budget, faithfulness
        self._chunk_size: int | None = None
        self._first = 0

    def explain(
        self, classifier: EmotionClassifier, probes: Sequence[Probe], errors: ErrorLog, began_s: float
    ) -> Iterator[ProbeResult]:
        """Explain clip by clip; those that the budget leaves out come first in the next epoch.

        What is done with a result before the next one is asked for counts as time of that clip.

        Args:
            classifier: The classifier, which stays as it is.
            probes: The clips.
            errors: Takes up what goes wrong.
            began_s: When the work of the epoch began, by the budget's clock.
        """
        budget, first = self.budget, self._first % max(len(probes), 1)
        budget.begin_epoch(len(probes), began_s)
        for done, probe in enumerate([*probes[first:], *probes[:first]]):
            clip_began_s, max_seconds, drawn_s = budget.now(), budget.next_clip(), 0.0
            if max_seconds <= 0:
                self._first = first + done
                errors.add(f"{len(probes) - done} of {len(probes)} clips are left out by the budget")
                return
            with errors.collect(probe.name):
                waveform = read_waveform(probe.clip, classifier.sample_rate)
                draws_began_s = budget.now()
                explanation = self._explain(classifier, probe.clip, max_seconds)
                drawn_s = min(budget.now() - draws_began_s, max_seconds)
                numbers = {target: summarize(explanation, target) for target in explanation.targets}
                if self.faithfulness and "frames" in explanation.attributions:
                    label = probe.clip.label
                    numbers[label] |= frame_faithfulness(classifier, explanation, waveform, label)
                yield ProbeResult(probe, waveform, explanation, numbers)
            budget.spend(budget.now() - clip_began_s - drawn_s)

    def _explain(self, classifier: EmotionClassifier, clip: Clip, max_seconds: float) -> Explanation:
        limit_s = max_seconds if isfinite(max_seconds) else None
        while True:
            settings = replace(self.settings, max_seconds=limit_s, chunk_size=self._chunk_size)
            try:
                explainer = Explainer(classifier, settings)
                return explainer.explain(clip, (clip.label, PREDICTED), check_baselines=False)
            except torch.OutOfMemoryError:
                if self._chunk_size == 1:
                    raise
            torch.cuda.empty_cache()
            self._chunk_size = FIRST_CHUNK if self._chunk_size is None else self._chunk_size // 2
