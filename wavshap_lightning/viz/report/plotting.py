"""What all plots of the page share: numbers packed for plotly.js, axes, colours and words on hover.

Plots are plain dictionaries, as plotly.js takes them. Their colours go with a light and a dark page; those of
text and lines are the page's, set in its style sheet.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib.colors import to_rgb

from wavshap_lightning.viz.estimates import Estimates
from wavshap_lightning.viz.hearing import hz_to_mel
from wavshap_lightning.viz.theme import AGAINST, FOR
from wavshap_lightning.viz.words import ELLIPSIS, TO, number

Plot = dict[str, Any]

FONT = {"family": 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif', "size": 12}
CLEAR = "rgba(0,0,0,0)"
GREY = (128, 128, 128)
TICKS_HZ = (0.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16_000.0)


def rgba(colour: str | tuple[int, int, int], alpha: float) -> str:
    """A colour that lets the page shine through.

    >>> rgba("#ff8000", 0.5)
    'rgba(255,128,0,0.5)'
    """
    red, green, blue = (round(255 * part) for part in to_rgb(colour)) if isinstance(colour, str) else colour
    return f"rgba({red},{green},{blue},{alpha:g})"


FULL = {1: FOR, -1: AGAINST, 0: "#80808066"}
PALE = {1: f"{FOR}59", -1: f"{AGAINST}59", 0: "#80808029"}
"""By sign: for the target, against it, unresolved; the last two digits let the page shine through."""

OVER_GREY = [
    [0.0, "#00456e"],
    [0.2, rgba(AGAINST, 0.85)],
    [0.5, rgba(GREY, 0.0)],
    [0.8, rgba(FOR, 0.85)],
    [1.0, "#8f3300"],
]
"""Of maps: zero and what is unresolved are clear."""


def signs_of(shown: Estimates) -> Int[np.ndarray, "*units"]:
    """1 for the target, -1 against it, 0 where unresolved."""
    return np.where(shown.unresolved, 0, np.sign(shown.values)).astype(np.int8)


def packed(values: Shaped[np.ndarray, "..."], dtype: str = "f4") -> Plot:
    """Numbers as plotly.js unpacks them.

    >>> packed(np.array([[1.0, 2.0]]))
    {'dtype': 'f4', 'bdata': 'AACAPwAAAEA=', 'shape': '1, 2'}
    """
    content = np.ascontiguousarray(values, dtype=f"<{dtype}")
    shape = {"shape": ", ".join(map(str, content.shape))} if content.ndim > 1 else {}
    return {"dtype": dtype, "bdata": base64.b64encode(content.tobytes()).decode(), **shape}


def plain_text(name: str, width: int = 24) -> str:
    """A name for plotly.js, which would take tags for its own.

    >>> plain_text("<b>& a long name"), plain_text("a long name", 7)
    ('&lt;b&gt;&amp; a long name', 'a l…ame')
    """
    tail = (width - 1) // 2
    cut = name if len(name) <= width else f"{name[: width - 1 - tail]}{ELLIPSIS}{name[len(name) - tail :]}"
    return html.escape(" ".join(cut.split()), quote=False)


def said(shown: Estimates, names: Sequence[str]) -> list[str]:
    """What hovering over each unit says: its name, its attribution, and the interval.

    >>> said(Estimates(np.array([1.0, 2.0]), np.array([0.5, 3.0])), ["0 s", "1 s"])[0]
    '0 s<br><b>+1</b> (95 % interval +0.5 to +1.5)'
    """
    rows = zip(names, shown.values, shown.low, shown.high, shown.unresolved, strict=True)
    known = np.isfinite(shown.half_widths) if shown.half_widths is not None else np.zeros(len(names), bool)
    return [
        f"{name}<br><b>{number(value, signed=True)}</b>{_interval(low, high, known=bool(is_known))}"
        f"{', not resolved' if unresolved else ''}"
        for (name, value, low, high, unresolved), is_known in zip(rows, known, strict=True)
    ]


def _interval(low: float, high: float, *, known: bool) -> str:
    if not known:
        return " (no interval known)"
    return f" (95 % interval {number(low, signed=True)} to {number(high, signed=True)})"


def bars(
    shown: Estimates, places: Plot | list[Any], names: Sequence[str], *, across: bool = False, **more: object
) -> list[Plot]:
    """A pale bar a unit, and around its end the 95 % interval in full colour: the narrower, the surer.

    Args:
        shown: What is drawn.
        places: Where each bar stands.
        names: What each is called on hover.
        across: Bars that grow to the right.
        more: Of both traces: `width`, axes.
    """
    along, up = ("y", "x") if across else ("x", "y")
    signs = signs_of(shown).tolist()
    full, pale = ({"color": [hues[sign] for sign in signs], "line": {"width": 0}} for hues in (FULL, PALE))
    common = {"type": "bar", along: places, "orientation": "h" if across else "v", **more}
    ends = {"base": packed(shown.low), up: packed(shown.high - shown.low)}
    hover = {"hovertext": said(shown, names), "hovertemplate": "%{hovertext}<extra></extra>"}
    return [
        {**common, up: packed(shown.values), "marker": pale, **hover},
        {**common, **ends, "marker": full, "hoverinfo": "skip"},
    ]


def layout(height: int, **more: object) -> Plot:
    """The layout of every plot.

    Args:
        height: In pixels.
        more: Axes and the like.
    """
    return {
        "height": height,
        "margin": {"l": 52, "r": 8, "t": 8, "b": 34},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "font": FONT,
        "showlegend": False,
        "barmode": "overlay",
        "bargap": 0.25,
        "hoverlabel": {"align": "left", "font": FONT},
        **more,
    }


def axis(**more: object) -> Plot:
    """An axis without grid or frame."""
    return {"showgrid": False, "zeroline": False, "automargin": False, "fixedrange": True, **more}


def signed_axis(**more: object) -> Plot:
    """An axis of attributions: a line at zero, few ticks."""
    return axis(zeroline=True, zerolinewidth=1, nticks=5, tickformat="~g", **more)


def mel_axis(top_hz: float, **more: object) -> Plot:
    """An axis even in mel and labelled in kHz."""
    ticks = np.array([tick for tick in TICKS_HZ if tick <= top_hz])
    named = {"tickvals": hz_to_mel(ticks).tolist(), "ticktext": [number(tick / 1000) for tick in ticks]}
    return axis(range=[0, float(hz_to_mel(np.array([top_hz]))[0])], **named, **more)


def band_names(edges_hz: Float[np.ndarray, " edges"]) -> list[str]:
    """Bands as people say them.

    >>> band_names(np.array([0.0, 187.5])) == [f"0{TO}188 Hz"]
    True
    """
    return [f"{low:.0f}{TO}{high:.0f} Hz" for low, high in pairwise(edges_hz)]


def title(text: str, domain: str) -> Plot:
    """A row's heading, above its left end.

    Args:
        text: What it says; escaped where it holds a name.
        domain: The row's vertical axis: `"y"`, `"y2"`.
    """
    place = {
        "xref": "paper",
        "yref": f"{domain} domain",
        "x": 0,
        "y": 1,
        "xanchor": "left",
        "yanchor": "bottom",
    }
    return {"text": text, "showarrow": False, "yshift": 3, "name": "title", **place}
