"""Pages with a row of frames for each of several targets, or each of several methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.viz.estimates import Estimates, estimates_of, has_view
from wavshap_lightning.viz.margins import plot_layers_upright, plot_text
from wavshap_lightning.viz.page import Row, build_page
from wavshap_lightning.viz.panels import plot_frames, set_signed_limits
from wavshap_lightning.viz.request import (
    Request,
    draw_above,
    draw_below,
    draw_marks,
    key_of,
    rows_above,
    rows_below,
)
from wavshap_lightning.viz.theme import INK, SMALL_PT, TEXT_PT
from wavshap_lightning.viz.words import LABEL_WIDTH, caption, gap_words, how, literal, number, score_name

ALL_ROWS_PX, LEAST_ROW_PX, MOST_ROW_PX, ROW_GAP_PX = 420, 44, 110, 12
ROWS_SPECTROGRAM_PX = 150


def plot_targets(request: Request) -> Figure:
    """One row a target, all on one scale, with the sums of layers beside.

    Args:
        request: What the page is about.
    """
    explanation = request.explanation
    targets, path = explanation.targets, explanation.time_stage
    lines = caption(explanation, None)
    beside = has_view(explanation, "layers", "layers")
    rows = _rows_of(targets, "layers" if beside else None)
    page = build_page(
        [*rows_above(request, spectrogram_px=ROWS_SPECTROGRAM_PX), *rows, *rows_below(lines)],
        explanation.duration_s,
    )
    draw_above(page, request, None)
    if path is not None:
        frames = [estimates_of(explanation, path, "frames", target) for target in targets]
        _draw_rows([page.panels[row.name] for row in rows], targets, frames, explanation, path)
        first = score_name(explanation, targets[0]).replace(literal(targets[0], LABEL_WIDTH), "each class")
        page.panels[rows[0].name].set_title(f"Attribution of each frame to the {first}")
    if beside:
        layers = [estimates_of(explanation, "layers", "layers", target) for target in targets]
        _draw_layers([page.panels[row.sides[0]] for row in rows], layers)
    draw_marks(page, request, None)
    draw_below(page, key_of(request, None), lines)
    return page.figure


def plot_methods_of(request: Request, explanations: Mapping[str, Explanation], target: str) -> Figure:
    """One row a method, with what it came to beside.

    Args:
        request: What the page is about: the first explanation.
        explanations: By method, all of one clip.
        target: What is explained.
    """
    names = list(explanations)
    rows = _rows_of(names, "sums")
    lines = [f"{literal(name, 24)}: {how(one)}" for name, one in explanations.items()]
    page = build_page(
        [*rows_above(request, spectrogram_px=ROWS_SPECTROGRAM_PX), *rows, *rows_below(lines)],
        request.explanation.duration_s,
    )
    draw_above(page, request, target)
    axes = [page.panels[row.name] for row in rows]
    _draw_methods(axes, explanations, target)
    for row, one in zip(rows, explanations.values(), strict=True):
        plot_text(page.panels[row.sides[0]], _sums(one, target))
    axes[0].set_title(f"Attribution of each frame to the {score_name(request.explanation, target)}")
    draw_marks(page, request, target)
    draw_below(page, key_of(request, target), lines)
    return page.figure


def _rows_of(names: Sequence[str], beside: str | None) -> list[Row]:
    height = min(max(ALL_ROWS_PX // len(names), LEAST_ROW_PX), MOST_ROW_PX)
    return [
        Row(
            f"frames {name}",
            height,
            above_px=ROW_GAP_PX if place else 30,
            sides=() if beside is None else (f"{beside} {name}",),
        )
        for place, name in enumerate(names)
    ]


def _draw_rows(
    axes: Sequence[Axes],
    names: Sequence[str],
    frames: Sequence[Estimates],
    explanation: Explanation,
    path: str,
) -> None:
    for one, name, estimates in zip(axes, names, frames, strict=True):
        plot_frames(one, estimates, explanation.times[path])
        set_signed_limits(one, frames, 3)
        name_row(one, name)


def _draw_methods(axes: Sequence[Axes], explanations: Mapping[str, Explanation], target: str) -> None:
    """Methods whose attributions add up to the same thing share a scale; the others have their own."""
    paths = {name: one.time_stage or "" for name, one in explanations.items()}
    shown = {name: estimates_of(one, paths[name], "frames", target) for name, one in explanations.items()}
    shared = [shown[name] for name, one in explanations.items() if _is_complete(one)]
    for panel, (name, one) in zip(axes, explanations.items(), strict=True):
        plot_frames(panel, shown[name], one.times[paths[name]])
        set_signed_limits(panel, shared if _is_complete(one) else [shown[name]], 3)
        name_row(panel, name if _is_complete(one) else f"{name}, on its own scale")


def name_row(axes: Axes, name: str) -> None:
    """Write what a row shows into its top left corner."""
    axes.text(
        0.006, 0.97, literal(name, 40), va="top", fontsize=TEXT_PT, weight="bold", transform=axes.transAxes,
        color=INK, zorder=6, bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.5},
    )  # fmt: skip


def _draw_layers(axes: Sequence[Axes], layers: Sequence[Estimates]) -> None:
    for one, estimates in zip(axes, layers, strict=True):
        plot_layers_upright(one, estimates, name_layers=one is axes[-1])
        set_signed_limits(one, layers)
        one.set_yticks([])
        one.spines["left"].set_visible(False)
        total = number(float(estimates.values.sum()), signed=True)
        one.text(1, 0.97, total, ha="right", va="top", fontsize=SMALL_PT, transform=one.transAxes)
    axes[0].set_title("Sum of each layer, and of all")


def _is_complete(explanation: Explanation) -> bool:
    return all(found.gap is not None for found in explanation.attributions.values())


def _sums(explanation: Explanation, target: str) -> list[str]:
    """A method's sum, gap and draws."""
    path = explanation.time_stage or ""
    found = explanation.attributions[path]
    index = explanation.targets.index(target)
    draws = "draw" if found.num_draws == 1 else "draws"
    return [
        f"sum {number(float(found.sums('frames')[index]), signed=True)}",
        f"gap {gap_words(found, explanation, target)}",
        f"{found.num_draws} {draws}",
    ]
