"""The page of one clip through the epochs of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.viz.estimates import Estimates, estimates_of, has_view
from wavshap_lightning.viz.page import Page, Row, build_page
from wavshap_lightning.viz.panels import plot_epochs_over_time, state_scale
from wavshap_lightning.viz.request import (
    Request,
    draw_above,
    draw_below,
    draw_marks,
    key_of,
    rows_above,
    rows_below,
)
from wavshap_lightning.viz.theme import INK, QUIET, RULE, SIGNED, signed_norm
from wavshap_lightning.viz.words import how, literal, score_name, target_class

ALL_EPOCHS_PX, MOST_EPOCH_PX, LEAST_EPOCHS_PX = 380, 46, 120
EPOCHS_SPECTROGRAM_PX = 150


def plot_epochs_of(request: Request, explanations: Mapping[int, Explanation], target: str) -> Figure:
    """A row an epoch, all on one scale; beside, the target's probability and the sums of layers.

    Args:
        request: What the page is about: the last explanation.
        explanations: By epoch, all of one clip.
        target: What is explained.
    """
    last = request.explanation
    lines = _lines(explanations, target)
    page = build_page(_rows(request, len(explanations), lines), last.duration_s)
    draw_above(page, request, target)
    _draw_epochs(page, explanations, target)
    plot_probability(page.panels["probability"], explanations, target_class(last, target))
    if "layers" in page.panels:
        layers = [estimates_of(one, "layers", "layers", target) for one in explanations.values()]
        plot_layers_of_epochs(page.panels["layers"], layers, signed_norm(*(one.values for one in layers)))
    draw_marks(page, request, target)
    draw_below(page, key_of(request, target, intervals=False), lines)
    return page.figure


def _rows(request: Request, num_epochs: int, lines: Sequence[str]) -> list[Row]:
    height = max(min(ALL_EPOCHS_PX, MOST_EPOCH_PX * num_epochs), LEAST_EPOCHS_PX)
    layers = ("layers",) if has_view(request.explanation, "layers", "layers") else ()
    return [
        *rows_above(request, spectrogram_px=EPOCHS_SPECTROGRAM_PX),
        Row("epochs", height, above_px=30, sides=("probability", *layers)),
        *rows_below(lines),
    ]


def _draw_epochs(page: Page, explanations: Mapping[int, Explanation], target: str) -> None:
    first = next(iter(explanations.values()))
    path = first.time_stage or ""
    frames = [estimates_of(one, path, "frames", target) for one in explanations.values()]
    norm = signed_norm(*(one.values for one in frames))
    axes, names = page.panels["epochs"], [str(epoch) for epoch in explanations]
    plot_epochs_over_time(axes, frames, names, first.times[path], norm)
    axes.set_title(f"Attribution of each frame to the {score_name(first, target)}, by epoch")
    state_scale(axes, norm)


def plot_probability(axes: Axes, explanations: Mapping[int, Explanation], label: str) -> None:
    """The probability of one class, a dot an epoch; hollow where something else was predicted.

    Args:
        axes: Where; the first epoch is on top.
        explanations: By epoch.
        label: The class.
    """
    places = np.arange(len(explanations))
    shown = np.array([one.probabilities[label] for one in explanations.values()])
    filled = [INK if one.prediction == label else "white" for one in explanations.values()]
    axes.plot(shown, places, color=RULE, linewidth=1.0, zorder=1)
    axes.scatter(shown, places, s=26, c=filled, edgecolors=INK, linewidths=1.0, zorder=2, clip_on=False)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.set_title(f"p({literal(label, 12)})")


def plot_layers_of_epochs(axes: Axes, layers: Sequence[Estimates], norm: Normalize) -> None:
    """The sums of layers, a row an epoch; grey where unresolved."""
    values = np.ma.masked_invalid(np.stack([one.resolved_values for one in layers]))
    num_epochs, num_layers = values.shape
    axes.pcolormesh(
        np.arange(num_layers + 1) - 0.5, np.arange(num_epochs + 1) - 0.5, values, cmap=SIGNED, norm=norm
    )
    every = 1 if num_layers <= 7 else 3 if num_layers <= 13 else 6
    axes.set_xticks(range(0, num_layers, every), [str(layer) for layer in range(0, num_layers, every)])
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylim(num_epochs - 0.5, -0.5)
    axes.set_title(f"Layers, ±{norm.vmax:.2g}", color=QUIET)


def _lines(explanations: Mapping[int, Explanation], target: str) -> list[str]:
    last = list(explanations.values())[-1]
    path = last.time_stage or ""
    gaps = [one.attributions[path].relative_gap for one in explanations.values()]
    known = [gap[last.targets.index(target)] for gap in gaps if gap is not None]
    lines = [
        "All epochs on one scale; score and classes above are the last one's. Hollow: another was predicted."
    ]
    if known:
        lines.append(f"Completeness gap before the correction: {100 * max(known):.2g} % at most ({path}).")
    return [*lines, how(last)]
