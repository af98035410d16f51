"""Hooks of the documentation site: tables of measured results, and formulas as MathML."""

from __future__ import annotations

import ast
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULTS, TUTORIAL = "<!-- results -->", "<!-- tutorial -->"
FORMULA = re.compile(r"\\\((.+?)\\\)(?=</span>)|\\\[(.+?)\\\](?=</div>)", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401 - what mkdocs passes
    """Insert the tables of measured results and the code of the tutorial where a page has their marker."""
    if RESULTS in markdown:
        markdown = markdown.replace(RESULTS, results_tables(BENCHMARKS))
    code = (Path(__file__).parent / "tutorial.py").read_text(encoding="utf-8")
    return markdown.replace(TUTORIAL, f"```python\n{code}```")


def on_page_content(html: str, **_: Any) -> str:  # noqa: ANN401 - what mkdocs passes
    """Write the formulas of a page as MathML, which browsers render by themselves."""
    return FORMULA.sub(_mathml, html)


def _mathml(formula: re.Match[str]) -> str:
    inline, block = formula.groups()
    return str(convert(unescape(inline or block), display="inline" if inline else "block"))


def results_tables(folder: Path) -> str:
    """Markdown tables of all full reports, in the order of their names.

    Args:
        folder: Holds `NAME.py`, whose docstring gives the title, and `results/NAME.json`, which it wrote.

    Raises:
        ValueError: If there is no report.
    """
    reports = sorted(
        p
        for p in folder.glob("results/*.json")
        if "measurements" in p.read_text("utf-8") and "-quick" not in p.stem
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
