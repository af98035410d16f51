"""Charts of a page: classes, bands, layers, neurons, and where the attribution lies.

Charts are plain dictionaries, as plotly.js takes them. Their colors go with a light and a dark page; those of
text and lines are set in the page's style sheet.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.colors import to_rgb

from wavshap_lightning.viz.clip_view import LABELED, PREDICTED, TARGET, ClipView, Units
from wavshap_lightning.viz.theme import AGAINST, EN_DASH, FOR, number, percent, shorten

Plot = dict[str, Any]

GRAY = "#808080"
NAME_WIDTH, NUM_NEURONS = 24, 10
ROW_PX, AROUND_PX, BANDS_PX = 21, 34, 240

FULL = {1: FOR, -1: AGAINST, 0: "#80808066"}
PALE = {1: f"{FOR}59", -1: f"{AGAINST}59", 0: "#80808029"}
"""Colors by sign: for the target, against it, unresolved; the last two digits let the page shine through."""


def rgba(color: str, alpha: float) -> str:
    """A color that lets the page shine through.

    >>> rgba("#ff8000", 0.5)
    'rgba(255,128,0,0.5)'
    """
    red, green, blue = (round(255 * part) for part in to_rgb(color))
    return f"rgba({red},{green},{blue},{alpha:g})"


def packed(values: Shaped[np.ndarray, "..."], dtype: str = "f4") -> Plot:
    """Numbers as plotly.js unpacks them.

    >>> packed(np.array([[1.0, 2.0]]))
    {'dtype': 'f4', 'bdata': 'AACAPwAAAEA=', 'shape': '1, 2'}
    """
    content = np.ascontiguousarray(values, dtype=f"<{dtype}")
    shape = {"shape": ", ".join(map(str, content.shape))} if content.ndim > 1 else {}
    return {"dtype": dtype, "bdata": base64.b64encode(content.tobytes()).decode(), **shape}


def plain_text(name: str, width: int = NAME_WIDTH) -> str:
    """A name for plotly.js, which would read tags in it.

    >>> plain_text("<b>& a long name")
    '&lt;b&gt;&amp; a long name'
    """
    return html.escape(" ".join(shorten(name, width).split()), quote=False)


def interval_words(value: float, low: float, high: float, *, known: bool, unresolved: bool) -> str:
    """An attribution and its interval in words.

    >>> interval_words(1.0, 0.5, 1.5, known=True, unresolved=False)
    '+1, 95 % interval +0.5 to +1.5'
    """
    ends = f"95 % interval {number(low, signed=True)} to {number(high, signed=True)}"
    words = f"{number(value, signed=True)}, {ends if known else 'no interval known'}"
    return f"{words}, not resolved" if unresolved else words


def hover_words(shown: Units, names: Sequence[str]) -> list[str]:
    """Text on hover over each unit: its name, its attribution and the interval."""
    half = shown.half_widths
    known = np.zeros(len(names), dtype=bool) if half is None else np.isfinite(half)
    rows = zip(names, shown.values, shown.low, shown.high, known, shown.unresolved, strict=True)
    return [
        f"{name}<br>{interval_words(*numbers, known=bool(is_known), unresolved=bool(unresolved))}"
        for name, *numbers, is_known, unresolved in rows
    ]


def bars(
    shown: Units, places: Plot | list[int], names: Sequence[str], *, across: bool = False, **more: object
) -> list[Plot]:
    """A pale bar for each unit, and around its end the 95 % interval in full color.

    Args:
        shown: Attributions to draw.
        places: Position of each bar.
        names: Name of each bar on hover.
        across: Whether bars grow to the right instead of upwards.
        more: Options of both traces, such as `width`.
    """
    along, up = ("y", "x") if across else ("x", "y")
    signs = shown.signs.tolist()
    full, pale = ({"color": [hues[sign] for sign in signs], "line": {"width": 0}} for hues in (FULL, PALE))
    common = {"type": "bar", along: places, "orientation": "h" if across else "v", **more}
    ends = {"base": packed(shown.low), up: packed(shown.high - shown.low)}
    hover = {"hovertext": hover_words(shown, names), "hovertemplate": "%{hovertext}<extra></extra>"}
    return [
        {**common, up: packed(shown.values), "marker": pale, **hover},
        {**common, **ends, "marker": full, "hoverinfo": "skip"},
    ]


def layout(height: int, margin: Sequence[int], **more: object) -> Plot:
    """Layout of a plot; the page's script adds what all plots share.

    Args:
        height: Height in pixels.
        margin: Left, right, top and bottom margin in pixels.
        more: Axes and other options.
    """
    return {"height": height, "margin": dict(zip("lrtb", margin, strict=True)), **more}


def signed_axis() -> Plot:
    """An axis of attributions: a line at zero, few ticks."""
    return {"zeroline": True, "zerolinewidth": 1, "nticks": 5, "tickformat": "~g"}


def band_names(edges_hz: Float[np.ndarray, " edges"]) -> list[str]:
    """Frequency ranges of bands.

    >>> band_names(np.array([0.0, 187.5])) == [f"0{EN_DASH}188 Hz"]
    True
    """
    return [f"{low:.0f}{EN_DASH}{high:.0f} Hz" for low, high in pairwise(edges_hz)]


def charts_of(view: ClipView) -> dict[str, tuple[str, Plot]]:
    """Heading and plot of each chart there are numbers for, by name."""
    signs = {TARGET: "target", PREDICTED: "predicted", LABELED: "labeled"}
    named = {label: view.signs_of(label) for label in view.probabilities}
    key = ", ".join(f"{sign} {word}" for sign, word in signs.items() if sign in "".join(named.values()))
    labels = [f"{' '.join(mark)} {plain_text(label)}".strip() for label, mark in named.items()]
    charts = {
        "classes": (
            f"Probability of each class ({key})",
            shares_plot(labels, list(view.probabilities.values())),
        )
    }
    shares, layers, bands = view.numbers.get("shares"), view.units("layers"), view.units("bands")
    if shares is not None:
        plot = shares_plot(list(shares), list(shares.values()))
        charts["shares"] = ("Share of the attribution\N{RIGHT SINGLE QUOTATION MARK}s magnitude in", plot)
    if layers is not None:
        names = [f"layer {layer}" for layer in range(len(layers.values))]
        charts["layers"] = ("Layers, summed over time", _signed_rows(layers, names))
    if (neurons := view.units("layer_neuron")) is not None:
        charts["neurons"] = ("Strongest neurons (layer · neuron)", _neurons(neurons))
    if bands is not None:
        traces = bars(bands, list(range(len(bands.values))), band_names(view.band_edges_hz))
        plot = {"data": traces, "layout": bands_layout(view.band_edges_hz.tolist(), signed_axis())}
        charts["bands"] = ("Bands, summed over time (kHz)", plot)
    return charts


def _neurons(shown: Units) -> Plot:
    strongest = np.argsort(-np.abs(shown.values), axis=None, kind="stable")[:NUM_NEURONS]
    half = None if shown.half_widths is None else shown.half_widths.ravel()[strongest]
    places = zip(*np.unravel_index(strongest, shown.values.shape), strict=True)
    names = [f"layer {layer} · {neuron}" for layer, neuron in places]
    return _signed_rows(Units(shown.values.ravel()[strongest], half), names)


def _signed_rows(shown: Units, names: Sequence[str]) -> Plot:
    traces = bars(shown, list(range(len(names))), names, across=True)
    return {"data": traces, "layout": _rows_layout(names, signed_axis())}


def shares_plot(names: Sequence[str], shares: Sequence[float]) -> Plot:
    """Shares of one as bars to the right, the first on top.

    Args:
        names: Name of each share; escaped.
        shares: Numbers from 0 to 1.
    """
    trace = share_bars(names, shares) | {
        "orientation": "h",
        "x": list(shares),
        "y": list(range(len(names))),
        "text": [percent(share) if share >= 0.1 else f"{100 * share:.0f} %" for share in shares],
        "textposition": "outside",
        "cliponaxis": False,
    }
    across: Plot = {"range": [0, 1.12], "tickvals": [0, 0.5, 1], "ticktext": ["0", "50 %", "100 %"]}
    return {"data": [trace], "layout": _rows_layout(names, across)}


def share_bars(names: Sequence[str], shares: Sequence[float]) -> Plot:
    """A gray bar for each share."""
    return {
        "type": "bar",
        "marker": {"color": rgba(GRAY, 0.7)},
        "hovertext": [f"{name}: {percent(share)}" for name, share in zip(names, shares, strict=True)],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _rows_layout(names: Sequence[str], across: Plot) -> Plot:
    """A row for each name, the first on top, with room for the longest name."""
    count = len(names)
    down = {
        "tickvals": list(range(count)),
        "ticktext": list(names),
        "range": [count - 0.5, -0.5],
        "ticklen": 4,
    }
    margin = (16 + 7 * max(map(len, names)), 34, 4, 26)
    return layout(ROW_PX * count + AROUND_PX, margin, xaxis=across, yaxis=down, hovermode="y")


def bands_layout(edges_hz: Sequence[float], vertical: Plot, height: int = BANDS_PX) -> Plot:
    """A place for each band, from low to high; kilohertz at some of their edges.

    Args:
        edges_hz: Edges of the bands.
        vertical: The vertical axis.
        height: Height in pixels.
    """
    places = list(range(0, len(edges_hz), max(1, (len(edges_hz) - 1) // 6)))
    names = [f"{edges_hz[place] / 1000:.2g}" for place in places]
    across: Plot = {"tickvals": [place - 0.5 for place in places], "ticktext": names, "ticklen": 4}
    across["range"] = [-0.6, len(edges_hz) - 1.4]
    return layout(height, (48, 8, 8, 28), xaxis=across, yaxis=vertical, hovermode="x")
