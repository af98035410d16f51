"""The LightningModule and the data of pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L  # noqa: N812
import torch
from jaxtyping import Float
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import WavLMModel

from pretraining.corpus import Batch, StepBatches
from pretraining.frontend import use_matrix_frontend
from pretraining.initialisation import start_as_filter_bank
from pretraining.objective import Objective
from wavshap_lightning.models.pretrained import tiny_config
from wavshap_lightning.training.module import warmup_cosine

VALIDATION_SEED = 99


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the backbone is trained.

    Args:
        seed: Decides weights, batches and noise.
        num_steps: How many batches.
        batch_size: Clips a batch, of 3.2 s each.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Of the matrices.
        steps_per_epoch: Steps between two checkpoints.
    """

    seed: int = 0
    num_steps: int = 8_000
    batch_size: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    steps_per_epoch: int = 200


class PretrainingData(L.LightningDataModule):
    """Batches by step, a new stretch of steps every epoch.

    Args:
        recipe: Seed and sizes.
        corpus: To train on, from `make_corpus`.
        held_out: Voices to validate on, likewise.
        num_workers: Processes that prepare batches.
    """

    def __init__(
        self, recipe: Recipe, corpus: dict[str, Tensor], held_out: dict[str, Tensor], num_workers: int
    ) -> None:
        super().__init__()
        self.recipe, self.corpus, self.held_out, self.num_workers = recipe, corpus, held_out, num_workers

    def steps(self, start: int, count: int) -> StepBatches:
        """Training batches of a stretch of steps."""
        recipe = self.recipe
        return StepBatches(
            self.corpus, seed=recipe.seed, batch_size=recipe.batch_size, start=start, count=count
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """The steps of the present epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        start = epoch * self.recipe.steps_per_epoch
        count = min(self.recipe.steps_per_epoch, self.recipe.num_steps - start)
        return self._loader(self.steps(start, count))

    def val_dataloader(self) -> DataLoader[Batch]:
        """The same degraded speech of held-out voices every time."""
        batches = StepBatches(self.held_out, seed=VALIDATION_SEED, batch_size=32, start=0, count=6)
        return self._loader(batches)

    def _loader(self, batches: StepBatches) -> DataLoader[Batch]:
        return DataLoader(batches, batch_size=None, num_workers=self.num_workers)


class PretrainingModule(L.LightningModule):
    """A WavLM of the tiny geometry, and the readings it is trained by.

    Args:
        recipe: Seed and optimisation.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        config = tiny_config()
        config.update({"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0})
        config.update({"feat_proj_dropout": 0.0, "mask_time_prob": 0.05})  # gives it the embedding of masks
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(recipe.seed)
            self.backbone = WavLMModel(config)
            self.objective = Objective(config.hidden_size, config.num_hidden_layers + 1)
        start_as_filter_bank(self.backbone)
        use_matrix_frontend(self.backbone)

    def layers(self, batch: Batch) -> list[Float[Tensor, "batch frames hidden"]]:
        """The projected frames, the layers between, and the last one after its norm."""
        output = self.backbone(batch.waveforms, mask_time_indices=batch.masked, output_hidden_states=True)
        return [*output.hidden_states[:-1], output.last_hidden_state]

    def training_step(self, batch: Batch) -> Tensor:
        """The weighted loss of one batch."""
        terms = self.objective(self.layers(batch), batch.targets, batch.masked)
        self._log("train", terms, batch)
        return terms["total"]

    def validation_step(self, batch: Batch) -> None:
        """The terms on held-out voices."""
        terms = self.objective(self.layers(batch), batch.targets, batch.masked)
        self._log("val", terms, batch)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, warmed up and annealed; only matrices decay."""
        matrices = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = AdamW(groups, lr=self.recipe.learning_rate, betas=(0.9, 0.98))
        scheduler = LambdaLR(optimizer, warmup_cosine(self.recipe.num_steps, 0.08))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _log(self, part: str, terms: dict[str, Tensor], batch: Batch) -> None:
        values = {f"{part}/{name}": value for name, value in terms.items()}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(batch.waveforms))


def build_trainer(
    recipe: Recipe,
    folder: Path,
    *,
    loggers: Sequence[Logger],
    stop_after: int | None = None,
    accelerator: str = "auto",
    progress: bool = True,
) -> L.Trainer:
    """Lightning's trainer: a validation, a row in the logs and `last.ckpt` every epoch.

    Args:
        recipe: How long to train.
        folder: Where to write the checkpoint.
        loggers: Where to log.
        stop_after: Stop after so many steps, on the schedule of the whole run.
        accelerator: As in Lightning.
        progress: Show a bar.
    """
    newest = ModelCheckpoint(folder, "last", save_top_k=1, enable_version_counter=False)
    return L.Trainer(
        accelerator=accelerator,
        devices=1,
        max_steps=min(stop_after or recipe.num_steps, recipe.num_steps),
        reload_dataloaders_every_n_epochs=1,
        gradient_clip_val=2.0,
        log_every_n_steps=recipe.steps_per_epoch,
        callbacks=[newest],
        logger=list(loggers),
        enable_model_summary=False,
        enable_progress_bar=progress,
        num_sanity_val_steps=0,
    )
