"""The commands of `train.py` as methods of a trainer, from which the command line reads their arguments."""

from __future__ import annotations

import lightning as L  # noqa: N812

from wavshap_lightning.training.datamodule import EmotionDataModule
from wavshap_lightning.training.module import EmotionModule


class EmotionTrainer(L.Trainer):
    """How long, on what and how precisely to compute: Lightning's trainer."""

    def fit(  # type: ignore[override] # what the command line asks for, and no more
        self, model: EmotionModule, *, datamodule: EmotionDataModule, ckpt_path: str | None = None
    ) -> None:
        """Train a head; keep its best and its last checkpoint.

        Args:
            model: What to train.
            datamodule: On what.
            ckpt_path: Go on from this checkpoint, a file or `last`: that of the latest run of this name. The
                run's own folder is written on.
        """
        super().fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)

    def validate(  # type: ignore[override]
        self, model: EmotionModule, *, datamodule: EmotionDataModule, ckpt_path: str | None = None
    ) -> None:
        """Report on a checkpoint, from the validation clips.

        Args:
            model: The model to put the checkpoint's weights into.
            datamodule: The clips.
            ckpt_path: The checkpoint: a file, or `best` or `last` of the latest run of this name.
        """
        super().validate(model, datamodule=datamodule, ckpt_path=ckpt_path, verbose=False, weights_only=True)

    def test(  # type: ignore[override]
        self, model: EmotionModule, *, datamodule: EmotionDataModule, ckpt_path: str | None = None
    ) -> None:
        """Report on a checkpoint, from the test clips.

        Args:
            model: The model to put the checkpoint's weights into.
            datamodule: The clips.
            ckpt_path: The checkpoint: a file, or `best` or `last` of the latest run of this name.
        """
        super().test(model, datamodule=datamodule, ckpt_path=ckpt_path, verbose=False, weights_only=True)

    def cv(self, model: EmotionModule, datamodule: EmotionDataModule, folder: str | None = None) -> None:
        """Train, choose and test on every fold; report the mean with its confidence interval.

        Args:
            model: What to train, anew for every fold.
            datamodule: On what.
            folder: Go on in this folder of a cross-validation that was cut off, with its `config.yaml`; folds
                that are finished are kept.
        """
        raise NotImplementedError("every fold has a trainer of its own; see EmotionCLI.cv")
