"""The plot over time: waveform, spectrogram with bands, frames and layers, on one axis of seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.explainer.time_grid import STFT, TimeGrid
from wavshap_lightning.viz.hearing import hz_to_mel
from wavshap_lightning.viz.report.listening import Samples, envelope, spectrogram_url
from wavshap_lightning.viz.report.plotting import (
    GREY,
    OVER_GREY,
    Plot,
    axis,
    band_names,
    bars,
    layout,
    mel_axis,
    packed,
    plain_text,
    rgba,
    signed_axis,
    title,
)
from wavshap_lightning.viz.report.reading import (
    Moments,
    band_edges_hz,
    bands_over_time,
    coarsened,
    frames_of,
    layers_over_time,
)
from wavshap_lightning.viz.theme import signed_norm
from wavshap_lightning.viz.words import TO

MOST_UNITS = 1500
"""Over time: no screen shows more."""

ENVELOPE_COLUMNS = 800
WAVEFORM_PX, SPECTROGRAM_PX, FRAMES_PX, LAYER_PX, LEAST_LAYERS_PX = 70, 200, 150, 18, 60
GAP_PX, TOP_PX, BOTTOM_PX = 34, 24, 38
MAP_HOVER = "%{x:.3f} s, %{text}<br><b>%{customdata[0]:+.3g}</b>"
FULL_COLOUR = 0.995
"""Quantile of the magnitudes of a map where its colour is full."""


@dataclass(frozen=True)
class Row:
    """A row of the plot.

    Args:
        heading: What stands above it.
        height_px: How high it is.
        traces: What is drawn in it.
        vertical: Its vertical axis.
        images: Pictures below the traces.
    """

    heading: str
    height_px: int
    traces: list[Plot]
    vertical: Plot
    images: list[Plot] = field(default_factory=list)


def timeline(saved: SavedClip, waveform: Samples | None) -> Plot | None:
    """The plot of a clip over time; None if there is nothing to draw.

    Args:
        saved: What was found.
        waveform: The sound, for waveform and spectrogram.
    """
    rows = [*_sound_rows(saved, waveform), *_frame_rows(saved), *_layer_rows(saved)]
    return _stacked(rows, saved.numbers["duration_s"]) if rows else None


def _sound_rows(saved: SavedClip, waveform: Samples | None) -> list[Row]:
    rows = [] if waveform is None else [_waveform_row(waveform, saved.numbers["sample_rate"])]
    bands = bands_over_time(saved)
    if waveform is None and bands is None:
        return []
    return [*rows, _spectrogram_row(saved, waveform, bands)]


def _waveform_row(waveform: Samples, sample_rate: int) -> Row:
    least, greatest, middles = envelope(waveform, ENVELOPE_COLUMNS)
    peak = float(np.abs(waveform).max()) or 1.0
    line = {"type": "scatter", "mode": "lines", "x": packed(middles / sample_rate), "line": {"width": 0}}
    lower = {**line, "y": packed(least), "hoverinfo": "skip"}
    upper = {**line, "y": packed(greatest), "fill": "tonexty", "fillcolor": rgba(GREY, 0.85)}
    hover = {"hovertemplate": "%{x:.3f} s<extra></extra>"}
    ends = {"range": [-1.06 * peak, 1.06 * peak], "tickvals": [0], "ticktext": ["0"]}
    return Row("Waveform", WAVEFORM_PX, [lower, {**upper, **hover}], axis(**ends))


def _spectrogram_row(saved: SavedClip, waveform: Samples | None, bands: Moments | None) -> Row:
    sample_rate = saved.numbers["sample_rate"]
    images = [] if waveform is None else [_picture(waveform, sample_rate)]
    over = [] if bands is None else [_band_map(coarsened(bands, MOST_UNITS), band_edges_hz(saved))]
    words = (
        "Spectrogram (kHz)"
        if bands is None
        else "Spectrogram (kHz), coloured by the attribution of each band"
    )
    return Row(words, SPECTROGRAM_PX, over, mel_axis(sample_rate / 2), images)


def _picture(waveform: Samples, sample_rate: int) -> Plot:
    hop = STFT.hop * max(1, -(-len(waveform) // (STFT.hop * MOST_UNITS)))
    times = TimeGrid(
        max(1, -(-len(waveform) // hop)), hop, STFT.window, (hop - STFT.window) // 2, sample_rate
    )
    top = float(hz_to_mel(np.array([sample_rate / 2.0]))[0])
    size = {"x": 0, "sizex": times.count * hop / sample_rate, "y": top, "sizey": top}
    return {
        "source": spectrogram_url(waveform, times),
        "sizing": "stretch",
        "layer": "below",
        "yanchor": "top",
        **size,
    }


def _band_map(bands: Moments, edges_hz: Float[np.ndarray, " edges"]) -> Plot:
    return {**_map(bands, band_names(edges_hz)), "y": packed(hz_to_mel(edges_hz))}


def _map(moments: Moments, names: list[str]) -> Plot:
    """A map of colour, clear where unresolved; hovering says the number and its interval there too.

    The page's script writes each row's name into its cells, and "not resolved" into those at level 0.
    """
    shown = moments.shown
    limit = signed_norm(shown.resolved_values, quantile=FULL_COLOUR).vmax
    half = np.full_like(shown.values, np.nan) if shown.half_widths is None else shown.half_widths
    said = np.stack([shown.values, half], axis=-1)
    known = bool(np.isfinite(half).all())
    interval = " ± %{customdata[1]:.3g} (95 % interval)" if known else " (no interval known)"
    strength = np.clip(np.abs(shown.values) / (limit or 1.0), 0, 1) * 126
    levels = np.where(shown.unresolved, 0, np.sign(shown.values) * (1 + strength.astype(int)))
    return {
        "type": "heatmap",
        "x": packed(moments.edges_s),
        "z": packed(levels, "i1"),
        "zmin": -127,
        "zmax": 127,
        "colorscale": OVER_GREY,
        "showscale": False,
        "customdata": packed(said if known else said[..., :1]),
        "meta": names,
        "hovertemplate": f"{MAP_HOVER}{interval}<extra></extra>",
    }


def _frame_rows(saved: SavedClip) -> list[Row]:
    headings = {
        "frames": "Attribution of each frame, with its 95 % interval",
        "waveform": "The same along the waveform path",
    }
    if frames_of(saved, "frames") is None:
        headings["waveform"] = "Attribution over time along the waveform path, with its 95 % interval"
    found = {path: frames_of(saved, path) for path in headings}
    return [_frame_row(frames, headings[path]) for path, frames in found.items() if frames is not None]


def _frame_row(found: Moments, heading: str) -> Row:
    frames = coarsened(found, MOST_UNITS)
    if frames.together > 1:
        heading += f"; {frames.together} neighbours are drawn as one, whose interval is an upper bound"
    names = [f"{start:.3f}{TO}{end:.3f} s" for start, end in zip(frames.start_s, frames.end_s, strict=True)]
    edges = frames.edges_s
    places = packed((edges[:-1] + edges[1:]) / 2)
    return Row(
        heading, FRAMES_PX, bars(frames.shown, places, names, width=edges[1] - edges[0]), signed_axis()
    )


def _layer_rows(saved: SavedClip) -> list[Row]:
    found = layers_over_time(saved)
    if found is None:
        return []
    layers = coarsened(found, MOST_UNITS)
    count = len(layers.shown.values)
    names = [f"layer {layer}" for layer in range(count)]
    traces = [{**_map(layers, names), "y": list(range(count))}]
    height = max(LEAST_LAYERS_PX, LAYER_PX * count)
    return [Row("Attribution of each layer and frame", height, traces, axis(dtick=1 if count < 8 else 4))]


def _stacked(rows: list[Row], duration_s: float) -> Plot:
    inner = sum(row.height_px for row in rows) + GAP_PX * (len(rows) - 1)
    axes: dict[str, Any] = {}
    traces, images, titles, top = [], [], [], inner
    for place, row in enumerate(rows):
        number = "" if place == 0 else str(place + 1)
        domain = [(top - row.height_px) / inner, top / inner]
        axes[f"yaxis{number}"] = {**row.vertical, "domain": domain, "anchor": "x"}
        traces += [{**trace, "xaxis": "x", "yaxis": f"y{number}"} for trace in row.traces]
        images += [{**image, "xref": "x", "yref": f"y{number}"} for image in row.images]
        titles.append(title(plain_text(row.heading, 200), f"y{number}"))
        top -= row.height_px + GAP_PX
    seconds = axis(range=[0, duration_s], anchor=f"y{len(rows)}", ticksuffix=" s", nticks=12)
    seconds |= {"fixedrange": False, "minallowed": 0, "maxallowed": duration_s}
    margin = {"l": 52, "r": 8, "t": TOP_PX, "b": BOTTOM_PX}
    height = inner + TOP_PX + BOTTOM_PX
    marks = {"images": images, "annotations": titles, "hovermode": "x", "dragmode": "zoom"}
    return {"data": traces, "layout": layout(height, xaxis=seconds, **axes, **marks) | {"margin": margin}}
