"""Explaining as Lightning's prediction: a step a clip, on whatever device and process it falls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning as L  # noqa: N812  # noqa: N812
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch.utils.data import DataLoader, Dataset

from wavshap_lightning.audio.io import read_duration_s
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.explainer.stage_attribution import without_progress_bars
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.training.data.extraction import one_thread
from wavshap_lightning.viz.report.summary import ClassSummary, MeanShares

COLUMNS = ("target", "clips", "kind", "part", "share", "low", "high", "n")
"""The class, how many clips were explained for it, what is compared, which of it, its mean share of the
magnitude of attributions with its 95 % interval over clips, and over how many clips."""


def emotion_rows(summaries: Iterable[ClassSummary]) -> list[tuple[str, ...]]:
    """A row a part of every kind; without an interval where there are too few clips."""
    return [
        (
            found.target,
            str(found.num_clips),
            shares.kind,
            name,
            *_numbers(shares, part),
            str(shares.num_clips),
        )
        for found in summaries
        for shares in found.shares.values()
        for part, name in enumerate(shares.names)
    ]


def _numbers(shares: MeanShares, part: int) -> tuple[str, str, str]:
    if shares.low is None or shares.high is None:
        return f"{shares.mean[part]:.6g}", "", ""
    return f"{shares.mean[part]:.6g}", f"{shares.low[part]:.6g}", f"{shares.high[part]:.6g}"


class Positions(Dataset[int]):
    """Positions of clips in the corpus.

    Args:
        positions: In the order in which they are explained.
    """

    def __init__(self, positions: Sequence[int]) -> None:
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> int:
        return self.positions[index]


class ExplainData(L.LightningDataModule):
    """Positions of the clips that are not finished, the longest first, divided among processes.

    The first process looks what is finished and tells the others: all divide one list, whatever happens on
    the disk meanwhile. Long clips come first, so that memory runs out early or never, and processes
    end together. Processes for which no clip is left do nothing.

    Args:
        clips: The corpus.
        find_pending: Positions of those that are not finished; called on the first process alone.
    """

    def __init__(self, clips: Sequence[Clip], find_pending: Callable[[], list[int]]) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self._clips = clips
        self._find_pending = find_pending
        self.pending: list[int] = []

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Agree with the other processes on what is to be done."""
        trainer = self._trainer()
        found = longest_first(self._clips, self._find_pending()) if trainer.is_global_zero else []
        self.pending = trainer.strategy.broadcast(found)

    def predict_dataloader(self) -> DataLoader[int]:
        """This process's share, a clip a step."""
        trainer = self._trainer()
        mine = self.pending[trainer.global_rank :: trainer.world_size]
        return DataLoader(Positions(mine), batch_size=1, collate_fn=_only)

    def _trainer(self) -> L.Trainer:
        if self.trainer is None:
            raise SettingError("trainer=None: hand the datamodule to a Trainer")
        return self.trainer


def longest_first(clips: Sequence[Clip], positions: Sequence[int]) -> list[int]:
    """Positions sorted by how long their clips are; those that cannot be read come last."""
    return sorted(positions, key=lambda position: -_duration_s(clips[position]))


def _duration_s(clip: Clip) -> float:
    if clip.end_s is not None:
        return clip.end_s - (clip.start_s or 0.0)
    try:
        return read_duration_s(clip.path) - (clip.start_s or 0.0)
    except AudioError:  # said when its turn comes
        return 0.0


def _only(positions: Sequence[int]) -> int:
    return positions[0]


class ExplainModule(L.LightningModule):
    """Explains the clip at a position of the corpus.

    On a CPU every process computes on one thread: several processes share the clips, not the work on one,
    and no number depends on how many there are.

    Args:
        classifier: What is explained; Lightning brings it to the device.
        explain: Explains the clip at a position, and tells failures by what it returns.
    """

    def __init__(self, classifier: EmotionClassifier, explain: Callable[[int], Any]) -> None:
        super().__init__()
        self.classifier = classifier
        self._explain = explain
        self._started_by = os.getppid()

    def predict_step(self, position: int) -> Any:  # noqa: ANN401 - whatever is to be written
        """What was found in the clip at a position.

        Raises:
            SystemExit: If the process that Lightning started this one from was killed: nobody would put
                together what this one goes on to write, and another command may write there by now.
        """
        if self.trainer.local_rank and os.getppid() != self._started_by:
            raise SystemExit("the process that started this one is gone; run the command again")
        small = one_thread(when=self.device.type == "cpu")
        with small, without_progress_bars(), torch.inference_mode(mode=False):
            return self._explain(position)


class ClipWriter(BasePredictionWriter):
    """Writes each clip as soon as it is explained, on the process that explained it.

    Args:
        write: Writes what [`ExplainModule`][] found in a clip.
    """

    def __init__(self, write: Callable[[Any], None]) -> None:
        super().__init__(write_interval="batch")
        self._write = write

    def write_on_batch_end(  # noqa: PLR0917
        self,
        trainer: L.Trainer,  # noqa: ARG002 - Lightning's signature
        pl_module: L.LightningModule,  # noqa: ARG002
        prediction: Any,  # noqa: ANN401
        batch_indices: Sequence[int] | None,  # noqa: ARG002
        batch: Any,  # noqa: ANN401, ARG002
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int,  # noqa: ARG002
    ) -> None:
        """Write one clip."""
        self._write(prediction)
