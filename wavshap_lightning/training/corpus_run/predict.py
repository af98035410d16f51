"""Explanations of a corpus on Lightning's `Trainer.predict`, resumable clip by clip."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import lightning as L  # noqa: N812
import torch
from torch.utils.data import DataLoader

from wavshap_lightning.audio.io import read_duration_s
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AudioError
from wavshap_lightning.explainer.stage_attribution import without_progress_bars
from wavshap_lightning.files import write_atomically
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.training.data.extraction import one_thread
from wavshap_lightning.viz.report.summary import ClassSummary, ClipShares, MeanShares

RECORDS = "records"
COLUMNS = ("target", "clips", "kind", "part", "share", "low", "high", "n")
"""Columns of `emotions.csv`: the class, the number of clips explained for it, the kind of share and the part
of the clip, its mean share of the attributions' magnitude with the 95 % interval, and over how many clips."""


@dataclass(frozen=True)
class ClipRecord:
    """The outcome of one clip.

    Args:
        key: Digest of everything the result depends on; empty if the clip failed.
        row: The clip's row of `summary.csv`.
        shares: The clip's contribution to the per-class summary; None if it failed.
    """

    key: str
    row: Mapping[str, str]
    shares: ClipShares | None = None


class ClipRecords:
    """One small JSON file for each clip of a corpus run, written after the clip's other files.

    A clip is finished if its numbers and its record are there and the record's key is that of the present
    run. Every process writes the records of its own clips, so any number of them can share the folder.

    Args:
        folder: Folder of all output.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, stem: str, record: ClipRecord) -> None:
        """Write the record of the clip whose files are named `stem`, atomically.

        Raises:
            OSError: If the disk refuses.
        """
        # Keys are not sorted: shares stand in the order in which they are shown.
        write_atomically(self._path(stem), json.dumps(asdict(record), indent=1).encode())

    def read(self, stem: str) -> ClipRecord | None:
        """Record of a clip; None if there is none or it cannot be read."""
        try:
            return ClipRecord(**json.loads(self._path(stem).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def is_finished(self, stem: str, key: str) -> bool:
        """Tell if a clip was explained with this key and its two files are still there and whole."""
        record, numbers = self.read(stem), self.folder / "clips" / f"{stem}.json"
        # A truncated archive has lost its directory, which stands at its end.
        is_whole = numbers.is_file() and is_zipfile(numbers.with_suffix(".npz"))
        return record is not None and record.key == key and is_whole

    def remove(self, stem: str) -> None:
        """Remove the record of a clip, if there is one."""
        self._path(stem).unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Remove the partly written files that a killed process left behind."""
        for name in (".", RECORDS, "clips", "sounds"):
            for draft in (self.folder / name).glob(".*.unfinished"):
                draft.unlink(missing_ok=True)

    def _path(self, stem: str) -> Path:
        return self.folder / RECORDS / f"{stem}.json"


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of plain JSON types, independent of the order of keys.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class CorpusRun(L.LightningModule):
    """Explains the unfinished clips of a corpus, divided among processes.

    The first process finds what is unfinished and tells the others, so that all divide the same list. Long
    clips come first: memory runs out early or never, and processes end together. On a CPU every process
    computes on one thread: no number depends on how many processes there are.

    Args:
        classifier: The classifier to explain; Lightning moves it to the device.
        clips: The clips of the run.
        find_pending: Returns the positions of unfinished clips; called on the first process only.
        explain: Explains the clip at a position and writes the result.
    """

    def __init__(
        self,
        classifier: EmotionClassifier,
        clips: Sequence[Clip],
        find_pending: Callable[[], list[int]],
        explain: Callable[[int], None],
    ) -> None:
        super().__init__()
        # Processes for which no clip is left do nothing.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.classifier = classifier
        self._clips = clips
        self._find_pending = find_pending
        self._explain = explain
        self._parent_process = os.getppid()
        self.pending: list[int] = []

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Agree with the other processes on the list of unfinished clips."""
        found = longest_first(self._clips, self._find_pending()) if self.trainer.is_global_zero else []
        self.pending = self.trainer.strategy.broadcast(found)

    def predict_dataloader(self) -> DataLoader[int]:
        """This process's share, a clip a step."""
        mine = self.pending[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(mine, batch_size=None)  # type: ignore[arg-type] # a list is a dataset

    def predict_step(self, position: int) -> int:
        """Explain the clip at a position.

        Returns:
            The position, since Lightning warns of steps that return nothing.

        Raises:
            SystemExit: If the process from which Lightning started this one was killed. Nobody would merge
                what this one writes, and another command may write there by now.
        """
        if self.trainer.local_rank and os.getppid() != self._parent_process:
            raise SystemExit("the process that started this one is gone; run the command again")
        single = one_thread(when=self.device.type == "cpu")
        with single, without_progress_bars(), torch.inference_mode(mode=False):
            self._explain(position)
        return position


def longest_first(clips: Sequence[Clip], positions: Sequence[int]) -> list[int]:
    """Positions sorted by descending duration of their clips; unreadable clips come last."""
    return sorted(positions, key=lambda position: -_duration_s(clips[position]))


def _duration_s(clip: Clip) -> float:
    if clip.end_s is not None:
        return clip.end_s - (clip.start_s or 0.0)
    try:
        return read_duration_s(clip.path) - (clip.start_s or 0.0)
    except AudioError:  # reported when the clip is explained
        return 0.0


def emotion_rows(summaries: Iterable[ClassSummary]) -> list[tuple[str, ...]]:
    """Rows of `emotions.csv`; interval cells are empty if there are too few clips."""
    return [
        (found.target, str(found.num_clips), kind, name, *_cells(shares, part), str(shares.num_clips))
        for found in summaries
        for kind, shares in found.shares.items()
        for part, name in enumerate(shares.names)
    ]


def _cells(shares: MeanShares, part: int) -> tuple[str, ...]:
    values = (shares.mean, shares.low, shares.high)
    return tuple("" if value is None else f"{value[part]:.6g}" for value in values)
