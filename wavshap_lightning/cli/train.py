"""`train.py` and `wavshap-train`: fit, validate, test and cross-validate from YAML and flags."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from rich.console import Console

from wavshap_lightning.cli.configs import find_config
from wavshap_lightning.errors import WavshapError
from wavshap_lightning.training.callbacks import default_callbacks
from wavshap_lightning.training.cross_validation import FoldResult, summarise_folds
from wavshap_lightning.training.datamodule import EmotionDataModule
from wavshap_lightning.training.loggers import RunSettings, build_loggers, finish_wandb
from wavshap_lightning.training.module import EmotionModule

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

TRAINER_DEFAULTS = {"max_epochs": 30, "num_sanity_val_steps": 0, "log_every_n_steps": 1}

# What Lightning tells everybody and nobody can act on here.
_NOISY_NOTES = ("GPU available", "TPU available", "💡 Tip", "Loading `train_dataloader`")
_NOISY_WARNINGS = (
    ".*does not have many workers which may be a bottleneck.*",
    ".*module\\(s\\) in eval mode at the start of training.*",
    ".*Experiment logs directory .* exists and is not empty.*",
    ".*Checkpoint directory .* exists and is not empty.*",
)


class EmotionTrainer(L.Trainer):
    """Lightning's trainer, with the signature of one command more."""

    def cv(self, model: EmotionModule, datamodule: EmotionDataModule) -> None:
        """Train, choose and test on every fold, and summarise with a confidence interval."""
        raise NotImplementedError("every fold has a trainer of its own; see EmotionCLI.cv")


class EmotionCLI(LightningCLI):
    """The command line of training: `fit`, `validate`, `test` and `cv`, from `--config` files and flags."""

    def __init__(self, args: list[str] | Namespace) -> None:
        super().__init__(
            EmotionModule,
            EmotionDataModule,
            trainer_class=EmotionTrainer,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, and which of their method's arguments are no flags."""
        hidden = {
            "model",
            "datamodule",
            "dataloaders",
            "train_dataloaders",
            "val_dataloaders",
            "weights_only",
        }
        return dict.fromkeys(("fit", "validate", "test", "cv"), hidden)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run's own settings; labels go from the data to the model, the seed to the data."""
        parser.add_class_arguments(RunSettings, "run")
        parser.link_arguments("data.labels", "model.labels", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse flags, or take a configuration made by the program."""
        self.config = parser.parse_args(args) if isinstance(args, list) else parser.parse_object(args)

    def instantiate_classes(self) -> None:
        """Build everything, except for `cv`, whose folds each build their own."""
        if self.subcommand != "cv":
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:  # noqa: ANN401 - Lightning's signature
        """A trainer with the run's loggers and callbacks besides those of the configuration."""
        run: RunSettings = self._get(self.config_init, "run")
        configured = self._get(self.config_init, "trainer")
        if configured.get("logger") is None:
            kwargs["logger"] = build_loggers(run)
        seed = int(self._get(self.config, "seed_everything"))
        ours = default_callbacks(seed=seed, patience=run.patience)
        kwargs["callbacks"] = [*(configured.get("callbacks") or []), *ours]
        return super().instantiate_trainer(**kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand == "cv":
            self.cv()
            return
        try:
            super()._run_subcommand(subcommand)
        finally:
            finish_wandb(self.trainer.loggers)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True}

    def after_fit(self) -> None:
        """Say where the run lies and how good it is; test the best checkpoint where asked for."""
        run: RunSettings = self._get(self.config_init, "run")
        best = _best_checkpoint(self.trainer)
        if run.test and best and not self.trainer.interrupted:
            self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best, weights_only=True)
        if self.trainer.is_global_zero:
            _print_summary(self.trainer, best)

    def cv(self) -> None:
        """Run every fold as a run of its own, then print and save the table."""
        config = self.config["cv"]
        run = RunSettings(**config.run.as_dict())
        folder = Path(build_loggers(RunSettings(run.name, run.directory, "off"))[0].log_dir or "")
        results: list[FoldResult] = []
        num_folds = 1
        while len(results) < num_folds:
            cli = self._run_fold(config, folder, len(results))
            results.append(_fold_result(cli))
            num_folds = len(cli.datamodule.prepared.protocol.folds)
        summary = summarise_folds(results, seed=int(config.seed_everything))
        summary.save(folder)
        console = Console()
        console.print(summary.table())
        console.print(f"Written to {folder}/cv.csv and cv.json", soft_wrap=True)

    def _run_fold(self, config: Namespace, folder: Path, fold: int) -> EmotionCLI:
        fold_config = config.clone()
        fold_config.data.fold = fold
        fold_config.run.name = folder.name
        fold_config.run.directory = str(folder.parent)
        fold_config.run.test = True
        return EmotionCLI(Namespace(subcommand="fit", fit=fold_config))  # type: ignore[no-untyped-call]


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; without arguments, the demo.

    Exits with 2 and a message where the input is at fault, with 130 where interrupted.
    """
    arguments = list(sys.argv[1:] if args is None else args) or [
        "fit",
        "--config",
        str(find_config("demo.yaml")),
    ]
    _quieten()
    try:
        EmotionCLI(arguments)
    except WavshapError as error:
        Console(stderr=True).print(
            f"{type(error).__name__}: {error}", style="red", markup=False, soft_wrap=True
        )
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _quieten() -> None:
    """Leave out what nobody can act on; errors and warnings of ours stay."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: not record.getMessage().startswith(_NOISY_NOTES)
    )
    for message in _NOISY_WARNINGS:
        warnings.filterwarnings("ignore", message)


def _best_checkpoint(trainer: L.Trainer) -> str:
    """The path of the best checkpoint, or nothing before the first validation."""
    monitored = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor]
    return monitored[0].best_model_path if monitored else ""


def _fold_result(cli: EmotionCLI) -> FoldResult:
    predictions = cli.model.test_predictions
    speakers = tuple(clip.speaker for clip in cli.datamodule.clips("test"))
    fold = cli.datamodule.prepared.fold
    return FoldResult(fold, predictions, speakers, cli.datamodule.protocol_record, str(cli.trainer.log_dir))


def _print_summary(trainer: L.Trainer, best: str) -> None:
    console = Console()
    monitored = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor]
    if best and monitored[0].best_model_score is not None:
        console.print(f"Best val UAR {float(monitored[0].best_model_score):.3f}", markup=False)
    console.print(f"Run folder   {trainer.log_dir}", markup=False, soft_wrap=True)
    if best:
        console.print(f"Next         python explain.py {best} CLIP.wav", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
