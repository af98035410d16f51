"""Hooks of the documentation site: tables of models and of measured results, and formulas as MathML."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from html import unescape
from inspect import getdoc
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

from wavshap_lightning.models.families import FAMILIES, Family
from wavshap_lightning.models.foreign_heads import BACKBONES, LAYOUTS, Layout

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODELS = BENCHMARKS / "results" / "models.json"
RESULTS, TUTORIAL = "<!-- results -->", "<!-- tutorial -->"
FAMILY_ROWS, HEAD_ROWS, SUM_ROWS = "<!-- families -->", "<!-- heads -->", "<!-- sums -->"
ERRORS = "error: alone,<br>padded"
FORMULA = re.compile(r"\\\((.+?)\\\)(?=</span>)|\\\[(.+?)\\\](?=</div>)", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401 - what mkdocs passes
    """Insert tables, and the code of the tutorial, where a page has their marker."""
    if RESULTS in markdown:
        markdown = markdown.replace(RESULTS, results_tables(BENCHMARKS))
    for marker, table in {FAMILY_ROWS: families_table, HEAD_ROWS: heads_table, SUM_ROWS: sums_table}.items():
        if marker in markdown:
            markdown = markdown.replace(marker, table(json.loads(MODELS.read_text(encoding="utf-8"))))
    code = (Path(__file__).parent / "tutorial.py").read_text(encoding="utf-8")
    return markdown.replace(TUTORIAL, f"```python\n{code}```")


def on_page_content(html: str, **_: Any) -> str:  # noqa: ANN401 - what mkdocs passes
    """Write the formulas of a page as MathML, which browsers render by themselves."""
    return FORMULA.sub(_mathml, html)


def _mathml(formula: re.Match[str]) -> str:
    inline, block = formula.groups()
    return str(convert(unescape(inline or block), display="inline" if inline else "block"))


def families_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the families of speech transformers.

    Args:
        report: Of `benchmarks/models.py`.

    Raises:
        KeyError: If a family was not measured.
    """
    rows = [_family_row(name, family, report["families"][name]) for name, family in FAMILIES.items()]
    other = ["any other", "", "the waveform", "waveform", "one clip at a time"]
    rows.append([*other, _errors(report["whole"])])
    return _markdown(("family", "classes of transformers", "frames", "stages", "padded batch", ERRORS), rows)


def _family_row(name: str, family: Family, measured: Mapping[str, Any]) -> list[str]:
    frames = f"{_kind(family.frontend)}: {measured['frame_ms']:g} ms every {measured['hop_ms']:g} ms"
    if measured["window_s"]:
        frames += f"; each clip padded to {measured['window_s']:g} s"
    last = "" if measured["all_layers"] else " (the last)"
    stages = [stage + last * (stage == "layers") for stage in ("waveform", "frames", "layers")]
    shown = [stage for stage in stages if stage.split()[0] in family.stages]
    together = "at once" if measured["together"] else "one clip at a time"
    title = measured["title"]
    names = (family.backbone.rpartition(".")[2], measured["classifier"])
    classes = "<br>".join(f'<code class="whole">…{one.removeprefix(title)}</code>' for one in names)
    return [
        f"{title}<br>`{name}`",
        classes,
        f'<span class="wide">{frames}</span>',
        ", ".join(shown),
        together,
        _errors(measured),
    ]


def _kind(frontend: Callable[..., object]) -> str:
    """Kind of a frontend, from the first line of its documentation."""
    return (getdoc(frontend) or "").splitlines()[0].partition(", as in")[0]


def heads_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the heads of other projects.

    Args:
        report: Of `benchmarks/models.py`.

    Raises:
        KeyError: If a head was not measured.
    """
    rows = [_head_row(layout, report["heads"][layout.mark]) for layout in LAYOUTS]
    return _markdown(("published models", "backbone", "head", "outputs", ERRORS), rows)


def _head_row(layout: Layout, measured: Mapping[str, Any]) -> list[str]:
    names = [name.replace("/", "/<wbr>") for name in measured["models"]]
    models = f'<span class="wide">{"<br>".join(names)}</span>'
    known = [name for name, config in BACKBONES.items() if config["model_type"] == measured["family"]]
    frames = [f"{_words(measured['frames'])} on each frame"] if measured["frames"] else []
    layers = "learned mix of layers" if measured["layers"] == "learned" else "last layer"
    head = "; ".join([layers, *frames, measured["pooling"], _words(measured["mlp"])])
    outputs = " or ".join(measured["tasks"])
    if layout.labels:
        outputs += f": {', '.join(layout.labels)}"
    return [
        models,
        known[0].replace("/", "/<wbr>") if layout.geometry else "as in `config.json`",
        head,
        outputs,
        _errors(measured),
    ]


def sums_table(report: Mapping[str, Any]) -> str:
    """Markdown table of weighted sums against transformers 4: the larger of the two errors.

    Args:
        report: Of `benchmarks/models.py`.
    """
    measured = report["weighted_sums"]
    by = list(dict.fromkeys(name for row in measured.values() for name in row if name != "otherwise"))
    rows = [[title, *(_number(row[name]["padded"]) for name in by)] for title, row in measured.items()]
    for row, line in zip(rows, measured.values(), strict=True):
        row.append(f"{line['otherwise']:.2g}" if "otherwise" in line else "the same")
    return _markdown(("large model", *by, "last layer before the norm"), rows)


def _words(layers: Sequence[str]) -> str:
    """Kinds of layers in plain words.

    >>> _words(["Linear", "ReLU", "LayerNorm"])
    'linear, ReLU, layer norm'
    """
    return ", ".join(
        {"ReLU": "ReLU", "LayerNorm": "layer norm"}.get(layer, layer.lower()) for layer in layers
    )


def _errors(measured: Mapping[str, Any]) -> str:
    return "<br>".join(_number(measured[name]) for name in ("single", "padded"))


def _number(error: float) -> str:
    """A relative error with two digits, that do not wrap.

    >>> _number(4.37e-07)
    '4.4\u202f·\u202f10<sup>-7</sup>'
    """
    digits, power = f"{error:.1e}".split("e")
    return f"{digits}\u202f·\u202f10<sup>{int(power)}</sup>"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows))


def results_tables(folder: Path) -> str:
    """Markdown tables of all full reports but that of the models, in the order of their names.

    Args:
        folder: Holds `NAME.py`, whose docstring gives the title, and `results/NAME.json`, which it wrote.

    Raises:
        ValueError: If there is no report.
    """
    reports = sorted(
        p
        for p in folder.glob("results/*.json")
        if "measurements" in p.read_text("utf-8") and "-quick" not in p.stem and p.stem != MODELS.stem
    )
    if not reports:
        raise ValueError(f"{folder / 'results'} holds no report; run a script of benchmarks/ first")
    return "\n\n".join(_table(path, folder / f"{path.stem}.py") for path in reports)


def _table(path: Path, script: Path) -> str:
    report = json.loads(path.read_text(encoding="utf-8"))
    title = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or script.stem).splitlines()[0]
    rows = [_row(line) for line in report["measurements"]]
    machine = ", ".join(f"{name} {value}" for name, value in report["machine"].items())
    lines = [
        f"### {title}",
        "",
        f"`python benchmarks/{script.name}` on {machine}",
        "",
        "| measured | value | range | note |",
        "|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines)


def _row(line: dict[str, Any]) -> str:
    unit = f" {line['unit']}" if line["unit"] else ""
    value = "not measured" if line["value"] is None else f"{line['value']:.4g}{unit}"
    spread = "" if line["low"] is None else f"{line['low']:.4g} to {line['high']:.4g}"
    return f"| {_cell(line['name'])} | {value} | {spread} | {_cell(line['note'])} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
