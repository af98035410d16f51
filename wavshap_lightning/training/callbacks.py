"""Small callbacks that every run has: reproducible epochs, checkpoints, what is written and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from rich.console import Console

from wavshap_lightning.errors import SettingError
from wavshap_lightning.files import write_json
from wavshap_lightning.training.cross_validation import Report
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.module import EmotionModule
from wavshap_lightning.training.progress import RunProgress
from wavshap_lightning.training.scores import Predictions

MONITORED = "val/uar"


class ReproducibleEpochs(Callback):
    """Seeds every training epoch anew, so that a resumed run draws what an uninterrupted one would.

    Args:
        seed: Decides all draws, together with epoch and rank.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, _module: object, _batch: object, batch_idx: int
    ) -> None:
        """Seed the global generators, which dropout draws from, before the first batch.

        Not at the start of the epoch: a new iterator over the batches draws a number too, and whether it is
        made before or after that depends on whether the run was resumed.
        """
        if batch_idx == 0:
            words = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank))
            L.seed_everything(int(words.generate_state(1)[0]), verbose=False)


class MovedRun(Callback):
    """Lets a run go on as it was although its folder was moved or renamed.

    A `ModelCheckpoint` knows its files by absolute path. Elsewhere it would forget how good the best one was,
    and write the next epoch over it.
    """

    def on_load_checkpoint(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002 - Lightning's signature
        checkpoint: dict[str, Any],
    ) -> None:
        """Name the files of the checkpoint's folder as they are called now."""
        here = str(Path(trainer.ckpt_path or "").resolve().parent)
        states = checkpoint.get("callbacks", {})
        for callback in trainer.checkpoint_callbacks:
            state = states.get(callback.state_key, {})
            if isinstance(callback, ModelCheckpoint) and callback.dirpath == here and state.get("dirpath"):
                states[callback.state_key] = _moved(state, state["dirpath"], here)


class OneThread(Callback):
    """Trains on one thread where a head learns from cached means or moments on the CPU.

    Work this small is not quicker on many threads, and much slower where other programs want them too.
    """

    def __init__(self) -> None:
        self._before: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep to one thread where that is enough."""
        datamodule = _datamodule(trainer)
        if datamodule is None or not isinstance(pl_module, EmotionModule):
            return
        on_cpu = trainer.strategy.root_device.type == "cpu"
        if on_cpu and datamodule.is_cached("train") and pl_module.classifier.head.statistic != "frames":
            self._before = torch.get_num_threads()
            torch.set_num_threads(1)

    def on_train_end(self, *_: object) -> None:
        """Give the other threads back."""
        if self._before is not None:
            torch.set_num_threads(self._before)
            self._before = None

    def on_exception(self, *_: object) -> None:
        """Give the other threads back."""
        self.on_train_end()


class ProtocolWriter(Callback):
    """Writes `protocol.json` into the run's folder: who trained, who chose the model, who judges it."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Write it on the first process."""
        folder = trainer.log_dir  # asked for on every rank: it is broadcast
        datamodule = _datamodule(trainer)
        if datamodule is not None and folder and trainer.is_global_zero:
            write_json(Path(folder) / "protocol.json", datamodule.protocol_record)


class Introduction(Callback):
    """Says before training what is trained on what."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print two lines on the first process."""
        datamodule = _datamodule(trainer)
        if not trainer.is_global_zero or datamodule is None or not isinstance(pl_module, EmotionModule):
            return
        console = Console()
        for title, text in {
            "Clips": _describe_clips(datamodule),
            "Model": _describe_model(pl_module),
        }.items():
            console.print(f"{title:<16} {text}", highlight=False, markup=False, soft_wrap=True)


class Reporter(Callback):
    """Reports after a test, and after a validation outside training, in the run's folder and on screen."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report on the validation clips."""
        if trainer.state.fn == "validate" and isinstance(pl_module, EmotionModule):
            _report(trainer, pl_module, "validation", pl_module.validation_predictions)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report on the test clips."""
        if isinstance(pl_module, EmotionModule):
            _report(trainer, pl_module, "test", pl_module.test_predictions)


def default_callbacks(
    *,
    seed: int = 0,
    patience: int = 0,
    folder: Path | None = None,
    progress: bool = True,
    validation: bool = True,
    keep_every: int = 0,
) -> list[Callback]:
    """What every run from the command line has.

    Args:
        seed: Decides every draw.
        patience: Stop once validation recall has not risen for so many epochs; 0 never does.
        folder: The run's folder, for `checkpoints/`; that of the first logger if None.
        progress: Whether to show progress bars.
        validation: Whether validation recall chooses `best.ckpt`; without, it holds the last epoch's weights.
        keep_every: After how many epochs to keep the weights, time and again; 0 never does.

    Raises:
        SettingError: If there is patience but nothing to watch.
    """
    if patience and not validation:
        raise SettingError(
            f"run.patience={patience} watches validation recall, which data.validation=false does without; "
            "set run.patience=0 or keep the validation"
        )
    checkpoints = None if folder is None else folder / "checkpoints"
    best = ModelCheckpoint(
        checkpoints,
        filename="best",
        monitor=MONITORED if validation else None,
        mode="max",
        save_weights_only=True,
        enable_version_counter=False,
    )
    last = ModelCheckpoint(
        checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    return [
        ReproducibleEpochs(seed),
        MovedRun(),
        OneThread(),
        ProtocolWriter(),
        Introduction(),
        *([RunProgress()] if progress else []),
        Reporter(),
        *([EarlyStopping(MONITORED, mode="max", patience=patience)] if patience else []),
        best,
        last,
        *([_kept(checkpoints, keep_every)] if keep_every else []),
    ]


def _kept(checkpoints: Path | None, every: int) -> ModelCheckpoint:
    return ModelCheckpoint(
        checkpoints,
        filename="epoch_{epoch:03.0f}",
        auto_insert_metric_name=False,
        monitor="epoch",  # so that Lightning keeps its state apart from that of the last
        mode="max",
        save_top_k=-1,
        every_n_epochs=every,
        save_on_train_epoch_end=True,
        save_weights_only=True,
        enable_version_counter=False,
    )


def _moved(value: Any, old: str, new: str) -> Any:  # noqa: ANN401 - a state is whatever its callback stores
    """The state of a callback whose files have moved from one folder to another."""
    if isinstance(value, dict):
        return {_moved(key, old, new): _moved(item, old, new) for key, item in value.items()}
    if isinstance(value, str) and Path(value).is_relative_to(old):
        return str(new / Path(value).relative_to(old))
    return value


def _datamodule(trainer: L.Trainer) -> EmotionDataModule | None:
    datamodule = getattr(trainer, "datamodule", None)
    return datamodule if isinstance(datamodule, EmotionDataModule) else None


def _report(trainer: L.Trainer, module: EmotionModule, part: str, predictions: Predictions | None) -> None:
    datamodule, folder = _datamodule(trainer), trainer.log_dir
    if datamodule is None or predictions is None or not trainer.is_global_zero:
        return
    speakers = tuple(clip.speaker for clip in datamodule.clips(part))
    report = Report(part, module.classifier.labels, predictions, speakers, datamodule.protocol_record)
    if folder:
        report.save(Path(folder))
    report.show(Console())


def _describe_clips(datamodule: EmotionDataModule) -> str:
    prepared = datamodule.prepared
    counts = ", ".join(f"{len(clips)} {part}" for part, clips in prepared.split.items() if clips)
    folds = prepared.protocol.folds
    which = f", {folds[prepared.fold].name} of {len(folds)}" if len(folds) > 1 else ""
    return f"{counts} ({prepared.protocol.name}{which})"


def _describe_model(module: EmotionModule) -> str:
    settings = module.classifier.backbone.settings
    num_trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    state = "frozen" if settings.frozen else "partly trained"
    return f"{settings.name}, {state}: {num_trained:,} parameters are trained"
