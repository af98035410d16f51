"""The arguments of `explain.py`: what there is to ask for, with defaults that suit a first look."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from wavshap_lightning.errors import SettingError

DEFAULT_OUT = "explanations"
LISTS = ("stages", "families", "epochs")
"""Options whose value is a list with commas."""

DESCRIPTION = (
    "Explain what a speech-emotion classifier hears in recordings: which moments, bands, layers and neurons "
    "speak for a class and which against it, with 95 % intervals."
)
EPILOG = (
    "Without AUDIO a synthetic clip is made and explained. Exit status: 0 every clip explained, 1 some could "
    "not be, 2 nothing could be done, 130 interrupted. How to use it: docs/explain.md."
)


def read_options(args: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for; what a configuration says holds where the command line says nothing.

    Raises:
        SettingError: If a configuration cannot be read.
    """
    parser = build_parser()
    options = parser.parse_intermixed_args(args)
    if options.config is not None:
        words = _words_of(Path(options.config), parser, options)
        given = sys.argv[1:] if args is None else args
        options = parser.parse_intermixed_args([*words, *given])
    for name in ("figures", "sounds"):
        if getattr(options, name) is None:
            setattr(options, name, options.corpus is None)
    return options


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(
        prog="explain.py",
        usage="%(prog)s MODEL [AUDIO ... | --corpus NAME] [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a checkpoint, such as runs/demo/version_0/checkpoints/best.ckpt"
    )
    parser.add_argument(
        "audio",
        metavar="AUDIO",
        nargs="*",
        help="audio files, folders to search for them, or manifests (.csv, .jsonl) with labels and evidence",
    )
    _add_what(parser)
    _add_how(parser)
    _add_where(parser)
    _add_corpus(parser)
    _add_output(parser)
    return parser


def _add_what(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is explained")
    group.add_argument(
        "--target",
        default="predicted",
        metavar="CLASS",
        help="predicted (default), a label, all (every class side by side), or a margin such as happy-vs-sad",
    )
    group.add_argument(
        "--score",
        default="log_odds",
        help="of the class: log_odds (default), logit, log_probability or probability",
    )
    group.add_argument(
        "--segments",
        metavar="FILE",
        help="words: a TextGrid, CTM or CSV, or a folder with one for each clip under its name; without it, "
        "speech and pauses",
    )
    group.add_argument("--tier", default="", help="of a TextGrid; its words, else its first, by default")
    _add_comparisons(group)
    group.add_argument(
        "--scores-only", action="store_true", help="only print the three most probable classes of each clip"
    )


def _add_comparisons(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--compare",
        action="append",
        default=[],
        metavar="MODEL2",
        help="explain the clips with this one too, from the same draws; may be given several times; with "
        "--scorecard heads trained from other seeds, to measure how far maps agree",
    )
    group.add_argument(
        "--epochs",
        metavar="LIST",
        help="the same with other epochs of MODEL's run: some, such as 9,19,29, or all",
    )
    group.add_argument(
        "--families",
        default="",
        metavar="LIST",
        help="explain against each of these baselines too, such as noise,time_shifted, and say "
        "how far the maps agree",
    )
    group.add_argument(
        "--scorecard",
        action="store_true",
        help="instead, compare eight methods on the clips: scorecard.csv, scorecard.png, a verdict on each",
    )


def _add_how(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how")
    group.add_argument(
        "--stages",
        metavar="LIST",
        help="some of frames (when), layers (which layer and neuron), waveform (which band; the dearest); "
        "all by default",
    )
    group.add_argument(
        "--method",
        default="gradient_shap",
        help="gradient_shap (default), integrated_gradients; for comparison saliency, input_x_gradient, "
        "smooth_grad, and, with --stages frames alone, occlusion, shapley, kernel_shap, lime",
    )
    group.add_argument(
        "--baseline",
        default="noise",
        metavar="FAMILY",
        help="what clips are compared with, as loud as they are: noise (default), spectral_noise, "
        "time_shifted, silence, or, given as --baseline-clips, other_clips, same_speaker_neutral, "
        "another_class",
    )
    group.add_argument(
        "--baseline-clips",
        action="append",
        default=[],
        metavar="AUDIO",
        help="a recording, or a folder of them; may be given several times",
    )
    group.add_argument(
        "--draws",
        type=int,
        metavar="N",
        help="gradient evaluations for each view: 64, or what a tolerance or a time limit takes",
    )
    group.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="go on until every 95 %% interval is narrower than +- X times the largest attribution",
    )
    group.add_argument("--max-seconds", type=float, metavar="S", help="time limit for the draws of a clip")
    group.add_argument("--seed", type=int, default=0, help="of everything drawn (default 0)")


def _add_where(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where it runs, and from which file it is asked")
    group.add_argument(
        "--precision", help="fp32, or bf16 where the processor knows it; by default the model's own"
    )
    group.add_argument(
        "--window",
        type=float,
        metavar="S",
        help="recordings longer than S seconds go through the model piece by piece, which takes less memory, "
        "more time, and changes nothing (default: those of more than 30 s)",
    )
    group.add_argument("--device", default="cpu", help="where to compute: cpu (default), cuda, cuda:1, ...")
    group.add_argument(
        "--config",
        metavar="FILE",
        help="a YAML file with these options, such as target: happy; the command line wins",
    )


def _add_corpus(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a corpus, on one process or many; the same command goes on")
    group.add_argument(
        "--corpus", metavar="NAME", help="ravdess, crema-d, planted, manifest, ... (corpora.md)"
    )
    group.add_argument("--root", metavar="DIR", help="where it lies; of a manifest, the file")
    group.add_argument(
        "--corpus-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the corpus, such as num_speakers=24; may be given several times",
    )
    group.add_argument(
        "--split",
        default="test",
        help="train, validation, test (default) or all: as the model was trained, else by the corpus's own "
        "protocol",
    )
    group.add_argument("--fold", type=int, metavar="N", help="of the protocol; by default the model's own")
    group.add_argument("--limit", type=int, metavar="N", help="only so many clips, drawn class by class")
    group.add_argument("--accelerator", default="auto", help="auto (default), cpu, gpu, ...")
    group.add_argument(
        "--devices", default="auto", metavar="N", help="processes on each node; on a CPU 1 by default"
    )
    group.add_argument(
        "--num-nodes", "--num_nodes", type=int, default=1, metavar="N", help="they share the folder of --out"
    )
    group.add_argument("--strategy", default="auto", help="of Lightning: auto (default), ddp, ...")


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is written")
    group.add_argument("--out", default=DEFAULT_OUT, metavar="DIR", help=f"where to (default {DEFAULT_OUT}/)")
    switches = {
        "figures": ("a picture of each clip (default: yes, of a corpus no)", None),
        "sounds": (
            "each clip with what matters most kept alone, and removed (default: yes, of a corpus no)",
            None,
        ),
        "report": ("report.html, a page with all clips (default: yes)", True),
    }
    for name, (what, default) in switches.items():
        group.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=default, help=what)
    group.add_argument(
        "--waveform",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="the waveform among the arrays of each clip (default: no)",
    )
    group.add_argument(
        "--share",
        type=float,
        default=0.2,
        metavar="X",
        help="of a clip, how much is kept or removed in the sounds (default 0.2)",
    )


def _words_of(path: Path, parser: argparse.ArgumentParser, given: argparse.Namespace) -> list[str]:
    """A configuration as it would be typed, less what would add to lists that were given."""
    actions = {
        option.removeprefix("--"): action
        for action in parser._actions  # noqa: SLF001 - argparse lists its options nowhere else
        for option in action.option_strings
        if action.dest not in ("help", "config") and not option.startswith("--no-") and "_" not in option
    }
    return [
        word
        for name, value in _read_yaml(path).items()
        for word in _typed_as(path, actions, str(name), value)
        if not _is_given_list(actions[str(name).replace("_", "-")], given)
    ]


def _is_given_list(action: argparse.Action, given: argparse.Namespace) -> bool:
    """Whether it may be given several times, and was."""
    return isinstance(action.default, list) and getattr(given, action.dest) != action.default


def _typed_as(path: Path, actions: dict[str, argparse.Action], name: str, value: object) -> list[str]:
    option = name.replace("_", "-")
    if option not in actions:
        known = ", ".join(sorted(actions))
        raise SettingError(f"config={path}: {name!r} is no option; use some of {known}")
    if value is None or (value is False and not isinstance(actions[option], argparse.BooleanOptionalAction)):
        return []
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    if isinstance(value, list) and option not in LISTS:
        return [word for one in value for word in (f"--{option}", str(one))]
    return [f"--{option}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SettingError(f"config={path} cannot be read as YAML ({reason}); correct it") from error
    if not isinstance(content or {}, dict):
        raise SettingError(f"config={path} must hold lines such as 'target: happy'")
    return dict(content or {})
