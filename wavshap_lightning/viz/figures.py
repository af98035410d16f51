"""The figure of one clip, and the sheet that all figures of a clip are drawn on.

A figure belongs to no window and to no global list: it is `matplotlib.figure.Figure`, never pyplot's, so that
nothing is left open. Drop it and it is gone; `figure.savefig(path)` writes it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.viz import panels as draw
from wavshap_lightning.viz.clip_view import LABELED, PREDICTED, TARGET, ClipView, Units
from wavshap_lightning.viz.sound import GivenWaveform, Samples, hz_to_mel, log_mel
from wavshap_lightning.viz.theme import (
    DPI,
    QUIET,
    SMALL_PT,
    TITLE_PT,
    WIDTH_PX,
    literal,
    number,
    signed_norm,
    theme,
)

DEFAULT_TOP = 5
WIDTHS, CAPTION_WIDTH = (76, 10, 10), 165
HEADING_PX, TITLE_PX, AXIS_PX, LEGEND_PX, CAPTION_LINE_PX, MARGIN_PX = 20, 26, 36, 32, 16, 8
WAVEFORM_PX, CLASS_PX, SPECTROGRAM_PX, SMALL_SPECTROGRAM_PX = 105, 15, 225, 150
FRAMES_PX, LAYER_PX, LAYERS_PX = 150, 22, (60, 150)
ROW_PX, ALL_ROWS_PX = (48, 110), 420
"""Least and greatest height of a row of frames, and of all rows of a figure together."""

MOST_CLASSES = 10
FULL_COLOR_QUANTILE = 0.995
"""Quantile of the magnitudes of bands where color is full: a few cells are far above the rest."""

ABOUT = ("Method", "Estimated", "Draws", "Seed")
Draw = Callable[[Axes], object]


@dataclass(frozen=True)
class Panel:
    """One row of a figure.

    Args:
        name: Label of its Axes.
        height_px: Height in pixels, without its title.
        draw: Draws it.
        beside: Functions that draw one or two panels to its right, by the labels of their Axes.
        over_time: Whether its horizontal axis is time, shared with all others of that kind.
    """

    name: str
    height_px: int
    draw: Draw
    beside: Mapping[str, Draw] = field(default_factory=dict)
    over_time: bool = True


def plot(
    explanation: Explanation,
    waveform: GivenWaveform = None,
    *,
    target: str | None = None,
    label: str | None = None,
    evidence: Sequence[Span] = (),
    num_top: int = DEFAULT_TOP,
) -> Figure:
    """Figure of one clip: sound, attributions over time, bands and layers, and the decision.

    Where several targets were explained and none is named, each has a row.

    Args:
        explanation: Explanation to draw.
        waveform: The clip `(num_samples,)` as it was explained; read from its file if None. Where that cannot
            be, the figure has no waveform and no spectrogram, and says why.
        target: One of `explanation.targets`.
        label: Annotated class of the clip, marked among the classes.
        evidence: Spans known to carry the label, marked with brackets.
        num_top: Number of the strongest frames that are marked; 0 for none.

    Raises:
        AttributionError: If the target was not explained.
        AudioError: If the waveform is not as long as the one explained.
        SettingError: If `num_top` is negative.
    """
    make = partial(
        ClipView.from_explanation,
        explanation,
        waveform,
        label=label,
        evidence=evidence,
    )
    if target is None and len(explanation.targets) > 1:
        return _plot_targets([make(target=name) for name in explanation.targets], num_top)
    view = make(target=target)
    lines = [
        view.line("Score", "Sum of attributions"),
        view.line("Completeness gap (before correction)"),
        view.line(*ABOUT),
    ]
    shown = [*sound_panels(view, with_bands=True), *_frame_panel(view), *_layer_panel(view)]
    return draw_sheet(view, shown, lines, num_top=num_top)


def _plot_targets(views: Sequence[ClipView], num_top: int) -> Figure:
    """One row for each target, all on one scale, with the sums of layers beside."""
    view = next((one for one in views if one.target == one.prediction), views[0])
    frames = [found for one in views if (found := one.frames) is not None]
    layers = [found for one in views if (found := one.units("layers")) is not None]
    rows = []
    for place, one in enumerate(views if frames else ()):
        beside = layers_beside(f"layers {one.target}", layers, place, layers)
        name = view.score_name(lambda _: "each class")
        about = f"attribution of each frame to the {name}" if place == 0 else ""
        row = partial(frame_row, scale=frames, num_rows=len(views), about=about, beside=beside)
        rows.append(row(f"frames {one.target}", one.target, frames[place]))
    lines = [view.line("Completeness gap (before correction)"), view.line(*ABOUT)]
    return draw_sheet(
        view, [*sound_panels(view, all_targets=True), *rows], lines, num_top=num_top, all_targets=True
    )


def layers_beside(name: str, layers: Sequence[Units], place: int, scale: Sequence[Units]) -> dict[str, Draw]:
    """Function that draws the sums of layers beside one of several rows; none without layers.

    Args:
        name: Label of the Axes.
        layers: Sums of layers of all rows; empty without layers.
        place: Position of the row.
        scale: All units that share the vertical axis.
    """
    if not layers:
        return {}
    title, named = "" if place else "Sum of each layer", place == len(layers) - 1
    return {name: partial(draw.plot_layers, layers=layers[place], scale=scale, title=title, named=named)}


def frame_row(
    name: str,
    title: str,
    frames: Units,
    *,
    scale: Sequence[Units],
    num_rows: int,
    about: str = "",
    beside: Mapping[str, Draw] | None = None,
) -> Panel:
    """One of several rows of frames.

    Args:
        name: Label of its Axes.
        title: Title of the row, in bold.
        frames: Attributions of frames.
        scale: All units that share the vertical axis.
        num_rows: Number of rows in the figure, which share its height.
        about: Words at the top right.
        beside: As in [`Panel`][wavshap_lightning.viz.figures.Panel].
    """

    def draw_row(axes: Axes) -> None:
        draw.plot_frames(axes, frames, scale, 3)
        axes.set_title(literal(title, 60), weight="bold")
        axes.set_title(about, loc="right", color=QUIET, fontsize=SMALL_PT)

    return Panel(name, int(np.clip(ALL_ROWS_PX // num_rows, *ROW_PX)), draw_row, beside or {})


def sound_panels(view: ClipView, *, with_bands: bool = False, all_targets: bool = False) -> list[Panel]:
    """Waveform and spectrogram with the classes beside, or words about why there is no sound.

    Args:
        view: The clip.
        with_bands: Whether attributions of bands, if there are any, color the spectrogram.
        all_targets: Whether all classes are targets, so that none is marked as such.
    """
    proportions = _classes_shown(view, all_targets=all_targets)
    more = len(view.probabilities) - len(proportions)
    title = "Probability of each class" + (f" ({more} more)" if more else "")
    bold = next(name for name in proportions if PREDICTED in name)
    beside = {"classes": partial(draw.plot_proportions, proportions=proportions, title=title, bold=bold)}
    height = max(WAVEFORM_PX, CLASS_PX * len(proportions))
    if view.waveform is None:
        words = [f"The sound is not drawn: {view.no_sound}."]
        return [
            Panel("no sound", height, partial(draw.plot_lines_of_text, lines=words), beside, over_time=False)
        ]
    waveform = partial(draw.plot_waveform, waveform=view.waveform, sample_rate=view.sample_rate)
    return [
        Panel("waveform", height, waveform, beside),
        _spectrogram_panel(view, view.waveform, with_bands=with_bands),
    ]


def _classes_shown(view: ClipView, *, all_targets: bool) -> dict[str, float]:
    """The most probable classes and those that are marked, in their order, with their signs."""
    signs = {name: view.signs_of(name, target=not all_targets) for name in view.probabilities}
    ranked = sorted(signs, key=lambda name: (not signs[name], -view.probabilities[name]))[:MOST_CLASSES]
    kept = {name: probability for name, probability in view.probabilities.items() if name in ranked}
    return {f"{signs[name]} {literal(name)}".strip(): probability for name, probability in kept.items()}


def _spectrogram_panel(view: ClipView, waveform: Samples, *, with_bands: bool) -> Panel:
    times, edges_hz = view.times["stft"], view.band_edges_hz
    bands, sums = view.units("band_frame"), view.units("bands")
    colored = with_bands and bands is not None and sums is not None

    def draw_spectrogram(axes: Axes) -> None:
        draw.plot_spectrogram(axes, log_mel(waveform, times), times)
        if colored and bands is not None:
            norm = signed_norm(bands.resolved_values, quantile=FULL_COLOR_QUANTILE)
            draw.plot_bands_over_time(axes, bands, edges_hz, norm)
            axes.set_title(f"Mel spectrogram (kHz), colored by attribution to the {view.score_name(literal)}")

    if not colored or sums is None:
        return Panel("spectrogram", SMALL_SPECTROGRAM_PX, draw_spectrogram)
    beside = partial(draw.plot_sums, shown=sums, edges=hz_to_mel(edges_hz), title="Sum of each band")
    return Panel("spectrogram", SPECTROGRAM_PX, draw_spectrogram, {"bands": beside})


def _frame_panel(view: ClipView) -> list[Panel]:
    frames, shares = view.frames, view.numbers.get("shares")
    if frames is None:
        return []

    def draw_frames(axes: Axes) -> None:
        draw.plot_frames(axes, frames)
        axes.set_title(f"Attribution of each frame to the {view.score_name(literal)}")

    title = "Share of the magnitude in"
    beside = {"shares": partial(draw.plot_proportions, proportions=shares, title=title)} if shares else {}
    return [Panel("frames", FRAMES_PX, draw_frames, beside)]


def _layer_panel(view: ClipView) -> list[Panel]:
    layers, sums = view.units("layer_frame"), view.units("layers")
    if layers is None or sums is None:
        return []
    norm, edges = signed_norm(layers.values), np.arange(len(sums.values) + 1) - 0.5
    over_time = partial(draw.plot_layers_over_time, layers=layers, norm=norm)
    beside = partial(draw.plot_sums, shown=sums, edges=edges, title="Sum of each layer")
    height = int(np.clip(LAYER_PX * len(sums.values), *LAYERS_PX))
    return [Panel("layers over time", height, over_time, {"layers": beside})]


def draw_sheet(
    view: ClipView,
    shown: Sequence[Panel],
    lines: Sequence[str],
    *,
    num_top: int = 0,
    all_targets: bool = False,
    intervals: bool = True,
) -> Figure:
    """Draw a figure of a clip: heading, panels, legend and caption.

    Args:
        view: The clip.
        shown: Panels from top to bottom.
        lines: Lines of the caption; the view's diagnostics come after them.
        num_top: Number of the strongest frames that are marked.
        all_targets: Whether the figure is about all targets.
        intervals: Whether intervals are drawn, where there are any.

    Raises:
        SettingError: If `num_top` is negative.
    """
    if num_top < 0:
        raise SettingError(f"num_top={num_top} must be at least 0; 0 marks no frame")
    notes = [f"Note: {literal(note, 1000)}" for note in view.diagnostics]
    caption = [part for line in (*lines, *notes) if line for part in textwrap.wrap(line, CAPTION_WIDTH)]
    with theme():
        figure, axes = _build(shown, len(caption))
        _draw_heading(axes["heading"], view, all_targets=all_targets)
        timed = [axes[panel.name] for panel in shown if panel.over_time]
        _share_time(timed, view.duration_s)
        for panel in shown:
            for name, draw_one in {panel.name: panel.draw, **panel.beside}.items():
                draw_one(axes[name])
        _draw_marks(timed, view, num_top)
        # Ticks are made and the layout is computed once, here, in our style: whoever shows or saves the
        # figure later may have another style.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        handles, labels = _key(view, num_top, all_targets=all_targets, intervals=intervals)
        left, height = axes["heading"].get_position().x0, figure.get_size_inches()[1] * DPI
        below = CAPTION_LINE_PX * len(caption) + MARGIN_PX
        place = (left, (below + MARGIN_PX) / height)
        figure.legend(handles, labels, loc="lower left", bbox_to_anchor=place, ncols=len(labels))
        figure.text(
            left,
            below / height,
            "\n".join(caption),
            va="top",
            fontsize=SMALL_PT,
            color=QUIET,
            linespacing=1.45,
        )
    return figure


def _build(shown: Sequence[Panel], num_lines: int) -> tuple[Figure, dict[str, Axes]]:
    """An empty figure and its Axes by label, with room for legend and caption below.

    The panels' heights are approximate: titles and ticks take what they need.
    """
    mosaic: list[Any] = [["heading"] * 3]
    for panel in shown:
        sides = [*panel.beside] or ["."]
        mosaic.append([panel.name, sides[0], sides[-1]])
    heights = [HEADING_PX, *(panel.height_px + TITLE_PX for panel in shown)]
    below = LEGEND_PX + CAPTION_LINE_PX * num_lines
    height = sum(heights) + below + 3 * MARGIN_PX + AXIS_PX
    figure = Figure(figsize=(WIDTH_PX / DPI, height / DPI), layout="constrained")
    rect = (0.01, below / height, 0.98, 1 - (below + MARGIN_PX) / height)
    figure.get_layout_engine().set(rect=rect, h_pad=0.04, w_pad=0.04, hspace=0)  # type: ignore[union-attr, call-arg]
    return figure, figure.subplot_mosaic(mosaic, width_ratios=WIDTHS, height_ratios=heights)


def _draw_heading(axes: Axes, view: ClipView, *, all_targets: bool) -> None:
    target = "all classes" if all_targets else literal(view.target, 32)
    score = "" if all_targets else f": {view.score_name(literal)} = {number(view.numbers['score'])}"
    words = [f"{TARGET} target {target}{score}", f"{PREDICTED} predicted {literal(view.prediction)}"]
    words += [] if view.label is None else [f"{LABELED} labeled {literal(view.label)}"]
    axes.set_title(literal(view.name, 72), fontsize=TITLE_PT)
    axes.text(0, 1, "      ".join(words), va="top", transform=axes.transAxes).set_in_layout(False)
    axes.set_axis_off()


def _share_time(timed: Sequence[Axes], duration_s: float) -> None:
    """One axis of time for all panels, with numbers below the last."""
    for axes in timed:
        axes.sharex(timed[0]) if axes is not timed[0] else axes.set_xlim(0, duration_s)
        draw.set_ticks(axes.xaxis, 10)
        if axes is not timed[-1]:
            axes.tick_params(axis="x", labelbottom=False, length=0)
            axes.spines["bottom"].set_visible(False)
    if timed:
        timed[-1].set_xlabel("time (s)", loc="right", labelpad=1)


def _draw_marks(timed: Sequence[Axes], view: ClipView, num_top: int) -> None:
    if view.frames is not None and num_top:
        draw.mark_frames(timed, view.frames.strongest(num_top))
    draw.mark_evidence(timed, view.evidence)


def _key(view: ClipView, num_top: int, *, all_targets: bool, intervals: bool) -> tuple[list[Any], list[str]]:
    units = [view.units(name) for name in ("frames", "waveform", "layers", "bands")]
    known = any(one.half_widths is not None for one in units if one is not None)
    frames = view.frames
    count = 0 if frames is None else min(num_top, len(frames.values))
    marks = "" if not count else f"{count} strongest frames" if count > 1 else "strongest frame"
    if all_targets and marks:
        marks += f" for {literal(view.target)}"
    return draw.key_of(
        "the class" if all_targets else literal(view.target, 32),
        intervals=known and intervals and frames is not None,
        unresolved=known,
        marks=marks,
    )


def figure_pixels(figure: Figure) -> UInt8[np.ndarray, "height width 3"]:
    """Red, green and blue of each pixel, 0 to 255, from the top left.

    Loggers take these; W&B refuses a figure itself unless someone has imported pyplot.

    >>> figure_pixels(Figure(figsize=(0.2, 0.1), dpi=100)).shape
    (10, 20, 3)
    """
    canvas: Any = FigureCanvasAgg(figure)  # matplotlib has no types for what follows
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
