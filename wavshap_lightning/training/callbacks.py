"""Callbacks that every run has: reproducible epochs, checkpoints, summary and report."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import numpy as np
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from rich.console import Console

from wavshap_lightning.corpora.audit import audit_table
from wavshap_lightning.errors import SettingError
from wavshap_lightning.files import write_json
from wavshap_lightning.training.cross_validation import Evaluation, report, score_title
from wavshap_lightning.training.data.datamodule import EmotionDataModule, datamodule_of
from wavshap_lightning.training.data.extraction import one_thread
from wavshap_lightning.training.loggers import log_report
from wavshap_lightning.training.module import EmotionModule
from wavshap_lightning.training.scores import Predictions


class ReproducibleEpochs(Callback):
    """Seeds every training epoch, so that a resumed run draws what an uninterrupted one would.

    Args:
        seed: Random seed, combined with epoch and rank.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, _module: object, _batch: object, batch_idx: int
    ) -> None:
        """Seed the global generators, which dropout draws from, before the first batch."""
        # Not at the start of the epoch: a new iterator over the batches draws a number too, and whether it
        # is made before or after that depends on whether the run was resumed.
        if batch_idx == 0:
            words = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank))
            L.seed_everything(int(words.generate_state(1)[0]), verbose=False)


class RelocatedCheckpoints(Callback):
    """Lets a run resume after its folder was moved or renamed.

    A `ModelCheckpoint` stores its files by absolute path. In another folder it would lose the score of the
    best epoch and overwrite that epoch.
    """

    def on_load_checkpoint(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002 - Lightning's signature
        checkpoint: dict[str, Any],
    ) -> None:
        """Replace the old folder in the states of the checkpoint callbacks."""
        here = str(Path(trainer.ckpt_path or "").resolve().parent)
        states = checkpoint.get("callbacks", {})
        for callback in trainer.checkpoint_callbacks:
            state = states.get(callback.state_key, {})
            if isinstance(callback, ModelCheckpoint) and callback.dirpath == here and state.get("dirpath"):
                states[callback.state_key] = _relocated(state, state["dirpath"], here)


class SingleThread(Callback):
    """Trains on one thread if a head learns from cached statistics on the CPU.

    More threads do not speed up such small operations, and slow them down if the CPU is busy.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Use one thread if the head learns from cached statistics on the CPU."""
        data, on_cpu = datamodule_of(trainer), trainer.strategy.root_device.type == "cpu"
        if data is not None and isinstance(pl_module, EmotionModule):
            small = data.is_cached("train") and pl_module.classifier.head.statistic != "frames"
            self._stack.enter_context(one_thread(when=small and on_cpu))

    def on_train_end(self, *_: object) -> None:
        """Restore the number of threads."""
        self._stack.close()

    on_exception = on_train_end  # type: ignore[assignment] # called by position


class RunReport(Callback):
    """Prints and writes a summary of the run before training, and a report after an evaluation.

    Where standard error is no terminal, and progress bars are therefore not drawn, it prints a line an epoch.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print two lines on clips and model, and write the protocol, on the first process."""
        folder = trainer.log_dir  # asked for on every rank: it is broadcast
        data = datamodule_of(trainer)
        if not trainer.is_global_zero or data is None or not isinstance(pl_module, EmotionModule):
            return
        if folder:
            _write_protocol(Path(folder), data)
        counts = ", ".join(f"{len(clips)} {split}" for split, clips in data.prepared.items() if clips)
        folds = data.protocol.folds
        fold = f", {folds[data.fold].name} of {len(folds)}" if len(folds) > 1 else ""
        settings = pl_module.classifier.backbone.settings
        num_trained = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
        state = "frozen" if settings.frozen else "partly trained"
        sys.stdout.write(f"{'Clips':<16} {counts} ({data.protocol.name}{fold})\n")
        if notes := [one for one in data.audited[1] if one.severity == "note"]:
            sys.stdout.write(f"{audit_table(notes)}\n")
        sys.stdout.write(f"{'Model':<16} {settings.name}, {state}: {num_trained:,} parameters are trained\n")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print loss and main score of the epoch."""
        if trainer.progress_bar_callback is None or not trainer.is_global_zero or sys.stderr.isatty():
            return
        metrics, names = trainer.progress_bar_metrics, {"train/loss": "loss"}
        if isinstance(pl_module, EmotionModule):
            names[pl_module.chosen_by[0]] = title_of(pl_module.chosen_by[0])
        known = [f"{short} {metrics[name]:.3f}" for name, short in names.items() if name in metrics]
        sys.stderr.write("  ".join([f"epoch {trainer.current_epoch + 1}", *known]) + "\n")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report on the validation clips, outside training."""
        if trainer.state.fn == "validate" and isinstance(pl_module, EmotionModule):
            _report(trainer, pl_module, "validation", pl_module.validation_predictions)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report on the test clips."""
        if isinstance(pl_module, EmotionModule):
            _report(trainer, pl_module, "test", pl_module.test_predictions)


def title_of(score: str) -> str:
    """Title of a validation score, such as "val UAR" of `val/uar`."""
    return f"val {score_title(score.removeprefix('val/'))}"


def default_callbacks(
    *,
    chosen_by: tuple[str, str] = ("val/uar", "max"),
    seed: int = 0,
    patience: int = 0,
    folder: Path | None = None,
    progress: bool = True,
    validation: bool = True,
    keep_every: int = 0,
) -> list[Callback]:
    """Callbacks of every run from the command line.

    Args:
        chosen_by: The score that chooses `best.ckpt`, and its best end, `min` or `max`.
        seed: Random seed of every epoch.
        patience: Stop after so many epochs without a better score; 0 never stops early.
        folder: Folder of the run, for `checkpoints/`; that of the first logger if None.
        progress: Show progress bars.
        validation: Let that score choose `best.ckpt`; otherwise it holds the last epoch's weights.
        keep_every: Keep the weights after every so many epochs besides; 0 keeps none.

    Raises:
        SettingError: If there is patience but no validation.
    """
    if patience and not validation:
        raise SettingError(f"run.patience={patience} needs validation clips: set data.validation=true")
    checkpoint = partial(ModelCheckpoint, folder and folder / "checkpoints", enable_version_counter=False)
    callbacks: list[Callback] = [RichProgressBar(console_kwargs={"stderr": True})] if progress else []
    callbacks += [ReproducibleEpochs(seed), RelocatedCheckpoints(), SingleThread(), RunReport()]
    (monitor, mode), best = chosen_by, partial(checkpoint, filename="best", save_weights_only=True)
    last_epoch = partial(best, mode="max", save_on_train_epoch_end=True)  # the state of "last" has mode "min"
    callbacks.append(best(monitor=monitor, mode=mode) if validation else last_epoch())
    callbacks.append(checkpoint(filename="last", save_on_train_epoch_end=True))
    if patience:
        callbacks.append(EarlyStopping(monitor, mode=mode, patience=patience))
    if keep_every:
        kept = checkpoint(
            filename="epoch_{epoch:03.0f}",
            auto_insert_metric_name=False,
            monitor="epoch",  # so that Lightning keeps its state apart from that of the last
            mode="max",
            save_top_k=-1,
            every_n_epochs=keep_every,
            save_on_train_epoch_end=True,
            save_weights_only=True,
        )
        callbacks.append(kept)
    return callbacks


def check_flags(given: Mapping[str, Any], *, validated: bool, tested: bool) -> None:
    """Refuse what Lightning accepts and what makes a run fail late, or end without a result.

    Args:
        given: The arguments.
        validated: Whether validation clips are held out, and meant to be used.
        tested: Whether test clips are meant to be used.

    Raises:
        SettingError: If there is such an argument.
    """
    started_over = any(way in str(given["strategy"]) for way in ("spawn", "fork", "notebook"))
    cores, devices = os.cpu_count() or 1, str(given["devices"])
    on_cpus = given["accelerator"] == "cpu" and devices not in ("1", "auto")
    wrong = {
        "limit_val_batches": validated and given["limit_val_batches"] == 0 and "set data.validation=false",
        "limit_test_batches": tested and given["limit_test_batches"] == 0 and "set run.test=false",
        "gradient_clip_val": (given["gradient_clip_val"] or 0) < 0 and "it must be at least 0",
        "devices": devices.isdecimal() and int(devices) > cores and f"this computer has {cores} cores",
        "strategy": started_over and "what such processes train is lost; set ddp",
        "sync_batchnorm": given["sync_batchnorm"] and on_cpus and "it needs GPUs",
    }
    for name in ("accumulate_grad_batches", "val_check_interval", "check_val_every_n_epoch"):
        wrong[name] = given[name] in (0, -1) and "it must be above 0"
    for name, reason in wrong.items():
        if reason:
            raise SettingError(f"trainer.{name}={given[name]}: {reason}")


def _relocated(value: Any, old: str, new: str) -> Any:  # noqa: ANN401 - whatever a callback stores
    """The state of a callback with the paths below one folder moved to another."""
    if isinstance(value, dict):
        return {_relocated(key, old, new): _relocated(item, old, new) for key, item in value.items()}
    if isinstance(value, str) and Path(value).is_relative_to(old):
        return str(new / Path(value).relative_to(old))
    return value


def _write_protocol(folder: Path, data: EmotionDataModule) -> None:
    """Write `protocol.json`, with what the audit found, if anything."""
    found = data.audit_record if data.audited[1] else {}
    write_json(folder / "protocol.json", {**data.protocol_record, **found})


def _report(trainer: L.Trainer, module: EmotionModule, split: str, predictions: Predictions | None) -> None:
    data, folder = datamodule_of(trainer), trainer.log_dir
    if data is None or predictions is None or not trainer.is_global_zero:
        return
    speakers = tuple(clip.speaker for clip in data.clips(split))
    result = Evaluation(predictions, speakers, data.protocol_record, module.temperature)
    place = Path(folder) if folder else None
    if place:
        _write_protocol(place, data)
    numbers = report(result, split, module.classifier.labels, folder=place, console=Console())
    log_report(trainer.loggers, split, numbers, [*place.glob(f"{split}_*reliability.png")] if place else [])
