"""Plots of a page: one of all there is over time, and charts of classes, bands, layers and neurons.

Plots are plain dictionaries, as plotly.js takes them. Their colors go with a light and a dark page; those of
text and lines are set in the page's style sheet.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from typing import Any

import librosa
import numpy as np
from jaxtyping import Shaped

from wavshap_lightning.viz import theme
from wavshap_lightning.viz.clip_view import COUNTS, LABELED, PREDICTED, TARGET, ClipView, Rows, Units
from wavshap_lightning.viz.sound import cell_edges_s, envelope, log_mel, mel_axis, spectrogram_url
from wavshap_lightning.viz.theme import AGAINST, FOR, FULL_COLOR, OVER_GRAY, percent, shorten, signed_norm

Plot = dict[str, Any]

NAME_WIDTH, NUM_NEURONS = 24, 10
ROW_PX, AROUND_PX = 21, 34
WAVEFORM_PX, SPECTROGRAM_PX, FRAMES_PX, LAYER_PX, LEAST_LAYERS_PX = 70, 200, 150, 18, 60
GAP_PX, TOP_PX, BOTTOM_PX, LEFT_PX, RIGHT_PX, COUNTS_PX = 34, 24, 38, 52, 8, 40

GRAY, DARK_GRAY, PALE_GRAY = "#808080", "#808080b3", "#80808059"
FULL = {1: FOR, -1: AGAINST, 0: "#80808066"}
PALE = {1: f"{FOR}59", -1: f"{AGAINST}59", 0: "#80808029"}
"""Colors by sign: for the target, against it, unresolved; the last two digits let the page shine through."""

SIGNED_AXIS: Plot = {"zeroline": True, "zerolinewidth": 1, "nticks": 5, "tickformat": "~g"}
HOVER = "%{hovertext}<extra></extra>"
MAP_HOVER = "%{x:.3f} s, %{text}<br>%{customdata[0]:+.3g}"

Row = tuple[str, int, list[Plot], Plot]
"""Heading, height in pixels, traces and vertical axis of one row of the plot over time."""


def packed(values: Shaped[np.ndarray, "..."], dtype: str = "f4") -> Plot:
    """Numbers as plotly.js unpacks them.

    >>> packed(np.array([[1.0, 2.0]]))
    {'dtype': 'f4', 'bdata': 'AACAPwAAAEA=', 'shape': '1, 2'}
    """
    content = np.ascontiguousarray(values, dtype=f"<{dtype}")
    shape = {"shape": ", ".join(map(str, content.shape))} if content.ndim > 1 else {}
    return {"dtype": dtype, "bdata": base64.b64encode(content.tobytes()).decode(), **shape}


def plain_text(name: str) -> str:
    """A name of at most 24 characters for plotly.js, which would read tags in it.

    >>> plain_text("<b>& a long name")
    '&lt;b&gt;&amp; a long name'
    """
    return html.escape(" ".join(shorten(name, NAME_WIDTH).split()), quote=False)


def bars(shown: Units, places: Plot | list[int], *, across: bool = False, **more: object) -> list[Plot]:
    """A pale bar for each unit, and around its end the 95 % interval in full color.

    Args:
        shown: Attributions to draw; their names are shown on hover.
        places: Position of each bar.
        across: Whether bars grow to the right instead of upwards.
        more: Options of both traces, such as `width`.
    """
    along, up = ("y", "x") if across else ("x", "y")
    pale, full = ({"color": [hues[sign] for sign in shown.signs.tolist()]} for hues in (PALE, FULL))
    common = {"type": "bar", along: places, "orientation": "h" if across else "v", **more}
    ends = {"base": packed(shown.values - shown.reach), up: packed(2 * shown.reach)}
    words = [f"{name}<br>{words}" for name, words in zip(shown.names, shown.words, strict=True)]
    return [
        {**common, up: packed(shown.values), "marker": pale, "hovertext": words, "hovertemplate": HOVER},
        {**common, **ends, "marker": full, "hoverinfo": "skip"},
    ]


def dots(shown: Units, centers: Shaped[np.ndarray, " units"], *, across: bool = False) -> list[Plot]:
    """A dot beyond the interval of each unit that is certain to be among the strongest; nothing if none is.

    Args:
        shown: Attributions to mark.
        centers: Position of each bar.
        across: Whether bars grow to the right instead of upwards.
    """
    places = np.array(shown.certain, dtype=int)
    ends = shown.values[places] + np.copysign(shown.reach[places], shown.values[places])
    sides = ("middle left", "middle right") if across else ("bottom center", "top center")
    points = dict(zip("yx" if across else "xy", (packed(centers[places]), packed(ends)), strict=True))
    beside = {"textposition": [sides[int(value >= 0)] for value in shown.values[places]], "cliponaxis": False}
    style = {"type": "scatter", "mode": "text", "text": "\N{BULLET}", "hoverinfo": "skip"}
    return [{**style, **points, **beside}] if len(places) else []


def layout(height: int, margin: Sequence[int], **more: object) -> Plot:
    """Layout of a plot; the page's script adds what all plots share.

    Args:
        height: Height in pixels.
        margin: Left, right, top and bottom margin in pixels.
        more: Axes and other options.
    """
    return {"height": height, "margin": dict(zip("lrtb", margin, strict=True)), **more}


def timeline(view: ClipView) -> Plot | None:
    """The plot of a clip over time; None if there is nothing to draw."""
    rows = [*_sound_rows(view)]
    for name in ("frames", "waveform"):
        if (frames := view.units(name)) is not None:
            width = frames.times.hop_samples / frames.times.sample_rate
            traces = bars(frames, packed(frames.times.center_s()), width=width)
            traces += dots(frames, frames.times.center_s())
            stage = view.numbers.get("time_stage", name) if name == "frames" else name
            heading = f"Attribution of each frame, by the path from the {stage}, with its 95 % interval"
            rows.append((heading, FRAMES_PX, traces, SIGNED_AXIS))
    if (frames := view.frames) is not None and (found := view.agreement) is not None:
        bar = {"type": "bar", "x": packed(frames.times.center_s()), "y": found.counts, "width": width}
        bar |= {"marker": {"color": DARK_GRAY}, "hovertemplate": "%{y} models<extra></extra>"}
        ends = [0, found.num_models]
        rows.append((COUNTS, COUNTS_PX, [bar], {"range": ends, "tickvals": ends}))
    if (layers := view.units("layer_frame")) is not None:
        count = len(layers.values)
        traces, height = [{**_map(layers), "y": list(range(count))}], max(LEAST_LAYERS_PX, LAYER_PX * count)
        rows.append(("Attribution of each layer and frame", height, traces, {"dtick": 1 if count < 8 else 4}))
    return _stacked(rows, view) if rows else None


def _sound_rows(view: ClipView) -> Iterator[Row]:
    """The waveform, and its spectrogram under the attributions of bands, as far as they are known."""
    if view.waveform is not None:
        middles_s, least, greatest = envelope(view.waveform, view.sample_rate)
        peak = float(np.abs(view.waveform).max()) or 1.0
        line = {"type": "scatter", "mode": "lines", "x": packed(middles_s), "line": {"width": 0}}
        lower = {**line, "y": packed(least), "hoverinfo": "skip"}
        filled = {"fill": "tonexty", "fillcolor": f"{GRAY}d9", "hovertemplate": "%{x:.3f} s<extra></extra>"}
        upper = {**line, "y": packed(greatest), **filled}
        ends = {"range": [-1.06 * peak, 1.06 * peak], "tickvals": [0], "ticktext": ["0"]}
        yield "Waveform", WAVEFORM_PX, [lower, upper], ends
    bands, (top_mel, ticks) = view.units("band_frame"), mel_axis(view.sample_rate)
    if view.waveform is not None or bands is not None:
        vertical = {"range": [0, top_mel], "tickvals": list(ticks), "ticktext": list(ticks.values())}
        colored = [{**_map(bands), "y": packed(librosa.hz_to_mel(view.band_edges_hz))}] if bands else []
        heading = "Spectrogram (kHz)" + (", colored by the attribution of each band" if colored else "")
        yield heading, SPECTROGRAM_PX, colored, vertical


def _spectrogram(view: ClipView) -> list[Plot]:
    """A picture below the second row, which is the spectrogram's where there is a waveform."""
    if view.waveform is None:
        return []
    times, (top_mel, _) = view.times["stft"], mel_axis(view.sample_rate)
    first_s, *_, last_s = cell_edges_s(times).tolist()
    place = {"x": first_s, "sizex": last_s - first_s, "y": top_mel, "sizey": top_mel}
    url = spectrogram_url(log_mel(view.waveform, view.sample_rate))
    return [{"source": url, "xref": "x", "yref": "y2", **place}]


def _map(shown: Units) -> Plot:
    """A map of color, clear where unresolved; hovering gives the number and its interval there too.

    The page's script writes each row's name into its cells, and "not resolved" into those at level 0.
    """
    known = bool(np.isfinite(shown.half_widths).all())
    interval = " ± %{customdata[1]:.3g} (95 % interval)" if known else " (no interval known)"
    norm = signed_norm(shown.resolved_values, quantile=FULL_COLOR)
    strength = np.clip(np.abs(shown.values) / norm.vmax, 0, 1) * 126
    return {
        "type": "heatmap",
        "x": packed(cell_edges_s(shown.times)),
        "z": packed(shown.signs * (1 + strength.astype(int)), "i1"),
        "zmin": -127,
        "zmax": 127,
        "colorscale": OVER_GRAY,
        "customdata": packed(np.stack([shown.values, shown.half_widths][: 1 + known], axis=-1)),
        "meta": shown.names,
        "hovertemplate": f"{MAP_HOVER}{interval}<extra></extra>",
    }


def _stacked(rows: Sequence[Row], view: ClipView) -> Plot:
    """Rows below one another on one axis of seconds, each with its heading above its left end."""
    inner = top = sum(height for _, height, _, _ in rows) + GAP_PX * (len(rows) - 1)
    traces, titles = [], []
    axes: Plot = {}
    for place, (heading, height, shown, vertical) in enumerate(rows):
        number = "" if place == 0 else str(place + 1)
        axes[f"yaxis{number}"] = {**vertical, "domain": [(top - height) / inner, top / inner], "anchor": "x"}
        traces += [{**trace, "xaxis": "x", "yaxis": f"y{number}"} for trace in shown]
        titles.append({"text": heading, "xref": "paper", "yref": f"y{number} domain", "x": 0, "y": 1})
        top -= height + GAP_PX
    seconds: Plot = {"range": [0, view.duration_s], "anchor": f"y{len(rows)}", "ticksuffix": " s"}
    seconds |= {"nticks": 12, "fixedrange": False, "minallowed": 0, "maxallowed": view.duration_s}
    axes |= {"images": _spectrogram(view), "annotations": titles, "hovermode": "x", "dragmode": "zoom"}
    margin = (LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX)
    return {"data": traces, "layout": layout(inner + TOP_PX + BOTTOM_PX, margin, xaxis=seconds, **axes)}


def charts_of(view: ClipView) -> dict[str, tuple[str, Plot]]:
    """Heading and plot of each chart there are numbers for, by name."""
    rows = view.classes(plain_text)
    is_value, title = view.task == "dimensions", "{unit} of each {one}".format_map(view.words)
    key = f"{TARGET} target, {PREDICTED} {view.words['best']}, {LABELED} labeled"
    plot = value_plot(rows) if is_value else share_plot(rows.names, rows.values)
    key = f"{TARGET} explained" if is_value else key
    if rows.annotated:
        key += f", {theme.DIAMOND} {rows.annotators}"
        plot["data"].append(_annotated(rows))
    charts = {"classes": (f"{title} ({key})", plot)}
    if (shares := view.shares).names:
        plot = share_plot(shares.names, shares.values)
        charts["shares"] = ("Share of the attribution\N{RIGHT SINGLE QUOTATION MARK}s magnitude in", plot)
    if (layers := view.units("layers")) is not None:
        charts["layers"] = ("Layers, summed over time", _signed_rows(layers))
    if (neurons := view.units("layer_neuron")) is not None:
        charts["neurons"] = ("Strongest neurons (layer · neuron)", _signed_rows(_strongest_neurons(neurons)))
    if (bands := view.units("bands")) is not None:
        traces = bars(bands, list(range(len(bands.values)))) + dots(bands, np.arange(len(bands.values)))
        plot = {"data": traces, "layout": bands_layout(view.band_edges_hz.tolist(), SIGNED_AXIS, 240)}
        charts["bands"] = ("Bands, summed over time (kHz)", plot)
    return charts


def _strongest_neurons(shown: Units) -> Units:
    strongest = np.argsort(-np.abs(shown.values), axis=None, kind="stable")[:NUM_NEURONS]
    places = zip(*np.unravel_index(strongest, shown.values.shape), strict=True)
    names = [f"layer {layer} · {neuron}" for layer, neuron in places]
    return Units(shown.values.ravel()[strongest], shown.half_widths.ravel()[strongest], names=names)


def _signed_rows(shown: Units) -> Plot:
    places = range(len(shown.names))
    traces = bars(shown, [*places], across=True) + dots(shown, np.array(places), across=True)
    return {"data": traces, "layout": _rows_layout(shown.names, SIGNED_AXIS)}


def share_plot(names: Sequence[str], shares: Sequence[float]) -> Plot:
    """Shares of one as gray bars to the right, the first on top.

    Args:
        names: Name of each share; escaped.
        shares: Numbers from 0 to 1.
    """
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": list(shares),
        "y": list(range(len(names))),
        "marker": {"color": DARK_GRAY},
        "hovertext": [f"{name}: {percent(share)}" for name, share in zip(names, shares, strict=True)],
        "hovertemplate": HOVER,
        "text": [*map(percent, shares)],
    }
    across: Plot = {"range": [0, 1.12], "tickvals": [0, 0.5, 1], "ticktext": ["0", "50 %", "100 %"]}
    return {"data": [trace], "layout": _rows_layout(names, across)}


def _annotated(rows: Rows) -> Plot:
    """Diamonds at the numbers of the annotators."""
    marker = {"symbol": "diamond-open", "size": 10, "color": GRAY, "line": {"width": 2}}
    style = {"type": "scatter", "mode": "markers", "marker": marker, "cliponaxis": False}
    hover = f"{rows.annotators}: %{{x:.3g}}<extra></extra>"
    return {**style, "x": rows.annotated, "y": list(range(len(rows.names))), "hovertemplate": hover}


def value_plot(rows: Rows) -> Plot:
    """Values as dots on one axis that is the scale, or includes 0; names are escaped."""
    plot, words = share_plot(rows.names, rows.values), [*map(theme.number, rows.values)]
    (trace,) = plot["data"]
    sides = ["middle right" if one >= 0 else "middle left" for one in rows.values]
    trace |= {"type": "scatter", "mode": "markers+text", "marker": {"color": GRAY, "size": 10}}
    trace |= {"text": words, "textposition": sides, "cliponaxis": False}
    trace["hovertext"] = [f"{name}: {one}" for name, one in zip(rows.names, words, strict=True)]
    plot["layout"]["xaxis"] = {**SIGNED_AXIS, "rangemode": "tozero"}
    if rows.scale is not None:
        ends = [*rows.scale, *rows.values]
        plot["layout"]["xaxis"] |= {"range": [min(ends), max(ends)], "tickvals": list(rows.scale)}
    return plot


def _rows_layout(names: Sequence[str], across: Plot) -> Plot:
    """A row for each name, the first on top, with room for the longest name."""
    count = len(names)
    down: Plot = {"tickvals": list(range(count)), "ticktext": list(names), "range": [count - 0.5, -0.5]}
    margin = (16 + 7 * max(map(len, names)), 34, 4, 26)
    return layout(ROW_PX * count + AROUND_PX, margin, xaxis=across, yaxis=down, hovermode="y")


def bands_layout(edges_hz: Sequence[float], vertical: Plot, height: int) -> Plot:
    """Position of each band, from low to high, and labels in kHz at some of the edges.

    Args:
        edges_hz: Edges of the bands.
        vertical: The vertical axis.
        height: Height in pixels.
    """
    places = range(0, len(edges_hz), max(1, (len(edges_hz) - 1) // 6))
    names = [f"{edges_hz[place] / 1000:.2g}" for place in places]
    across: Plot = {"tickvals": [place - 0.5 for place in places], "ticktext": names}
    across["range"] = [-0.6, len(edges_hz) - 1.4]
    return layout(height, (48, 8, 8, 28), xaxis=across, yaxis=vertical, hovermode="x")
