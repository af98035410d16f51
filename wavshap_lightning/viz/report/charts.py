"""Charts of a page: classes, bands, layers, neurons, and where the attribution lies.

Charts are plain dictionaries, as plotly.js takes them. Their colors go with a light and a dark page; those of
text and lines are set in the page's style sheet.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from wavshap_lightning.viz.clip_view import LABELED, PREDICTED, TARGET, ClipView, Units
from wavshap_lightning.viz.theme import AGAINST, FOR, percent, shorten

Plot = dict[str, Any]

NAME_WIDTH, NUM_NEURONS = 24, 10
ROW_PX, AROUND_PX = 21, 34

GRAY, DARK_GRAY, PALE_GRAY = "#808080", "#808080b3", "#80808059"
FULL = {1: FOR, -1: AGAINST, 0: "#80808066"}
PALE = {1: f"{FOR}59", -1: f"{AGAINST}59", 0: "#80808029"}
"""Colors by sign: for the target, against it, unresolved; the last two digits let the page shine through."""

SIGNED_AXIS: Plot = {"zeroline": True, "zerolinewidth": 1, "nticks": 5, "tickformat": "~g"}
HOVER = "%{hovertext}<extra></extra>"


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
    pale, full = (
        {"color": [hues[sign] for sign in shown.signs.tolist()], "line": {"width": 0}}
        for hues in (PALE, FULL)
    )
    common = {"type": "bar", along: places, "orientation": "h" if across else "v", **more}
    ends = {"base": packed(shown.low), up: packed(shown.high - shown.low)}
    words = [f"{name}<br>{words}" for name, words in zip(shown.names, shown.words, strict=True)]
    return [
        {**common, up: packed(shown.values), "marker": pale, "hovertext": words, "hovertemplate": HOVER},
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


def charts_of(view: ClipView) -> dict[str, tuple[str, Plot]]:
    """Heading and plot of each chart there are numbers for, by name."""
    names, probabilities = view.classes(plain_text)
    signs = {TARGET: "target", PREDICTED: "predicted", LABELED: "labeled"}
    key = ", ".join(f"{sign} {word}" for sign, word in signs.items() if sign in "".join(names))
    charts = {"classes": (f"Probability of each class ({key})", share_plot(names, probabilities))}
    if shares := view.numbers.get("shares"):
        plot = share_plot(list(shares), list(shares.values()))
        charts["shares"] = ("Share of the attribution\N{RIGHT SINGLE QUOTATION MARK}s magnitude in", plot)
    if (layers := view.units("layers")) is not None:
        charts["layers"] = ("Layers, summed over time", _signed_rows(layers))
    if (neurons := view.units("layer_neuron")) is not None:
        charts["neurons"] = ("Strongest neurons (layer · neuron)", _signed_rows(_strongest_neurons(neurons)))
    if (bands := view.units("bands")) is not None:
        traces = bars(bands, list(range(len(bands.values))))
        plot = {"data": traces, "layout": bands_layout(view.band_edges_hz, SIGNED_AXIS, 240)}
        charts["bands"] = ("Bands, summed over time (kHz)", plot)
    return charts


def _strongest_neurons(shown: Units) -> Units:
    strongest = np.argsort(-np.abs(shown.values), axis=None, kind="stable")[:NUM_NEURONS]
    places = zip(*np.unravel_index(strongest, shown.values.shape), strict=True)
    names = [f"layer {layer} · {neuron}" for layer, neuron in places]
    return Units(shown.values.ravel()[strongest], shown.half_widths.ravel()[strongest], names=names)


def _signed_rows(shown: Units) -> Plot:
    traces = bars(shown, list(range(len(shown.names))), across=True)
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
        "text": [percent(share) if share >= 0.1 else f"{100 * share:.0f} %" for share in shares],
        "textposition": "outside",
        "cliponaxis": False,
    }
    across: Plot = {"range": [0, 1.12], "tickvals": [0, 0.5, 1], "ticktext": ["0", "50 %", "100 %"]}
    return {"data": [trace], "layout": _rows_layout(names, across)}


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


def bands_layout(
    edges_hz: Sequence[float] | Float[np.ndarray, " edges"], vertical: Plot, height: int
) -> Plot:
    """A place for each band, from low to high; kilohertz at some of their edges.

    Args:
        edges_hz: Edges of the bands.
        vertical: The vertical axis.
        height: Height in pixels.
    """
    places = range(0, len(edges_hz), max(1, (len(edges_hz) - 1) // 6))
    names = [f"{edges_hz[place] / 1000:.2g}" for place in places]
    across: Plot = {"tickvals": [place - 0.5 for place in places], "ticktext": names, "ticklen": 4}
    across["range"] = [-0.6, len(edges_hz) - 1.4]
    return layout(height, (48, 8, 8, 28), xaxis=across, yaxis=vertical, hovermode="x")
