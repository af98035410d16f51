"""`explain.py --corpus NAME`: thousands of clips through Lightning's `Trainer.predict`."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException

from wavshap_lightning.cli.explain_clip import prepare
from wavshap_lightning.cli.explain_files import Output
from wavshap_lightning.cli.explain_items import Item, name_items
from wavshap_lightning.cli.explain_job import Job, describe_work
from wavshap_lightning.cli.explain_merge import merge
from wavshap_lightning.cli.explain_run import EXIT_DONE, conclude, exit_status, model_words
from wavshap_lightning.cli.explain_segments import check_segments
from wavshap_lightning.cli.model_argument import open_model
from wavshap_lightning.cli.quiet import quiet
from wavshap_lightning.cli.terminal import complain
from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.training.cache import default_cache_directory
from wavshap_lightning.training.corpus_choice import Chosen, Wanted, choose_clips
from wavshap_lightning.training.explain_data import ExplainData
from wavshap_lightning.training.explain_module import ClipWriter, ExplainModule
from wavshap_lightning.training.progress import RunProgress


def run(options: Namespace) -> int:
    """Explain a corpus; return the exit status.

    With several processes on a node Lightning starts this command once for each. All come here, but only
    the first has something to say.

    Raises:
        WavshapError: If nothing can be done.
        KeyboardInterrupt: If it was interrupted; what is finished is kept.
    """
    _check(options)
    with quiet():
        classifier = open_model(options.model, "cpu")
        chosen = choose_clips(_wanted(options), classifier.origin.protocol, default_cache_directory())
        job = _build_job(options, classifier, chosen)
        trainer = _build_trainer(options, job)
        if trainer.is_global_zero:
            _introduce(chosen, len(job.items))
        _predict(trainer, job)
        trainer.strategy.barrier("every clip is explained")
        if not trainer.is_global_zero:
            return EXIT_DONE  # Lightning ends all processes where one of them fails
        title = f"What the model hears in {chosen.words}"
        num_explained = merge(job, title, model_words(options.model, classifier), report=options.report)
    conclude(num_explained, len(job.items), job.output.folder)
    return exit_status(num_explained, len(job.items))


def _check(options: Namespace) -> None:
    """Refuse what is of no use to a corpus."""
    refused = {
        "audio": options.audio,
        "compare": options.compare,
        "epochs": options.epochs,
        "scorecard": options.scorecard,
        "scores-only": options.scores_only,
        "device": options.device != "cpu",
    }
    remedies = {
        "audio": "give either recordings or a corpus",
        "device": "use --accelerator and --devices",
    }
    for name, given in refused.items():
        if given:
            remedy = remedies.get(name, "leave it out, or give recordings instead of a corpus")
            raise SettingError(f"{name} does not go with corpus={options.corpus!r}; {remedy}")


def _wanted(options: Namespace) -> Wanted:
    return Wanted(
        name=options.corpus,
        root=options.root,
        options=dict(map(_read_option, options.corpus_option)),
        part=options.split,
        fold=options.fold,
        limit=options.limit,
        seed=options.seed,
    )


def _read_option(given: str) -> tuple[str, Any]:
    """A value is what YAML takes it for: a number, a list, or text."""
    name, equals, value = given.partition("=")
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        read = value
    if not equals or not name.strip():
        raise SettingError(f"corpus-option={given!r} must be NAME=VALUE, such as num_speakers=24")
    return name.strip(), read


def _build_job(options: Namespace, classifier: EmotionClassifier, chosen: Chosen) -> Job:
    work = prepare(options, classifier)
    every = name_items([Item(clip.path, clip=clip) for clip in chosen.clips])
    items = tuple(every[position] for position in chosen.positions)
    check_segments(options.segments, len(items))
    output = Output(Path(options.out).expanduser(), options.figures, options.sounds, options.share)
    output.open()
    return Job(work, items, output, describe_work(work, output))


def _build_trainer(options: Namespace, job: Job) -> L.Trainer:
    """A trainer that keeps and logs nothing of its own.

    Raises:
        SettingError: If there are no such devices, or no such strategy.
    """
    try:
        return L.Trainer(
            accelerator=options.accelerator,
            devices=int(options.devices) if options.devices.lstrip("-").isdigit() else options.devices,
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            callbacks=[RunProgress(), ClipWriter(job.write)],
            default_root_dir=job.output.folder,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,  # the datamodule divides the clips
            inference_mode=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SettingError(
            f"accelerator={options.accelerator!r}, devices={options.devices!r}, "
            f"num_nodes={options.num_nodes}, strategy={options.strategy!r} cannot be used: {reason}"
        ) from error


def _introduce(chosen: Chosen, num_clips: int) -> None:
    sys.stdout.write(f"{num_clips} {'clip' if num_clips == 1 else 'clips'}: {chosen.words}\n")
    sys.stdout.flush()
    if chosen.warning:
        complain(chosen.warning)


def _predict(trainer: L.Trainer, job: Job) -> None:
    """Explain what is not finished.

    Raises:
        KeyboardInterrupt: If it was interrupted.
    """
    module = ExplainModule(job.work.explainer.classifier, job.explain)
    data = ExplainData([item.clip for item in job.items if item.clip is not None], job.find_pending)
    try:
        trainer.predict(module, datamodule=data, return_predictions=False)
    except SystemExit as error:  # how Lightning ends when interrupted
        if not trainer.interrupted:
            raise
        if not trainer.is_global_zero:
            raise SystemExit(EXIT_DONE) from error  # else Lightning kills the first before it has its say
        num_done = sum(job.records.read(item.stem) is not None for item in job.items)
        complain(f"interrupted: {num_done} of {len(job.items)} clips are done; the same command goes on")
        raise KeyboardInterrupt from error
