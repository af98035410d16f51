"""`train.py` and `wavshap-train`: fit, validate, test and cross-validate from YAML and flags; export."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from wavshap_lightning.cli.configs import find_config
from wavshap_lightning.cli.export import run_export
from wavshap_lightning.cli.folds import open_folder, run_folds
from wavshap_lightning.cli.quiet import quiet
from wavshap_lightning.cli.terminal import complain
from wavshap_lightning.cli.trainer import EmotionTrainer
from wavshap_lightning.errors import SettingError, WavshapError
from wavshap_lightning.models.checkpoint import read_checkpoint
from wavshap_lightning.training.callbacks import default_callbacks
from wavshap_lightning.training.checkpoints import WholeCheckpoints, find_checkpoint, run_of_checkpoint
from wavshap_lightning.training.cross_validation import CrossValidation, summarise_folds
from wavshap_lightning.training.datamodule import EmotionDataModule
from wavshap_lightning.training.files import from_here
from wavshap_lightning.training.fold_result import FoldResult
from wavshap_lightning.training.loggers import (
    RunSettings,
    build_loggers,
    claim_run_folder,
    wandb_session,
    where_on_wandb,
)
from wavshap_lightning.training.module import EmotionModule

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

COMMANDS = ("fit", "validate", "test", "cv")
DESCRIPTION = (
    "Train speech-emotion heads on frozen speech models. Without arguments: the demo, which needs neither "
    "data nor network. 'export' writes a trained one to a folder or to the Hub: see export --help."
)
USAGE = "%(prog)s [--config FILE] [--data.root DIR] [--SECTION.NAME VALUE ...]"
TRAINER_DEFAULTS = {
    "max_epochs": 30,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
    "enable_model_summary": False,
}


class EmotionCLI(LightningCLI):
    """The command line of training: `fit`, `validate`, `test` and `cv`, from `--config` files and flags.

    Args:
        args: Flags, or a whole configuration.
        folder: Where the run is written; the next free folder of its name if None.
    """

    def __init__(self, args: list[str] | Namespace, *, folder: Path | None = None) -> None:
        self.folder = folder
        super().__init__(
            EmotionModule,
            EmotionDataModule,
            trainer_class=EmotionTrainer,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={"description": DESCRIPTION, **{name: {"usage": USAGE} for name in COMMANDS}},
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, and which of their method's arguments are no flags."""
        return {name: {"model", "datamodule"} for name in COMMANDS}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Data, model and run first, then Lightning's trainer; labels go from the data to the model."""
        parser.add_lightning_class_args(EmotionDataModule, "data")
        parser.add_class_arguments(EmotionModule, "model", sub_configs=True, skip={"opened"})
        parser.add_class_arguments(RunSettings, "run")
        parser.add_lightning_class_args(EmotionTrainer, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
        parser.link_arguments("data.labels", "model.labels", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse flags, or take a configuration made by the program; find the checkpoint it names."""
        self.config = parser.parse_args(args) if isinstance(args, list) else parser.parse_object(args)
        command = self.config["subcommand"]
        if command != "cv":
            settings = self.config[command]
            settings.ckpt_path = _checked_checkpoint(command, settings.run, settings.ckpt_path)

    def instantiate_classes(self) -> None:
        """Build everything, except for `cv`, whose folds each build their own."""
        if self.subcommand != "cv":
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:  # noqa: ANN401 - Lightning's signature
        """A trainer with the run's loggers, callbacks and checkpoints besides those of the configuration."""
        run, configured = self._get(self.config_init, "run"), self._get(self.config_init, "trainer")
        folder = None
        if configured.logger is None or isinstance(configured.logger, bool):
            folder = self.folder or self._run_folder(run)
            kwargs["logger"] = False if configured.logger is False else build_loggers(run, folder)
            kwargs["default_root_dir"] = configured.default_root_dir or str(folder)
        ours = default_callbacks(
            seed=int(self._get(self.config, "seed_everything")),
            patience=run.patience,
            folder=folder,
            progress=configured.enable_progress_bar is not False,
            validation=self.datamodule.corpus.validation,
            keep_every=run.keep_every,
        )
        kwargs["callbacks"] = [*_listed(configured.callbacks), *ours]
        plugins = _listed(configured.plugins)
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, WholeCheckpoints()]
        if not self.datamodule.corpus.validation:
            kwargs["limit_val_batches"] = 0
        return super().instantiate_trainer(**kwargs)

    def _run_folder(self, run: RunSettings) -> Path:
        """The folder of the run that goes on, else a new one."""
        config = self.config[self.subcommand]
        origin = run_of_checkpoint(run.home, config.ckpt_path) if self.subcommand == "fit" else None
        if origin is None:
            return claim_run_folder(run.home)
        config.ckpt_path = None  # what is stored repeats the run from its start
        return origin

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand == "cv":
            self.cv()
            return
        with wandb_session(self.trainer.loggers):
            try:
                super()._run_subcommand(subcommand)
            except SystemExit as error:  # how Lightning ends when interrupted
                if not self.trainer.interrupted:
                    raise
                if self.folder is None:  # else this is a fold of a cross-validation, which has its own advice
                    _print_how_to_go_on(self.trainer)
                raise KeyboardInterrupt from error

    def before_fit(self) -> None:
        """Store the configuration with the loggers that keep one."""
        for logger in self.trainer.loggers:
            logger.log_hyperparams(self.config["fit"].as_dict())

    def after_fit(self) -> None:
        """Test the best checkpoint where asked for; say where the run lies and how good it is."""
        best = _best_checkpoint(self.trainer)
        if self._get(self.config_init, "run").test and best and best.best_model_path:
            self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best.best_model_path)
        folder = self.trainer.log_dir  # asked for on every rank: it is broadcast
        if self.trainer.is_global_zero:
            _print_summary(best, folder, where_on_wandb(self.trainer.loggers))

    def cv(self) -> None:
        """Run every fold as a run of its own, then print and save the table."""
        config = self.config["cv"]
        given, config.folder = config.folder, None
        configuration = self._parser("cv").dump(config, skip_none=False)
        folder = open_folder(given, RunSettings(**config.run.as_dict()).home, configuration)
        try:
            results = run_folds(folder, partial(_run_fold, config))
        except KeyboardInterrupt:
            flags = f"--config {folder}/config.yaml --folder {folder}"
            _print_line("Go on with", f"python train.py cv {flags}", Console(stderr=True))
            raise
        _conclude(folder, summarise_folds(results, seed=int(config.seed_everything)))


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; without arguments, the demo.

    Exits with 2 and a message where the input is at fault, with 130 where interrupted.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        with quiet():
            if arguments[:1] == ["export"]:  # it trains nothing, and needs no trainer
                run_export(arguments[1:])
            else:
                EmotionCLI(arguments or ["fit", "--config", str(find_config("demo.yaml"))])
    except WavshapError as error:
        complain(error)
        sys.exit(EXIT_USAGE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _checked_checkpoint(command: str, run: Namespace, wanted: str | Path | None) -> str | None:
    """The checkpoint's path, after a look into it: a wrong one is told before any work is done."""
    if wanted is None and command == "fit":
        return None
    if wanted is None:
        raise SettingError(
            f"ckpt_path=None: say which checkpoint to {command}; give --ckpt_path a file, "
            'or "best" for that of the latest run of this name'
        )
    path = find_checkpoint(RunSettings(**run.as_dict()).home, str(wanted))
    if "optimizer_states" not in read_checkpoint(path) and command == "fit":
        raise SettingError(
            f"ckpt_path={path} holds weights alone, for testing and explaining; go on from the last.ckpt "
            "beside it"
        )
    return str(path)


def _run_fold(config: Namespace, folder: Path, fold: int) -> FoldResult:
    """Run a fold from its start, whatever an earlier start may have left in its folder."""
    (folder / "metrics.csv").unlink(missing_ok=True)
    fold_config = config.clone()
    fold_config.pop("folder")
    fold_config.data.fold = fold
    fold_config.run.test = True
    fold_config.ckpt_path = None
    arguments = Namespace(subcommand="fit", fit=fold_config)  # type: ignore[no-untyped-call]
    cli = EmotionCLI(arguments, folder=folder)
    data = cli.datamodule
    speakers = tuple(clip.speaker for clip in data.clips("test"))
    return FoldResult(fold, cli.model.test_predictions, speakers, data.protocol_record, str(folder))


@rank_zero_only
def _conclude(folder: Path, summary: CrossValidation) -> None:
    summary.save(folder)
    Console().print(summary.table())
    _print_line("Written to", f"{folder}/cv.json and cv.csv", Console())


def _best_checkpoint(trainer: L.Trainer) -> ModelCheckpoint | None:
    saved = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    return next((c for c in saved if c.monitor or c.filename == "best"), None)


def _print_how_to_go_on(trainer: L.Trainer) -> None:
    """Before `fit` has finished an epoch there is nothing to go on from."""
    best = _best_checkpoint(trainer)
    if best is None or best.dirpath is None or trainer.state.fn != "fit" or not trainer.is_global_zero:
        return
    last = from_here(Path(best.dirpath) / "last.ckpt")
    if last.is_file():
        flags = f"--config {last.parent.parent}/config.yaml --ckpt_path {last}"
        _print_line("Go on with", f"python train.py fit {flags}", Console(stderr=True))


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - Lightning takes one or many
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _print_summary(best: ModelCheckpoint | None, folder: str | None, wandb: str) -> None:
    lines = {"Run folder": folder and str(from_here(folder)), "W&B": wandb}
    if best is not None and best.best_model_score is not None:
        lines = {"Best val UAR": f"{float(best.best_model_score):.3f}", **lines}
    if best is not None and best.best_model_path:
        lines["Next"] = f"python explain.py {from_here(best.best_model_path)} CLIP.wav"
    for title, value in lines.items():
        if value:
            _print_line(title, value, Console())


def _print_line(title: str, value: str, console: Console) -> None:
    console.print(f"{title:<16} {value}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
