"""The report on an evaluation: scores, confusion matrix and speakers, in files and on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wavshap_lightning.training.cross_validation import Interval, bootstrap_uar, confusions_by_speaker
from wavshap_lightning.training.files import write_csv, write_json
from wavshap_lightning.training.scores import (
    Predictions,
    SpeakerScore,
    confusion_counts,
    score_predictions,
    score_speakers,
)

SHOWN_SCORES = {"uar": "UAR", "wa": "WA", "macro_f1": "macro F1", "ece": "ECE"}


@dataclass(frozen=True)
class Report:
    """What a classifier made of one part of a split.

    Args:
        part: `validation` or `test`.
        labels: The classes, in the order of the logits.
        predictions: Of the clips of the part.
        speakers: The speaker of every clip of the part, in its order.
        protocol: How the corpus is split, as it is stored.
    """

    part: str
    labels: tuple[str, ...]
    predictions: Predictions
    speakers: tuple[str, ...]
    protocol: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write `PART.json`, `PART_confusion.csv` and `PART_speakers.csv`."""
        interval = self._interval()
        ends = {"uar_low": interval.low, "uar_high": interval.high}
        write_json(folder / f"{self.part}.json", {**self._scores(), **ends, "protocol": self.protocol})
        counts = confusion_counts(self.predictions).tolist()
        rows = [[label, *row] for label, row in zip(self.labels, counts, strict=True)]
        write_csv(folder / f"{self.part}_confusion.csv", [["label", *self.labels], *rows])
        speakers = score_speakers(self.predictions, self.speakers)
        write_csv(
            folder / f"{self.part}_speakers.csv", [list(SpeakerScore.__slots__), *map(astuple, speakers)]
        )

    def show(self, console: Console) -> None:
        """Print the scores and both tables."""
        counts = confusion_counts(self.predictions).tolist()
        console.print(_confusion_table(self.part, self.labels, counts))
        console.print(_speaker_table(self.part, score_speakers(self.predictions, self.speakers)))
        scores = self._scores()
        shown = "  ".join(f"{title} {scores[name]:.3f}" for name, title in SHOWN_SCORES.items())
        console.print(f"{self.part.capitalize():<16} {shown}", highlight=False)

    def _interval(self) -> Interval:
        """The UAR with its interval over speakers, whose ends are None where they are not all known."""
        confusions = confusions_by_speaker(self.predictions, self.speakers)
        interval = bootstrap_uar([confusions], np.random.default_rng(0))
        return interval if all(self.speakers) else replace(interval, low=None, high=None)

    def _scores(self) -> dict[str, float]:
        return {name: float(value) for name, value in score_predictions(self.predictions).items()}


def _confusion_table(part: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Table:
    table = Table(title=f"{part.capitalize()} clips by label (row) and prediction (column)")
    for name in ("", *labels, "recall"):
        table.add_column(Text(name), justify="right")  # a Text, since brackets in a string would be markup
    for index, (label, row) in enumerate(zip(labels, counts, strict=True)):
        recall = f"{row[index] / sum(row):.2f}" if sum(row) else "-"
        table.add_row(Text(label), *(str(count) if count else "." for count in row), recall)
    return table


def _speaker_table(part: str, speakers: Sequence[SpeakerScore]) -> Table:
    table = Table(title=f"{part.capitalize()} speakers, worst first")
    for name in ("speaker", "clips", "UAR", "WA"):
        table.add_column(name, justify="right")
    for score in speakers:
        speaker = Text(score.speaker or "unknown")
        table.add_row(speaker, str(score.num_clips), f"{score.uar:.3f}", f"{score.wa:.3f}")
    return table
