"""Output of the monitor: figures, sounds and tables in the run's folder, in W&B and in TensorBoard."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from matplotlib.image import imsave

from wavshap_lightning.audio.io import SAMPLE_RATE, save_audio
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.files import write_atomically, write_csv, write_json
from wavshap_lightning.training.monitoring.error_log import ErrorLog
from wavshap_lightning.training.monitoring.probes import Probe, ProbeResult
from wavshap_lightning.viz.clip_view import ClipView
from wavshap_lightning.viz.comparisons import plot_epochs
from wavshap_lightning.viz.figures import figure_pixels, plot
from wavshap_lightning.viz.sound import log_mel
from wavshap_lightning.viz.theme import theme

Rows = list[dict[str, Any]]
"""Cells by column; `scope` is `clip` (of a clip and target), `class` (of all clips of a label) or `epoch`."""

FIRST_COLUMNS = ("part", "epoch", "scope", "clip", "why", "label", "target", "prediction")
KEPT_VIEWS = ("frames", "layers", "bands")
"""Views that the figure of all epochs shows; the rest of an explanation is larger by far."""


class ExplanationLog:
    """Writes what one epoch found to the run's folder and to the loggers that take it.

    What one place refuses is kept in `errors`, and goes to the others all the same.

    Args:
        folder: The run's folder.
        loggers: Those of the trainer; W&B and TensorBoard take figures and sounds.
        step: The trainer's.
        split: Split of the clips.
        moment: Folder of the figures: `epoch_003` in training, else `validation`, `test` or `epochs`.
    """

    def __init__(
        self, folder: Path, loggers: Sequence[Logger], step: int, *, split: str, moment: str
    ) -> None:
        self.folder, self.loggers, self.step, self.split, self.moment = folder, loggers, step, split, moment
        self.in_training = moment.startswith("epoch_")
        self.prefix = "explain_test" if split == "test" else "explain"
        self.errors = ErrorLog()

    def probes(self, probes: Sequence[Probe]) -> None:
        """Write a readable list of the probe clips and why they were chosen; other splits are kept."""
        path = self.folder / "probes.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        known[self.split] = [
            {"name": probe.name, "why": probe.why, "label": probe.clip.label, "file": str(probe.clip.path)}
            for probe in probes
        ]
        write_json(path, known)

    def figures(self, result: ProbeResult) -> None:
        """Draw a clip for each target: that of its label, else named by `predicted` or the target."""
        explanation, clip = result.explanation, result.probe.clip
        for target in explanation.targets:
            kind = "predicted" if target == explanation.prediction else target
            name = result.probe.name if target == clip.label else f"{result.probe.name}_{kind}"
            with self.errors.collect(f"{name}, its figure"):
                known: dict[str, Any] = {"target": target, "label": clip.label, "evidence": clip.evidence}
                figure = plot(explanation, result.waveform, **known)
                words = ClipView.from_explanation(explanation, result.waveform, **known).headline
                self._figure(name, figure_pixels(figure), f"{self.moment}: target {target}. {words}")

    def sound(self, result: ProbeResult) -> None:
        """Write the sound of a clip."""
        name, waveform, rate = result.probe.name, result.waveform.numpy(), result.explanation.sample_rate
        with self.errors.collect(f"{name}, its sound"):
            save_audio(self.folder / "sounds" / f"{name}.wav", waveform, sample_rate=rate)
        key = f"explain_sounds/{name}"
        self._to_loggers(
            f"{name}, its sound",
            lambda board: board.add_audio(key, waveform[None], self.step, sample_rate=rate),
            lambda wandb: wandb.log_audio(key, [waveform], self.step, sample_rate=[rate]),
        )

    def explanation(self, result: ProbeResult) -> None:
        """Keep what the figure of all epochs shows, in the run's folder and not in memory."""
        attributions = {
            stage: replace(found, views={k: view for k, view in found.views.items() if k in KEPT_VIEWS})
            for stage, found in result.explanation.attributions.items()
        }
        with self.errors.collect(f"{result.probe.name}, its record"):
            kept = replace(result.explanation, attributions=attributions)
            kept.save(self._explanation_path(result.probe, self.moment))

    def all_epochs(self, probes: Sequence[Probe], epochs: Sequence[int]) -> None:
        """Draw every clip with all its epochs, from the explanations in the folder.

        Args:
            probes: The clips.
            epochs: Those that were explained.
        """
        for probe in probes:
            with self.errors.collect(f"{probe.name}, all epochs"):
                paths = {epoch: self._explanation_path(probe, f"epoch_{epoch:03d}") for epoch in epochs}
                found = {n: Explanation.load(path) for n, path in paths.items() if path.is_file()}
                if found:
                    label, evidence = probe.clip.label, probe.clip.evidence
                    target = label if label in next(iter(found.values())).targets else None
                    figure = plot_epochs(found, target=target, label=label, evidence=evidence)
                    self._figure(probe.name, figure_pixels(figure), f"{probe.name}: all epochs")

    def rows(self, epoch: int, rows: Rows) -> None:
        """Write the rows of an epoch to `explanations.csv`, and those of clips to W&B as a table.

        Args:
            epoch: Number of the epoch.
            rows: Rows of the epoch.

        Raises:
            OSError: If the file cannot be written.
        """
        clips = [row for row in rows if row["scope"] == "clip"]
        if clips:
            names = [*dict.fromkeys(name for row in clips for name in row)]
            cells, key = [[row.get(name) for name in names] for row in clips], f"{self.prefix}_clips"
            self._to_loggers(
                "the table", lambda _: None, lambda wandb: wandb.log_table(key, names, cells, step=self.step)
            )
        write_rows(self.folder / "explanations.csv", self.split, epoch, rows)

    def _figure(self, name: str, pixels: UInt8[np.ndarray, "height width 3"], caption: str) -> None:
        image: str | np.ndarray = pixels
        with self.errors.collect(f"{name}, its figure"):
            path, content = self.folder / "figures" / self.moment / f"{name}.png", io.BytesIO()
            imsave(content, pixels, format="png", origin="upper", pil_kwargs={"compress_level": 3})
            write_atomically(path, content.getvalue())
            image = str(path)  # W&B copies the file, which is quicker than to encode it once more
        group = "figures" if self.in_training else f"figures_{self.moment}"
        key = f"explain_{group}/{name}"
        self._to_loggers(
            f"{name}, its figure",
            lambda board: board.add_image(key, pixels, self.step, dataformats="HWC"),
            lambda wandb: wandb.log_image(key, [image], self.step, caption=[caption]),
        )

    def _to_loggers(
        self, what: str, to_board: Callable[[Any], object], to_wandb: Callable[[WandbLogger], object]
    ) -> None:
        for logger in self.loggers:
            with self.errors.collect(f"{what} in {type(logger).__name__.removesuffix('Logger')}"):
                if isinstance(logger, TensorBoardLogger):
                    to_board(logger.experiment)
                elif isinstance(logger, WandbLogger):
                    to_wandb(logger)

    def _explanation_path(self, probe: Probe, moment: str) -> Path:
        return self.folder / "explanations" / moment / f"{probe.name}.explanation"


def write_rows(path: Path, split: str, epoch: int, rows: Rows) -> None:
    """Put the rows of an epoch into a table, in place of those of the same and of later epochs.

    A resumed run thus continues its table. Columns that a row lacks are empty; the table is complete at
    any time.

    Args:
        path: The CSV file.
        split: Split of the clips, in column `part`.
        epoch: Number of the epoch.
        rows: Rows of the epoch.

    Raises:
        OSError: If the file cannot be written.
    """
    table: list[dict[str, Any]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            table = [r for r in csv.DictReader(file) if r["part"] != split or int(r["epoch"]) < epoch]
    table += [{"part": split, "epoch": epoch, **row} for row in rows]
    columns = [*FIRST_COLUMNS, *sorted({name for row in table for name in row} - {*FIRST_COLUMNS})]
    write_csv(path, [columns, *([row.get(name, "") for name in columns] for row in table)])


def warm_up_figures() -> None:
    """Find the fonts and load what draws: the first figure of a process would take several times as long."""
    log_mel(np.ones(SAMPLE_RATE), SAMPLE_RATE)
    with theme():
        figure = Figure(figsize=(1.0, 1.0))
        figure.suptitle("fonts")
        figure_pixels(figure)
