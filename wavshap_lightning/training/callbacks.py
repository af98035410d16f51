"""Small callbacks that every run has: reproducible epochs, the protocol, the report of a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import lightning as L  # noqa: N812
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
)
from rich.console import Console
from rich.table import Table

from wavshap_lightning.training.datamodule import EmotionDataModule
from wavshap_lightning.training.files import write_csv, write_json
from wavshap_lightning.training.module import EmotionModule
from wavshap_lightning.training.scores import (
    SpeakerScore,
    confusion_counts,
    score_predictions,
    score_speakers,
)

MONITORED = "val/uar"


class ReproducibleEpochs(Callback):
    """Seeds every training epoch anew, so that a resumed run draws what an uninterrupted one would.

    Args:
        seed: Decides all draws, together with epoch and rank.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Seed the global generators, which dropout draws from."""
        L.seed_everything(
            (self.seed + 1_000_003 * trainer.current_epoch + trainer.global_rank) % 2**32, verbose=False
        )


class ProtocolWriter(Callback):
    """Writes `protocol.json` into the run's folder: who trained, who chose the model, who judges it."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Write it on the first process."""
        datamodule = getattr(trainer, "datamodule", None)
        folder = trainer.log_dir  # asked for on every rank: it is broadcast
        if isinstance(datamodule, EmotionDataModule) and folder and trainer.is_global_zero:
            write_json(Path(folder) / "protocol.json", datamodule.protocol_record)


class ReportWriter(Callback):
    """After a test: scores, confusion matrix and speakers, on the screen and in the run's folder."""

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write `test.json`, `test_confusion.csv` and `test_speakers.csv`, and print the last two."""
        datamodule, folder = getattr(trainer, "datamodule", None), trainer.log_dir
        if not (isinstance(pl_module, EmotionModule) and isinstance(datamodule, EmotionDataModule)):
            return
        predictions, labels = pl_module.test_predictions, pl_module.classifier.labels
        if predictions is None or not trainer.is_global_zero:
            return
        counts = confusion_counts(predictions).tolist()
        speakers = score_speakers(predictions, [clip.speaker for clip in datamodule.clips("test")])
        if folder:
            scores = {name: float(value) for name, value in score_predictions(predictions).items()}
            write_json(Path(folder) / "test.json", {**scores, "protocol": datamodule.protocol_record})
            write_csv(Path(folder) / "test_confusion.csv", _confusion_rows(labels, counts))
            write_csv(
                Path(folder) / "test_speakers.csv", [list(SpeakerScore.__slots__), *map(astuple, speakers)]
            )
        console = Console()
        console.print(_confusion_table(labels, counts))
        console.print(_speaker_table(speakers))


def default_callbacks(*, seed: int = 0, patience: int = 0) -> list[Callback]:
    """What every run from the command line has.

    Args:
        seed: Decides every draw.
        patience: Stop once validation recall has not risen for so many epochs; 0 never does.
    """
    return [
        ReproducibleEpochs(seed),
        ProtocolWriter(),
        ReportWriter(),
        LearningRateMonitor("epoch"),
        RichProgressBar(leave=False),
        ModelCheckpoint(
            filename="best",
            monitor=MONITORED,
            mode="max",
            save_weights_only=True,
            enable_version_counter=False,
        ),
        ModelCheckpoint(filename="last", save_on_train_epoch_end=True, enable_version_counter=False),
        *([EarlyStopping(MONITORED, mode="max", patience=patience)] if patience else []),
    ]


def _confusion_rows(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> list[list[object]]:
    return [["label", *labels], *([label, *row] for label, row in zip(labels, counts, strict=True))]


def _confusion_table(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Table:
    table = Table(title="Confusion on the test clips (rows: label, columns: prediction)")
    for name in ("", *labels, "recall"):
        table.add_column(name, justify="right")
    for index, (label, row) in enumerate(zip(labels, counts, strict=True)):
        recall = f"{row[index] / sum(row):.2f}" if sum(row) else "-"
        table.add_row(label, *(str(count) if count else "." for count in row), recall)
    return table


def _speaker_table(speakers: Sequence[SpeakerScore]) -> Table:
    table = Table(title="Test speakers, worst first")
    for name in ("speaker", "clips", "UAR", "WA"):
        table.add_column(name, justify="right")
    for score in speakers:
        table.add_row(score.speaker or "unknown", str(score.num_clips), f"{score.uar:.3f}", f"{score.wa:.3f}")
    return table
