"""The page of one clip under two classifiers: each, and the difference with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.compare import Comparison, Difference
from wavshap_lightning.viz.estimates import Estimates
from wavshap_lightning.viz.hearing import GivenWaveform, find_sound
from wavshap_lightning.viz.margins import plot_layers_upright, plot_text
from wavshap_lightning.viz.page import Page, Row, build_page
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
from wavshap_lightning.viz.rows_page import name_row
from wavshap_lightning.viz.theme import theme
from wavshap_lightning.viz.words import LABEL_WIDTH, how, literal, number, score_name

ROW_PX, DIFFERENCE_PX, SPECTROGRAM_PX = 110, 140, 150
NAME_ROOM = 0.22
"""Of a row's height, so that no bar lies behind its name."""

NAME_WIDTH = 66
ROWS = ("first", "second", "difference")


def plot_comparison(
    comparison: Comparison,
    waveform: GivenWaveform = None,
    *,
    names: tuple[str, str] = ("first", "second"),
    label: str | None = None,
    evidence: Sequence[Span] = (),
) -> Figure:
    """Two classifiers one below the other on one scale, and what the second makes of it more than the first.

    Args:
        comparison: What is drawn.
        waveform: The clip; read from its file if None.
        names: What the two are called.
        label: What the clip was annotated as.
        evidence: Spans known to carry the label.

    Raises:
        SettingError: If no path that was compared says when.
        AudioError: If the waveform is not as long as the one explained.
    """
    path = _when(comparison)
    sound = find_sound(comparison.first, waveform)
    request = Request(comparison.first, sound, label, tuple(evidence))
    with theme():
        return _plot(request, comparison, path, names)


def _when(comparison: Comparison) -> str:
    path = next((path for path in ("frames", "waveform") if (path, "frames") in comparison.differences), None)
    if path is None:
        raise SettingError(
            "comparison: no path that says when was compared; explain with 'frames' or 'waveform' among views"
        )
    return path


def _plot(request: Request, comparison: Comparison, path: str, names: tuple[str, str]) -> Figure:
    lines = _lines(comparison, path, names)
    beside = ("layers", "layers") in comparison.differences
    page = build_page(
        [*rows_above(request, spectrogram_px=SPECTROGRAM_PX), *_rows(beside), *rows_below(lines)],
        comparison.first.duration_s,
    )
    draw_above(page, request, comparison.target)
    _draw_frames(page, comparison, path)
    if beside:
        _draw_layers(page, comparison.differences["layers", "layers"])
    else:
        _draw_decisions(page, comparison)
    draw_marks(page, request, comparison.target)
    draw_below(page, key_of(request, comparison.target), lines)
    return page.figure


def _rows(beside: bool) -> list[Row]:  # noqa: FBT001 - a private helper
    heights = (ROW_PX, ROW_PX, DIFFERENCE_PX)
    side = "layers" if beside else "decision"
    return [
        Row(name, height, above_px=12 if place else 30, sides=(f"{side} {name}",))
        for place, (name, height) in enumerate(zip(ROWS, heights, strict=True))
    ]


def _draw_frames(page: Page, comparison: Comparison, path: str) -> None:
    shown = _estimates(comparison.differences[path, "frames"])
    titles = (
        f"1, predicts {literal(comparison.first.prediction, LABEL_WIDTH)}",
        f"2, predicts {literal(comparison.second.prediction, LABEL_WIDTH)}",
        "2 minus 1, on its own scale",
    )
    for row, title, estimates in zip(ROWS, titles, shown, strict=True):
        axes = page.panels[row]
        plot_frames(axes, estimates, comparison.first.times[path])
        set_signed_limits(axes, shown[2:] if row == ROWS[2] else shown[:2], 3)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + NAME_ROOM * (high - low))
        name_row(axes, title)
    scored = score_name(comparison.first, comparison.target)
    page.panels[ROWS[0]].set_title(f"Attribution of each frame to the {scored}")


def _draw_layers(page: Page, layers: Difference) -> None:
    shown = _estimates(layers)
    for row, estimates in zip(ROWS, shown, strict=True):
        axes = page.panels[f"layers {row}"]
        plot_layers_upright(axes, estimates, name_layers=row == ROWS[2])
        set_signed_limits(axes, shown[2:] if row == ROWS[2] else shown[:2], 3)
    page.panels[f"layers {ROWS[0]}"].set_title("Sum of each layer")


def _draw_decisions(page: Page, comparison: Comparison) -> None:
    scores = [one.score[comparison.target] for one in (comparison.first, comparison.second)]
    for row, value in zip(ROWS, (*scores, scores[1] - scores[0]), strict=True):
        plot_text(page.panels[f"decision {row}"], [f"score {number(value, signed=True)}"])


def _estimates(found: Difference) -> list[Estimates]:
    """First, second and difference, each with its own intervals."""
    views = [
        Estimates(
            view.values[0].double().numpy(),
            None if view.stderr is None else view.half_width()[0].double().numpy(),
        )
        for view in (found.first, found.second)
    ]
    half_width = None if found.half_width is None else found.half_width.double().numpy()
    return [*views, Estimates(found.values.double().numpy(), half_width)]


def _lines(comparison: Comparison, path: str, names: tuple[str, str]) -> list[str]:
    found = comparison.differences[path, "frames"]
    difference = _estimates(found)[2]
    share = float(np.mean(~difference.unresolved))
    paired = "from the same draws, draw by draw" if found.paired else "as if the two erred independently"
    scores = [one.score[comparison.target] for one in (comparison.first, comparison.second)]
    named = literal(comparison.target, 2 * LABEL_WIDTH)
    said = (
        f"The score of {named} is {number(scores[0])} under 1, {number(scores[1])} under 2; "
        f"the sign of 2 minus 1 is sure in {share:.0%} of the frames."
    )
    return [
        said,
        f"1: {literal(names[0], NAME_WIDTH)}. 2: {literal(names[1], NAME_WIDTH)}.",
        f"95 % intervals of the difference: {paired}.",
        how(comparison.first),
    ]
