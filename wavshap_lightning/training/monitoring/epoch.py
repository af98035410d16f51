"""One epoch of explanations: layers of all clips, then probe by probe, within the budget."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from statistics import fmean, median
from typing import Any

import lightning as L  # noqa: N812

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.evaluation.stability import correlation
from wavshap_lightning.explainer.settings import ExplainSettings
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.pooling import LayerStatistics
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.data.dataset import StatisticsBatches
from wavshap_lightning.training.monitoring.budget import Allowance, Budget, ClipAllowance
from wavshap_lightning.training.monitoring.class_layers import ClassLayers, noise_statistics, survey_classes
from wavshap_lightning.training.monitoring.figures import log_clip, log_probes, save_record
from wavshap_lightning.training.monitoring.probes import (
    Found,
    Probe,
    Watched,
    Watcher,
    choose_probes,
    find_probes,
)
from wavshap_lightning.training.monitoring.shortcut_alarm import Glance, OffSpeech, suspects, words
from wavshap_lightning.training.monitoring.state import WatchMemory
from wavshap_lightning.training.monitoring.writer import ExplanationLog, ExplanationTable, file_names
from wavshap_lightning.training.scores import Predictions, score_predictions

AVERAGED = ("gap/", "reliability", "entropy", "share/", "drift/", "comprehensiveness", "sufficiency")
"""What of a clip's numbers becomes a curve: the mean over clips, of gaps the median."""


@dataclass
class Tally:
    """Results of an epoch so far.

    Args:
        clip_rows: One for each clip and target.
        class_rows: One for each class.
        alarm: Whether the shortcut alarm goes off; None before it was asked.
    """

    clip_rows: list[dict[str, Any]] = field(default_factory=list)
    class_rows: list[dict[str, Any]] = field(default_factory=list)
    alarm: bool | None = None
    _of_classes: dict[str, float] = field(default_factory=dict)
    _of_clips: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _off_speech: dict[str, list[OffSpeech]] = field(default_factory=lambda: defaultdict(list))

    @property
    def off_speech(self) -> dict[str, OffSpeech]:
        """By label, how much lies in pauses and at edges, on average over its clips."""
        return {
            label: OffSpeech(fmean(one.share for one in clips), fmean(one.even for one in clips))
            for label, clips in self._off_speech.items()
        }

    def add_clip(self, found: Found) -> None:
        """Take in a clip; curves are of the scores of labels."""
        self.clip_rows += found.rows()
        for name, value in found.numbers[found.label].items():
            if name.startswith(AVERAGED) and isfinite(value):
                self._of_clips[name].append(value)
        off_speech = found.off_speech
        if off_speech is not None:
            self._off_speech[found.label].append(off_speech)

    def add_class(self, found: ClassLayers, *, mixed: bool) -> None:
        """Take in a class.

        Args:
            found: Its layers.
            mixed: Whether the head uses several, so that shares say something.
        """
        shares = {f"layers/{layer:02d}": share for layer, share in enumerate(found.shares.tolist())}
        neurons = " ".join(f"{layer}:{neuron}:{value:+.4g}" for layer, neuron, value in found.neurons)
        row = {"scope": "class", "label": found.label, "clips": found.num_clips, "neurons": neurons}
        self.class_rows.append({**row, "layer_entropy": found.entropy, **shares})
        if mixed:
            self._of_classes[f"layer_entropy/{found.label}"] = found.entropy
            self._of_classes |= {f"{name}/{found.label}": share for name, share in shares.items()}

    def scalars(self) -> dict[str, float]:
        """For curves; what is not a number is left out."""
        found = {**self._of_classes, **self._means()}
        return {name: value for name, value in found.items() if isfinite(value)}

    def rows(self) -> list[Mapping[str, Any]]:
        """For the table of the run."""
        means = self._means()
        return [*self.clip_rows, *self.class_rows, *([{"scope": "epoch", **means}] if means else [])]

    def _means(self) -> dict[str, float]:
        means = {name: _average(name, values) for name, values in self._of_clips.items()}
        return means if self.alarm is None else {**means, "shortcut_alarm": float(self.alarm)}


def _average(name: str, values: Sequence[float]) -> float:
    return median(values) if name.startswith("gap/") else fmean(values)


@dataclass(frozen=True)
class WatchSettings:
    """Settings of `ExplanationMonitor`.

    Args:
        explain: How to explain.
        budget: Largest cost of an epoch.
        per_class: Probe clips drawn for each class.
        num_hardest: Clips with the lowest probability of their label, chosen in every epoch.
        num_wrong: Wrongly classified clips, chosen in every epoch.
        clips: Names of the probe clips; None to draw them.
        faithfulness: Measure comprehensiveness and sufficiency.
        all_layers: Attribute the class scores of all clips to layers.
        num_top: Frames that are marked in figures.
    """

    explain: ExplainSettings
    budget: Budget
    per_class: int
    num_hardest: int
    num_wrong: int
    clips: tuple[str, ...] | None
    faithfulness: bool
    all_layers: bool
    num_top: int


@dataclass(frozen=True)
class Moment:
    """When something is explained.

    Args:
        part: Of the split.
        epoch: Of the training.
        training: Whether it is a validation of a training.
        probes: Whether the probes are due.
    """

    part: str
    epoch: int
    training: bool
    probes: bool

    @property
    def folder(self) -> str:
        """Folder of its figures."""
        return f"epoch_{self.epoch:03d}" if self.training else self.part

    @property
    def words(self) -> str:
        """For a message."""
        return f"epoch {self.epoch}" if self.training else self.part

    @property
    def prefix(self) -> str:
        """Of its scalars."""
        return "explain" if self.part == "validation" else f"explain_{self.part}"


@dataclass(frozen=True)
class Epoch:
    """Context of one monitored epoch.

    Args:
        moment: When it is.
        classifier: In evaluation mode, its parameters without gradients.
        data: The clips.
        cached: All clips of the part, where their features are cached.
        predictions: Of the clips of the part.
        log: Where to write.
        tally: The numbers.
    """

    moment: Moment
    classifier: EmotionClassifier
    data: EmotionDataModule
    cached: StatisticsBatches | None
    predictions: Predictions
    log: ExplanationLog
    tally: Tally = field(default_factory=Tally)

    @property
    def clips(self) -> tuple[Clip, ...]:
        """Those of the part."""
        return self.data.clips(self.moment.part)


class EpochWatch:
    """Explains epoch after epoch.

    Args:
        settings: What was asked for.
        memory: What was found before.
    """

    def __init__(self, settings: WatchSettings, memory: WatchMemory) -> None:
        self.settings = settings
        self.memory = memory
        self.watched: dict[str, list[Watched]] = {}
        self._baselines: dict[str, LayerStatistics] = {}
        self._tables: dict[Path, ExplanationTable] = {}
        self._heard: set[str] = set()
        self._chunk_size: int | None = None
        self._besides_s = 0.0
        self._first = 0

    def begin(self) -> None:
        """Forget what belongs to data and folder, which may be others than last time."""
        self.watched.clear()
        self._baselines.clear()
        self._tables.clear()
        self._heard.clear()

    def explain(self, epoch: Epoch) -> dict[str, float]:
        """Explain, write everything down, and give the scalars back."""
        began_s, moment, noting = time.monotonic(), epoch.moment, epoch.log.notes.instead_of_raising
        with noting("the layers of all clips"):
            self._survey(epoch)
        if moment.probes:
            with noting("the choice of clips"):
                self._choose(epoch)
            self._explain_probes(epoch, began_s)
            with noting("the shortcut alarm"):
                self._sound_alarm(epoch)
        with noting("explanations.csv"):
            self._write(epoch)
        return {f"{moment.prefix}/{name}": value for name, value in epoch.tally.scalars().items()}

    def _survey(self, epoch: Epoch) -> None:
        """The layers of all clips, where their features are cached and it is cheap, or due."""
        classifier, settings, part = epoch.classifier, self.settings.explain, epoch.moment.part
        is_due = classifier.head.statistic != "frames" or epoch.moment.probes
        if not self.settings.all_layers or epoch.cached is None or not is_due:
            return
        if part not in self._baselines:
            cache = epoch.data.feature_cache
            self._baselines[part] = noise_statistics(classifier, epoch.clips, cache, settings.seed)
        surveyed = survey_classes(
            classifier, epoch.cached, self._baselines[part], score=settings.score, seed=settings.seed
        )
        for found in surveyed:
            epoch.tally.add_class(found, mixed=classifier.head.settings.layer == "learned")

    def _choose(self, epoch: Epoch) -> None:
        """Choose the clips to watch, once; those of a run that goes on are the same."""
        part, clips = epoch.moment.part, epoch.clips
        if part in self.watched:
            return
        keys = [one.key for one in epoch.data.prepared[part]]
        probes = self.memory.probes_of(part, keys)
        if probes is None:
            probes = self._new_probes(clips, epoch.predictions)
            self.memory.choose(part, probes, keys)
        names = file_names([clips[probe.position].name for probe in probes])
        self.watched[part] = [
            Watched(clips[probe.position], name, keys[probe.position], probe.why)
            for probe, name in zip(probes, names, strict=True)
        ]
        log_probes(epoch.log, part, self.watched[part])

    def _new_probes(self, clips: Sequence[Clip], predictions: Predictions) -> list[Probe]:
        settings = self.settings
        if settings.clips is not None:
            return find_probes(settings.clips, clips)
        return choose_probes(
            predictions,
            per_class=settings.per_class,
            num_hardest=settings.num_hardest,
            num_wrong=settings.num_wrong,
            seed=settings.explain.seed,
        )

    def _explain_probes(self, epoch: Epoch, began_s: float) -> None:
        """Clip by clip; those that the budget leaves out come first in the next epoch."""
        settings, watched = self.settings, self.watched.get(epoch.moment.part, [])
        first = self._first % max(len(watched), 1)
        allowance = Allowance(
            settings.budget,
            len(watched),
            len(settings.explain.stages),
            began_s=began_s,
            besides_s=self._besides_s,
        )
        watcher = Watcher(
            epoch.classifier, settings.explain, faithful=settings.faithfulness, chunk_size=self._chunk_size
        )
        for done, one in enumerate([*watched[first:], *watched[:first]]):
            share = allowance.next_clip()
            if share is None:
                self._first = first + done
                left = len(watched) - done
                epoch.log.notes.add(f"{left} of {len(watched)} clips are left out by the budget")
                break
            clip_began_s = time.monotonic()
            draws, drawn_s = self._explain_probe(watcher, one, share, epoch)
            allowance.spend(draws, time.monotonic() - clip_began_s - drawn_s)
        self._chunk_size, self._besides_s = watcher.chunk_size, allowance.besides_s

    def _explain_probe(
        self, watcher: Watcher, watched: Watched, share: ClipAllowance, epoch: Epoch
    ) -> tuple[int, float]:
        """Draws and seconds of the allowance that were used."""
        used = (0, 0.0)
        with epoch.log.notes.instead_of_raising(watched.name):
            found = watcher.watch(watched, share)
            if epoch.moment.training:
                found = self._compare(found)
            used = (found.num_draws, min(found.seconds, share.max_seconds or found.seconds))
            epoch.tally.add_clip(found)
            self._show(found, epoch)
        return used

    def _compare(self, found: Found) -> Found:
        """With earlier epochs, the first one with itself; and remember this one."""
        key, when = found.watched.key, found.when
        if when is None:
            return found
        before = self.memory.frames.get(key, {"first": when, "previous": when})
        numbers = {f"drift/{name}": correlation(when, values) for name, values in before.items()}
        self.memory.remember(key, when)
        return found.with_numbers(numbers)

    def _show(self, found: Found, epoch: Epoch) -> None:
        if found.watched.key not in self._heard:
            self._heard.add(found.watched.key)
            epoch.log.sound(found.watched.name, found.waveform, found.explanation.sample_rate)
        log_clip(epoch.log, found, epoch.moment.folder, self.settings.num_top)
        if epoch.moment.training:
            save_record(epoch.log, found, epoch.moment.folder)

    def _sound_alarm(self, epoch: Epoch) -> None:
        """Compare with earlier epochs what rises: recall, and the share outside of speech."""
        off_speech = epoch.tally.off_speech
        if not (epoch.moment.training and off_speech):
            return
        uar = float(score_predictions(epoch.predictions)["uar"])
        chance = 1 / len(set(epoch.predictions.labels.tolist()))
        self.memory.glance(Glance(epoch.moment.epoch, uar, chance, off_speech))
        glances = self.memory.glances
        found, known = suspects(glances), suspects(glances[:-1]).keys()
        epoch.tally.alarm = bool(found)
        if found.keys() - known:
            epoch.log.notes.add(words(found, uar))

    def _write(self, epoch: Epoch) -> None:
        log, moment, tally = epoch.log, epoch.moment, epoch.tally
        log.table(f"{moment.prefix}_clips", tally.clip_rows)
        log.send()
        if log.folder is not None:
            if log.folder not in self._tables:
                self._tables[log.folder] = ExplanationTable(log.folder / "explanations.csv")
            self._tables[log.folder].write(moment.part, moment.epoch, tally.rows())


def cached_clips(trainer: L.Trainer, part: str) -> StatisticsBatches | None:
    """All clips of a part as the trainer holds them, if their features are cached."""
    loader = trainer.val_dataloaders if part == "validation" else trainer.test_dataloaders
    dataset = getattr(loader, "dataset", None)
    return dataset if isinstance(dataset, StatisticsBatches) else None
