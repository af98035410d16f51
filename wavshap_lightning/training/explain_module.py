"""Explaining as Lightning's prediction: a step a clip, on whatever device and process it falls."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L  # noqa: N812
import torch
from lightning.pytorch.callbacks import BasePredictionWriter

from wavshap_lightning.explainer.progress import without_progress_bars
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.training.sharing import one_thread


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
