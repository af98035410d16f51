"""The clips of a corpus that are not explained yet, each on one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import lightning as L  # noqa: N812
from torch.utils.data import DataLoader, Dataset

from wavshap_lightning.audio.io import read_duration_s
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AudioError, SettingError


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
