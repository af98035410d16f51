"""The page of one clip under several classifiers: each, and its difference to the first with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.explainer.compare import Comparison
from wavshap_lightning.viz.compare_maps import plot_maps
from wavshap_lightning.viz.compared import Compared, Contest, caption_of, check_names, path_of, short_names
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
from wavshap_lightning.viz.words import LABEL_WIDTH, literal, number, score_name

MOST_AS_BARS = 4
"""Classifiers that are drawn as bars with their intervals; of more, a row of colour each."""

ALL_PX, ALL_DIFFERENCES_PX, LEAST_PX, MOST_PX, MOST_DIFFERENCE_PX, SPECTROGRAM_PX = (
    300,
    330,
    66,
    110,
    140,
    150,
)
TICKS = 3
NAME_ROOM = 0.22
"""Of a row's height, so that no bar lies behind its name."""


def plot_comparison(
    comparison: Comparison,
    waveform: GivenWaveform = None,
    *,
    names: Sequence[str] = (),
    label: str | None = None,
    evidence: Sequence[Span] = (),
) -> Figure:
    """Two classifiers one below the other on one scale, and what the second makes of it more than the first.

    Args:
        comparison: What is drawn.
        waveform: As in [`plot_comparisons`][], like `names`, `label` and `evidence`.
        names: See there.
        label: See there.
        evidence: See there.

    Raises:
        WavshapError: As it says.
    """
    return plot_comparisons([comparison], waveform, names=names, label=label, evidence=evidence)


def plot_comparisons(
    comparisons: Sequence[Comparison],
    waveform: GivenWaveform = None,
    *,
    names: Sequence[str] = (),
    label: str | None = None,
    evidence: Sequence[Span] = (),
) -> Figure:
    """Classifiers one below the other on one scale, then what each makes of it more than the first.

    Args:
        comparisons: What is drawn, all of one clip with the same first classifier.
        waveform: The clip; read from its file if None.
        names: What the classifiers are called, the first one first; numbered if empty.
        label: What the clip was annotated as.
        evidence: Spans known to carry the label.

    Raises:
        SettingError: If no path that was compared says when, or names are missing.
        AudioError: If the waveform is not as long as the one explained.
    """
    names = check_names(comparisons, names)
    first = comparisons[0].first
    path = path_of(comparisons)
    request = Request(first, find_sound(first, waveform), label, tuple(evidence))
    contest = Contest(request, comparisons, names, path)
    with theme():
        return plot_maps(contest) if len(names) > MOST_AS_BARS else _plot_bars(contest)


def _plot_bars(contest: Contest) -> Figure:
    request, target, lines = contest.request, contest.target, caption_of(contest)
    page = build_page(
        [*rows_above(request, spectrogram_px=SPECTROGRAM_PX), *_rows(contest), *rows_below(lines)],
        request.explanation.duration_s,
    )
    draw_above(page, request, target)
    _draw_frames(page, contest)
    layers = contest.layers
    if layers is None:
        _draw_decisions(page, contest)
    else:
        _draw_layers(page, layers)
    draw_marks(page, request, target)
    draw_below(page, key_of(request, target), lines)
    return page.figure


def _rows(contest: Contest) -> list[Row]:
    num_each, num_differences = len(contest.names), len(contest.comparisons)
    each_px = _between(ALL_PX // num_each, LEAST_PX, MOST_PX)
    difference_px = _between(ALL_DIFFERENCES_PX // num_differences, LEAST_PX, MOST_DIFFERENCE_PX)
    each = [_row(f"model {place}", each_px, 30 if place == 0 else 12) for place in range(num_each)]
    above = 12 if num_differences == 1 else 30
    return [
        *each,
        *(
            _row(f"difference {place + 1}", difference_px, above if place == 0 else 12)
            for place in range(num_differences)
        ),
    ]


def _between(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))


def _row(name: str, height_px: int, above_px: int) -> Row:
    return Row(name, height_px, above_px=above_px, sides=(f"beside {name}",))


def _panels(page: Page, kind: str, *, beside: bool = False) -> list[Axes]:
    """From top to bottom; of the models, or of the differences."""
    begin = f"beside {kind} " if beside else f"{kind} "
    return [axes for name, axes in page.panels.items() if name.startswith(begin)]


def _draw_frames(page: Page, contest: Contest) -> None:
    frames, short = contest.frames, short_names(contest.names)
    titles = [
        f"{name}, predicts {literal(one.prediction, LABEL_WIDTH)}"
        for name, one in zip(short, contest.explanations, strict=True)
    ]
    _draw_rows(_panels(page, "model"), frames.each, titles, contest)
    own = ", on its own scale" if len(short) == 2 else ""
    differences = [f"{name} minus {short[0]}{own}" for name in short[1:]]
    _draw_rows(_panels(page, "difference"), frames.differences, differences, contest)
    scored = score_name(contest.request.explanation, contest.target)
    page.panels["model 0"].set_title(f"Attribution of each frame to the {scored}")
    if len(short) > 2:
        page.panels["difference 1"].set_title("Differences, on a scale of their own")


def _draw_rows(
    panels: Sequence[Axes], shown: Sequence[Estimates], titles: Sequence[str], contest: Contest
) -> None:
    times = contest.request.explanation.times[contest.path]
    for axes, estimates, title in zip(panels, shown, titles, strict=True):
        plot_frames(axes, estimates, times)
        set_signed_limits(axes, shown, TICKS)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + NAME_ROOM * (high - low))
        name_row(axes, title)


def _draw_layers(page: Page, layers: Compared) -> None:
    rows = {"model": layers.each, "difference": layers.differences}
    for kind, shown in rows.items():
        panels = _panels(page, kind, beside=True)
        for axes, estimates in zip(panels, shown, strict=True):
            last = kind == "difference" and axes is panels[-1]
            plot_layers_upright(axes, estimates, name_layers=last)
            set_signed_limits(axes, shown, TICKS)
    page.panels["beside model 0"].set_title("Sum of each layer")


def _draw_decisions(page: Page, contest: Contest) -> None:
    scores = [one.score[contest.target] for one in contest.explanations]
    for axes, score in zip(_panels(page, "model", beside=True), scores, strict=True):
        plot_text(axes, [f"score {number(score, signed=True)}"])
    for axes, score in zip(_panels(page, "difference", beside=True), scores[1:], strict=True):
        plot_text(axes, [f"score {number(score - scores[0], signed=True)}"])
