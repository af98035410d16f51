"""What the benchmarks share: arguments, models of Base geometry, noise clips, fair timing, and the report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import WavLMConfig, WavLMModel

from wavshap_lightning.models.frontends import TransformersModule

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
RAVDESS_VARIABLE = "WAVSHAP_RAVDESS"
RAVDESS_BESIDE = ROOT.parent / "shared" / "data" / "ravdess"
SAMPLE_RATE = 16_000

GEOMETRIES: dict[str, dict[str, Any]] = {
    "group norm": {"feat_extract_norm": "group", "do_stable_layer_norm": False},
    "layer norm": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
}


# Command line

PLAIN: dict[str, dict[str, Any]] = {
    "aligned": {
        "type": Path,
        "required": True,
        "metavar": "DIR",
        "help": "recordings with TextGrids of their words",
    },
    "seconds": {"action": "store_true", "help": "time only; the rest is that of the last report"},
    "checkpoint": {"type": Path, "help": "of a demo; trained and kept in --cache-dir if left out"},
    "transformers4": {"type": Path, "metavar": "DIR", "help": "folder where transformers 4 is installed"},
    "clips": {"type": int, "default": 50, "help": "clips of each corpus (default %(default)s)"},
    "planted": {
        "type": Path,
        "metavar": "DIR",
        "help": "planted recordings and heads of Whisper that are kept there",
    },
    "split": {
        "choices": ("validation", "test"),
        "default": "test",
        "help": "whose planted recordings are explained",
    },
    "folds": {
        "type": Path,
        "metavar": "DIR",
        "help": "folder of a cross-validation on RAVDESS, with its folds",
    },
    "tune": {"action": "store_true", "help": "look at the actors and seeds on which limits were chosen"},
    "panels": {
        "nargs": "+",
        "metavar": "PANEL",
        "help": "what to measure again; the rest is that of the last report",
    },
}


def read_arguments(doc: str | None, *, needs: Sequence[str] = (), **defaults: object) -> argparse.Namespace:
    """The arguments of a benchmark.

    Args:
        doc: The script's docstring.
        needs: Which of `repeats`, `device`, `root`, `cache_dir`, `backbones`, `seconds`, `checkpoint`,
            `transformers4`, `aligned`, `clips`, `planted`, `folds`, `tune`, `panels` and `split` it
            takes besides `--quick`.
        defaults: Other defaults of theirs.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="try it out on little; the numbers mean nothing")
    if "repeats" in needs:
        parser.add_argument("--repeats", type=int, default=3, help="repeats of each timing (default 3)")
    if "device" in needs:
        parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    if "root" in needs:
        parser.add_argument(
            "--root",
            type=Path,
            default=_ravdess_folder(),
            help=f"folder of RAVDESS (default: the variable {RAVDESS_VARIABLE})",
        )
    if "cache_dir" in needs:
        help_text = "where features are kept between benchmarks (default: benchmarks/results/cache)"
        parser.add_argument("--cache-dir", type=Path, default=RESULTS / "cache", help=help_text)
    if "backbones" in needs:
        parser.add_argument("--backbones", type=Path, nargs="+", help="folders (default: the embedded one)")
    for name in PLAIN.keys() & {*needs}:
        parser.add_argument(f"--{name}", **PLAIN[name])
    parser.set_defaults(**defaults)
    arguments = parser.parse_args()
    if "root" in needs and arguments.root is None:
        parser.error(f"--root is needed: the folder of RAVDESS, here or in the variable {RAVDESS_VARIABLE}")
    return arguments


def _ravdess_folder() -> Path | None:
    named = os.environ.get(RAVDESS_VARIABLE)
    if named:
        return Path(named)
    return RAVDESS_BESIDE if RAVDESS_BESIDE.is_dir() else None


# Models and clips


def build_wavlm(geometry: str = "group norm", *, spread: bool = False, seed: int = 0) -> TransformersModule:
    """A WavLM of Base size with random weights, in evaluation mode and frozen.

    Args:
        geometry: One of `GEOMETRIES`.
        spread: Scale the weights to their fan-in and make no norm or bias trivial, so that attention
            matters as in a trained model; else they are as transformers draws them.
        seed: Decides the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model: TransformersModule = WavLMModel(WavLMConfig(**GEOMETRIES[geometry]))
        if spread:
            spread_weights(model)
    for parameter in model.parameters():
        parameter.requires_grad = False
    return model.eval()


@torch.no_grad()
def spread_weights(model: TransformersModule) -> None:
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        if parameter.dim() > 1:
            parameter.copy_(noise * parameter[0].numel() ** -0.5)
        else:
            parameter.add_(0.2 * noise)


def draw_waveforms(durations_s: Sequence[float], *, seed: int = 0) -> list[Tensor]:
    """Noise with a slowly moving level and an offset, one waveform a duration."""
    generator = np.random.default_rng(seed)
    waveforms = []
    for duration_s in durations_s:
        time_s = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
        level = 0.1 * (1.2 + np.sin(2 * np.pi * (3.0 * time_s + generator.random())))
        waveform = 0.01 + level * generator.standard_normal(len(time_s))
        waveforms.append(torch.from_numpy(np.clip(waveform, -1.0, 1.0).astype(np.float32)))
    return waveforms


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Euclidean length of the difference, relative to that of what was expected."""
    return float((found - expected).norm() / expected.norm())


def bf16_refusal(device: str = "cpu") -> str:
    """Why bf16 is not to be timed on this device; empty where it is."""
    if device != "cpu":
        return "" if torch.cuda.is_bf16_supported() else "this GPU has no bf16"
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    has_bf16 = supported is not None and bool(supported())
    return "" if has_bf16 else "this CPU has no bf16 instructions"


# Timing


def time_interleaved(
    functions: Mapping[str, Callable[[], object]], repeats: int, *, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of each function in each repeat.

    Each runs once before the clock starts. Then every repeat runs all of them, each time beginning with
    another one, so that a machine that slows down or speeds up does so for all.
    """
    names = list(functions)
    for name in names:
        _seconds(functions[name], device)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        start = repeat % len(names)
        for name in (*names[start:], *names[:start]):
            seconds[name].append(_seconds(functions[name], device))
    return seconds


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """How many times longer `slow` took, repeat by repeat."""
    return [a / b for a, b in zip(slow, fast, strict=True)]


def _seconds(function: Callable[[], object], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of a report.

    Args:
        name: What was measured.
        value: The median, or the only value; None where it was skipped.
        low: Least of the repeats.
        high: Greatest of the repeats.
        unit: Of the value.
        at_most: The value must not lie above.
        at_least: The value must not lie below.
        note: Why it was skipped, or what else to know.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def bar(self) -> str:
        """What is claimed, to print."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"

    @property
    def missed(self) -> bool:
        """Whether it was measured and the claim does not hold."""
        if self.value is None:
            return False
        too_high = self.at_most is not None and not self.value <= self.at_most
        return too_high or (self.at_least is not None and not self.value >= self.at_least)


def over_repeats(name: str, values: Sequence[float], **fields: float | str | None) -> Measurement:
    """Median and range of one number a repeat."""
    return Measurement(name, statistics.median(values), min(values), max(values), **fields)  # type: ignore[arg-type]


def machine_facts(device: str = "cpu") -> dict[str, str]:
    """What the numbers depend on."""
    facts = {
        "cpu": f"{torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores",
        "threads": str(torch.get_num_threads()),
        "bf16": "no" if bf16_refusal(device) else "yes",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "lightning", "wavshap-lightning")},
    }
    if device != "cpu":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["tf32 convolutions"] = str(torch.backends.cudnn.allow_tf32)
    return facts


def report(
    name: str,
    measurements: Sequence[Measurement],
    arguments: argparse.Namespace,
    **extra: object,
) -> None:
    """Print the table, write it as JSON, and exit with 1 if a bar is missed.

    A trial (`--quick`) writes `results/NAME-quick.json` instead of `results/NAME.json` and misses no bar.
    """
    facts = machine_facts(getattr(arguments, "device", "cpu"))
    content = {
        "benchmark": name,
        "quick": arguments.quick,
        "machine": facts,
        "measurements": [{**asdict(m), "missed": m.missed} for m in measurements],
        **extra,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}{'-quick' if arguments.quick else ''}.json"
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(_table(name, measurements))
    console.print(", ".join(f"{key}: {value}" for key, value in facts.items()), highlight=False)
    if arguments.quick:
        console.print("--quick: a trial; these numbers mean nothing")
    console.print(f"Written to {path}", soft_wrap=True)
    if not arguments.quick and any(m.missed for m in measurements):
        sys.exit(1)


def _table(title: str, measurements: Sequence[Measurement]) -> Table:
    table = Table(title=title)
    for column in ("what", "value", "range", "unit", "bar", "", "note"):
        table.add_column(column, justify="right" if column in ("value", "range", "bar") else "left")
    for m in measurements:
        value = "-" if m.value is None else f"{m.value:.3g}"
        spread = "" if m.low is None or m.high is None else f"{m.low:.3g} to {m.high:.3g}"
        verdict = "" if not m.bar or m.value is None else ("missed" if m.missed else "met")
        table.add_row(m.name, value, spread, m.unit, m.bar, verdict, m.note)
    return table
