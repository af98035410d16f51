"""Explanations during training: a Lightning callback."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal, cast

import lightning as L  # noqa: N812
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.audio.aligner import identity
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import SettingError
from wavshap_lightning.evaluation.faithfulness import frame_faithfulness
from wavshap_lightning.evaluation.similarity import correlation
from wavshap_lightning.explainer.defaults import NUM_REFERENCES, draw_references
from wavshap_lightning.explainer.explainer import ChosenVoice, check_voice, choose_voice
from wavshap_lightning.explainer.recording import Recording, open_recording
from wavshap_lightning.explainer.settings import AUTO, FRAME_STAGES, ClassScore, ExplainSettings, StageChoice
from wavshap_lightning.explainer.targets import check_target, score_of_task
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import SOFTMAX_TASKS
from wavshap_lightning.models.pooling import LayerStatistics
from wavshap_lightning.training.data.datamodule import EmotionDataModule, datamodule_of
from wavshap_lightning.training.data.dataset import StatisticsBatches
from wavshap_lightning.training.module import EmotionModule
from wavshap_lightning.training.monitoring.class_layers import noise_statistics, survey_classes
from wavshap_lightning.training.monitoring.probes import (
    Probe,
    ProbeResult,
    TimeBudget,
    choose_probes,
    explain_probes,
    find_probes,
    name_probes,
)
from wavshap_lightning.training.monitoring.shortcut_alarm import (
    EpochShares,
    OffSpeech,
    describe_alarm,
    measure_off_speech,
    suspects,
)
from wavshap_lightning.training.monitoring.writer import ExplanationLog, Rows, warm_up_figures
from wavshap_lightning.training.scores import SCORES, Predictions, score_predictions, with_class

BaselineFamily = Literal["auto", "noise", "spectral_noise", "time_shifted", "silence"]

SMALLEST = {"every_n_epochs": 1, "per_class": 0, "num_hardest": 0, "num_wrong": 0, "num_draws": 4}
"""Smallest values; fewer draws have no useful standard error."""

AVERAGED = (
    "gap/",
    "intraclass_correlation",
    "certain",
    "entropy",
    "share/",
    "drift/",
    "comprehensiveness",
    "sufficiency",
    "cues/",
)
"""Numbers of a clip that become a curve: the mean over clips, of gaps the median."""


class ExplanationMonitor(Callback):
    """Explains a few fixed clips during training, and attributes the class scores of all clips to layers.

    After validation epochs, and after a test, it explains the probe clips. The results go to the run's folder
    (`figures/`, `sounds/`, `explanations.csv`, `probes.json`), as figures, sounds and a table to W&B and
    TensorBoard, and as scalars under `explain/` to every logger; `EarlyStopping` and `ModelCheckpoint` can
    monitor these. At the end of training, a figure of each clip shows all explained epochs. Without
    validation clips (`data.validation=false`), it runs only after the test.

    Training is not affected: weights, optimizer, metrics and random states are the same as without the
    callback. If the callback fails, it gives one warning per epoch with the reason, and training continues.

    Args:
        every_n_epochs: Explain the probe clips every so many epochs, beginning with the first, and after the
            last.
        per_class: Number of probe clips for each class, drawn once.
        num_hardest: Number of further probe clips, those with the highest loss in the first explained epoch.
        num_wrong: Number of further probe clips, those misclassified with the highest confidence in that
            epoch.
        clips: Names or paths of the probe clips, instead of the above.
        targets: Targets to explain, such as some of the dimensions, of the first task or of the one that has
            the first of them. None for the class of the label and the predicted class, or all dimensions.
        stages: Stages to attribute to: `layers` (when, which layer), `frames` (when), `waveform` (which band;
            the slowest), or `auto`.
        score: Class score to explain.
        baselines: Family of baselines, at the clip's level; `auto` for recordings of the training split.
        num_draws: Maximum number of draws (gradient evaluations) for each clip and stage.
        max_seconds: Time limit for the callback after an epoch, in seconds; no limit if None. The result then
            depends on the machine.
        faithfulness: Measure comprehensiveness and sufficiency of each probe clip.
        all_layers: Attribute the layers of all clips whose features are cached, by class. If the head pools
            by mean, or by mean and standard deviation, this costs almost nothing and is done after every
            epoch.
        align: Align the words of the probe clips with their texts, and log the shares of words and phones.
        figures: Draw figures of the probe clips. Numbers, sounds and explanations are written in any case.
        cues: Explain the probe clips in acoustic cues too, moved to this voice: `auto`, `neutral`, `speaker`,
            `corpus`, `flat` or a clip, as `--cues_reference` of `explain.py`; None for no such explanation.
        seed: Random seed of the probe clips and of the draws; the same in every epoch.

    Raises:
        SettingError: If a value is out of range.
    """

    # What belongs to the data and the folder, from setup on; probes and baselines by split.
    _data: EmotionDataModule
    _probes: dict[str, list[Probe]]
    _noise: dict[str, LayerStatistics]
    _heard: set[str]
    _references: list[Recording] | None

    def __init__(
        self,
        *,
        every_n_epochs: int = 1,
        per_class: int = 1,
        num_hardest: int = 2,
        num_wrong: int = 2,
        clips: list[str] | None = None,
        targets: list[str] | None = None,
        stages: Sequence[StageChoice] = (AUTO,),
        score: ClassScore = "log_odds",
        baselines: BaselineFamily = AUTO,
        num_draws: int = 64,
        max_seconds: float | None = None,
        faithfulness: bool = True,
        all_layers: bool = True,
        align: bool = False,
        figures: bool = True,
        cues: str | None = None,
        seed: int = 0,
    ) -> None:
        self.every_n_epochs, self.clips, self.targets, self.align = every_n_epochs, clips, targets, align
        self.per_class, self.num_hardest, self.num_wrong = per_class, num_hardest, num_wrong
        self.faithfulness, self.all_layers, self.figures, self.cues = faithfulness, all_layers, figures, cues
        for name, smallest in SMALLEST.items():
            if (value := locals()[name]) < smallest:
                raise SettingError(f"{name}={value} must be at least {smallest}")
        self.settings = ExplainSettings(
            stages, score=score, baselines=baselines, num_draws=num_draws, max_seconds=max_seconds, seed=seed
        )
        self._budget = TimeBudget(max_seconds)
        # Kept from epoch to epoch and in checkpoints, under these names: by split, the content key of each
        # probe clip and why it was chosen; by content key, attributions of the frames in the `first` and in
        # the `previous` epoch; shares of the explained epochs, in order; scalars as last logged.
        self._state: dict[str, Any] = {"probes": {}, "frames": {}, "glances": [], "scalars": {}}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Check that there is something to explain.

        Raises:
            SettingError: If module or datamodule are not of this package, or the outputs have no such score.
            AttributionError: If the module has no such targets.
        """
        data = datamodule_of(trainer)
        if self.cues is not None:
            check_voice(self.cues, {"clips": data.num_voices} if data and data.num_voices else {})
        if data is None or not isinstance(pl_module, EmotionModule):
            raise SettingError(
                f"module={type(pl_module).__name__}: what is needed is an EmotionModule on an "
                "EmotionDataModule; use these, or no ExplanationMonitor"
            )
        part = self._part(pl_module)
        if self.align:
            identity()  # so that a missing aligner is told before the training
        check_target(self.targets or part.labels, part.labels, self.settings.score, part.task)
        self._data, self._probes, self._noise, self._heard = data, {}, {}, set()
        self._references = None
        if trainer.is_global_zero and self.figures:
            warm_up_figures()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Explain, before the scores are logged, so that what is logged here belongs to the same step."""
        if not trainer.sanity_checking:
            self._explain(trainer, pl_module, "validation")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Explain clips of the test."""
        self._explain(trainer, pl_module, "test")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Draw every clip with all its epochs."""
        folder = _run_folder(trainer)
        if trainer.is_global_zero and self.figures:
            step = trainer.global_step - 1
            log = ExplanationLog(folder, trainer.loggers, step, split="validation", moment="epochs")
            epochs = [epoch["epoch"] for epoch in self._state["glances"]]
            log.all_epochs(self._probes.get("validation", ()), epochs)
            log.errors.warn("at the end")

    def state_dict(self) -> dict[str, Any]:
        """Probes, and what was found in them so far."""
        return deepcopy(self._state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume with the same probes."""
        self._state = deepcopy(state_dict)

    def _part(self, module: EmotionModule) -> EmotionClassifier:
        """The classifier of the task that is explained."""
        return module.classifier.part((self.targets or [module.classifier.task])[0])

    def _explain(self, trainer: L.Trainer, pl_module: L.LightningModule, split: str) -> None:
        """Explain on the first process, and log the scalars on all of them."""
        module = cast("EmotionModule", pl_module)  # as setup has checked
        predictions = module.checked_predictions().parts()[""]  # on every rank: they are gathered
        folder = _run_folder(trainer)
        scalars: dict[str, float] = {}
        if trainer.is_global_zero:
            training = trainer.state.fn == "fit"
            moment = f"epoch_{trainer.current_epoch:03d}" if training else split
            step = trainer.global_step - training  # as Lightning counts when it logs a validation
            log = ExplanationLog(folder, trainer.loggers, step, split=split, moment=moment)
            with log.errors.collect("all of it"), leave_no_trace(module):
                scalars = self._explain_epoch(trainer, self._part(module), predictions, log)
            log.errors.warn(moment)
        self._log_scalars(trainer, module, trainer.strategy.broadcast(scalars))

    def _log_scalars(self, trainer: L.Trainer, module: EmotionModule, scalars: Mapping[str, float]) -> None:
        """Log scalars on every rank.

        A callback that monitors one of ours would stop the training where it is missing today; it gets the
        last value, or the worst there is where none is known.
        """
        self._state["scalars"] |= scalars
        for name, value in scalars.items():
            module.log(name, value, sync_dist=True)
        worst = {"min": torch.finfo(torch.float32).max, "max": torch.finfo(torch.float32).min}
        for other in trainer.callbacks:  # type: ignore[attr-defined]
            monitored = other.monitor if isinstance(other, EarlyStopping | ModelCheckpoint) else None
            if monitored and monitored.startswith("explain/") and monitored not in scalars:
                last = self._state["scalars"].get(monitored, worst[other.mode])
                module.log(monitored, last, sync_dist=True, logger=False)

    def _explain_epoch(
        self, trainer: L.Trainer, classifier: EmotionClassifier, predictions: Predictions, log: ExplanationLog
    ) -> dict[str, float]:
        """Explain, write everything down, and return the scalars."""
        self._budget.begin_epoch()
        epoch, head, collect = trainer.current_epoch, classifier.head, log.errors.collect
        is_due = not log.in_training or epoch % self.every_n_epochs == 0 or epoch + 1 == trainer.max_epochs
        rows: Rows = []
        class_rows: Rows = []
        curves: dict[str, float] = {}
        if self.all_layers and (is_due or head.statistic != "frames"):
            with collect("the layers of all clips"):
                class_rows = self._survey(trainer, classifier, log.split)
        if is_due:
            with collect("the choice of clips"):
                self._choose(predictions, log)
            rows, off_speech = self._explain_probes(classifier, log)
            curves = _average(rows)
            if log.in_training and off_speech:
                with collect("the shortcut alarm"):
                    curves["shortcut_alarm"] = self._check_shortcuts(epoch, predictions, off_speech, log)
        with collect("explanations.csv"):
            log.rows(epoch, rows + class_rows + ([{"scope": "epoch", **curves}] if curves else []))
        if head.settings.layer == "learned":
            for row in class_rows:
                curves |= {f"{k}/{row['label']}": row[k] for k in row if k.startswith("layer")}
        return {f"{log.prefix}/{name}": value for name, value in curves.items() if isfinite(value)}

    def _survey(self, trainer: L.Trainer, classifier: EmotionClassifier, split: str) -> Rows:
        """Layers of all clips by label or dimension; nothing where their features are not cached."""
        loader = trainer.val_dataloaders if split == "validation" else trainer.test_dataloaders
        clips, cache = getattr(loader, "dataset", None), self._data.feature_cache
        if not isinstance(clips, StatisticsBatches) or cache is None:
            return []
        score, seed = score_of_task(self.settings.score, classifier.task), self.settings.seed
        names = [clip.label for clip in self._data.clips(split)]
        if split not in self._noise:
            self._noise[split] = noise_statistics(classifier, self._data.clips(split), cache, seed)
        return survey_classes(classifier, clips, names, self._noise[split], score=score, seed=seed)

    def _choose(self, predictions: Predictions, log: ExplanationLog) -> None:
        """Choose the probes of a split, once; a resumed run has the same wherever they stand now."""
        if log.split in self._probes:
            return
        clips = self._data.prepared[log.split]
        keys, chosen = [one.key for one in clips], self._state["probes"].get(log.split)
        if chosen is not None and {key for key, _ in chosen} <= {*keys}:
            positions = {keys.index(key): why for key, why in chosen}
        elif self.clips is not None:
            positions = find_probes(self.clips, [one.clip for one in clips])
        else:
            counts = (self.per_class, self.num_hardest, self.num_wrong)
            positions = choose_probes(predictions, *counts, self.settings.seed)
        self._probes[log.split] = name_probes(positions, clips)
        self._state["probes"][log.split] = [[probe.key, probe.why] for probe in self._probes[log.split]]
        log.probes(self._probes[log.split])

    def _explain_probes(
        self, classifier: EmotionClassifier, log: ExplanationLog
    ) -> tuple[Rows, dict[str, list[OffSpeech]]]:
        """Rows of the probes, and by label or first target, their attribution outside of speech."""
        rows: Rows = []
        off_speech: dict[str, list[OffSpeech]] = defaultdict(list)
        probes = self._probes.get(log.split, [])
        choose = self._voices(log.split)
        explain = partial(explain_probes, classifier, targets=self.targets, choose=choose, align=self.align)
        with log.errors.collect("the baselines"):
            self._open_references(classifier)
        for result in explain(
            probes, self.settings, self._budget, log.errors, references=self._references or ()
        ):
            with log.errors.collect(result.probe.name):
                rows += result.rows
                if result.explanation.time_stage in FRAME_STAGES:
                    label, targets = result.probe.clip.label, result.explanation.targets
                    target = label if label in targets else targets[0]
                    off_speech[target].append(measure_off_speech(result.explanation, target))
                self._add_numbers(classifier, result, in_training=log.in_training)
                self._write(result, log)
        return rows, off_speech

    def _voices(self, split: str) -> Callable[[Clip], ChosenVoice] | None:
        """Chooses the voice that the cues of a clip are moved to; None where there is no such explanation."""
        known: dict[str, Any] = {"clips": self._data.clips(split), "average": self._data.voice}
        return None if self.cues is None else partial(choose_voice, self.cues, **known)

    def _open_references(self, classifier: EmotionClassifier) -> None:
        """Recordings of the training split as baselines, the same in every epoch."""
        if self._references is None and self.settings.baselines == AUTO:
            clips = [one.clip for one in self._data.prepared.get("train", ())]
            drawn = draw_references(clips)[:NUM_REFERENCES]
            grid = replace(classifier.backbone.frame_grid, max_frames=None)  # they are cut to the clip
            self._references = [open_recording(clip, grid) for clip in drawn]

    def _add_numbers(self, classifier: EmotionClassifier, result: ProbeResult, *, in_training: bool) -> None:
        """Add faithfulness, and in training the drift since earlier epochs, to those of the first target."""
        probe, explanation, target = result.probe, result.explanation, result.explanation.targets[0]
        if self.faithfulness and explanation.time_stage in FRAME_STAGES:
            result.rows[0] |= frame_faithfulness(classifier, explanation, result.waveform, target)
        if in_training and explanation.time_stage is not None:
            frames = explanation.values(explanation.time_stage, "frames", target).float()
            # In the first epoch a clip is compared with itself.
            kept = self._state["frames"].setdefault(probe.key, {"first": frames, "previous": frames})
            result.rows[0] |= {f"drift/{name}": correlation(frames, one) for name, one in kept.items()}
            kept["previous"] = frames

    def _write(self, result: ProbeResult, log: ExplanationLog) -> None:
        """Write figures, in training the explanation, and once the sound, the same in every epoch."""
        if result.probe.key not in self._heard:
            self._heard.add(result.probe.key)
            log.sound(result)
        if self.figures:
            log.figures(result)
        if log.in_training:
            log.explanation(result)

    def _check_shortcuts(
        self, epoch: int, predictions: Predictions, clips: Mapping[str, list[OffSpeech]], log: ExplanationLog
    ) -> float:
        """1 if the alarm is raised, else 0; prints a warning when it is first raised for a class."""
        scores, is_class = score_predictions(predictions), predictions.task in SOFTMAX_TASKS
        name = "uar" if is_class else SCORES[predictions.task].main
        chance = 1 / len({*with_class(predictions).labels.tolist()}) if is_class else 0.0
        uar = float(scores[name])
        off_speech = {label: {k: fmean(one[k] for one in of) for k in of[0]} for label, of in clips.items()}
        earlier = [one for one in self._state["glances"] if one["epoch"] < epoch]
        now = EpochShares(epoch=epoch, uar=uar, chance=chance, off_speech=off_speech)
        self._state["glances"] = [*earlier, now]
        found = suspects(self._state["glances"])
        if found.keys() - suspects(earlier).keys():
            log.errors.add(describe_alarm(found, f"{name.upper()} is {uar:.2f}"))
        return float(bool(found))


def _run_folder(trainer: L.Trainer) -> Path:
    """Folder of the run; to be asked for on every rank, as it is broadcast."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def _average(rows: Rows) -> dict[str, float]:
    """Mean over clips of the numbers of their labels' scores, and of each dimension's; of gaps the median."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        dimension = "" if row["prediction"] else f"/{row['target']}"
        for name, value in row.items():
            if (dimension or row["target"] == row["label"]) and name.startswith(AVERAGED) and isfinite(value):
                values[name + dimension].append(value)
    return {name: (median if name.startswith("gap/") else fmean)(found) for name, found in values.items()}
