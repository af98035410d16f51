"""Stress tests of a model: scores, doubts and maps while recordings get worse; groups; calibration."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from wavshap_lightning.corpora.catalogue import groups_of
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.degradations import KINDS, Scene, degrade, times_after
from wavshap_lightning.evaluation.edits import Sound
from wavshap_lightning.evaluation.intervals import Estimate, bootstrap_mean
from wavshap_lightning.evaluation.measure import evenly_spaced
from wavshap_lightning.evaluation.similarity import correlation
from wavshap_lightning.explainer.diagnostics import unlikeness
from wavshap_lightning.explainer.explainer import Explainer
from wavshap_lightning.explainer.recording import MAX_DURATION_S
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.frontends import valid_mask
from wavshap_lightning.models.head import SOFTMAX_TASKS, Outputs
from wavshap_lightning.training import scores
from wavshap_lightning.training.cross_validation import RELIABILITY_COLUMNS, Evaluation, score_intervals
from wavshap_lightning.training.data.dataset import pad_waveforms, read_waveform
from wavshap_lightning.training.data.extraction import CPU_BATCH_S, batches_of
from wavshap_lightning.training.losses import MISSING_CLASS
from wavshap_lightning.training.tasks import targets_of

NUM_MAPS, NUM_DRAWS, NUM_BASELINES = 12, 16, 4
CLOSE = 0.1
"""Values that change by at most this share of their scale are kept."""

CLEAN: tuple[Step, Step] = ("clean", None), ("other draws", None)
"""The clips as they are; and with maps of another seed, which agree less by chance alone."""

Logits = Float[Tensor, "clips outputs"]
Sounds = Sequence[Float[np.ndarray, " _"]]
Step = tuple[str, float | None]
"""Kind and level of a degradation; no level where nothing is degraded."""

Map = tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]
"""Attributions of the frames of a clip, and the times of their centers in seconds."""


class Answers(NamedTuple):
    """Answers of a model to all clips at one step.

    Args:
        logits: Logits, or values.
        unlikeness: How unlike the training clips each clip is, in standard deviations; see
            [`unlikeness`][wavshap_lightning.explainer.diagnostics.unlikeness].
        correlations: Correlation of the map of frames with that of the clean clip; NaN of clips that are not
            explained.
    """

    logits: Logits
    unlikeness: Float[Tensor, " clips"]
    correlations: Float[Tensor, " clips"]


def ladder(kinds: Sequence[str] = ()) -> list[Step]:
    """Steps of a test: those of clean clips, then all levels of some kinds, or of all.

    Raises:
        SettingError: If there is no such kind.
    """
    if unknown := [*{*kinds} - {*KINDS}]:
        raise SettingError(f"kinds={unknown} must be some of {', '.join(KINDS)}")
    return [*CLEAN, *((kind, level) for kind in kinds or KINDS for level in KINDS[kind].levels)]


class Subject:
    """A model, and the clips that it is tested on.

    Maps explain the output that is predicted for the clean clip, with the same draws and baselines at every
    step: four of the other clips, as they are.

    Args:
        model: The classifier; of several tasks the first is taken.
        clips: The clips, two or more.
        num_maps: Number of clips to explain, evenly spaced.
        seed: Random seed of noise and draws.

    Raises:
        AudioError: If a clip cannot be read.
    """

    def __init__(self, model: EmotionClassifier, clips: Sequence[Clip], num_maps: int, seed: int = 0) -> None:
        self.model, self.clips, self.seed = model.part(model.task), clips, seed
        self.sounds = [self._fitted(read_waveform(clip, self.model.sample_rate).numpy()) for clip in clips]
        self.logits, _ = self._answer(self.sounds)
        places = evenly_spaced(num_maps, len(clips))
        self.maps = {place: self._map(self.sounds[place], place, seed) for place in places}

    def answers(self, kind: str, level: float | None) -> Answers:
        """Answers at one step."""
        heard, other = self.sounds, self.seed + ((kind, level) == CLEAN[1])
        if level is not None:
            with ThreadPoolExecutor() as pool:
                heard = [*pool.map(partial(self._degraded, kind, level), range(len(self.clips)))]
        (logits, unlike), agree = self._answer(heard), torch.full((len(heard),), math.nan)
        for place, clean in self.maps.items():
            agree[place] = map_correlation(clean, self._map(heard[place], place, other), kind, level)
        return Answers(logits, unlike, agree)

    def _others(self, place: int) -> list[Sound]:
        return [sound for i, sound in enumerate(self.sounds) if i != place]

    def _degraded(self, kind: str, level: float, place: int) -> Sound:
        known = self.model.sample_rate, np.random.default_rng([self.seed, place]), self._others(place)
        return self._fitted(degrade(kind, level, Scene(self.sounds[place], *known)))

    def _fitted(self, sound: Sound) -> Sound:
        """A sound not longer than the model takes, nor shorter than a frame."""
        grid = self.model.backbone.frame_grid
        sound = sound[: grid.max_samples or round(MAX_DURATION_S * grid.sample_rate)]
        return np.pad(sound, (0, max(0, grid.min_samples - len(sound))))

    @torch.inference_mode()
    def _answer(self, sounds: Sounds) -> tuple[Logits, Float[Tensor, " clips"]]:
        """Logits, and how unlike the training clips each sound is, from one pass of the backbone."""
        model, head, found = self.model, self.model.head, []
        for batch in batches_of(sounds, CPU_BATCH_S, lambda sound: len(sound) / model.sample_rate):
            padded = pad_waveforms([*map(torch.from_numpy, batch)])
            waveforms, lengths = (one.to(head.mix.weights().device) for one in padded)
            num_frames = model.backbone.num_frames(lengths)
            mixed = head.mix(model.encoder(model.frontend(waveforms, lengths), num_frames))
            pooled = head.pooling(mixed, valid_mask(num_frames, mixed.shape[1]))
            found.append((head.mlp(pooled).cpu(), unlikeness(head, pooled).cpu()))
        logits, unlike = map(torch.cat, zip(*found, strict=True))
        return logits, unlike

    def _map(self, sound: Sound, place: int, seed: int) -> Map:
        """Map of the frames of a sound that was made of a clip."""
        places = sorted(evenly_spaced(NUM_BASELINES, len(self.sounds) - 1))
        baselines = [torch.from_numpy(self._others(place)[i]) for i in places]
        target = self.model.labels[0 if self.model.task == "dimensions" else int(self.logits[place].argmax())]
        settings = ExplainSettings(num_draws=NUM_DRAWS, seed=seed, baselines="other_clips")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # such as that the sound does not change the score
            explain = Explainer(self.model, settings).explain
            found = explain(torch.from_numpy(sound), target, recordings=baselines, check_baselines=False)
        times = found.times[stage := str(found.time_stage)]
        count = times.num_within(found.duration_s)
        return found.values(stage, "frames")[:count].double().numpy(), times.center_s()[:count]


def map_correlation(clean: Map, changed: Map, kind: str, level: float | None) -> float:
    """Pearson's correlation of two maps, the second one at the times of the first; NaN where one is constant.

    >>> clean = np.array([1.0, 2.0, 0.0]), np.array([0.0, 1.0, 2.0])
    >>> twice_as_fast = np.array([1.0, 2.0, 0.0]), np.array([0.0, 0.5, 1.0])
    >>> map_correlation(clean, twice_as_fast, "tempo", 2.0)
    1.0
    """
    (values, times_s), (new, new_s) = clean, changed
    moved = np.interp(times_s if level is None else times_after(kind, level, times_s), new_s, new)
    return correlation(torch.from_numpy(values), torch.from_numpy(moved))


# Numbers


class Numbers:
    """Numbers of clips for a task, with 95 % intervals, in plain JSON types.

    Speakers are resampled where all are known and there are two or more, else clips.

    Args:
        clips: The clips.
        outputs: Outputs of the task.
    """

    def __init__(self, clips: Sequence[Clip], outputs: Outputs) -> None:
        self.clips, self.outputs, self.main = clips, outputs, scores.SCORES[outputs.task].main
        speakers, names = [clip.speaker for clip in clips], outputs.labels
        self.speakers = speakers if all(speakers) and len({*speakers}) > 1 else []
        labels = [names.index(clip.label) if clip.label in names else MISSING_CLASS for clip in clips]
        self.truth = torch.tensor(labels), torch.arange(len(clips)), targets_of(clips, [outputs]), (outputs,)

    def summary(self, answers: Mapping[Step, Answers]) -> dict[str, Any]:
        """All numbers of a test, from the answers at the steps of [`ladder`][]."""
        rows = [self.row(step, found, answers[CLEAN[0]].logits) for step, found in answers.items()]
        clean, chance = scores.Predictions(answers[CLEAN[0]].logits, *self.truth), rows.pop(1)
        scored = rows[0]["value"] is not None
        groups, gaps = self.groups(clean) if scored else ([], [])
        found: dict[str, Any] = {"task": self.outputs.task, "score": self.main if scored else None}
        found |= {"clips": len(self.clips), "speakers": len({clip.speaker for clip in self.clips} - {""})}
        found |= {"resampled": "speakers" if self.speakers else "clips", "ladder": rows}
        found |= {"draws_correlation": chance["map_correlation"], "groups": groups, "gaps": gaps}
        has_classes = scored and self.outputs.task in SOFTMAX_TASKS
        found |= confidence(clean, self.main) if has_classes else {"abstention": [], "calibration": None}
        found["notes"] = [] if scored else ["no clip has a label of the model: only changes are measured"]
        found["notes"] += [] if self.speakers else ["intervals are over clips: the speakers are not known"]
        return found

    def row(self, step: Step, found: Answers, clean: Logits) -> dict[str, Any]:
        """Row of the ladder."""
        columns = kept(found.logits, clean, self.outputs), found.unlikeness, found.correlations
        same, unlike, maps = (bootstrap_mean(one.numpy(), self.speakers) for one in columns)
        row = {"kind": step[0], "level": step[1], "unit": KINDS[step[0]].unit if step[0] in KINDS else ""}
        row |= _ends(self.score(scores.Predictions(found.logits, *self.truth))) | _ends(same, "kept", "kept_")
        return row | {"out_of_distribution": _plain(unlike.value)} | _ends(maps, "map_correlation", "map_")

    def score(self, found: scores.Predictions, units: Sequence[str] = ()) -> Estimate:
        """Main score of the task; those of `units` are resampled together."""
        ids = units or self.speakers or [*map(str, range(len(self.clips)))]
        return score_intervals([Evaluation(found, tuple(ids), {})])[self.main]

    def groups(
        self, found: scores.Predictions, kinds: Sequence[str] = ()
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Scores of groups of clips, and differences between groups of speakers; of one group alone none.

        Args:
            found: Predictions for all clips.
            kinds: Kinds of groups, such as gender; all that are known if empty.
        """
        rows, gaps, known = [], [], [groups_of(clip) for clip in self.clips]
        for kind in kinds or known[0]:
            names, own = [one[kind] for one in known], {}
            ids = [*map(str, range(len(names)))] if kind == "speaker" else []
            for name in sorted({*names} - {""}) if len({*names} - {""}) > 1 else ():
                part = found.select(torch.tensor([one == name for one in names]))
                speakers = len({self.clips[place].speaker for place in part.positions.tolist()})
                facts = {"kind": kind, "name": name, "clips": len(part.labels), "speakers": speakers}
                own[name] = self.score(part, ids)
                rows.append(facts | _ends(own[name]))
            for a, b in combinations(own, 2) if kind != "speaker" else ():
                gaps.append({"kind": kind, "a": a, "b": b, **gap(own[a], own[b])})
        return rows, gaps


def gap(a: Estimate, b: Estimate) -> dict[str, Any]:
    """Difference of the scores of two groups of other speakers, with an interval if both have one.

    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures", equation 7.

    >>> first, second = (Estimate(x, x - 0.04, x + 0.03, 9, "speakers", 4) for x in (0.6, 0.5))
    >>> gap(first, second)
    {'difference': 0.1, 'low': 0.05, 'high': 0.15}
    """
    low = a.value - b.value - math.hypot(a.value - a.low, b.high - b.value)
    high = a.value - b.value + math.hypot(a.high - a.value, b.value - b.low)
    return {"difference": _plain(a.value - b.value), "low": _plain(low), "high": _plain(high)}


def kept(logits: Logits, clean: Logits, outputs: Outputs) -> Float[Tensor, " clips"]:
    """Share of the predictions of each clip that are those of the clean clip: class, labels or close values.

    >>> kept(torch.tensor([[2.0, 1.0], [1.0, 0.0]]), torch.eye(2), Outputs("classes", ("a", "b")))
    tensor([1., 0.])
    """
    if outputs.task == "dimensions":
        low, high = outputs.scale or (float(clean.min()), float(clean.max()))
        return ((logits - clean).abs() <= CLOSE * (high - low)).float().mean(1)
    both = (logits > 0, clean > 0) if outputs.task == "labels" else (logits.argmax(1), clean.argmax(1))
    return (both[0] == both[1]).float().reshape(len(clean), -1).mean(1)


def confidence(found: scores.Predictions, score: str) -> dict[str, Any]:
    """Abstention and calibration.

    Returns:
        `abstention` (score of the clips that are left where the least confident ones are left out, tenth by
        tenth) and `calibration` (`ece`, the `temperature` that would calibrate these clips best, and `bins`,
        the reliability table).
    """
    order, rows = found.logits.softmax(1).amax(1).argsort(descending=True, stable=True), []
    for tenths in range(10, 0, -1):
        part = found.select(order[: math.ceil(tenths * len(order) / 10)])
        rows.append({"kept": tenths / 10, "value": _plain(float(scores.score_predictions(part)[score]))})
    bins = [dict(zip(RELIABILITY_COLUMNS, row, strict=True)) for row in scores.reliability_table(found)]
    error, best = float(scores.score_predictions(found)["ece"]), scores.fit_temperature(found)
    return {"abstention": rows, "calibration": {"ece": error, "temperature": best, "bins": bins}}


def _ends(found: Estimate, name: str = "value", prefix: str = "") -> dict[str, Any]:
    values = map(_plain, (found.value, found.low, found.high))
    return dict(zip((name, f"{prefix}low", f"{prefix}high"), values, strict=True))


def _plain(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
