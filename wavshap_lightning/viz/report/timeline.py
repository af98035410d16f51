"""The plot over time of a page: waveform, spectrogram, bands, frames and layers on one axis of seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wavshap_lightning.viz.clip_view import ClipView, Units
from wavshap_lightning.viz.report.charts import GRAY, SIGNED_AXIS, Plot, bars, layout, packed
from wavshap_lightning.viz.sound import (
    Samples,
    cell_edges_s,
    envelope,
    hz_to_mel,
    log_mel,
    mel_axis,
    spectrogram_url,
)
from wavshap_lightning.viz.theme import FULL_COLOR, OVER_GRAY, signed_norm

WAVEFORM_PX, SPECTROGRAM_PX, FRAMES_PX, LAYER_PX, LEAST_LAYERS_PX = 70, 200, 150, 18, 60
GAP_PX, TOP_PX, BOTTOM_PX, LEFT_PX, RIGHT_PX = 34, 24, 38, 52, 8
MAP_HOVER = "%{x:.3f} s, %{text}<br>%{customdata[0]:+.3g}"

Row = tuple[str, int, list[Plot], Plot]
"""Heading, height in pixels, traces and vertical axis of one row of the plot."""


def timeline(view: ClipView) -> Plot | None:
    """The plot of a clip over time; None if there is nothing to draw."""
    rows: list[Row] = []
    if view.waveform is not None:
        rows.append(_waveform_row(view.waveform, view.sample_rate))
    bands, layers = view.units("band_frame"), view.units("layer_frame")
    if view.waveform is not None or bands is not None:
        rows.append(_spectrogram_row(view, bands))
    headings = {
        "frames": "Attribution of each frame",
        "waveform": "Attribution over time, of the path from the waveform",
    }
    for name, heading in headings.items():
        if (frames := view.units(name)) is not None:
            width = frames.grid.hop_samples / frames.grid.sample_rate
            traces = bars(frames, packed(frames.grid.center_s()), width=width)
            rows.append((f"{heading}, with its 95 % interval", FRAMES_PX, traces, SIGNED_AXIS))
    if layers is not None:
        count = len(layers.values)
        traces = [{**_map(layers), "y": list(range(count))}]
        height = max(LEAST_LAYERS_PX, LAYER_PX * count)
        rows.append(("Attribution of each layer and frame", height, traces, {"dtick": 1 if count < 8 else 4}))
    if not rows:
        return None
    plot = _stacked(rows, view.duration_s)
    plot["layout"]["images"] = [] if view.waveform is None else [_spectrogram(view, view.waveform)]
    return plot


def _waveform_row(waveform: Samples, sample_rate: int) -> Row:
    middles_s, least, greatest = envelope(waveform, sample_rate)
    peak = float(np.abs(waveform).max()) or 1.0
    line = {"type": "scatter", "mode": "lines", "x": packed(middles_s), "line": {"width": 0}}
    lower = {**line, "y": packed(least), "hoverinfo": "skip"}
    upper = {**line, "y": packed(greatest), "fill": "tonexty", "fillcolor": f"{GRAY}d9"}
    upper["hovertemplate"] = "%{x:.3f} s<extra></extra>"
    ends = {"range": [-1.06 * peak, 1.06 * peak], "tickvals": [0], "ticktext": ["0"]}
    return "Waveform", WAVEFORM_PX, [lower, upper], ends


def _spectrogram_row(view: ClipView, bands: Units | None) -> Row:
    top_mel, ticks = mel_axis(view.sample_rate)
    vertical = {"range": [0, top_mel], "tickvals": list(ticks), "ticktext": list(ticks.values())}
    if bands is None:
        return "Spectrogram (kHz)", SPECTROGRAM_PX, [], vertical
    heading = "Spectrogram (kHz), colored by the attribution of each band"
    colored = {**_map(bands), "y": packed(hz_to_mel(view.band_edges_hz))}
    return heading, SPECTROGRAM_PX, [colored], vertical


def _spectrogram(view: ClipView, waveform: Samples) -> Plot:
    """A picture below the second row, which is the spectrogram's where there is a waveform."""
    times, (top_mel, _) = view.times["stft"], mel_axis(view.sample_rate)
    first_s, *_, last_s = cell_edges_s(times).tolist()
    place = {"x": first_s, "sizex": last_s - first_s, "y": top_mel, "sizey": top_mel}
    style = {"sizing": "stretch", "layer": "below", "yanchor": "top", "xref": "x", "yref": "y2"}
    return {"source": spectrogram_url(log_mel(waveform, times)), **place, **style}


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
        "x": packed(shown.edges_s),
        "z": packed(shown.signs * (1 + strength.astype(int)), "i1"),
        "zmin": -127,
        "zmax": 127,
        "colorscale": OVER_GRAY,
        "showscale": False,
        "customdata": packed(np.stack([shown.values, shown.half_widths][: 1 + known], axis=-1)),
        "meta": shown.names,
        "hovertemplate": f"{MAP_HOVER}{interval}<extra></extra>",
    }


def _stacked(rows: Sequence[Row], duration_s: float) -> Plot:
    """Rows below one another on one axis of seconds, each with its heading above its left end."""
    inner = top = sum(height for _, height, _, _ in rows) + GAP_PX * (len(rows) - 1)
    axes: Plot = {}
    traces, titles = [], []
    style = {"showarrow": False, "yshift": 3, "name": "title", "xanchor": "left", "yanchor": "bottom"}
    for place, (heading, height, shown, vertical) in enumerate(rows):
        number = "" if place == 0 else str(place + 1)
        domain = [(top - height) / inner, top / inner]
        axes[f"yaxis{number}"] = {**vertical, "domain": domain, "anchor": "x"}
        traces += [{**trace, "xaxis": "x", "yaxis": f"y{number}"} for trace in shown]
        titles.append(
            {"text": heading, "xref": "paper", "yref": f"y{number} domain", "x": 0, "y": 1, **style}
        )
        top -= height + GAP_PX
    seconds: Plot = {"range": [0, duration_s], "anchor": f"y{len(rows)}", "ticksuffix": " s", "nticks": 12}
    seconds |= {"fixedrange": False, "minallowed": 0, "maxallowed": duration_s}
    more = {"annotations": titles, "hovermode": "x", "dragmode": "zoom"}
    margin = (LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX)
    height = inner + TOP_PX + BOTTOM_PX
    return {"data": traces, "layout": layout(height, margin, xaxis=seconds, **axes, **more)}
