"""`explanations.csv`: every number of every explanation of a run, as one table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wavshap_lightning.training.files import write_csv

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
