"""Probe clips: how they are chosen, and explained one by one within the time for an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.summary import summarize
from wavshap_lightning.explainer.explainer import ChosenVoice, Explainer, with_cues
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.explainer.recording import Recording, open_recording, with_words
from wavshap_lightning.explainer.settings import PREDICTED, ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import logits_to_outputs
from wavshap_lightning.training.data.dataset import read_waveform
from wavshap_lightning.training.data.preparation import KeyedClip
from wavshap_lightning.training.monitoring.error_log import ErrorLog
from wavshap_lightning.training.scores import Predictions


def choose_probes(
    predictions: Predictions, per_class: int, num_hardest: int, num_wrong: int, seed: int
) -> dict[int, str]:
    """Some clips of each class by chance, then the hardest, then the confidently wrong; each clip once.

    Hardest are those with the highest loss (of outputs that are not classes, the mean squared error),
    confidently wrong those with the highest probability of a class that is not theirs among the
    misclassified. Of equals the one that stands first is taken.

    Args:
        predictions: Of the split the probes are chosen from.
        per_class: Number of clips of each class.
        num_hardest: Number of the hardest besides.
        num_wrong: Number of the confidently wrong besides.
        seed: Random seed of the clips of each class.

    Returns:
        By position in the split, why a clip was chosen: `class`, `hardest` or `wrong`.
    """
    logits, true = predictions.logits.double(), predictions.labels
    if is_class := predictions.task == "classes":
        losses = F.cross_entropy(logits, true, reduction="none")
    else:
        errors = logits_to_outputs(logits, predictions.task) - predictions.targets
        losses = errors.square().nanmean(1).nan_to_num()
    certainty, predicted = logits.softmax(1).max(1)
    labels, is_wrong = true.tolist(), (is_class & (predicted != true) & (true >= 0)).tolist()
    shuffled = np.random.default_rng(seed).permutation(len(labels)).tolist()
    hardest = losses.argsort(descending=True, stable=True).tolist()
    wrong = [row for row in certainty.argsort(descending=True, stable=True).tolist() if is_wrong[row]]
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
                f"clips={name!r} matches {len(found)} of {len(clips)} clips of this split instead of one; "
                f"give a name or the end of a path, such as {', '.join(near[:3])}"
            )
        positions += found
    return dict.fromkeys(positions, "named")


def _is_called(clip: Clip, name: str) -> bool:
    path = clip.path.as_posix()
    return name in (clip.name, path) or path.endswith(f"/{name.lstrip('/')}")


@dataclass(frozen=True)
class Probe:
    """A probe clip, explained repeatedly during training.

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
        explanation: Of the score of its label, and of that of the prediction where they differ.
        rows: Numbers of each of these, by column of the table.
    """

    probe: Probe
    waveform: Float[Tensor, " samples"]
    explanation: Explanation
    rows: list[dict[str, Any]]


def name_probes(chosen: Mapping[int, str], clips: Sequence[KeyedClip]) -> list[Probe]:
    """Probes for the chosen clips of a split, with distinct file names.

    Args:
        chosen: By position in the split, why a clip was chosen.
        clips: All clips of the split.
    """
    names = file_names([clips[position].clip.name for position in chosen])
    return [
        Probe(clips[position].clip, name, clips[position].key, why)
        for name, (position, why) in zip(names, chosen.items(), strict=True)
    ]


def file_names(names: Sequence[str]) -> list[str]:
    """Distinct file names made from the names of clips.

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


class TimeBudget:
    """Seconds of an epoch, shared evenly among the clips that are left.

    What a clip costs apart from its draws (reading, figures) is learned from clip to clip and from epoch to
    epoch.

    Args:
        max_seconds: Seconds of an epoch, for everything the monitor does; no limit if None.
        now: The clock, in seconds.
    """

    def __init__(self, max_seconds: float | None, *, now: Callable[[], float] = time.monotonic) -> None:
        self.max_seconds, self.now = inf if max_seconds is None else max_seconds, now
        self._overhead_s = 0.0
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Begin an epoch with all of its seconds."""
        self._ends_s, self._is_first = self.now() + self.max_seconds, True

    def share(self, clips_left: int) -> float:
        """Seconds for the draws of the next clip, infinite without a limit; 0 if it is to be left out.

        The first clip is explained whatever clips have cost before, which may have been the very first time.

        Args:
            clips_left: Number of clips that are not explained yet.
        """
        left_s = self._ends_s - self.now()
        if left_s <= (0.0 if self._is_first else self._overhead_s):
            return 0.0
        return max(left_s / clips_left - self._overhead_s, MIN_DRAWING * left_s / clips_left)

    def count_overhead(self, seconds: float) -> None:
        """Learn how long a clip took apart from drawing; the next ones are expected to take as much."""
        self._overhead_s = (self._overhead_s + seconds) / 2 if self._overhead_s else seconds
        self._is_first = False


def explain_probes(
    classifier: EmotionClassifier,
    probes: list[Probe],
    settings: ExplainSettings,
    budget: TimeBudget,
    errors: ErrorLog,
    *,
    references: Sequence[Recording] = (),
    targets: Sequence[str] | None = None,
    choose: Callable[[Clip], ChosenVoice] | None = None,
    align: bool = False,
) -> Iterator[ProbeResult]:
    """Explain clip by clip within the budget of an epoch.

    What is done with a result before the next one is asked for counts as time of that clip.

    Args:
        classifier: The classifier, which stays as it is.
        probes: The clips. Those that the budget leaves out are moved to the front, for the next epoch.
        settings: How to explain; the budget decides the time limit.
        budget: Time for the epoch.
        errors: Takes up what goes wrong.
        references: Recordings for baselines.
        targets: Targets; None for label and prediction, or all dimensions.
        choose: Chooses the voice for an explanation in cues; None for no such explanation.
        align: Align the words of the clips with their texts.
    """
    for done, probe in enumerate([*probes]):
        began_s, max_seconds, drawn_s = budget.now(), budget.share(len(probes) - done), 0.0
        if max_seconds <= 0:
            probes[:] = probes[done:] + probes[:done]
            errors.add(f"{len(probes) - done} of {len(probes)} clips are left out by the budget")
            return
        with errors.collect(probe.name):
            label, limit_s = probe.clip.label, max_seconds if isfinite(max_seconds) else None
            waveform = read_waveform(probe.clip, classifier.sample_rate)
            draws_began_s = budget.now()
            explainer = Explainer(classifier, replace(settings, max_seconds=limit_s))
            asked = targets or ((label, PREDICTED) if label in classifier.labels else PREDICTED)
            clip, grid = probe.clip, classifier.backbone.frame_grid
            source = open_recording(clip, grid)
            source = with_words(source, clip) if align else source
            explanation = explainer.explain(source, asked, recordings=references, check_baselines=False)
            drawn_s = min(budget.now() - draws_began_s, max_seconds)
            if choose is not None:
                target = explanation.targets[0]
                explanation, _ = with_cues(explanation, classifier, source, choose(clip), target)
            about = {"scope": "clip", "clip": probe.name, "why": probe.why, "label": label}
            about["prediction"] = explanation.prediction
            rows = [{**about, "target": t, **summarize(explanation, t)} for t in explanation.targets]
            yield ProbeResult(probe, waveform, explanation, rows)
        budget.count_overhead(budget.now() - began_s - drawn_s)
