"""The plot over time of a page: waveform, spectrogram, bands, frames and layers on one axis of seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wavshap_lightning.explainer.time_grid import STFT, TimeGrid
from wavshap_lightning.viz.clip_view import ClipView, Units
from wavshap_lightning.viz.panels import TICKS_HZ
from wavshap_lightning.viz.report.charts import (
    GRAY,
    Plot,
    band_names,
    bars,
    layout,
    packed,
    rgba,
    signed_axis,
)
from wavshap_lightning.viz.sound import Samples, envelope, hz_to_mel, spectrogram_url
from wavshap_lightning.viz.theme import AGAINST, EN_DASH, FOR, number, signed_norm

ENVELOPE_COLUMNS = 800

WAVEFORM_PX, SPECTROGRAM_PX, FRAMES_PX, LAYER_PX, LEAST_LAYERS_PX = 70, 200, 150, 18, 60
GAP_PX, TOP_PX, BOTTOM_PX, LEFT_PX, RIGHT_PX = 34, 24, 38, 52, 8
MAP_HOVER = "%{x:.3f} s, %{text}<br>%{customdata[0]:+.3g}"
FULL_COLOR = 0.995
"""Quantile of the magnitudes of a map where its color is full."""

OVER_GRAY = [
    [0.0, "#00456e"],
    [0.2, rgba(AGAINST, 0.85)],
    [0.5, rgba(GRAY, 0.0)],
    [0.8, rgba(FOR, 0.85)],
    [1.0, "#8f3300"],
]
"""Colors of maps: zero and what is unresolved are clear."""


@dataclass(frozen=True)
class Row:
    """One row of the plot.

    Args:
        heading: Words above it.
        height_px: Height in pixels.
        traces: Traces drawn in it.
        vertical: Its vertical axis.
        images: Pictures below the traces.
    """

    heading: str
    height_px: int
    traces: list[Plot]
    vertical: Plot
    images: list[Plot] = field(default_factory=list)


def timeline(view: ClipView) -> Plot | None:
    """The plot of a clip over time; None if there is nothing to draw."""
    frames, waveform = view.units("frames"), view.units("waveform")
    rows = [] if view.waveform is None else [_waveform_row(view.waveform, view.sample_rate)]
    rows += _spectrogram_row(view)
    if frames is not None:
        rows.append(_frame_row(frames, "Attribution of each frame, with its 95 % interval"))
    if waveform is not None:
        same = "Attribution over time" if frames is None else "The same"
        rows.append(_frame_row(waveform, f"{same}, of the path from the waveform"))
    rows += _layer_row(view)
    return _stacked(rows, view.duration_s) if rows else None


def _waveform_row(waveform: Samples, sample_rate: int) -> Row:
    least, greatest, middles = envelope(waveform, ENVELOPE_COLUMNS)
    peak = float(np.abs(waveform).max()) or 1.0
    line = {"type": "scatter", "mode": "lines", "x": packed(middles / sample_rate), "line": {"width": 0}}
    lower = {**line, "y": packed(least), "hoverinfo": "skip"}
    upper = {**line, "y": packed(greatest), "fill": "tonexty", "fillcolor": rgba(GRAY, 0.85)}
    upper["hovertemplate"] = "%{x:.3f} s<extra></extra>"
    ends = {"range": [-1.06 * peak, 1.06 * peak], "tickvals": [0], "ticktext": ["0"]}
    return Row("Waveform", WAVEFORM_PX, [lower, upper], ends)


def _spectrogram_row(view: ClipView) -> list[Row]:
    bands = view.units("band_frame")
    if view.waveform is None and bands is None:
        return []
    top_hz = view.sample_rate / 2
    ticks = np.array([tick for tick in TICKS_HZ if tick <= top_hz])
    named = {"tickvals": hz_to_mel(ticks).tolist(), "ticktext": [number(tick / 1000) for tick in ticks]}
    vertical = dict(range=[0, float(hz_to_mel(np.array([top_hz]))[0])], **named)
    images = [] if view.waveform is None else [_picture(view.waveform, view.sample_rate)]
    if bands is None:
        return [Row("Spectrogram (kHz)", SPECTROGRAM_PX, [], vertical, images)]
    edges_hz = view.band_edges_hz
    colored = {**_map(bands, band_names(edges_hz)), "y": packed(hz_to_mel(edges_hz))}
    heading = "Spectrogram (kHz), colored by the attribution of each band"
    return [Row(heading, SPECTROGRAM_PX, [colored], vertical, images)]


def _picture(waveform: Samples, sample_rate: int) -> Plot:
    hop, count, first = STFT.hop, -(-len(waveform) // STFT.hop), (STFT.hop - STFT.window) // 2
    top = float(hz_to_mel(np.array([sample_rate / 2.0]))[0])
    return {
        "source": spectrogram_url(waveform, TimeGrid(count, hop, STFT.window, first, sample_rate)),
        "sizing": "stretch",
        "layer": "below",
        "yanchor": "top",
        "x": 0,
        "sizex": count * hop / sample_rate,
        "y": top,
        "sizey": top,
    }


def _map(shown: Units, names: list[str]) -> Plot:
    """A map of color, clear where unresolved; hovering gives the number and its interval there too.

    The page's script writes each row's name into its cells, and "not resolved" into those at level 0.
    """
    limit = signed_norm(shown.resolved_values, quantile=FULL_COLOR).vmax
    half = np.full_like(shown.values, np.nan) if shown.half_widths is None else shown.half_widths
    known = bool(np.isfinite(half).all())
    interval = " ± %{customdata[1]:.3g} (95 % interval)" if known else " (no interval known)"
    strength = np.clip(np.abs(shown.values) / (limit or 1.0), 0, 1) * 126
    return {
        "type": "heatmap",
        "x": packed(shown.edges_s),
        "z": packed(shown.signs * (1 + strength.astype(int)), "i1"),
        "zmin": -127,
        "zmax": 127,
        "colorscale": OVER_GRAY,
        "showscale": False,
        "customdata": packed(np.stack([shown.values, half][: 1 + known], axis=-1)),
        "meta": names,
        "hovertemplate": f"{MAP_HOVER}{interval}<extra></extra>",
    }


def _frame_row(frames: Units, heading: str) -> Row:
    spans = zip(frames.grid.start_s(), frames.grid.end_s(), strict=True)
    names = [f"{start:.3f}{EN_DASH}{end:.3f} s" for start, end in spans]
    width = frames.grid.hop_samples / frames.grid.sample_rate
    traces = bars(frames, packed(frames.grid.center_s()), names, width=width)
    return Row(heading, FRAMES_PX, traces, signed_axis())


def _layer_row(view: ClipView) -> list[Row]:
    found = view.units("layer_frame")
    if found is None:
        return []
    count = len(found.values)
    names = [f"layer {layer}" for layer in range(count)]
    traces = [{**_map(found, names), "y": list(range(count))}]
    height = max(LEAST_LAYERS_PX, LAYER_PX * count)
    return [Row("Attribution of each layer and frame", height, traces, {"dtick": 1 if count < 8 else 4})]


def _stacked(rows: list[Row], duration_s: float) -> Plot:
    """Rows below one another on one axis of seconds, each with its heading above its left end."""
    inner = sum(row.height_px for row in rows) + GAP_PX * (len(rows) - 1)
    axes: dict[str, Any] = {}
    traces, images, titles, top = [], [], [], inner
    style = {"showarrow": False, "yshift": 3, "name": "title", "xanchor": "left", "yanchor": "bottom"}
    for place, row in enumerate(rows):
        name = f"y{place + 1 if place else ''}"
        domain = [(top - row.height_px) / inner, top / inner]
        axes[f"yaxis{name[1:]}"] = {**row.vertical, "domain": domain, "anchor": "x"}
        traces += [{**trace, "xaxis": "x", "yaxis": name} for trace in row.traces]
        images += [{**image, "xref": "x", "yref": name} for image in row.images]
        titles.append(
            {"text": row.heading, "xref": "paper", "yref": f"{name} domain", "x": 0, "y": 1, **style}
        )
        top -= row.height_px + GAP_PX
    seconds: Plot = {"range": [0, duration_s], "anchor": f"y{len(rows)}", "ticksuffix": " s", "nticks": 12}
    seconds |= {"fixedrange": False, "minallowed": 0, "maxallowed": duration_s}
    marks = {"images": images, "annotations": titles, "hovermode": "x", "dragmode": "zoom"}
    margin = (LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX)
    height = inner + TOP_PX + BOTTOM_PX
    return {"data": traces, "layout": layout(height, margin, xaxis=seconds, **axes, **marks)}
