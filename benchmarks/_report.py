"""The report of a benchmark: what was measured, what is claimed, and on which machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

import torch
from _common import RESULTS, bf16_refusal
from rich.console import Console
from rich.table import Table


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
