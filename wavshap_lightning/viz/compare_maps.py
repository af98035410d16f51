"""The page of one clip under many classifiers, such as the epochs of a run: a row of colour each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wavshap_lightning.viz.compared import Contest, caption_of, short_names
from wavshap_lightning.viz.epochs_page import plot_layers_of_epochs, plot_probability
from wavshap_lightning.viz.estimates import Estimates
from wavshap_lightning.viz.page import Page, Row, build_page, ticks_between
from wavshap_lightning.viz.panels import plot_epochs_over_time, state_scale
from wavshap_lightning.viz.request import draw_above, draw_below, draw_marks, key_of, rows_above, rows_below
from wavshap_lightning.viz.theme import INK, RULE, signed_norm
from wavshap_lightning.viz.words import number, score_name, target_class

ABOVE_PX = {"models": 30, "differences": 48}
"""Room for a title, and above the lower one for the axes of what stands beside the upper."""

ROW_PX, ALL_ROWS_PX, SPECTROGRAM_PX = 26, 380, 150


def plot_maps(contest: Contest) -> Figure:
    """One map of all on one scale, and one of their differences to the first on another."""
    request, target, lines = contest.request, contest.target, caption_of(contest)
    page = build_page(
        [*rows_above(request, spectrogram_px=SPECTROGRAM_PX), *_rows(contest), *rows_below(lines)],
        request.explanation.duration_s,
    )
    draw_above(page, request, target)
    _draw_frames(page, contest)
    _draw_sides(page, contest)
    draw_marks(page, request, target)
    draw_below(page, key_of(request, target, intervals=False), lines)
    return page.figure


def _rows(contest: Contest) -> list[Row]:
    beside = () if contest.layers is None else ("layers",)
    counts = {"models": len(contest.names), "differences": len(contest.comparisons)}
    sides = {
        "models": ("probability", *beside),
        "differences": ("score", *(f"{name} apart" for name in beside)),
    }
    return [
        Row(name, min(ALL_ROWS_PX, ROW_PX * count), above_px=ABOVE_PX[name], sides=sides[name])
        for name, count in counts.items()
    ]


def _draw_frames(page: Page, contest: Contest) -> None:
    frames, short = contest.frames, short_names(contest.names)
    scored = score_name(contest.request.explanation, contest.target)
    _draw_map(page, "models", frames.each, short, contest)
    _draw_map(page, "differences", frames.differences, short[1:], contest)
    page.panels["models"].set_title(f"Attribution of each frame to the {scored}")
    page.panels["differences"].set_title(f"Differences to {short[0]}; grey: the sign is not known")


def _draw_map(
    page: Page, name: str, shown: Sequence[Estimates], names: Sequence[str], contest: Contest
) -> None:
    norm = signed_norm(*(one.values for one in shown))
    times = contest.request.explanation.times[contest.path]
    plot_epochs_over_time(page.panels[name], shown, names, times, norm)
    state_scale(page.panels[name], norm)


def _draw_sides(page: Page, contest: Contest) -> None:
    explanations = dict(enumerate(contest.explanations))
    label = target_class(contest.request.explanation, contest.target)
    plot_probability(page.panels["probability"], explanations, label)
    scores = [one.score[contest.target] for one in contest.explanations]
    _plot_distances(page.panels["score"], np.subtract(scores[1:], scores[0]))
    layers = contest.layers
    if layers is not None:
        for name, shown in (("layers", layers.each), ("layers apart", layers.differences)):
            plot_layers_of_epochs(page.panels[name], shown, signed_norm(*(one.values for one in shown)))


def _plot_distances(axes: Axes, distances: Float[np.ndarray, " rivals"]) -> None:
    """How far each score lies from the first one's, a dot each."""
    places = np.arange(len(distances))
    most = 1.15 * float(np.abs(distances).max()) or 1.0
    axes.axvline(0, color=RULE, linewidth=0.8)
    axes.hlines(places, 0, distances, color=RULE, linewidth=1.0)
    axes.scatter(distances, places, s=26, color=INK, zorder=2, clip_on=False)
    ticks = ticks_between(-most, most, 2)
    axes.set_xticks(ticks, [number(tick, signed=tick != 0) for tick in ticks])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlim(-most, most)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.set_title("Score")
