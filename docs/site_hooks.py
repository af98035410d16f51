"""Hooks of the documentation: tables of models, noise, cues and measured results, and formulas as MathML."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import unescape
from inspect import getdoc
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

from wavshap_lightning.models.families import FAMILIES, Family
from wavshap_lightning.models.foreign_heads import BACKBONES, LAYOUTS, Layout
from wavshap_lightning.viz.theme import percent

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODELS = BENCHMARKS / "results" / "models.json"
RESULTS, TUTORIAL = "<!-- results -->", "<!-- tutorial -->"
NOISE = BENCHMARKS / "results" / "reliability.json"
OURS, CAPTUM, SILENCE = "ours, default", "GradientShap (Captum)", "integrated gradients from silence (Captum)"
NOISE_CLIPS = 48
NOISE_FIGURE = (
    "![Share of the strongest frames that a new seed replaces, against seconds; stable and right maps of "
    "planted cues; agreement of heads](figures/noise.png)"
)
CUES = BENCHMARKS / "results" / "cues.json"
CUES_SHOWN = {
    "pitch_level": "{:+.1f} st",
    "pitch_range": "{:+.1f} st",
    "loudness": "{:+.1f} dB",
    "tempo": "{:+.0%} rate",
    "spectrum": "{:+.1f} dB",
}
NOT_MEASURED = "*Not measured yet.*"
ERRORS = "error: alone,<br>padded"
FORMULA = re.compile(r"\\\((.+?)\\\)(?=</span>)|\\\[(.+?)\\\](?=</div>)", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401 - what mkdocs passes
    """Insert tables, and the code of the tutorial, where a page has their marker."""
    if RESULTS in markdown:
        markdown = markdown.replace(RESULTS, results_tables(BENCHMARKS))
    for marker, (path, table) in MEASURED.items():
        if marker in markdown:
            known = path.is_file()
            found = table(json.loads(path.read_text(encoding="utf-8"))) if known else NOT_MEASURED
            markdown = markdown.replace(marker, found)
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


def noise_summary(report: Mapping[str, Any]) -> str:
    """Sentences on what a new seed changes in Whisper's maps and on where ours does not win, and the figure.

    Args:
        report: Of `benchmarks/reliability.py`.
    """
    whisper = {
        (r["method"], r["draws"]): r for r in report["methods"] if r["classifier"].startswith("Whisper")
    }
    (mine,) = (row for (name, _), row in whisper.items() if name == OURS and row["usual"])
    five, fifty = (whisper[CAPTUM, draws] for draws in (5, 50))
    is_trial = report["split"] != "test" or report["clips"] < NOISE_CLIPS
    trial = "**A trial on few clips, to be measured again.** " if is_trial else ""
    changed = [percent(row["changed"]) for row in (five, fifty, mine)]
    return (
        f"{trial}On Whisper tiny.en with a head trained on RAVDESS ({mine['clips']} clips), another random "
        f"seed replaces {changed[0]} of the strongest tenth of the frames with Captum's default of 5 draws, "
        f"{changed[1]} with 50, and {changed[2]} with the default settings of this project. "
        f"{_not_won(report['methods'])}\n\n{NOISE_FIGURE}"
    )


def _not_won(rows: Sequence[Mapping[str, Any]]) -> str:
    """A sentence on settings of the libraries that change fewer frames than ours in as many seconds."""
    better = []
    for row in rows:
        mine = [one for one in rows if one["method"] == OURS and one["classifier"] == row["classifier"]]
        fastest = min(one["seconds"] for one in mine)
        within = [one["changed"] for one in mine if one["seconds"] <= max(row["seconds"], fastest)]
        is_drawn = not (row["method"].startswith("ours") or row["method"] == SILENCE)
        if is_drawn and row["changed"] < min(within):
            better.append(f"{row['method']} with {row['draws']} draws ({row['classifier']})")
    if not better:
        return "In as many seconds, no method that draws at random replaces fewer."
    return f"In as many seconds, these replace fewer than ours: {'; '.join(better)}."


def noise_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the share of frames that a new seed changes, and of seconds, by classifier.

    Args:
        report: Of `benchmarks/reliability.py`.
    """
    titles = list(dict.fromkeys(row["classifier"] for row in report["methods"]))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in report["methods"]:
        if row["usual"] or (row["method"], row["draws"]) == (CAPTUM, 50):
            shown = f"{_share(row, 'changed')}; {row['seconds']:.2g} s; {row['clips']} clips"
            cells.setdefault((row["method"], str(row["draws"])), {})[row["classifier"]] = shown
    rows = [[*key, *(by_title.get(title, "") for title in titles)] for key, by_title in cells.items()]
    return _markdown(("method", "draws", *titles), rows)


def _share(row: Mapping[str, Any], name: str) -> str:
    """A share in per cent, with its interval where there is one."""
    spread = "" if row["low"] is None else f" ({percent(row['low'])} to {percent(row['high'])})"
    return percent(row[name]) + spread


def evidence_table(report: Mapping[str, Any]) -> str:
    """Markdown table of maps of planted cues: stable and right, stable and wrong, unstable.

    Args:
        report: Of `benchmarks/reliability.py`.
    """
    kinds = ("stable and right", "stable and wrong", "unstable")
    rows = [
        [
            row["method"],
            str(row["draws"]),
            *(percent(row[kind] / row["clips"]) for kind in kinds),
            f"{row['auc']:.2f}",
            str(row["clips"]),
        ]
        for row in report["evidence"]
    ]
    return _markdown(("method", "draws", *kinds, "signed AUC", "clips"), rows)


def trainings_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the strongest frames that stay with other draws, another head and another fold.

    Args:
        report: Of `benchmarks/reliability.py`.
    """
    changes = list(dict.fromkeys(row["change"] for row in report["heads"]))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in report["heads"]:
        cells.setdefault((row["classifier"], row["method"]), {})[row["change"]] = _share(row, "kept")
    rows = [[*key, *(by_change.get(one, "") for one in changes)] for key, by_change in cells.items()]
    return _markdown(("classifier", "method", *changes), rows)


def gains_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the measurements that compare seconds.

    Args:
        report: Of `benchmarks/reliability.py`.
    """
    gains = [line for line in report["measurements"] if line["unit"] == "x"]
    rows = [[_cell(line["name"]), _gain(line), _cell(line["note"])] for line in gains]
    return _markdown(("seconds", "times longer than ours", "of it"), rows)


def _gain(line: Mapping[str, Any]) -> str:
    if line["value"] is None:
        return "not reached"
    return f"{'more than ' * ('more than' in line['note'])}{line['value']:.3g}"


def cues_table(report: Mapping[str, Any]) -> str:
    """Markdown table of what was measured of explanations in cues, but what has a table of its own.

    Args:
        report: Of `benchmarks/cues.py`.
    """
    own = ("Spearman", "share of the way")
    rows = [
        [_cell(line["name"]), f"{line['value']:.3g}", _ends(line), _bar(line), _cell(line["note"])]
        for line in report["measurements"]
        if line["value"] is not None and not any(word in line["name"] for word in own)
    ]
    return _markdown(("measured", "value", "range", "required", "note"), rows)


def _ends(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{row['low']:.2g} to {row['high']:.2g}"


def _bar(line: Mapping[str, Any]) -> str:
    bars = [
        f"{sign} {line[name]:g}"
        for name, sign in (("at_least", "≥"), ("at_most", "≤"))
        if line[name] is not None
    ]
    return "".join(bars) + ", **missed**" * line["missed"]


def cue_edits_table(report: Mapping[str, Any]) -> str:
    """Markdown table of correlations of predicted with actual changes, by classifier and kind of edit.

    Args:
        report: Of `benchmarks/cues.py`.
    """
    missed = [line for line in report["measurements"] if line["missed"] and "Spearman" in line["name"]]
    shown = "; ".join(f"{line['name']} is {line['value']:.2f}, not {line['at_least']:g}" for line in missed)
    table = _crossed(report["effects"], ("classifier", "kind"), "method", "edits")
    return f"{table}\n\nRequired and not reached: {shown or 'none'}."


def cue_shares_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the share of the way to neutral that cues explain, by class.

    Args:
        report: Of `benchmarks/cues.py`.
    """
    return _crossed(report["shares"], ("label",), "classifier", "class")


def _crossed(rows: Sequence[Mapping[str, Any]], down: Sequence[str], across: str, corner: str) -> str:
    """Values with their intervals, by some fields downwards and one across."""
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = tuple(row[name] for name in down)
        spread = f"<br>({_ends(row)})" if _ends(row) else ""
        cells.setdefault(key, {})[row[across]] = f"{row['value']:.2f}{spread}"
    columns = list(dict.fromkeys(row[across] for row in rows))
    shown = [[*key, *(by_name.get(one, "") for one in columns)] for key, by_name in cells.items()]
    return _markdown((*down[:-1], corner, *columns), shown)


def cue_profiles_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the classes: how the voice differs, what it does to the score, what is expected.

    Args:
        report: Of `benchmarks/cues.py`.
    """
    cells: dict[str, dict[str, str]] = {}
    for row in report["profiles"]:
        cells.setdefault(row["label"], {})[row["cue"]] = _profile_cell(row)
    counts = {
        row["label"]: f"{row['measured']} clips,<br>{row['clips']} explained" for row in report["profiles"]
    }
    rows = [[f"**{name}**<br>{counts[name]}", *(of[cue] for cue in CUES_SHOWN)] for name, of in cells.items()]
    return _markdown(("class", *(cue.replace("_", " ") for cue in CUES_SHOWN)), rows)


def _profile_cell(row: Mapping[str, Any]) -> str:
    difference, names = row["difference"]["value"], [key for key in row if key.endswith(", value")]
    shown = math.expm1(difference) if row["cue"] == "tempo" else difference
    lines = [f"{CUES_SHOWN[row['cue']].format(shown).replace('%', ' %')} {_arrow(row['difference'])}"]
    for key in names:
        name = key.removesuffix(", value")
        effect = f"{row[key]['value']:+.2f} {_arrow(row[f'{name}, per unit'])}"
        lines.append(f"{name.split()[0]} {effect}")
    lines.append(f"expected {'↓ ↑'[row['expected'] + 1]}" if row["expected"] else "")
    return f'<span class="whole">{"<br>".join(one.strip() for one in lines if one)}</span>'


def _arrow(found: Mapping[str, Any]) -> str:
    """Direction of a number whose interval leaves out zero."""
    if found["low"] is None:
        return ""
    return "↑" if found["low"] > 0 else "↓" if found["high"] < 0 else ""


MEASURED: dict[str, tuple[Path, Callable[[Mapping[str, Any]], str]]] = {
    "<!-- families -->": (MODELS, families_table),
    "<!-- heads -->": (MODELS, heads_table),
    "<!-- sums -->": (MODELS, sums_table),
    "<!-- noise summary -->": (NOISE, noise_summary),
    "<!-- noise -->": (NOISE, noise_table),
    "<!-- noise gains -->": (NOISE, gains_table),
    "<!-- noise evidence -->": (NOISE, evidence_table),
    "<!-- noise trainings -->": (NOISE, trainings_table),
    "<!-- cues -->": (CUES, cues_table),
    "<!-- cues edits -->": (CUES, cue_edits_table),
    "<!-- cues shares -->": (CUES, cue_shares_table),
    "<!-- cues profiles -->": (CUES, cue_profiles_table),
}
"""Markers of the pages, the report that each is filled from, and how."""


def results_tables(folder: Path) -> str:
    """Markdown tables of all full reports but that of the models, in the order of their names.

    Args:
        folder: Holds `NAME.py`, whose docstring gives the title, and what it wrote: `results/NAME.json`, or
            `results/NAME_PART.json`.

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
    return "\n\n".join(_table(path, _script_of(path, folder)) for path in reports)


def _script_of(report: Path, folder: Path) -> Path:
    """The script that wrote a report: of its name, or of its name without that of a part."""
    scripts = [path for path in folder.glob("*.py") if report.stem.startswith(path.stem)]
    return max(scripts, key=lambda path: len(path.stem))


def _table(path: Path, script: Path) -> str:
    report = json.loads(path.read_text(encoding="utf-8"))
    title = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or script.stem).splitlines()[0]
    part = path.stem.removeprefix(script.stem).replace("_", " ").strip()
    title += f" ({part})" if part else ""
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
