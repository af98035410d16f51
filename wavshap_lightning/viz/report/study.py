"""The page of a study, one HTML file without scripts and external resources, and its table for papers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from wavshap_lightning.files import digest_of, write_atomically, write_csv
from wavshap_lightning.viz.report.page import ASSETS, content_policy, load_template
from wavshap_lightning.viz.report.summary import KINDS

Study = Mapping[str, Any]
"""Content of `study.json`."""

Point = tuple[float | int | None, ...]
"""Place on the horizontal axis, value, and ends of its interval, as they stand in JSON."""

MIX = "learned"
SCORES = ("uar", "uar_low", "uar_high", "wa", "macro_f1", "seed_std", "validation_uar")
COLUMNS = ("name", "corpus", "backbone", *SCORES, "letters", "best")

LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)


def write_study_page(study: Study, folder: Path) -> None:
    """Write `study.html`, and its table as `table.csv`, `table.tex` and `table.md`, into a folder.

    Args:
        study: Content of `study.json`, with findings and limits.
        folder: The folder; made if need be.
    """
    labels = [*dict.fromkeys(label for one in study["systems"] for label in one["recall"])]
    rows = [
        [one.get(name) for name in COLUMNS] + [*map(one["recall"].get, labels)] for one in study["systems"]
    ]
    write_csv(folder / "table.csv", [[*COLUMNS, *(f"recall_{label}" for label in labels)], *rows])
    for name in ("study.html", "table.tex", "table.md"):
        write_atomically(folder / name, render_study(study, name).encode("utf-8", "backslashreplace"))


def render_study(study: Study, name: str = "study.html") -> str:
    """Text of the page of a study, or of its table; the same study gives the same text.

    Args:
        study: Content of `study.json`, with findings and limits. What is missing is left out.
        name: `study.html`, `table.tex` (with the rules of booktabs) or `table.md`.
    """
    style = Markup((ASSETS / "study.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    functions: dict[str, Callable[..., Any]] = {"chosen_in_words": chosen_in_words, "levels": axis_levels}
    functions |= {"layer_lines": layer_lines, "latex": latex, "markdown": markdown, "zip": zip}
    facts = {"hash": digest_of(study), "style": style, "policy": content_policy(), "kinds": KINDS}
    template = load_template(name, ChainableUndefined)
    return str(template.render(study=study, **facts, **functions))


def chosen_in_words(chosen: Sequence[Study]) -> str:
    """Layers and poolings that were chosen, most frequent first, with the number of folds of each.

    >>> chosen_in_words([{"layer": 3, "pooling": "mean"}, {"layer": "learned", "pooling": "mean"}])
    'layer 3 (1), mix (1); mean (2)'
    """
    layers = Counter("mix" if one["layer"] == MIX else f"layer {one['layer']}" for one in chosen)
    counts = (layers, Counter(one["pooling"] for one in chosen))
    return "; ".join(", ".join(f"{name} ({n})" for name, n in one.most_common()) for one in counts)


def axis_levels(lines: Iterable[tuple[str, Sequence[Point]]], ends: Iterable[float] = ()) -> list[float]:
    """Round numbers for an axis, from below the smallest to above the largest value of some lines.

    Args:
        lines: Name and points of each line.
        ends: Values that the axis includes besides.
    """
    known = [*ends, *(end for _, line in lines for point in line for end in point[1:] if end is not None)]
    levels = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(min(known), max(known))
    return [float(level) for level in levels]


def layer_lines(rows: Sequence[Study], mix_at: float) -> list[tuple[str, list[Point]]]:
    """Curve of each backbone over its layers, and a line of one point for the learned mix.

    Args:
        rows: Entries of `layers` of one corpus.
        mix_at: Place of the learned mix on the horizontal axis.
    """
    lines: dict[tuple[str, bool], list[Point]] = {}
    for row in rows:
        is_mix = row["layer"] == MIX
        place = mix_at if is_mix else row["layer"]
        point = (place, row["uar"], row["low"], row["high"])
        lines.setdefault((row["backbone"], is_mix), []).append(point)
    return [(name, points) for (name, _), points in lines.items()]


def latex(text: str) -> Markup:
    r"""Text for LaTeX, with its special characters escaped.

    >>> print(latex("50% & a_b"))
    50\% \& a\_b
    """
    return Markup(" ".join(text.split()).translate(LATEX))  # noqa: S704 - for a file that is no HTML


def markdown(text: str) -> Markup:
    r"""Text for a cell of a table in Markdown, with its special characters escaped.

    >>> print(markdown("<b>|"))
    \<b\>\|
    """
    return Markup(re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", " ".join(text.split())))  # noqa: S704 - no HTML
