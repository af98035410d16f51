"""The figure of one clip, and the sheet that all figures of a clip are drawn on.

A figure belongs to no window and to no global list: it is `matplotlib.figure.Figure`, never pyplot's, so that
nothing is left open. Drop it and it is gone; `figure.savefig(path)` writes it.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import librosa
import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, StepPatch

from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.explanation import Explanation
from wavshap_lightning.viz import panels as draw
from wavshap_lightning.viz import theme
from wavshap_lightning.viz.clip_view import ABOUT, GAP, LABELED, PREDICTED, RANKING, TARGET, ClipView, Units
from wavshap_lightning.viz.cues import ROW_PX as CUE_PX
from wavshap_lightning.viz.cues import cue_rows, plot_cues, sum_in_words
from wavshap_lightning.viz.sound import GivenWaveform, Samples
from wavshap_lightning.viz.theme import literal, number

DEFAULT_TOP = 5
WIDTHS, CAPTION_WIDTH = (76, 10, 10), 165
HEADING_PX, TITLE_PX, AXIS_PX, LEGEND_PX, CAPTION_LINE_PX, MARGIN_PX = 20, 26, 66, 12, 16, 8
WAVEFORM_PX, CLASS_PX, ANNOTATED_PX = 105, 15, 26
SPECTROGRAM_PX, SMALL_SPECTROGRAM_PX = 225, 150
FRAMES_PX, WORD_PX, LAYER_PX, LAYERS_PX, COUNTS_PX = 150, 24, 22, (60, 150), 34
ROW_PX, ALL_ROWS_PX = (48, 110), 480
"""Least and greatest height of a row of frames, and of all rows of a figure together."""

MOST_CLASSES, ADVICE = 10, "Give its waveform, as waveform=[...]."
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
        waveform: The clip `(num_samples,)` as it was explained; read from its file if None. If that fails,
            the figure has no waveform and no spectrogram, and gives the reason.
        target: One of `explanation.targets`.
        label: Annotated class of the clip, marked among the classes.
        evidence: Spans known to decide the label, marked with brackets.
        num_top: Number of frames to mark, those with the largest attributions; 0 for none.

    Raises:
        AttributionError: If the target was not explained.
        AudioError: If the waveform is not as long as the one explained.
        SettingError: If `num_top` is negative.
    """
    make = partial(ClipView.from_explanation, explanation, waveform, label=label, evidence=evidence)
    if target is None and len(explanation.targets) > 1:
        return _plot_targets([make(target=name) for name in explanation.targets], num_top)
    view = make(target=target)
    lines = [view.line("Score", "Sum of attributions"), view.line(GAP), view.line(*RANKING)]
    lines += [view.line(*ABOUT)]
    shown = [
        *sound_panels(view, with_bands=True),
        *_frame_panel(view),
        *_word_panel(view),
        *_layer_panel(view),
        *_cue_panel(view),
    ]
    return draw_sheet(view, shown, lines, num_top=num_top)


def _plot_targets(views: Sequence[ClipView], num_top: int) -> Figure:
    """One row for each target, all on one scale, with the sums of layers beside."""
    view = next((one for one in views if one.target == one.prediction), views[0])
    targets = [one.target for one in views]
    frames = [found for one in views if (found := one.frames) is not None]
    layers = [found for one in views if (found := one.units("layers")) is not None]
    each = f"each {view.words['one']}"
    note = f"attribution of each frame to the {view.score_name(lambda _: each)}"
    rows = frame_rows("frames", targets, frames, layer_bars(layers), note=note)
    shown = [*sound_panels(view, all_targets=True), *rows, *_cue_panel(view)]
    ranked = view.reliability
    dots = f"Dots: certain to be among the {ranked.k} strongest frames of the row." if ranked else ""
    lines = [view.line(GAP), dots, view.line(*ABOUT)]
    return draw_sheet(view, shown, lines, num_top=num_top, all_targets=True)


def frame_rows(
    name: str,
    titles: Sequence[str],
    frames: Sequence[Units],
    beside: Sequence[Draw],
    *,
    note: str,
    scales: Sequence[Sequence[Units]] = (),
    num_rows: int | None = None,
) -> list[Panel]:
    """A row of bars for each of several explanations.

    Args:
        name: Prefix of the labels of the Axes, before the number of the row.
        titles: Title of each row.
        frames: Attributions of frames of each explanation; no rows if empty.
        beside: Functions that draw the panel to the right of each row; empty for none.
        note: Text at the top right of the first row.
        scales: Units that share the vertical axis with each row; empty if all rows share it.
        num_rows: Number of rows in the figure, which share its height; these if None.
    """
    height = int(np.clip(ALL_ROWS_PX // (num_rows or len(titles)), *ROW_PX))
    rows = []
    for place, one in enumerate(frames):
        row = partial(draw.plot_frames, frames=one, title=literal(titles[place], 60))
        row = partial(row, scale=scales[place] if scales else frames, note="" if place else note)
        right = {f"beside {name} {place}": beside[place]} if beside else {}
        rows.append(Panel(f"{name} {place}", height, row, right))
    return rows


def layer_bars(layers: Sequence[Units]) -> list[Draw]:
    """Functions that draw the sums of layers beside each of several rows, on one scale."""
    row, last = partial(draw.plot_layers, scale=layers), len(layers) - 1
    return [partial(row, layers=one, first=n == 0, last=n == last) for n, one in enumerate(layers)]


def sound_panels(view: ClipView, *, with_bands: bool = False, all_targets: bool = False) -> list[Panel]:
    """Waveform and spectrogram with the classes beside, or words about why there is no sound.

    Args:
        view: The clip.
        with_bands: Whether attributions of bands, if there are any, color the spectrogram.
        all_targets: Whether all outputs are targets, so that none is marked as such.
    """
    rows = view.classes(literal, target=not all_targets, most=MOST_CLASSES)
    more = f" ({hidden} more)" if (hidden := len(view.outputs) - len(rows.names)) else ""
    title = "{unit} of each {one}".format_map(view.words) + more
    draw_outputs = draw.plot_values if view.task == "dimensions" else draw.plot_proportions
    classes = partial(draw_outputs, rows=rows, title=title)
    each_px = ANNOTATED_PX if rows.annotated else CLASS_PX
    beside, height = {"classes": classes}, max(WAVEFORM_PX, each_px * len(rows.names))
    if view.waveform is None:
        words = partial(draw.plot_lines_of_text, lines=[f"The sound is not drawn: {view.no_sound}. {ADVICE}"])
        return [Panel("no sound", height, words, beside, over_time=False)]
    waveform = partial(draw.plot_waveform, waveform=view.waveform, sample_rate=view.sample_rate)
    spectrogram = _spectrogram_panel(view, view.waveform, with_bands=with_bands)
    return [Panel("waveform", height, waveform, beside), spectrogram]


def _spectrogram_panel(view: ClipView, waveform: Samples, *, with_bands: bool) -> Panel:
    bands, sums = view.units("band_frame"), view.units("bands")
    if not with_bands or bands is None or sums is None:
        gray = partial(draw.plot_spectrogram, waveform=waveform, times=view.times["stft"])
        return Panel("spectrogram", SMALL_SPECTROGRAM_PX, gray)
    colored = partial(draw.plot_colored_spectrogram, view=view, waveform=waveform, bands=bands)
    edges_mel = librosa.hz_to_mel(view.band_edges_hz)
    beside = partial(draw.plot_sums, shown=sums, edges=edges_mel, title="Sum of each band")
    return Panel("spectrogram", SPECTROGRAM_PX, colored, {"bands": beside})


def _frame_panel(view: ClipView) -> list[Panel]:
    frames, shares = view.frames, view.shares
    if frames is None:
        return []
    of = " of the layers" if view.numbers.get("time_stage") == "layers" else ""
    title = f"Attribution of each frame{of} to the {view.score_name(literal)}"
    bars = partial(draw.plot_frames, frames=frames, title=title)
    beside = partial(draw.plot_proportions, rows=shares, title="Share of the magnitude in")
    return [Panel("frames", FRAMES_PX, bars, {"shares": beside} if shares.names else {})]


def _word_panel(view: ClipView) -> list[Panel]:
    height, boxes = WORD_PX * len(view.tiers), partial(draw.plot_words, view=view)
    return [Panel("words", height, boxes)] if view.tiers else []


def _layer_panel(view: ClipView) -> list[Panel]:
    layers, sums = view.units("layer_frame"), view.units("layers")
    if layers is None or sums is None:
        return []
    edges = np.arange(len(sums.values) + 1) - 0.5
    beside = partial(draw.plot_sums, shown=sums, edges=edges, title="Sum of each layer")
    height = int(np.clip(LAYER_PX * len(sums.values), *LAYERS_PX))
    over_time = partial(draw.plot_layers_over_time, layers=layers)
    return [Panel("layers over time", height, over_time, {"layers": beside})]


def _cue_panel(view: ClipView) -> list[Panel]:
    if not view.cues:
        return []
    rows = cue_rows(view.cues)
    title = f"Acoustic cues, {view.score_name(literal)}: {literal(sum_in_words(view.cues), 120)}"
    bars = partial(plot_cues, cues=view.cues, title=title)
    alone = [np.nan if row.alone is None else row.alone for row in rows]
    limits = draw.limits_of([Units.of(np.nan_to_num(alone))])
    beside = partial(draw.plot_dots, values=alone, title="One cue moved alone", limits=limits)
    return [Panel("cues", CUE_PX * len(rows), bars, {"cues alone": beside}, over_time=False)]


def draw_sheet(
    view: ClipView,
    shown: Sequence[Panel],
    lines: Sequence[str],
    *,
    num_top: int = 0,
    all_targets: bool = False,
) -> Figure:
    """Draw a figure of a clip: heading, panels, legend and caption.

    Args:
        view: The clip.
        shown: Panels from top to bottom; the view's agreement with other models comes after them.
        lines: Lines of the caption; the view's diagnostics come after them.
        num_top: Number of the strongest frames that are marked.
        all_targets: True if the figure is about all targets.

    Raises:
        SettingError: If `num_top` is negative.
    """
    if num_top < 0:
        raise SettingError(f"num_top={num_top} must be at least 0; 0 marks no frame")
    found = view.numbers["diagnostics"]
    if view.agreement is not None and view.frames is not None:
        counts = partial(draw.plot_agreement, found=view.agreement, times=view.frames.times)
        shown = [*shown, Panel("agreement", COUNTS_PX, counts)]
    notes = [f"{one['severity'].capitalize()}: {literal(one['message'], 1000)}" for one in found]
    lines = [*lines, view.line("Agreement"), *notes]
    caption = [part for line in lines if line for part in textwrap.wrap(line, CAPTION_WIDTH)]
    with theme.theme():
        figure, axes = _build(shown, len(caption))
        _draw_heading(axes["heading"], view, all_targets=all_targets)
        timed = [axes[panel.name] for panel in shown if panel.over_time]
        _share_time(timed, view.duration_s)
        for panel in shown:
            for name, draw_one in {panel.name: panel.draw, **panel.beside}.items():
                draw_one(axes[name])
        top = [] if view.frames is None else view.frames.strongest(num_top)
        draw.mark_frames([one for one in timed if one.get_label() != "words"], top)  # no lines across texts
        draw.mark_evidence(timed, view.evidence)
        _draw_legend(axes["legend"], view, len(top), all_targets=all_targets)
        draw.plot_lines_of_text(axes["caption"], caption)
        # Ticks are made and the layout is computed once, here, in our style: whoever shows or saves the
        # figure later may have another style.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _build(shown: Sequence[Panel], num_lines: int) -> tuple[Figure, dict[str, Axes]]:
    """An empty figure and its Axes by label; what titles and ticks take is estimated."""
    mosaic: list[Any] = [["heading"] * 3]
    for panel in shown:
        sides = [*panel.beside] or ["."]
        mosaic.append([panel.name, sides[0], sides[-1]])
    mosaic += [["legend"] * 3, ["caption"] * 3]
    heights = [HEADING_PX, *(panel.height_px for panel in shown), LEGEND_PX, CAPTION_LINE_PX * num_lines]
    height = sum(heights) + TITLE_PX * len(shown) + AXIS_PX + 2 * MARGIN_PX
    rect = (0.01, MARGIN_PX / height, 0.98, 1 - 2 * MARGIN_PX / height)
    layout = ConstrainedLayoutEngine(rect=rect, h_pad=0.04, w_pad=0.04, hspace=0)
    figure = Figure(figsize=(theme.WIDTH_PX / theme.DPI, height / theme.DPI), layout=layout)
    return figure, figure.subplot_mosaic(mosaic, width_ratios=WIDTHS, height_ratios=heights)


def _draw_heading(axes: Axes, view: ClipView, *, all_targets: bool) -> None:
    every = "classes" if view.task == "distribution" else view.task
    target = f"all {every}" if all_targets else literal(view.target, 20)
    score = "" if all_targets else f": {view.score_name(literal)} = {number(view.numbers['score'])}"
    best = f"{PREDICTED} {view.words['best']} {literal(view.prediction)}"
    words = [f"{TARGET} target {target}{score}", best]
    if view.task == "dimensions":
        words = [literal(view.values(target=not all_targets), 140)]
    words += [] if view.label is None else [f"{LABELED} labeled {literal(view.label)}"]
    axes.set_title(literal(view.name, 72), fontsize=theme.TITLE_PT)
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


def _draw_legend(axes: Axes, view: ClipView, num_marked: int, *, all_targets: bool) -> None:
    units = [view.units(name) for name in ("frames", "waveform", "layers", "bands")]
    known = not all(np.isnan(one.half_widths).all() for one in units if one is not None)
    whole = "value" if view.task == "dimensions" else view.words["one"]
    target = f"the {whole}" if all_targets else literal(view.target, 20)
    has_dots = bool(axes.figure.findobj(lambda artist: artist.get_gid() == draw.CERTAIN_GID))
    marks = f"{num_marked} strongest frames" if num_marked > 1 else "strongest frame"
    marks += f" for {literal(view.target)}" if all_targets else ""
    interval = (Patch(color=theme.FOR_PALE), Line2D([], [], color=theme.FOR, linewidth=2.5))
    entries: list[tuple[Any, str, bool]] = [
        (Patch(color=theme.FOR), f"{view.words['+']} {target}", True),
        (Patch(color=theme.AGAINST), f"{view.words['-']} {target}", True),
        (interval, "attribution with its 95 % interval", known and bool(axes.figure.findobj(StepPatch))),
        (Line2D([], [], **draw.DOT), "certain", has_dots),
        (Patch(color=theme.UNRESOLVED), "unresolved: interval contains 0", known),
        (Patch(facecolor=theme.MARK, edgecolor=theme.MARK_EDGE, linewidth=0.8), marks, num_marked > 0),
    ]
    handles, labels, _ = zip(*(entry for entry in entries if entry[-1]), strict=True)
    apart: Any = {"columnspacing": 1.0} if has_dots else {}  # else the last may not fit
    axes.legend(handles, labels, loc="upper left", ncols=len(labels), **apart).set_in_layout(False)
    axes.set_axis_off()


def figure_pixels(figure: Figure) -> UInt8[np.ndarray, "height width 3"]:
    """Red, green and blue of each pixel, 0 to 255, from the top left.

    Loggers take these; W&B refuses a figure itself unless someone has imported pyplot.

    >>> figure_pixels(Figure(figsize=(0.2, 0.1), dpi=100)).shape
    (10, 20, 3)
    """
    canvas: Any = FigureCanvasAgg(figure)  # matplotlib has no types for what follows
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def figure_png(figure: Figure) -> bytes:
    """Content of a PNG file; the same figure gives the same bytes."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def plot_calibration(curves: Mapping[str, Sequence[Sequence[float | int]]], title: str) -> Figure:
    """Figure of reliability diagrams; the arguments are those of `plot_reliability`."""
    with theme.theme():
        figure = Figure(figsize=(4.8, 4.8))
        draw.plot_reliability(figure.add_axes((0.12, 0.1, 0.84, 0.84)), curves, title)
        figure.draw_without_rendering()  # in our style
    return figure


def plot_layer_curve(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Figure of the score of every layer, with its interval, and of the mix of all layers.

    Args:
        rows: `layer` (0 is the projected frames, "learned" the mix), `uar`, `low` and `high` of each.
        title: Title of the figure.
    """
    with theme.theme():
        figure = Figure(figsize=(6.0, 3.6))
        axes = figure.add_axes((0.11, 0.14, 0.86, 0.76))
        names = ["mix" if row["layer"] == "learned" else str(row["layer"]) for row in rows]
        scores, single = [row["uar"] for row in rows], [at for at, name in enumerate(names) if name != "mix"]
        axes.plot(single, [scores[at] for at in single], color=theme.MEDIUM)
        for at, row in enumerate(rows):
            if row["low"] is not None:
                axes.vlines(at, row["low"], row["high"], color=theme.INK)
        axes.plot(range(len(rows)), scores, "o", color=theme.INK)
        axes.set(xlabel="Layer (0: projected frames)", ylabel="UAR", title=title)
        axes.set_xticks(range(len(rows)), names)
        figure.draw_without_rendering()  # in our style
    return figure
