"""`train.py` and `wavshap-train`: fit, validate, test and cross-validate from YAML and flags; export."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from difflib import ndiff
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

import lightning as L  # noqa: N812  # noqa: N812
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from wavshap_lightning.cli.clips import open_model
from wavshap_lightning.cli.terminal import complain, on_one_line, quiet, shown
from wavshap_lightning.errors import SettingError, WavshapError
from wavshap_lightning.files import from_here, write_atomically
from wavshap_lightning.models.checkpoint import read_checkpoint
from wavshap_lightning.training.callbacks import default_callbacks
from wavshap_lightning.training.checkpoints import WholeCheckpoints, find_checkpoint, run_of_checkpoint
from wavshap_lightning.training.cross_validation import (
    CrossValidation,
    FoldResult,
    read_fold,
    summarise_folds,
)
from wavshap_lightning.training.data.datamodule import EmotionDataModule
from wavshap_lightning.training.loggers import (
    RunSettings,
    build_loggers,
    claim_run_folder,
    wandb_session,
    where_on_wandb,
)
from wavshap_lightning.training.module import EmotionModule

# Beside the package in a source tree, inside it in an installed wheel.
_FOLDERS = (Path(__file__).parents[2] / "configs", Path(__file__).parents[1] / "configs")


def find_config(name: str) -> Path:
    """The path of a configuration such as `"demo.yaml"` or `"backbones/tiny.yaml"`.

    Raises:
        SettingError: If there is none of that name; the message lists those there are.
    """
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    known = sorted(str(path.relative_to(folder)) for folder in _FOLDERS for path in folder.rglob("*.yaml"))
    raise SettingError(f"config={name!r} must be one of {', '.join(known)}, or the path of a file")


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


CONFIG_NAME = "config.yaml"


def open_folder(given: str | None, home: Path, configuration: str) -> Path:
    """The folder to go on in, or a new one with the configuration in it.

    Args:
        given: The folder to go on in; None begins anew.
        home: The folder of all runs of this name.
        configuration: All settings, as YAML.

    Raises:
        SettingError: If the folder given was begun with other settings, or is not of a cross-validation.
    """
    if given is None:
        folder = claim_run_folder(home)
        _write(folder / CONFIG_NAME, configuration)
        return folder
    stored = Path(given) / CONFIG_NAME
    if not stored.is_file():
        raise SettingError(f"folder={given} has no {CONFIG_NAME}; give the folder of a cross-validation")
    changes = _changes(stored.read_text(encoding="utf-8"), configuration)
    if changes:
        raise SettingError(
            f"folder={given} was begun with other settings ({'; '.join(changes)}); go on with "
            f"--config {stored}, or begin anew without --folder"
        )
    return Path(given)


def run_folds(folder: Path, run_fold: Callable[[Path, int], FoldResult]) -> list[FoldResult]:
    """The results of all folds, of which those that are not finished are run.

    A fold that was cut off begins anew: its features are in the cache, and the head is trained in minutes.
    """
    results: list[FoldResult] = []
    num_folds = 1
    while len(results) < num_folds:
        fold_folder = folder / f"fold_{len(results)}"
        result = read_fold(fold_folder)
        if result is None:
            result = run_fold(fold_folder, len(results))
            _save(result)
        results.append(result)
        num_folds = len(result.protocol["folds"])
    return results


@rank_zero_only
def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode())


@rank_zero_only
def _save(result: FoldResult) -> None:
    result.save()


def _changes(before: str, now: str) -> list[str]:
    """The first lines that differ, as `- then` and `+ now`."""
    lines = ndiff(before.splitlines(), now.splitlines())
    return [" ".join(line.split()) for line in lines if line.startswith(("- ", "+ "))][:6]


EXPORT_DESCRIPTION = (
    "Write a trained classifier to a folder that explain.py and others open: model.safetensors, what it "
    "is (classifier.json), and a page for people (README.md). Its backbone is not written, but found by name."
)


def run_export(args: Sequence[str]) -> None:
    """Export as the arguments after `export` say.

    Raises:
        WavshapError: If the model is none, the folder holds something else, or the Hub refuses.
    """
    options = _build_parser().parse_args(args)
    more = {
        "title": options.title,
        "scores": options.scores,
        "licence": options.licence,
        "backbone": options.backbone,
    }
    classifier = open_model(options.model, "cpu")
    folder = classifier.export(Path(options.folder).expanduser(), **more)
    _say("Written to", shown(folder))
    if options.push_to_hub is not None:
        address = classifier.push_to_hub(options.push_to_hub, private=not options.public, **more)
        _say("Published", on_one_line(address))
    _say("Next", f"python explain.py {on_one_line(quote(str(folder)))} CLIP.wav")


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train.py export",
        usage="%(prog)s MODEL DIR [--push_to_hub USER/NAME] [options]",
        description=EXPORT_DESCRIPTION,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a checkpoint, or a run such as runs/demo, whose best one is taken"
    )
    parser.add_argument("folder", metavar="DIR", help="a new folder, or that of an earlier export")
    parser.add_argument(
        "--licence", "--license", metavar="ID", help="the Hub's short name, such as cc-by-nc-sa-4.0"
    )
    parser.add_argument("--title", help="of the page; the folder's name by default")
    parser.add_argument(
        "--scores", metavar="FILE", help="how good it is: a test.json; by default that of the run"
    )
    parser.add_argument(
        "--backbone", metavar="NAME", help="where others find the very same backbone, if not as it was opened"
    )
    parser.add_argument(
        "--push_to_hub",
        "--push-to-hub",
        metavar="USER/NAME",
        help="publish it there as well, with the login of 'hf auth login'",
    )
    parser.add_argument(
        "--public", action="store_true", help="let everybody see a new repository; it is private by default"
    )
    return parser


def _say(title: str, value: str) -> None:
    Console().print(f"{title:<16} {value}", markup=False, highlight=False, soft_wrap=True)


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
