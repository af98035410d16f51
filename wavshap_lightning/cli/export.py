"""`train.py export`: a trained classifier as a folder to hand on, and to the Hub where asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from rich.console import Console

from wavshap_lightning.cli.model_argument import open_model
from wavshap_lightning.cli.terminal import on_one_line, shown

DESCRIPTION = (
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
        description=DESCRIPTION,
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
