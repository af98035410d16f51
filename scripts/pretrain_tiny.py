"""Pretrain the embedded backbone from nothing but its own synthetic speech.

    python -m pip install -e '.[pretrain]'
    python scripts/pretrain_tiny.py --seed 0 --out runs/tiny

Everything follows from the seed: run it again and the loss curve is the same on the same machine. It can be
stopped and started again at any time and goes on from the last finished epoch.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import warnings
from pathlib import Path
from typing import get_args

import torch
from pretraining.corpus import CorpusSettings, make_corpus
from pretraining.export import export_backbone
from pretraining.frontend import restore_frontend
from pretraining.module import PretrainingData, PretrainingModule, Recipe, build_trainer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from torch import Tensor

from wavshap_lightning.training.loggers import RunSettings, WandbMode, build_loggers, wandb_session

NUM_HELD_OUT = 250


def main() -> None:
    """Make the corpus, train, write the backbone."""
    arguments = read_arguments()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", ".*exists and is not empty|.*does not have many workers")
    recipe = Recipe(seed=arguments.seed, num_steps=arguments.steps)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_recipe(recipe, arguments)
    corpus = open_corpus(CorpusSettings(0, arguments.utterances), arguments)
    held_out = open_corpus(CorpusSettings(0, NUM_HELD_OUT, held_out=True), arguments)
    data = PretrainingData(recipe, corpus, held_out, arguments.workers)
    module = PretrainingModule(recipe)
    module.objective.calibrate([data.steps(0, 16)[step].targets for step in range(16)])
    loggers = build_loggers(RunSettings(name="pretraining", wandb=arguments.wandb), arguments.out)
    trainer = build_trainer(
        recipe,
        arguments.out,
        loggers=loggers,
        stop_after=arguments.stop_after,
        accelerator=arguments.accelerator,
    )
    last = arguments.out / "last.ckpt"
    with wandb_session(loggers):
        trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    restore_frontend(module.backbone)
    export_backbone(module.backbone, arguments.out / "tiny")


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="decides weights, batches and noise")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints, log and backbone")
    parser.add_argument(
        "--cache-dir", type=Path, default=Path("runs/pretraining_cache"), help="for the corpus"
    )
    parser.add_argument("--steps", type=int, default=Recipe().num_steps, help="length of the whole schedule")
    parser.add_argument("--stop-after", type=int, help="stop early, with the schedule of the whole run")
    parser.add_argument("--utterances", type=int, default=6_000, help="size of the corpus, 3.2 s each")
    parser.add_argument("--threads", type=int, default=1, help="threads that compute")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare batches")
    parser.add_argument("--wandb", default="offline", choices=get_args(WandbMode), help="as in train.py")
    parser.add_argument("--accelerator", default="auto", help="as in Lightning")
    return parser.parse_args()


def open_corpus(settings: CorpusSettings, arguments: argparse.Namespace) -> dict[str, Tensor]:
    """A corpus from the cache, made first where it is not there."""
    columns = (
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(settings.name, total=settings.num_utterances)
        return make_corpus(
            settings,
            arguments.cache_dir,
            num_processes=os.cpu_count() or 1,
            on_progress=lambda done: progress.update(task, completed=min(done, settings.num_utterances)),
        )


def write_recipe(recipe: Recipe, arguments: argparse.Namespace) -> None:
    """Write down the recipe, or compare it with that of the run to go on with."""
    path = arguments.out / "recipe.json"
    text = json.dumps(dataclasses.asdict(recipe) | {"utterances": arguments.utterances}, indent=2)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        sys.exit(f"out={arguments.out} holds a run with another recipe ({path}); name another folder")
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
