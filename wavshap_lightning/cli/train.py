"""`train.py` and `wavshap-train`: train, evaluate, cross-validate, predict, export, from YAML and flags."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from difflib import ndiff
from functools import cache, partial
from pathlib import Path
from shlex import quote
from typing import Any

import lightning as L  # noqa: N812
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from wavshap_lightning.audio.aligner import align_cached, doubt, identity
from wavshap_lightning.audio.alignments import format_textgrid
from wavshap_lightning.audio.io import SAMPLE_RATE, load_audio
from wavshap_lightning.cli.clips import ModelOptions, attempt, find_clips, open_model
from wavshap_lightning.cli.options import YAML_MODE, parse_words, read_arguments
from wavshap_lightning.cli.output import status_of, writing_to
from wavshap_lightning.cli.predict import predict
from wavshap_lightning.cli.stress import stress
from wavshap_lightning.cli.study import bench, layers
from wavshap_lightning.cli.terminal import EXIT_USAGE, WARNED, exit_status, on_one_line, quiet, say, tell
from wavshap_lightning.corpora.audit import audit_table, summary_table
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.filename_schemes import spoken_text
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.corpora.imports import load_format
from wavshap_lightning.corpora.manifest import save_manifest
from wavshap_lightning.errors import SettingError
from wavshap_lightning.files import from_here, write_atomically, write_json
from wavshap_lightning.models.checkpoint import read_checkpoint
from wavshap_lightning.models.head import SOFTMAX_TASKS
from wavshap_lightning.models.loading import read_study, read_test_scores
from wavshap_lightning.models.pretrained import is_folder
from wavshap_lightning.training.callbacks import check_flags, default_callbacks, title_of
from wavshap_lightning.training.checkpoints import AtomicCheckpointIO, find_checkpoint, run_of_checkpoint
from wavshap_lightning.training.cross_validation import (
    Evaluation,
    fold_table,
    read_fold,
    save_fold,
    save_summary,
    summarize_folds,
)
from wavshap_lightning.training.data.datamodule import STAGE_SPLITS, EmotionDataModule
from wavshap_lightning.training.loggers import (
    RunSettings,
    build_loggers,
    claim_run_folder,
    wandb_session,
    where_on_wandb,
)
from wavshap_lightning.training.module import EmotionModule, check_precision
from wavshap_lightning.training.scores import fit_temperature
from wavshap_lightning.training.tasks import TaskSettings

COMMANDS = {
    "fit": "Train a head; keep its best and its last checkpoint.",
    "validate": "Evaluate a checkpoint on the validation clips.",
    "test": "Evaluate a checkpoint on the test clips.",
    "audit": "Check the clips of a fold, without training, and write audit.json; 2 is returned on errors.",
    "cv": "Train and test on every fold; report the mean with its confidence interval.",
    "layers": "Score every layer of a backbone, and the mix of all, over all folds; draw the curve.",
    "import": "Write a manifest for recordings listed in the tables of another project, such as Kaldi's.",
    "align": "Align the words of recordings with their texts; write a TextGrid for each.",
    "predict": "Write a table of a model's outputs for recordings, with uncertainty by folds.",
    "stress": "Measure what a trained model breaks on: noise, rooms, channels, groups of speakers.",
    "bench": "Train and test all systems of a study, nested, and write its table: train.py bench STUDY.yaml.",
    "export": "Write a trained classifier to a folder; with --push_to_hub, publish it on the Hub.",
}
DESCRIPTION = "Train emotion heads on frozen speech models. Without arguments: the demo (offline, no data)."
EPILOG = "Options of a command: train.py COMMAND --help. How to train: docs/training.md."

# Inside the package in an installed wheel, beside it in a source tree.
DEMO = next(filter(Path.is_file, (above / "configs/demo.yaml" for above in Path(__file__).parents[1:3])), "")

CONFIG_NAME = "config.yaml"
TRAINER_DEFAULTS = {
    "max_epochs": 30,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
    "enable_model_summary": False,
}


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; without arguments, the demo.

    Exits with 2 and a message if the input is at fault, with 130 if interrupted.
    """
    words = list(sys.argv[1:] if args is None else args) or ["fit", "--config", str(DEMO)]
    command, options = read_command(words[:1]), words[1:]
    with exit_status(), quiet():
        if command == "export":
            flags = ["--public=true" if word == "--public" else word for word in options]
            export(**read_arguments(export, flags, prog="train.py export"))
        elif command == "predict":
            sys.exit(predict(**read_arguments(predict, options, prog="train.py predict")))
        elif command == "stress":
            sys.exit(stress(**read_arguments(stress, options, prog="train.py stress")))
        elif command == "bench":
            files = ["--config"] if options and not options[0].startswith("-") else []
            bench(**read_arguments(bench, [*files, *options], prog="train.py bench"))
        elif command == "align":
            sys.exit(align_clips(**read_arguments(align_clips, options, prog="train.py align")))
        elif command == "import":
            import_corpus(**read_arguments(import_corpus, options, prog="train.py import"))
        else:
            of_config = {"cv": cross_validate, "audit": audit, "layers": layers}.get(
                command, partial(run, command)
            )
            of_config(parse_words(build_parser(command), options))


def run(
    command: str, config: Namespace, folder: Path | None = None
) -> tuple[EmotionModule, EmotionDataModule]:
    """Fit, validate or test.

    Args:
        command: `"fit"`, `"validate"` or `"test"`.
        config: As the parser of that command gives it.
        folder: Where the run is written; by default that of the run to resume, else a new one of its name.

    Returns:
        The module and the datamodule, as the run leaves them.
    """
    checkpoint = checked_checkpoint(command, config)
    L.seed_everything(config.seed_everything, workers=True)
    WARNED.clear()  # of the fold before
    trainer, module, data = build_run(command, config, checkpoint, folder)
    try:
        with wandb_session(trainer.loggers):
            if command == "fit":
                for logger in trainer.loggers:
                    logger.log_hyperparams(config.as_dict())
                trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
                conclude(trainer, module, data, config.run)
            else:
                evaluate = getattr(trainer, command)
                evaluate(module, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)
    except SystemExit as error:  # how Lightning ends when interrupted
        if not trainer.interrupted:
            raise
        last = from_here(Path(str(best_checkpoint(trainer).dirpath)) / "last.ckpt")  # of an epoch that ended
        if command == "fit" and folder is None and trainer.is_global_zero and last.is_file():
            stored = last.parents[1] / CONFIG_NAME
            say("Resume with", f"python train.py fit --config {stored} --ckpt_path {last}", stderr=True)
        raise KeyboardInterrupt from error
    finally:
        protocol = Path(str(best_checkpoint(trainer).dirpath)).parent / "protocol.json"
        if WARNED and trainer.is_global_zero and protocol.is_file():
            write_json(protocol, {**json.loads(protocol.read_text(encoding="utf-8")), "warnings": WARNED})
    return module, data


def audit(config: Namespace) -> None:
    """Print a summary of the clips of a fold and what is wrong with them, and write both as JSON.

    Exits with 2 if a run would stop.
    """
    data = build_parser("audit").instantiate(config).data
    tasks = (TaskSettings(**one.as_dict()) for one in config.model.tasks or ())
    data.match(outputs=[one.with_outputs(data.labels, data.scales).outputs for one in tasks])
    record, (_, findings) = data.audit_record, data.audited
    with writing_to(Path(config.out)):
        write_json(Path(config.out), {**record, "warnings": WARNED})
    Console().print(summary_table(record["summary"], f"{data.protocol.name}, fold {data.fold}"))
    tell(f"\n{audit_table(findings) or 'Nothing is wrong with these clips.'}\n")
    say("Written to", on_one_line(config.out))
    data.require(*STAGE_SPLITS["fit"])
    if any(one.severity == "error" for one in findings):
        sys.exit(EXIT_USAGE)


def cross_validate(config: Namespace) -> None:
    """Train and test every fold in its own run, then print and save the table.

    Finished folds are kept if the folder of an earlier cross-validation is given. A fold that was cut off is
    run again from its start: its features are in the cache, and its head trains in minutes.

    Raises:
        SettingError: If that folder belongs to other settings.
    """
    given, config.folder = config.folder, None
    folder = open_folds(given, config)
    results: list[Evaluation] = []
    num_folds = 1
    while len(results) < num_folds:
        place = folder / f"fold_{len(results)}"
        try:
            results.append(read_fold(place) or run_fold(config, place, len(results)))
        except KeyboardInterrupt:
            resume = f"python train.py cv --config {folder}/{CONFIG_NAME} --folder {folder}"
            say("Resume with", resume, stderr=True)
            raise
        num_folds = len(results[0].protocol["folds"])
    if getattr(rank_zero_only, "rank", 0) == 0:
        summary = summarize_folds(results, folder, seed=config.seed_everything)
        save_summary(summary, folder)
        Console().print(fold_table(summary))
        say("Written to", f"{folder}/cv.json and cv.csv")


def run_fold(config: Namespace, folder: Path, fold: int) -> Evaluation:
    """Train and test one fold, whatever an earlier start may have left in its folder."""
    config = config.clone()
    config.pop("folder")
    config.data.fold, config.run.test, config.ckpt_path = fold, True, None
    module, data = run("fit", config, folder)
    speakers = tuple(clip.speaker for clip in data.clips("test"))
    if module.test_predictions is None:
        raise SettingError(f"trainer: fold {fold} kept no checkpoint to test; leave fast_dev_run out")
    result = Evaluation(module.test_predictions, speakers, data.protocol_record)
    rank_zero_only(save_fold)(result, folder)
    return result


def export(
    model: str,
    folder: str,
    *,
    license: str | None = None,  # noqa: A002 - the option's name
    title: str | None = None,
    scores: str | None = None,
    study: str | None = None,
    backbone: str | None = None,
    push_to_hub: str | None = None,
    public: bool = False,
) -> None:
    """Write a trained classifier, without its backbone, to a folder, and optionally publish it on the Hub.

    Args:
        model: Checkpoint, run, exported folder or Hugging Face model.
        folder: A new folder, or that of an earlier export.
        license: License identifier of the Hub, such as cc-by-nc-sa-4.0.
        title: Title of the model card, by default the folder's name.
        scores: The test.json with the scores for the card, by default that of the run.
        study: The study.json of the study that the card refers to, whose settings the classifier has.
        backbone: Hub name or folder of the backbone, if it differs from the recorded one.
        push_to_hub: Hub repository USER/NAME to publish to; log in with 'hf auth login' first.
        public: Create a public repository instead of a private one.

    Raises:
        WavshapError: If the model cannot be opened, the folder holds other files, or the Hub refuses.
    """
    moved = ModelOptions(backbone if backbone is not None and is_folder(backbone) else None)
    classifier, place = open_model(model, "cpu", moved), Path(folder).expanduser()
    known: dict[str, Any] = dict(classifier.provenance.scores)
    known |= {} if scores is None else {"test": read_test_scores(scores)}
    known |= {} if study is None else {"study": read_study(study)}
    classifier.provenance = replace(classifier.provenance, scores=known)
    if backbone is not None:
        classifier.backbone.rename(backbone)
    classifier.save_pretrained(place, title=title, license=license)
    say("Written to", on_one_line(place))
    if push_to_hub is not None:
        address = classifier.push_to_hub(push_to_hub, private=not public, title=title, license=license)
        say("Published", on_one_line(address))
    say("Next", f"python explain.py {on_one_line(quote(str(place)))} CLIP.wav")


def import_corpus(format: str, source: str, manifest: str, **options: str | None) -> None:  # noqa: A002
    """Write a manifest for recordings that are listed in the tables of another project.

    Args:
        format: Format of the tables.
        source: The table, or a folder that holds tables.
        manifest: The file to write.
        **options: Those of `load_format`.

    Raises:
        CorpusError: If the tables cannot be read, or the manifest cannot be written.
        SettingError: If the manifest exists.
    """
    place = Path(manifest).expanduser()
    if place.exists():
        raise SettingError(f"manifest={manifest} exists; name a new file, or delete this one first")
    clips = load_format(format, source, **options)
    save_manifest(place, clips)
    for title, field in (("Splits", "split"), ("Classes", "label"), ("Speakers", "speaker")):
        counts = Counter(getattr(clip, field) or "unknown" for clip in clips)
        say(title, listed((f"{name} ({count})" for name, count in sorted(counts.items())), limit=12))
    say("Written to", f"{on_one_line(place)} ({len(clips)} clips)")
    splits = {clip.split for clip in clips}
    more = " --data.validation false" if splits.isdisjoint({"validation", None}) else ""
    if None in splits and not all(clip.speaker for clip in clips):
        more = " --data.protocol random-clips"
    config = from_here(Path(DEMO).with_name("manifest.yaml"))
    say("Next", f"python train.py fit --config {config} --data.root {on_one_line(quote(str(place)))}{more}")


def align_clips(recordings: str, out: str, *, text: str | None = None) -> int:
    """Align the words of recordings with their texts, and write a TextGrid for each.

    Texts are those of a column `text`, of `.txt` and `.lab` files beside the recordings, or of the corpus.
    Times are those in the clip, where a manifest cuts it from a recording, and its start is in the name.

    Args:
        recordings: A manifest, a folder or a recording.
        out: Folder of the TextGrids, which `explain.py --alignments` takes.
        text: Words of all recordings.

    Returns:
        The exit status.

    Raises:
        WavshapError: If there are no recordings, or the folder cannot be written.
    """
    folder, num_done = Path(out), 0
    identity()  # so that a missing aligner is told once

    def align_clip(clip: Clip) -> str:
        sound = load_audio(clip.path, start_s=clip.start_s, end_s=clip.end_s)
        found = align_cached(sound, SAMPLE_RATE, spoken_text(clip) if text is None else text)
        if told := doubt(found):
            warnings.warn(f"path={on_one_line(clip.path)}: {told}", stacklevel=2)
        return format_textgrid(found, len(sound) / SAMPLE_RATE)

    clips = find_clips([recordings], folder)
    for stem, clip in clips.items():
        if content := attempt(align_clip, clip)[0]:
            with writing_to(folder):
                write_atomically(folder / f"{stem}.TextGrid", content.encode())
            num_done += 1
    say("Written to", f"{on_one_line(folder)} ({num_done} of {len(clips)} clips)")
    return status_of(num_done, len(clips))


# Parsing


def read_command(words: Sequence[str]) -> str:
    """The command that the first word names."""
    parser = argparse.ArgumentParser(prog="train.py", description=DESCRIPTION, epilog=EPILOG)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    return str(parser.parse_args(words).command)


@cache
def build_parser(command: str) -> ArgumentParser:
    """Parser of `fit`, `validate`, `test` or `cv`: data, model, run, then Lightning's trainer."""
    parser = ArgumentParser(
        prog=f"train.py {command}",
        usage="%(prog)s [--config FILE] [--data.root DIR] [--SECTION.NAME VALUE ...]",
        description=COMMANDS[command],
        parser_mode=YAML_MODE,
        allow_abbrev=False,  # a prefix of an option would be taken for it
    )
    parser.add_argument("--config", action="config", help="A YAML file with any of these options.")
    parser.add_argument("--seed_everything", type=int, default=0, help="Random seed.")
    if command == "cv":
        resumed = "The folder of an earlier cross-validation; finished folds are kept."
        parser.add_argument("--folder", type=str, help=resumed)
    elif command == "layers":
        parser.add_argument("--out", type=str, help="Folder of the results; runs/layers/NAME by default.")
        parser.add_argument("--seeds", type=int, default=5, help="Number of training seeds of each head.")
        parser.add_argument("--workers", type=int, help="Number of processes; all cores by default.")
    elif command == "audit":
        parser.add_argument("--out", type=str, default="audit.json", help="JSON file to write.")
    else:
        resumed = "Checkpoint to start from: a file, or 'best' or 'last' of --config's run, else the latest."
        parser.add_argument("--ckpt_path", type=str, help=resumed)
    parser.add_class_arguments(EmotionDataModule, "data", sub_configs=True, fail_untyped=False)
    builds = command != "audit"  # which takes the same files of settings, and opens no model
    parser.add_class_arguments(EmotionModule, "model", sub_configs=True, skip={"opened"}, instantiate=builds)
    parser.add_class_arguments(RunSettings, "run")
    parser.add_class_arguments(L.Trainer, "trainer", instantiate=False, sub_configs=True, fail_untyped=False)
    parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
    for name in ("labels", "scales"):
        parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
    parser.link_arguments("seed_everything", "data.seed")
    return parser


def checked_checkpoint(command: str, config: Namespace) -> str | None:
    """Path of the checkpoint to start from, opened once so that a wrong one is reported early.

    Raises:
        SettingError: If a checkpoint is needed and none is given, or training cannot resume from it.
        CheckpointError: If the file is not a checkpoint.
    """
    if config.ckpt_path is None:
        if command == "fit":
            return None
        raise SettingError(f"ckpt_path=None: {command} needs a checkpoint: a file, 'best' or 'last'")
    configs = [Path(str(path)) for path in config.config or () if path is not None]
    path = find_checkpoint(RunSettings(**config.run.as_dict()).home, config.ckpt_path, configs)
    if "optimizer_states" not in read_checkpoint(path) and command == "fit":
        raise SettingError(f"ckpt_path={path} holds only weights; resume from last.ckpt")
    return str(path)


# One run


def build_run(
    command: str, config: Namespace, checkpoint: str | None, folder: Path | None
) -> tuple[L.Trainer, EmotionModule, EmotionDataModule]:
    """Trainer, module and datamodule of a run; the configuration is written into the run's folder."""
    parser = build_parser(command)
    built = parser.instantiate(config)
    given, settings, data = built.trainer.as_dict(), built.run, built.data
    tested = command == "test" or (command == "fit" and settings.test)
    check_flags(given, validated=command != "test" and data.validation, tested=tested)
    data.require(*STAGE_SPLITS[command], *(["test"] if settings.test else []))
    if settings.temperature and not (data.validation and built.model.classifier.task in SOFTMAX_TASKS):
        raise SettingError("run.temperature=true needs validation clips; the first task must have classes")
    resumed = run_of_checkpoint(settings.home, checkpoint) if command == "fit" else None
    folder = folder or resumed or claim_run_folder(settings.home)
    given["default_root_dir"] = given["default_root_dir"] or str(folder)
    if given["logger"] in (None, True):
        step = int(read_checkpoint(checkpoint)["global_step"]) if resumed and checkpoint else 0
        given["logger"] = build_loggers(settings, folder, resumed_step=step)
    has_bar = any(isinstance(one, ProgressBar) for one in _listed(given["callbacks"]))
    given["callbacks"] = [
        *_listed(given["callbacks"]),
        *default_callbacks(
            chosen_by=built.model.chosen_by,
            seed=config.seed_everything,
            patience=settings.patience,
            folder=folder,
            progress=given["enable_progress_bar"] is not False and not has_bar,
            validation=data.validation,
            keep_every=settings.keep_every,
        ),
    ]
    given["plugins"] = _listed(given["plugins"])
    if not any(isinstance(plugin, CheckpointIO) for plugin in given["plugins"]):  # Lightning takes one alone
        given["plugins"].append(AtomicCheckpointIO())
    if not data.validation:
        given["limit_val_batches"] = 0
    trainer = L.Trainer(**given)
    check_precision(trainer)
    if not given["fast_dev_run"]:
        stored = config.clone()
        if resumed is not None:
            stored.ckpt_path = None  # what is stored repeats the run from its start
        rank_zero_only(write_atomically)(folder / CONFIG_NAME, parser.dump(stored, skip_unset=False).encode())
    return trainer, built.model, data


def conclude(trainer: L.Trainer, module: EmotionModule, data: EmotionDataModule, options: Namespace) -> None:
    """Calibrate and test the best checkpoint if asked for; print the folder of the run and its scores."""
    best = best_checkpoint(trainer)
    path = best.best_model_path
    if options.temperature and path:
        trainer.validate(module, datamodule=data, ckpt_path=path, verbose=False, weights_only=True)
        module.temperature = fit_temperature(found) if (found := module.validation_predictions) else None
    if options.test and path:
        trainer.test(module, datamodule=data, ckpt_path=path, verbose=False, weights_only=True)
    if not trainer.is_global_zero:
        return
    if best.best_model_score is not None:
        say(f"Best {title_of(module.chosen_by[0])}", f"{float(best.best_model_score):.3f}")
    say("Run folder", str(from_here(Path(str(best.dirpath)).parent)))
    if address := where_on_wandb(trainer.loggers):
        say("W&B", address)
    if path:
        say("Next", f"python explain.py {from_here(path)} CLIP.wav")
    elif trainer.fast_dev_run:  # type: ignore[attr-defined]
        say("Checkpoint", "none: fast_dev_run keeps none, and nothing is tested")
    else:
        remedy = "raise max_epochs or max_steps, lower check_val_every_n_epoch, or set data.validation=false"
        raise SettingError(f"no epoch ended, or none with a validation, so there is no best.ckpt: {remedy}")


def best_checkpoint(trainer: L.Trainer) -> ModelCheckpoint:
    """The default callback that keeps the best checkpoint."""
    saved = (one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint))
    return next(one for one in saved if one.filename == "best")


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - Lightning takes one or many
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None else [value]


# The folder of a cross-validation


def open_folds(given: str | None, config: Namespace) -> Path:
    """The folder to resume in, or a new one with the configuration in it.

    Raises:
        SettingError: If the given folder has other settings, or is not that of a cross-validation.
    """
    parser = build_parser("cv")
    text = parser.dump(config, skip_unset=False)
    if given is None:
        folder = claim_run_folder(RunSettings(**config.run.as_dict()).home)
        rank_zero_only(write_atomically)(folder / CONFIG_NAME, text.encode())
        return folder
    stored = Path(given) / CONFIG_NAME
    if not stored.is_file():
        raise SettingError(f"folder={given} has no {CONFIG_NAME}; give the folder of a cross-validation")
    earlier = parser.dump(
        parse_words(parser, ["--config", str(stored)]), skip_unset=False
    )  # with new options
    lines = ndiff(earlier.splitlines(), text.splitlines())
    changes = [" ".join(line.split()) for line in lines if line.startswith(("- ", "+ "))]
    if changes:
        shown = listed(changes, limit=6, separator="; ")
        raise SettingError(f"folder={given} has other settings ({shown}); give --config {stored}")
    return Path(given)
