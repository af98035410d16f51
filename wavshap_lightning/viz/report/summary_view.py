"""The summary of a class as words and charts."""

from __future__ import annotations

from wavshap_lightning.viz.report.charts import Chart, bands_layout, shares_plot
from wavshap_lightning.viz.report.plotting import GREY, Plot, axis, rgba
from wavshap_lightning.viz.report.summary import ENOUGH_CLIPS, HeardFrom, Shares
from wavshap_lightning.viz.words import percent

HEADINGS = {
    "bands": "Bands (kHz)",
    "layers": "Layers",
    "places": "Speech, pauses, edges",
    "thirds": "Position in the clip",
}
PHRASES = {
    "bands": "band {}",
    "layers": "{}",
    "places": "{}",
    "thirds": "the {} third of the clip",
}
SMALL_BANDS_PX = 150


def sentence(found: HeardFrom) -> str:
    """What the class is heard from most, or that there are too few clips to say."""
    parts = [
        f"{PHRASES[kind].format(_name(shares))} ({_share(shares)})" for kind, shares in found.shares.items()
    ]
    said = (
        f"Most attribution: {', '.join(parts)}." if parts else "Nothing was explained that could be compared."
    )
    if found.num_clips < ENOUGH_CLIPS:
        return f"Too few clips for intervals: what follows describes these, not the class. {said}"
    return said


def _name(shares: Shares) -> str:
    name = shares.names[shares.strongest]
    return {"start": "first", "end": "last"}.get(name, name) if shares.kind == "thirds" else name


def _share(shares: Shares) -> str:
    part = shares.strongest
    if shares.low is None or shares.high is None:
        return f"{percent(shares.mean[part])}"
    return f"{percent(shares.mean[part])}, {percent(shares.low[part])} to {percent(shares.high[part])}"


def summary_charts(found: HeardFrom) -> list[Chart]:
    """A chart a kind of shares."""
    return [
        Chart(kind, HEADINGS[kind], _bands_plot(shares, found) if kind == "bands" else _rows_plot(shares))
        for kind, shares in found.shares.items()
    ]


def _rows_plot(shares: Shares) -> Plot:
    plot = shares_plot(shares.names, shares.mean.tolist())
    (trace,) = plot["data"]
    trace |= {"hovertext": _said(shares), **_whiskers(shares, "error_x")}
    if shares.low is not None:
        trace |= {"text": None}
    return plot


def _bands_plot(shares: Shares, found: HeardFrom) -> Plot:
    trace = {
        "type": "bar",
        "x": list(range(len(shares.names))),
        "y": shares.mean.tolist(),
        "marker": {"color": rgba(GREY, 0.7)},
        "hovertext": _said(shares),
        "hovertemplate": "%{hovertext}<extra></extra>",
        **_whiskers(shares, "error_y"),
    }
    vertical = axis(rangemode="tozero", tickformat=".0%", nticks=4)
    return {"data": [trace], "layout": bands_layout(found.edges_hz, vertical, SMALL_BANDS_PX)}


def _whiskers(shares: Shares, name: str) -> Plot:
    if shares.low is None or shares.high is None:
        return {"marker": {"color": rgba(GREY, 0.35)}}
    upper, lower = (shares.high - shares.mean).tolist(), (shares.mean - shares.low).tolist()
    ends = {"type": "data", "symmetric": False, "array": upper, "arrayminus": lower}
    return {name: {**ends, "thickness": 1.5, "width": 3, "color": rgba(GREY, 1.0)}}


def _said(shares: Shares) -> list[str]:
    if shares.low is None or shares.high is None:
        return [f"{name}: {percent(mean)}" for name, mean in zip(shares.names, shares.mean, strict=True)]
    rows = zip(shares.names, shares.mean, shares.low, shares.high, strict=True)
    return [
        f"{name}: {percent(mean)} (95 % interval {percent(low)} to {percent(high)})"
        for name, mean, low, high in rows
    ]
