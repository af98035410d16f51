"""Explanations watched while a model learns: a Lightning callback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L  # noqa: N812
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from wavshap_lightning.attribution.no_trace import leave_no_trace
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.settings import ExplainSettings, ScoreKind, Stage
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.module import EmotionModule
from wavshap_lightning.training.monitoring.budget import Budget
from wavshap_lightning.training.monitoring.epoch import Epoch, EpochWatch, Moment, WatchSettings, cached_clips
from wavshap_lightning.training.monitoring.figures import log_epoch_pages, warm_up
from wavshap_lightning.training.monitoring.state import WatchMemory
from wavshap_lightning.training.monitoring.writer import ExplanationLog
from wavshap_lightning.training.scores import Predictions

BaselineFamily = Literal["noise", "spectral_noise", "time_shifted", "silence"]


class ExplanationMonitor(Callback):
    """Explains the same few clips as training goes on, and the layers of all of them.

    After validation epochs, and after a test, it explains probe clips. What is found goes to the run's folder
    (`figures/`, `sounds/`, `explanations.csv`, `probes.json`), as figures, sounds and a table to W&B and
    TensorBoard, and as scalars under `explain/` to every logger; `EarlyStopping` and `ModelCheckpoint` can
    monitor these. At the end of training every clip gets a figure of all its epochs. Where no clip validates
    (`data.validation=false`), the test alone is explained.

    It leaves no trace: weights, optimiser, metrics and random states are what they would be without it. If
    something fails in it, one warning an epoch says what, and training goes on.

    Args:
        every_n_epochs: Explain the probes after every so many epochs, from the first on, and after the last.
        per_class: Probe clips of each class, drawn once.
        num_hardest: Probe clips with the highest loss besides, in the first epoch that is explained.
        num_wrong: Probe clips that are confidently taken for something else, in that epoch.
        clips: Names or paths of the probe clips, instead of all these.
        stages: Where paths begin: `frames` (when), `layers` (which layer), `waveform` (which band; the
            dearest). The target is the score of the label and that of the prediction.
        score: Which score of a class is explained.
        baselines: What a clip is compared with, as loud as it.
        num_draws: Gradient evaluations for each clip and view, at most.
        max_draws: Gradient evaluations of an epoch, over all clips and views; no limit if None.
        max_seconds: Seconds that all of this may take after an epoch; no limit if None. What comes out then
            depends on the machine.
        faithfulness: Remove and keep frames of each probe, to see whether the score follows.
        all_layers: Attribute the layers of all clips whose features are cached, by class. Where the head
            pools by mean or deviation this costs next to nothing and is done after every epoch.
        num_top: How many of the strongest frames figures mark.
        seed: Decides the probes and all draws; every epoch has the same.

    Raises:
        SettingError: If a value is out of range.
    """

    def __init__(
        self,
        *,
        every_n_epochs: int = 1,
        per_class: int = 1,
        num_hardest: int = 2,
        num_wrong: int = 2,
        clips: list[str] | None = None,
        stages: Sequence[Stage] = ("frames", "layers"),
        score: ScoreKind = "log_odds",
        baselines: BaselineFamily = "noise",
        num_draws: int = 64,
        max_draws: int | None = None,
        max_seconds: float | None = None,
        faithfulness: bool = True,
        all_layers: bool = True,
        num_top: int = 5,
        seed: int = 0,
    ) -> None:
        _check_counts(
            every_n_epochs=(every_n_epochs, 1),
            per_class=(per_class, 0),
            num_hardest=(num_hardest, 0),
            num_wrong=(num_wrong, 0),
            num_top=(num_top, 0),
        )
        self.every_n_epochs = every_n_epochs
        self.settings = WatchSettings(
            explain=ExplainSettings(stages=stages, score=score, baselines=baselines, seed=seed),
            budget=Budget(num_draws, max_draws, max_seconds),
            per_class=per_class,
            num_hardest=num_hardest,
            num_wrong=num_wrong,
            clips=None if clips is None else tuple(clips),
            faithfulness=faithfulness,
            all_layers=all_layers,
            num_top=num_top,
        )
        self._memory = WatchMemory()
        self._watch = EpochWatch(self.settings, self._memory)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:  # noqa: ARG002
        """See that there is something to explain.

        Raises:
            SettingError: If module or datamodule are not of this package, or a named clip is not there.
        """
        datamodule = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, EmotionModule) or not isinstance(datamodule, EmotionDataModule):
            raise SettingError(
                f"module={type(pl_module).__name__}, datamodule={type(datamodule).__name__}: what is needed "
                "is an EmotionModule on an EmotionDataModule; use these, or no ExplanationMonitor"
            )
        self._watch.begin()
        if trainer.is_global_zero:
            warm_up()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Explain, before the scores are logged, so that what is logged here belongs to the same step."""
        if isinstance(pl_module, EmotionModule) and not trainer.sanity_checking:
            self._explain(trainer, pl_module, "validation", pl_module.validation_log.predictions())

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Explain clips of the test."""
        if isinstance(pl_module, EmotionModule):
            self._explain(trainer, pl_module, "test", pl_module.test_log.predictions())

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Draw every clip with all its epochs."""
        folder = trainer.log_dir  # asked for on every rank: it is broadcast
        if not trainer.is_global_zero or folder is None:
            return
        log = ExplanationLog(Path(folder), trainer.loggers, trainer.global_step - 1)
        log_epoch_pages(log, self._watch.watched.get("validation", ()), self._memory.epochs)
        log.notes.tell("at the end")

    def state_dict(self) -> dict[str, Any]:
        """Probes, and what was found in them so far."""
        return self._memory.to_state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the same probes."""
        self._memory.restore(state_dict)

    def _explain(
        self, trainer: L.Trainer, module: EmotionModule, part: str, predictions: Predictions
    ) -> None:
        """On the first process; the numbers go to all of them."""
        folder = trainer.log_dir  # asked for on every rank: it is broadcast
        scalars: dict[str, float] = {}
        if trainer.is_global_zero:
            moment = self._moment(trainer, part)
            step = trainer.global_step - moment.training  # as Lightning counts when it logs a validation
            log = ExplanationLog(Path(folder) if folder else None, trainer.loggers, step)
            with log.notes.instead_of_raising("all of it"), leave_no_trace(module):
                data: EmotionDataModule = trainer.datamodule  # type: ignore[attr-defined]
                cached = cached_clips(trainer, part)
                scalars = self._watch.explain(
                    Epoch(moment, module.classifier, data, cached, predictions, log)
                )
            log.notes.tell(moment.words)
        self._log(trainer, module, trainer.strategy.broadcast(scalars))

    def _log(self, trainer: L.Trainer, module: EmotionModule, scalars: Mapping[str, float]) -> None:
        """Log scalars on every rank, and for those who watch one that is missing today, what it was last."""
        self._memory.scalars |= scalars
        for name, value in scalars.items():
            module.log(name, value, sync_dist=True)
        for name, worst in _watched_elsewhere(trainer).items():
            if name not in scalars:
                last = self._memory.scalars.get(name, worst)
                module.log(name, last, sync_dist=True, logger=False)

    def _moment(self, trainer: L.Trainer, part: str) -> Moment:
        epoch, training = trainer.current_epoch, trainer.state.fn == "fit" and part == "validation"
        is_last = trainer.max_epochs is not None and epoch + 1 == trainer.max_epochs
        is_due = not training or epoch % self.every_n_epochs == 0 or is_last
        return Moment(part, epoch, training=training, probes=is_due)


def _watched_elsewhere(trainer: L.Trainer) -> dict[str, float]:
    """Scalars of ours that other callbacks would stop the training for if they were missing or not finite.

    Each with the worst value there is, for where it is not known yet.
    """
    worst = {"min": torch.finfo(torch.float32).max, "max": torch.finfo(torch.float32).min}
    watching = [one for one in trainer.callbacks if isinstance(one, EarlyStopping | ModelCheckpoint)]  # type: ignore[attr-defined]
    return {
        one.monitor: worst[one.mode] for one in watching if one.monitor and one.monitor.startswith("explain/")
    }


def _check_counts(**counts: tuple[int, int]) -> None:
    for name, (value, smallest) in counts.items():
        if value < smallest:
            raise SettingError(f"{name}={value} must be at least {smallest}")
