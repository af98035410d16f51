"""The one home of colours, sizes and fonts.

Orange speaks for the target and blue against it, a pair that no common kind of colour blindness confuses.
White is zero, grey is unresolved, and nothing else has a hue but the marks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Shaped
from matplotlib import font_manager
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgba

FOR, AGAINST = "#d55e00", "#0072b2"
UNRESOLVED = "#dadada"
FOR_PALE, AGAINST_PALE, UNRESOLVED_PALE = "#f9d3b4", "#bcdcef", "#eeeeee"
PAPER, INK, QUIET, RULE = "#ffffff", "#262626", "#6b6b6b", "#b8b8b8"
MARK, MARK_EDGE = "#fff3b5", "#b38f00"

DPI = 100
"""Pixels an inch: a page is as many pixels wide as its panels say, and is read at 100 %."""

TITLE_PT, TEXT_PT, SMALL_PT = 13.0, 9.0, 8.0
FONT = "DejaVu Sans"
"""Comes with matplotlib, so that a figure is the same everywhere."""

OTHER_SCRIPTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Malgun Gothic",
)
"""Families that are asked, where they are installed, for signs the font lacks."""

_AGAINST_DARK, _FOR_DARK = "#00456e", "#8f3300"
_BLUES = (_AGAINST_DARK, AGAINST, "#8cc0e0")
_ORANGES = ("#f5bd8f", FOR, _FOR_DARK)


def _signed() -> Colormap:
    colours = LinearSegmentedColormap.from_list("signed", [*_BLUES, PAPER, *_ORANGES])
    return colours.with_extremes(bad=UNRESOLVED)


def _signed_over_grey() -> Colormap:
    """The same hues, clearer towards zero, so that what lies below is seen."""
    hues = [*_BLUES[:2], AGAINST, FOR, *_ORANGES[1:]]
    places, alphas = (0.0, 0.2, 0.5, 0.5, 0.8, 1.0), (1.0, 0.85, 0.0, 0.0, 0.85, 1.0)
    stops = [(place, to_rgba(hue, alpha)) for place, hue, alpha in zip(places, hues, alphas, strict=True)]
    return LinearSegmentedColormap.from_list("signed over grey", stops).with_extremes(bad=(0, 0, 0, 0))


SIGNED = _signed()
SIGNED_OVER_GREY = _signed_over_grey()
LEVEL = LinearSegmentedColormap.from_list("level", [PAPER, "#dedede", "#8a8a8a", "#3c3c3c"])
"""Of a spectrogram: loud is dark."""


def signed_norm(*values: Shaped[np.ndarray, "..."], quantile: float = 1.0) -> Normalize:
    """A scale for signed values: as far to one side of zero as to the other.

    Args:
        values: Arrays that share it; NaN counts for nothing.
        quantile: Of the magnitudes, where full colour begins; 1 for the largest.

    >>> norm = signed_norm(np.array([1.0, -3.0]), np.array([2.0]))
    >>> norm.vmin, norm.vmax
    (-3.0, 3.0)
    """
    magnitudes = np.concatenate([np.abs(array[np.isfinite(array)]).ravel() for array in values])
    limit = float(np.quantile(magnitudes, quantile)) if len(magnitudes) else 0.0
    return Normalize(-(limit or 1.0), limit or 1.0)


@cache
def font_families() -> tuple[str, ...]:
    """The font, and those installed that have what it lacks."""
    installed = set(font_manager.get_font_names())
    return (FONT, *(family for family in OTHER_SCRIPTS if family in installed))


@contextmanager
def theme() -> Iterator[None]:
    """Draw in this style inside; the user's style is as it was afterwards.

    What is drawn keeps the style, whatever holds when it is shown or saved.
    """
    with mpl.rc_context({**_PARAMETERS, "font.family": list(font_families())}):
        yield


_PARAMETERS: dict[Any, Any] = {
    "font.size": TEXT_PT,
    "text.color": INK,
    "text.usetex": False,
    "text.parse_math": False,
    "figure.dpi": DPI,
    "figure.facecolor": PAPER,
    "figure.edgecolor": PAPER,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "axes.facecolor": "none",
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.labelsize": TEXT_PT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.xmargin": 0.0,
    "axes.ymargin": 0.0,
    "axes.autolimit_mode": "data",
    "axes.titlesize": TEXT_PT,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 5.0,
    "axes.titleweight": "normal",
    "axes.titley": 1.0,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "xtick.labelsize": SMALL_PT,
    "ytick.labelsize": SMALL_PT,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "lines.linewidth": 1.0,
    "hatch.linewidth": 0.6,
    "path.simplify": True,
    "path.sketch": None,
    "path.effects": [],
}
