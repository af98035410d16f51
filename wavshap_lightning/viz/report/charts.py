"""Small charts of a clip: classes, bands, layers, neurons, and where the attribution lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.viz.estimates import Estimates
from wavshap_lightning.viz.report.plotting import (
    GREY,
    Plot,
    axis,
    band_names,
    bars,
    layout,
    plain_text,
    rgba,
    signed_axis,
)
from wavshap_lightning.viz.report.reading import band_edges_hz, listed, map_of
from wavshap_lightning.viz.words import APOSTROPHE, LABELLED, PREDICTED, TARGET, percent

ROW_PX, AROUND_PX, BANDS_PX = 21, 34, 240
NUM_NEURONS = 10


@dataclass(frozen=True)
class Chart:
    """A chart with its heading.

    Args:
        key: Its name in the page.
        heading: What stands above it.
        plot: The chart.
    """

    key: str
    heading: str
    plot: Plot


def charts_of(saved: SavedClip) -> list[Chart]:
    """All charts there are numbers for."""
    found = (_classes(saved), _shares(saved), _layers(saved), _neurons(saved), _bands(saved))
    return [chart for chart in found if chart is not None]


def _classes(saved: SavedClip) -> Chart:
    numbers = saved.numbers
    signs = {TARGET: numbers["target"], PREDICTED: numbers["prediction"], LABELLED: numbers.get("label")}
    present = {sign: name for sign, name in signs.items() if name in numbers["labels"]}
    named = [
        "".join(f"{sign} " for sign, name in present.items() if name == label) + plain_text(label)
        for label in numbers["labels"]
    ]
    meanings = {TARGET: "target", PREDICTED: "predicted", LABELLED: "labelled"}
    key = ", ".join(f"{sign} {meanings[sign]}" for sign in present)
    shares = [numbers["probabilities"][label] for label in numbers["labels"]]
    return Chart("classes", f"Probability of each class ({key})", shares_plot(named, shares))


def _shares(saved: SavedClip) -> Chart | None:
    shares = saved.numbers.get("shares")
    if shares is None:
        return None
    heading = f"Where the attribution{APOSTROPHE}s magnitude lies"
    return Chart("shares", heading, shares_plot(list(shares), list(shares.values())))


def shares_plot(names: Sequence[str], shares: Sequence[float]) -> Plot:
    """Shares of one as bars to the right, the first on top.

    Args:
        names: What each is called; escaped.
        shares: From 0 to 1.
    """
    places = list(range(len(names)))
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": list(shares),
        "y": places,
        "marker": {"color": rgba(GREY, 0.7)},
        "hovertext": [f"{name}: {percent(share)}" for name, share in zip(names, shares, strict=True)],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "text": [_rounded(share) for share in shares],
        "textposition": "outside",
        "cliponaxis": False,
    }
    across = axis(range=[0, 1.12], tickvals=[0, 0.5, 1], ticktext=["0", "50 %", "100 %"])
    return {"data": [trace], "layout": _rows_layout(names, across)}


def _rounded(share: float) -> str:
    return percent(share) if share >= 0.1 else f"{100 * share:.0f} %"


def _rows_layout(names: Sequence[str], across: Plot) -> Plot:
    """A row a name, the first on top, with room for the longest."""
    count = len(names)
    down = axis(tickvals=list(range(count)), ticktext=list(names), range=[count - 0.5, -0.5], ticklen=4)
    margin = {"l": 16 + 7 * max(map(len, names)), "r": 34, "t": 4, "b": 26}
    height = ROW_PX * count + AROUND_PX
    return layout(height, xaxis=across, yaxis=down, hovermode="y") | {"margin": margin}


def _signed_rows(shown: Estimates, names: Sequence[str]) -> Plot:
    traces = bars(shown, list(range(len(names))), names, across=True)
    return {"data": traces, "layout": _rows_layout(names, signed_axis())}


def _layers(saved: SavedClip) -> Chart | None:
    if "layers" not in saved.numbers:
        return None
    shown = listed(saved.numbers["layers"])
    names = [f"layer {layer}" for layer in range(len(shown.values))]
    return Chart("layers", "Layers, summed over time", _signed_rows(shown, names))


def _neurons(saved: SavedClip) -> Chart | None:
    shown = map_of(saved, "layer_neuron")
    if shown is None:
        return None
    strongest = np.argsort(-np.abs(shown.values), axis=None, kind="stable")[:NUM_NEURONS]
    layers, neurons = np.unravel_index(strongest, shown.values.shape)
    half = None if shown.half_widths is None else shown.half_widths.ravel()[strongest]
    names = [f"layer {layer} · {neuron}" for layer, neuron in zip(layers, neurons, strict=True)]
    heading = "Strongest neurons (layer · neuron)"
    return Chart("neurons", heading, _signed_rows(Estimates(shown.values.ravel()[strongest], half), names))


def _bands(saved: SavedClip) -> Chart | None:
    if "bands" not in saved.numbers:
        return None
    edges, shown = band_edges_hz(saved), listed(saved.numbers["bands"])
    traces = bars(shown, list(range(len(shown.values))), band_names(edges))
    return Chart(
        "bands",
        "Bands, summed over time (kHz)",
        {"data": traces, "layout": bands_layout(edges.tolist(), signed_axis())},
    )


def bands_layout(edges_hz: Sequence[float], vertical: Plot, height: int = BANDS_PX) -> Plot:
    """A place a band, from low to high; kilohertz at some of their edges.

    Args:
        edges_hz: Where bands begin and end.
        vertical: The vertical axis.
        height: In pixels.
    """
    every = max(1, (len(edges_hz) - 1) // 6)
    places = list(range(0, len(edges_hz), every))
    names = [f"{edges_hz[place] / 1000:.2g}" for place in places]
    across = axis(tickvals=[place - 0.5 for place in places], ticktext=names, ticklen=4)
    across |= {"range": [-0.6, len(edges_hz) - 1.4]}
    return layout(height, xaxis=across, yaxis=vertical, hovermode="x") | {
        "margin": {"l": 48, "r": 8, "t": 8, "b": 28}
    }
