"""`metrics.csv`: everything logged, as one table."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from wavshap_lightning.training.files import write_csv

FIRST_COLUMNS = ("epoch", "step")


class MetricsTable(Logger):
    """Writes `metrics.csv` into a run's folder: what is logged at one step is one row.

    With one log an epoch, as here, that is a row an epoch. The file is whole at any time, and a run that is
    resumed goes on in it.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self._row_of_step = _read_rows(self.path)

    @property
    def name(self) -> str:
        """Name of the runs."""
        return self.path.parent.parent.name

    @property
    def version(self) -> str:
        """Which of them this is."""
        return self.path.parent.name

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Nothing: they are in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add to the row of a step."""
        self._row_of_step.setdefault(step or 0, {}).update(metrics)

    @rank_zero_only
    def save(self) -> None:
        """Write the table."""
        if not self._row_of_step:
            return
        rows = [{**row, "step": step} for step, row in sorted(self._row_of_step.items())]
        names = {name for row in rows for name in row}
        columns = [*FIRST_COLUMNS, *sorted(names - {*FIRST_COLUMNS})]
        write_csv(self.path, [columns, *([row.get(name, "") for name in columns] for row in rows)])


def _read_rows(path: Path) -> dict[int, dict[str, Any]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {int(row.pop("step")): row for row in csv.DictReader(file)}
