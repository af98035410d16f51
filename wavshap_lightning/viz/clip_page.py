"""The page of one clip and one target."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from wavshap_lightning.viz.estimates import estimates_of, has_view
from wavshap_lightning.viz.margins import plot_bands, plot_layers, plot_shares
from wavshap_lightning.viz.page import Page, Row, build_page
from wavshap_lightning.viz.panels import (
    plot_bands_over_time,
    plot_frames,
    plot_layers_over_time,
    plot_strip,
    state_scale,
)
from wavshap_lightning.viz.request import (
    Request,
    draw_above,
    draw_below,
    draw_marks,
    key_of,
    rows_above,
    rows_below,
)
from wavshap_lightning.viz.theme import signed_norm
from wavshap_lightning.viz.words import caption, note_lines, score_name

FULL_COLOUR_QUANTILE = 0.995
"""Of the magnitudes in a map of bands, where colour is full: a few cells tower above the rest."""

FRAMES_PX, SHARES_PX, LAYER_PX, LEAST_LAYERS_PX, MOST_LAYERS_PX = 150, 54, 22, 70, 150


def plot_clip(request: Request, target: str) -> Figure:
    """Sound, attributions over time, bands and layers, and the decision.

    Args:
        request: What the page is about.
        target: One of the explanation's.
    """
    explanation = request.explanation
    lines = [*caption(explanation, target), *note_lines(request.notes)]
    page = build_page([*_rows(request), *rows_below(lines)], explanation.duration_s)
    draw_above(page, request, target)
    _draw_bands(page, request, target)
    _draw_layers(page, request, target)
    _draw_frames(page, request, target)
    draw_marks(page, request, target)
    draw_below(page, key_of(request, target), lines)
    return page.figure


def _rows(request: Request) -> Iterator[Row]:
    explanation = request.explanation
    by_band = has_view(explanation, "waveform", "band_frame")
    yield from rows_above(request, beside_spectrogram=("bands",) if by_band else ())
    if explanation.time_stage is not None:
        sides = ("shares",) if has_view(explanation, "frames", "frames") else ()
        yield Row("frames", FRAMES_PX, above_px=42 if by_band else 27, sides=sides, side_height_px=SHARES_PX)
    if has_view(explanation, "layers", "layers"):
        count = explanation.attributions["layers"].views["layers"].values.shape[1]
        height = min(max(LAYER_PX * count, LEAST_LAYERS_PX), MOST_LAYERS_PX)
        yield Row("layers over time", height, sides=("layers",))


def _draw_frames(page: Page, request: Request, target: str) -> None:
    explanation, path = request.explanation, request.explanation.time_stage
    if path is None:
        return
    frames = estimates_of(explanation, path, "frames", target)
    axes = page.panels["frames"]
    plot_frames(axes, frames, explanation.times[path])
    axes.set_title(f"Attribution of each frame to the {score_name(explanation, target)}")
    if "shares" in page.panels:
        plot_shares(page.panels["shares"], explanation.shares(target=target))


def _draw_bands(page: Page, request: Request, target: str) -> None:
    """Colour over the spectrogram: bands where there are some, else frames at its foot."""
    explanation, path = request.explanation, request.explanation.time_stage
    if "spectrogram" not in page.panels or path is None:
        return
    axes, name = page.panels["spectrogram"], score_name(explanation, target)
    if "bands" not in page.panels:
        frames = estimates_of(explanation, path, "frames", target)
        norm = signed_norm(frames.values)
        plot_strip(axes, frames, explanation.times[path], norm)
        axes.set_title("Mel spectrogram (kHz), attribution of each frame at its foot")
        state_scale(axes, norm)
        return
    bands = estimates_of(explanation, "waveform", "band_frame", target)
    norm = signed_norm(bands.resolved_values, quantile=FULL_COLOUR_QUANTILE)
    edges_hz = explanation.band_edges_hz
    plot_bands_over_time(axes, bands, explanation.times["stft"], edges_hz, norm)
    axes.set_title(f"Mel spectrogram (kHz), coloured by attribution to the {name}")
    plot_bands(page.panels["bands"], estimates_of(explanation, "waveform", "bands", target), edges_hz)
    state_scale(axes, norm)


def _draw_layers(page: Page, request: Request, target: str) -> None:
    if "layers" not in page.panels:
        return
    explanation = request.explanation
    by_frame = estimates_of(explanation, "layers", "layer_frame", target)
    norm = signed_norm(by_frame.values)
    plot_layers_over_time(page.panels["layers over time"], by_frame, explanation.times["layers"], norm)
    plot_layers(page.panels["layers"], estimates_of(explanation, "layers", "layers", target))
    state_scale(page.panels["layers over time"], norm)
