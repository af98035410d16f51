"""Printing for both command lines: messages on one line, errors as an exit status, fewer notes."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wavshap_lightning.errors import WavshapError
from wavshap_lightning.explainer.explanation import Explanation

EXIT_DONE, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

LEVELS = {
    "lightning.pytorch": logging.WARNING,
    "lightning.fabric": logging.WARNING,
    "transformers.modeling_utils": logging.ERROR,  # missing weights are an error of ours
}
IGNORED_WARNINGS = (
    ".*does not have many workers which may be a bottleneck",
    ".*module\\(s\\) in eval mode at the start of training",
    ".*Checkpoint directory .* exists and is not empty",
    ".*LeafSpec.* is deprecated",
    ".*Total length of `DataLoader` across ranks is zero",
    ".*within local rank has zero length",
)

NUM_FRAMES, NUM_NEURONS = 5, 3
SCORES = {"log_odds": "log-odds", "log_probability": "log-probability"}


@contextmanager
def exit_status() -> Iterator[None]:
    """Turn an error of the user's into a message and status 2, and an interruption into status 130."""
    try:
        yield
    except WavshapError as error:
        complain(error)
        sys.exit(EXIT_USAGE)
    except BrokenPipeError:  # the reader of the lines, such as head, has closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_DONE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, hide notes and warnings of Lightning and transformers that a user cannot act on."""
    from huggingface_hub.utils.tqdm import enable_progress_bars  # noqa: PLC0415 - slow, and not needed for help
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()  # type: ignore[no-untyped-call]
    enable_progress_bars()  # those of downloads, which transformers hides with its own
    levels = {name: logging.getLogger(name).level for name in LEVELS}
    formatwarning = warnings.formatwarning
    with warnings.catch_warnings():
        warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
        for message in IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        for name, level in LEVELS.items():
            logging.getLogger(name).setLevel(level)
        try:
            yield
        finally:
            warnings.formatwarning = formatwarning
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def on_one_line(text: str) -> str:
    r"""A name as it is written, with line breaks and other unprintable signs escaped.

    >>> on_one_line("a\tname.wav")
    'a\\tname.wav'
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def shown(path: Path) -> str:
    """A path on one line."""
    return on_one_line(str(path))


def complain(error: WavshapError | str) -> None:
    """Print a message on standard error."""
    words = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    message = words.encode(errors="backslashreplace").decode()  # a path may be no text
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)


def say(title: str, value: str, *, stderr: bool = False) -> None:
    """Print a titled line such as `Run folder       runs/demo/version_0`."""
    Console(stderr=stderr).print(f"{title:<16} {value}", markup=False, highlight=False, soft_wrap=True)


def describe(name: str, explanation: Explanation, numbers: Mapping[str, Any]) -> None:
    """Print a clip in a few aligned lines: decision, frames, layer and neurons, diagnostics.

    Args:
        name: Name of the clip.
        explanation: Its explanation.
        numbers: The explanation as it is written to JSON.
    """
    console = Console(highlight=False)
    title = f"{on_one_line(name)}  {explanation.duration_s:.2f} s"
    console.print(Text(title, style="bold"), soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for title, words in _lines(explanation, numbers):
        table.add_row(f"  {title}", Text(words))
    for one in numbers["diagnostics"]:
        table.add_row(f"  {one['severity']}", Text(one["message"], style="yellow"))
    console.print(table)
    console.print()


def describe_briefly(progress: str, name: str, explanation: Explanation, numbers: Mapping[str, Any]) -> None:
    """Print a clip on one line: decision, gap, strongest frame, and `!` if there are diagnostics.

    Args:
        progress: What stands first, such as `[3/40]`.
        name: Name of the clip.
        explanation: Its explanation.
        numbers: The explanation as it is written to JSON.
    """
    target, width = numbers["target"], max(map(len, explanation.labels))
    probability = explanation.probabilities[explanation.prediction]
    words = [
        progress,
        f"{explanation.prediction:<{width}} {probability:.2f}",
        f"gap {_gap(explanation, target):>7}",
        *(f"{frame:<32}" for frame in _frames(explanation, target, 1)),
        on_one_line(name) + ("  !" if numbers["diagnostics"] else ""),
    ]
    Console(highlight=False).print(Text("  ".join(words)), soft_wrap=True)


def _lines(explanation: Explanation, numbers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    target, label = numbers["target"], numbers["label"]
    probability = explanation.probabilities[explanation.prediction]
    labelled = f"  (labelled {label})" if label else ""
    yield "predicted", f"{explanation.prediction}, probability {probability:.3f}{labelled}"
    kind = next(iter(explanation.attributions.values())).target.kind
    score, baseline = numbers["score"], numbers["baseline_score"]
    difference = (
        "" if baseline is None else f", of the baselines {baseline:+.3f}, explained {score - baseline:+.3f}"
    )
    yield f"{SCORES.get(kind, kind)} of {target}", f"{score:+.3f}{difference}"
    yield "completeness gap", f"{_gap(explanation, target)} (before correction)"
    if explanation.time_stage is not None:
        values = explanation.values(explanation.time_stage, "frames", target)
        largest = float(values[values.abs().argmax()])
        yield "attribution", f"mean {float(values.mean()):+.4f}, largest {largest:+.4f} a frame"
    for place, words in enumerate(_frames(explanation, target, NUM_FRAMES)):
        yield "top frames" if place == 0 else "", words
    if "layers" in explanation.attributions:
        top = explanation.top("layers", 1, target=target)[0]
        layer = int(top["layer"])
        neurons = explanation.top("layer_neuron", NUM_NEURONS, layer=layer, target=target)
        yield "top layer", f"{layer}  {_interval(top)}"
        listed = [f"{one['neuron']} ({_interval(one)})" for one in neurons]
        yield "top neurons", ", ".join(listed)
    for pair in numbers.get("families", ()):
        correlation = pair["correlation"]
        agreement = "unknown" if correlation is None else f"{correlation:+.2f}"
        yield "agreement", f"{pair['first']} and {pair['second']}: {agreement}"


def _gap(explanation: Explanation, target: str) -> str:
    gap = next(iter(explanation.relative_gap(target).values()))
    return "none" if gap is None else f"{100 * gap:.1f} %"


def _frames(explanation: Explanation, target: str, count: int) -> list[str]:
    if explanation.time_stage is None:
        return []
    frames = explanation.top("frames", count, target=target)
    return [f"{one['start_s']:5.2f}-{one['end_s']:.2f} s  {_interval(one)}" for one in frames]


def _interval(unit: Mapping[str, Any]) -> str:
    value, half_width = unit["attribution"], unit["half_width"]
    return f"{value:+.4f}" if isnan(half_width) else f"{value:+.4f} ± {half_width:.4f}"
