"""Draw the figure of the page on noise from the report of `benchmarks/reliability.py`.

python docs/noise_figure.py [REPORT]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter

from wavshap_lightning.viz import theme

FIGURE = Path(__file__).parent / "figures" / "noise.png"
REPORT = Path(__file__).parents[1] / "benchmarks" / "results" / "reliability.json"
SIZE_PX = (theme.WIDTH_PX, 980)
KINDS = {"stable and right": theme.AGAINST, "stable and wrong": theme.FOR, "unstable": theme.UNRESOLVED}
OURS, CAPTUM = "ours, default", "GradientShap (Captum)"
OTHERS, CHOSEN_ANEW = "ours, default with other clips", "ours, default with another choice of clips"
NAMED = 50
"""Draws whose number is given beside the mark, besides the fewest, the usual and the most."""

NOTE = (
    "Full marks: default settings. Numbers: draws. Vertical lines: 95 % intervals over speakers. "
    "Dotted: nine of ten frames survive."
)
LINE = {"color": theme.AGAINST, "linewidth": 2.2, "zorder": 5}
SMALL: dict[str, Any] = {"fontsize": theme.SMALL_PT, "color": theme.QUIET}

Row = Mapping[str, Any]


def main() -> None:
    """Write `figures/noise.png`."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else REPORT
    figure = plot_noise(json.loads(path.read_text(encoding="utf-8")))
    figure.savefig(
        FIGURE,
        bbox_inches="tight",
        pad_inches=0.12,
        metadata={"Software": None},
        pil_kwargs={"optimize": True},
    )


def plot_noise(report: Mapping[str, Any]) -> Figure:
    """Figure of what a new seed changes, of what is found, and of what another training changes.

    Args:
        report: Of `benchmarks/reliability.py`.
    """
    with theme.theme():
        size = tuple(pixels / theme.DPI for pixels in SIZE_PX)
        figure = Figure(figsize=size, layout="constrained")
        above, below = figure.subfigures(2, 1, height_ratios=(1.0, 1.05), hspace=0.06)
        _plot_methods(above, report["methods"])
        left, right = below.subfigures(1, 2, width_ratios=(1.35, 1.0), wspace=0.04)
        _plot_evidence(left, report["evidence"])
        _plot_heads(right, report["heads"])
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _title(figure: Any, text: str) -> None:  # noqa: ANN401 - a figure or a part of one
    figure.suptitle(text, x=0.01, ha="left", fontsize=10.5, weight="bold")


def _plot_methods(figure: Any, rows: Sequence[Row]) -> None:  # noqa: ANN401 - a part of a figure
    """Share of the strongest frames that change against seconds, a panel for each classifier."""
    _title(figure, "Strongest tenth of the frames: share that a new random seed replaces")
    titles = list(dict.fromkeys(row["classifier"] for row in rows))
    panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for axes, title in zip(panels, titles, strict=True):
        # Another choice of baselines is another question than another seed; the page's table has it.
        of_title = [row for row in rows if row["classifier"] == title and row["method"] != CHOSEN_ANEW]
        for name in dict.fromkeys(row["method"] for row in of_title):
            _plot_curve(axes, name, sorted((r for r in of_title if r["method"] == name), key=_draws))
        axes.axhline(0.1, color=theme.RULE, linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
        axes.set(xscale="log", ylim=(-0.03, 1.03), title=title)
        axes.set_xlabel("seconds for a clip of 3 s" if "RAVDESS" in title else "seconds for a clip")
        axes.margins(x=0.08)
        axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    handles, labels = panels[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=2.2, title=NOTE)
    legend.get_title().set(**SMALL)


def _draws(row: Row) -> int:
    return int(row["draws"])


def _plot_curve(axes: Axes, name: str, rows: Sequence[Row]) -> None:
    """The draws of one method, the usual number as a full mark."""
    style, color = STYLES[name], STYLES[name]["color"]
    points = [(row["seconds"], row["changed"]) for row in rows]
    label = LABELS.get(name, name)
    axes.plot(*zip(*points, strict=True), label=label, markersize=5, markerfacecolor=theme.PAPER, **style)
    for row, point in zip(rows, points, strict=True):
        if row["usual"]:
            axes.plot(*point, **{**style, "markersize": 7, "linestyle": ""})
            if row["low"] is not None:
                ends = row["seconds"], row["low"], row["high"]
                axes.vlines(*ends, color=color, linewidth=1.2, zorder=style["zorder"])
        is_named = row["usual"] or row in (rows[0], rows[-1]) or row["draws"] == NAMED
        if name in (OURS, CAPTUM) and is_named:
            beside: dict[str, Any] = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 7}
            axes.annotate(str(row["draws"]), point, color=color, **beside)


LABELS = {
    OURS: "ours, default, one clip",
    OTHERS: "ours, default, with other clips",
    "ours, frames": "ours, from the frames",
    "ours, waveform": "ours, from the waveform",
}
_SIDE = {"color": "#5f5f5f", "linewidth": 0.9, "zorder": 3}
_REST = {"color": theme.MEDIUM, "linewidth": 0.9, "zorder": 2}
STYLES: dict[str, dict[str, Any]] = {
    OURS: LINE | {"marker": "o"},
    OTHERS: LINE | {"marker": "D", "linewidth": 0.9},
    "ours, frames": LINE | {"marker": "s", "linewidth": 0.9},
    "ours, waveform": LINE | {"marker": "^", "linewidth": 0.9},
    CAPTUM: {"color": theme.INK, "linewidth": 2.0, "zorder": 4, "marker": "o"},
    "GradientExplainer (SHAP)": _SIDE | {"marker": "s"},
    "integrated gradients from silence (Captum)": _REST | {"marker": "^"},
    "integrated gradients from noise (Captum)": _REST | {"marker": "v"},
    "SmoothGrad (Captum)": _REST | {"marker": "D"},
    "LIME (Captum)": _REST | {"marker": "X"},
    "LIME (lime)": _REST | {"marker": "P"},
    "Kernel SHAP (Captum)": _REST | {"marker": "*"},
    "KernelExplainer (SHAP)": _REST | {"marker": "h"},
}


def _plot_evidence(figure: Any, rows: Sequence[Row]) -> None:  # noqa: ANN401 - a part of a figure
    """Shares of clips whose maps are stable and right, stable and wrong, and unstable."""
    _title(figure, "Stable is not right: planted cues, heads on Whisper")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        start = 0.0
        for kind, color in KINDS.items():
            share = row[kind] / row["clips"]
            axes.barh(place, share, 0.68, left=start, color=color, label=kind if place == 0 else None)
            if share >= 0.08:
                ink = theme.QUIET if kind == "unstable" else theme.PAPER
                axes.text(
                    start + share / 2,
                    place,
                    f"{share:.0%}".replace("%", " %"),
                    ha="center",
                    va="center_baseline",
                    fontsize=7.5,
                    color=ink,
                )
            start += share
        axes.text(1.02, place, f"{row['auc']:.2f}", va="center_baseline", fontsize=theme.SMALL_PT)
    axes.text(1.02, -0.85, "AUC", **SMALL)
    axes.set_yticks(
        range(len(rows)),
        [f"{row['method'].replace('integrated gradients from', 'IG,')}, {row['draws']}" for row in rows],
    )
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(theme.AGAINST if row["method"].startswith("ours") else theme.INK)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(0, 1), xlabel="share of clips")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3, handlelength=1.2)


def _plot_heads(figure: Any, rows: Sequence[Row]) -> None:  # noqa: ANN401 - a part of a figure
    """Share of the strongest frames that stay, by what is changed."""
    _title(figure, "What another training changes")
    axes = figure.subplots()
    places, labels, place = {}, [], 0.0
    for row in rows:
        key = row["classifier"], row["change"]
        if key not in places:
            if row["classifier"] not in {one for one, _ in places}:
                axes.text(
                    0, place - 0.15, row["classifier"], fontsize=theme.SMALL_PT, color=theme.INK, va="center"
                )
                place += 0.8
            places[key] = place
            labels.append(row["change"])
            place += 1.0
        is_ours = row["method"] == OURS
        color = theme.AGAINST if is_ours else theme.INK
        at = places[key] + (-0.13 if is_ours else 0.13)
        if row["low"] is not None:
            axes.hlines(at, row["low"], row["high"], color=color, linewidth=1.4)
        label = (LABELS[OURS] if is_ours else f"{CAPTUM}, 50 draws") if key == next(iter(places)) else None
        axes.plot(row["kept"], at, "o", color=color, markersize=6, label=label)
    axes.axvline(0.1, color=theme.RULE, linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
    axes.text(0.11, place - 0.2, "chance", **SMALL, va="center")
    axes.set_yticks([*places.values()], labels)
    axes.set(xlim=(0, 1.02), ylim=(place - 0.1, -0.6), xlabel="share of the strongest frames that stay")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=2, handlelength=1.2)


if __name__ == "__main__":
    main()
