"""Output of the monitor: the run's folder, W&B and TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.files import write_atomically, write_csv

MOST_TOLD = 5


class Notes:
    """Errors of one epoch of explanations.

    Watching must not stop what is watched, so whatever is raised is written down here instead of being passed
    on; nothing is left untold.
    """

    def __init__(self) -> None:
        self._notes: list[str] = []

    def add(self, note: str) -> None:
        """Write something down, unless it has been already."""
        if note not in self._notes:
            self._notes.append(note)

    @contextmanager
    def instead_of_raising(self, what: str) -> Iterator[None]:
        """Write down what the block raises, under the name of what it was about.

        Args:
            what: A clip's name, or what was being done.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on
            self.add(f"{what}: {type(error).__name__}: {' '.join(str(error).split()) or 'without a message'}")

    def tell(self, when: str) -> None:
        """Warn once of everything; say nothing if nothing went wrong.

        Args:
            when: Of which epoch this is, for the beginning of the message.
        """
        if not self._notes:
            return
        told, left = self._notes[:MOST_TOLD], len(self._notes) - MOST_TOLD
        more = f"; and {left} more" if left > 0 else ""
        rank_zero_warn(f"explanations, {when}: {'; '.join(told)}{more}. Training goes on", stacklevel=3)


FIRST_COLUMNS = ("part", "epoch", "scope", "clip", "why", "label", "target", "prediction")

Row = Mapping[str, Any]


class ExplanationTable:
    """The table of a run, whole at any time; a run that is resumed goes on in it.

    A row has a scope: `clip` for one clip and target, `class` for the layers of all clips of a label, `epoch`
    for all of an epoch. What a row does not have is empty.

    Args:
        path: The file; what it holds is taken over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[dict[str, Any]] = _read(path)

    def write(self, part: str, epoch: int, rows: Iterable[Row]) -> None:
        """Put in the rows of an epoch, in place of what was there of it and of later ones.

        Args:
            part: Of the split.
            epoch: Which.
            rows: By column.

        Raises:
            OSError: If the disk refuses.
        """
        kept = [row for row in self._rows if row["part"] != part or int(row["epoch"]) < epoch]
        self._rows = [*kept, *({"part": part, "epoch": epoch, **row} for row in rows)]
        others = sorted({name for row in self._rows for name in row} - {*FIRST_COLUMNS})
        columns = [*FIRST_COLUMNS, *others]
        write_csv(self.path, [columns, *([row.get(name, "") for name in columns] for row in self._rows)])


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


Pixels = UInt8[np.ndarray, "height width 3"]

FIGURES, SOUNDS = "figures", "sounds"


@dataclass(frozen=True)
class ExplanationLog:
    """Writes what was found, to wherever the run is written.

    What one place refuses is noted, and goes to the others all the same.

    Args:
        folder: The run's folder; None if it has none.
        loggers: Those of the trainer; W&B and TensorBoard take figures and sounds.
        step: The trainer's.
        notes: Where to note what went wrong.
    """

    folder: Path | None
    loggers: Sequence[Logger]
    step: int
    notes: Notes = field(default_factory=Notes)
    _for_wandb: dict[str, Any] = field(default_factory=dict)

    def figure(self, name: str, moment: str, pixels: Pixels, caption: str = "") -> None:
        """One figure.

        Args:
            name: Of the clip, as a file's name.
            moment: The subfolder: `epoch_003`, `test`, `epochs`, ...
            pixels: What is seen.
            caption: For W&B.
        """
        image: Pixels | str = pixels
        if self.folder is not None:
            with self.notes.instead_of_raising(f"{name}, its figure"):
                path = self.folder / FIGURES / moment / f"{name}.png"
                write_atomically(path, _png(pixels))
                image = str(path)  # W&B copies the file, which is quicker than to encode it once more
        group = FIGURES if moment.startswith("epoch_") else f"{FIGURES}_{moment}"
        key = f"explain_{group}/{name}"
        for board in self._boards():
            with self.notes.instead_of_raising(f"{name}, its figure in TensorBoard"):
                board.experiment.add_image(key, pixels, self.step, dataformats="HWC")
        if self._wandb_loggers():
            with self.notes.instead_of_raising(f"{name}, its figure in W&B"):
                import wandb  # noqa: PLC0415 - slow, and needed only where it is used

                self._for_wandb[key] = wandb.Image(image, caption=caption)

    def sound(self, name: str, waveform: Float[Tensor, " samples"], sample_rate: int) -> None:
        """Write the sound of a clip once; it is the same in every epoch."""
        if self.folder is not None:
            with self.notes.instead_of_raising(f"{name}, its sound"):
                path = self.folder / SOUNDS / f"{name}.wav"
                save_audio(path, waveform.numpy(), sample_rate=sample_rate)
        key = f"explain_{SOUNDS}/{name}"
        for board in self._boards():
            with self.notes.instead_of_raising(f"{name}, its sound in TensorBoard"):
                board.experiment.add_audio(key, waveform[None], self.step, sample_rate=sample_rate)
        if self._wandb_loggers():
            with self.notes.instead_of_raising(f"{name}, its sound in W&B"):
                import wandb  # noqa: PLC0415 - as above

                self._for_wandb[key] = wandb.Audio(waveform.numpy(), sample_rate=sample_rate)

    def table(self, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A W&B table.

        Args:
            key: What it is called.
            rows: By column.
        """
        columns: list[str | int] = list(dict.fromkeys(column for row in rows for column in row))
        if rows and self._wandb_loggers():
            with self.notes.instead_of_raising("the table in W&B"):
                import wandb  # noqa: PLC0415 - as above

                data = [[row.get(str(column)) for column in columns] for row in rows]
                self._for_wandb[key] = wandb.Table(columns, data)

    def send(self) -> None:
        """Hand everything that has come together to W&B, as one step of its history."""
        if self._for_wandb:
            for logger in self._wandb_loggers():
                with self.notes.instead_of_raising("W&B"):
                    logger.log_metrics(self._for_wandb, self.step)
        self._for_wandb.clear()

    def _boards(self) -> list[TensorBoardLogger]:
        return [logger for logger in self.loggers if isinstance(logger, TensorBoardLogger)]

    def _wandb_loggers(self) -> list[WandbLogger]:
        return [logger for logger in self.loggers if isinstance(logger, WandbLogger)]


def _png(pixels: Pixels) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png", compress_level=3)
    return content.getvalue()


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
