"""What `explain.py` says on the terminal about each clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wavshap_lightning.cli.explain_clip import Explained
from wavshap_lightning.cli.terminal import on_one_line
from wavshap_lightning.explainer.explanation import Explanation

NUM_MOMENTS, NUM_NEURONS = 5, 3
WHEN = ("frames", "waveform")
SCORES = {"log_odds": "log-odds", "log_probability": "log-probability"}


def describe(found: Explained, console: Console) -> None:
    """A clip in a few aligned lines: decision, moments, layer and neurons, and what to beware of."""
    explanation, target = found.explanation, found.saved.numbers["target"]
    title = f"{on_one_line(found.item.name)}  {explanation.duration_s:.2f} s"
    console.print(Text(title, style="bold"), soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in _lines(found, target):
        table.add_row(f"  {name}", Text(words))
    for warning in found.saved.numbers["warnings"]:
        table.add_row("  beware", Text(warning, style="yellow"))
    console.print(table)
    console.print()


def describe_briefly(found: Explained, count: int, total: int, console: Console) -> None:
    """A clip on one line: how far we are, decision, gap, strongest moment, name."""
    explanation, target = found.explanation, found.saved.numbers["target"]
    width = max(map(len, explanation.labels))
    probability = explanation.probabilities[explanation.prediction]
    words = [
        f"[{count:>{len(str(total))}}/{total}]",
        f"{explanation.prediction:<{width}} {probability:.2f}",
        f"gap {_gap(explanation, target):>7}",
    ]
    if moments := _moments(explanation, target, 1):
        words.append(f"{moments[0]:<32}")
    words.append(on_one_line(found.item.name) + ("  !" if found.saved.numbers["warnings"] else ""))
    console.print(Text("  ".join(words)), soft_wrap=True)


def _lines(found: Explained, target: str) -> list[tuple[str, str]]:
    explanation, numbers = found.explanation, found.saved.numbers
    probability = explanation.probabilities[explanation.prediction]
    label = f"  (labelled {found.item.label})" if found.item.label else ""
    lines = [("predicted", f"{explanation.prediction}, probability {probability:.3f}{label}")]
    lines.append((f"{_score_name(explanation)} of {target}", _difference(numbers)))
    lines.append(("gap", f"{_gap(explanation, target)} before it was closed"))
    lines += _extent(explanation, target)
    moments = _moments(explanation, target, NUM_MOMENTS)
    lines += [("moments" if place == 0 else "", words) for place, words in enumerate(moments)]
    lines += _layers(explanation, target)
    return lines + [
        ("agreement", f"{pair['first']} and {pair['second']}: {_known(pair['correlation'])}")
        for pair in numbers.get("families", ())
    ]


def _known(correlation: float | None) -> str:
    return "not known" if correlation is None else f"{correlation:+.2f}"


def _score_name(explanation: Explanation) -> str:
    kind = next(iter(explanation.attributions.values())).target.kind
    return SCORES.get(kind, kind)


def _difference(numbers: Mapping[str, Any]) -> str:
    score, baseline = numbers["score"], numbers["baseline_score"]
    if score is None or baseline is None:
        return f"{score:+.3f}"
    return f"{score:+.3f}, of the baselines {baseline:+.3f}, explained {score - baseline:+.3f}"


def _gap(explanation: Explanation, target: str) -> str:
    gap = next(iter(explanation.relative_gap(target).values()))
    return "none" if gap is None else f"{gap:.1%}"


def _extent(explanation: Explanation, target: str) -> list[tuple[str, str]]:
    path = _when(explanation)
    if path is None:
        return []
    values = explanation.values(path, "frames", target)
    largest = float(values[values.abs().argmax()])
    return [("attribution", f"mean {float(values.mean()):+.4f}, largest {largest:+.4f} a frame")]


def _moments(explanation: Explanation, target: str, count: int) -> list[str]:
    path = _when(explanation)
    if path is None:
        return []
    return [
        f"{one.start_s:5.2f}-{one.end_s:.2f} s  {_with_interval(one.attribution, one.half_width)}"
        for one in explanation.top_frames(count, path=path, target=target)
    ]


def _layers(explanation: Explanation, target: str) -> list[tuple[str, str]]:
    if "layers" not in explanation.attributions:
        return []
    top = explanation.top_layers(1, target=target)[0]
    neurons = explanation.top_neurons(top.layer, NUM_NEURONS, target=target)
    words = [f"{one.neuron} ({_with_interval(one.attribution, one.half_width)})" for one in neurons]
    return [
        ("layer", f"{top.layer}  {_with_interval(top.attribution, top.half_width)}"),
        ("neurons", ", ".join(words)),
    ]


def _with_interval(value: float, half_width: float | None) -> str:
    return f"{value:+.4f}" if half_width is None else f"{value:+.4f} ± {half_width:.4f}"


def _when(explanation: Explanation) -> str | None:
    return next((path for path in WHEN if path in explanation.attributions), None)
