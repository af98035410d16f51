"""Colors, fonts and number formats of all figures and pages.

Orange is evidence for the target and blue evidence against it, a pair that no common kind of color blindness
confuses. White is zero and gray is unresolved; nothing else has a hue except marks.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Shaped
from matplotlib import font_manager
from matplotlib.colors import LinearSegmentedColormap, Normalize

FOR, AGAINST, UNRESOLVED = "#d55e00", "#0072b2", "#dadada"
FOR_PALE, AGAINST_PALE, UNRESOLVED_PALE = "#f9d3b4", "#bcdcef", "#eeeeee"
PAPER, INK, QUIET, RULE, MEDIUM = "#ffffff", "#262626", "#6b6b6b", "#b8b8b8", "#9a9a9a"
MARK, MARK_EDGE = "#fff3b5", "#b38f00"

DPI, WIDTH_PX = 100, 1100
TITLE_PT, SMALL_PT = 13.0, 8.0
STYLE = Path(__file__).with_name("figures.mplstyle")
FONT = "DejaVu Sans"
"""Comes with matplotlib, so that a figure is the same everywhere."""

OTHER_SCRIPTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Hiragino Sans", "Microsoft YaHei", "Malgun Gothic")
"""Families that are used, where they are installed, for characters the font lacks."""

MINUS, ELLIPSIS, EN_DASH = "\N{MINUS SIGN}", "\N{HORIZONTAL ELLIPSIS}", "\N{EN DASH}"
DIAMOND = "\N{WHITE DIAMOND}"

FULL_COLOR = 0.995
"""Quantile of the magnitudes of bands where color is full: a few cells are far above the rest."""

SMALLEST_SHARE = 0.0005
"""Smaller shares are written as 0 %."""

SIGNED = LinearSegmentedColormap.from_list(
    "signed", ("#00456e", AGAINST, "#8cc0e0", PAPER, "#f5bd8f", FOR, "#8f3300")
).with_extremes(bad=UNRESOLVED)

OVER_GRAY = (
    (0.0, "#00456e"),
    (0.2, f"{AGAINST}d9"),
    (0.5, f"{AGAINST}00"),
    (0.5, f"{FOR}00"),
    (0.8, f"{FOR}d9"),
    (1.0, "#8f3300"),
)
"""The same hues, more transparent towards zero, so that the spectrogram below is seen."""

SIGNED_OVER_GRAY = LinearSegmentedColormap.from_list("over gray", OVER_GRAY).with_extremes(bad="none")
LEVEL = LinearSegmentedColormap.from_list("level", [PAPER, "#dedede", "#8a8a8a", "#3c3c3c"])
"""Colors of a spectrogram: loud is dark."""


def signed_norm(values: Shaped[np.ndarray, "..."], quantile: float = 1.0) -> Normalize:
    """Scale for signed values, as far to one side of zero as to the other.

    Args:
        values: Numbers on the scale; NaN is ignored.
        quantile: Quantile of the magnitudes where full color begins; 1 for the largest.

    >>> norm = signed_norm(np.array([1.0, -3.0]))
    >>> norm.vmin, norm.vmax
    (-3.0, 3.0)
    """
    magnitudes = np.abs(values[np.isfinite(values)])
    limit = float(np.quantile(magnitudes, quantile)) if len(magnitudes) else 0.0
    return Normalize(-(limit or 1.0), limit or 1.0)


@cache
def font_families() -> tuple[str, ...]:
    """Names of the font and of those installed that have characters it lacks."""
    installed = set(font_manager.get_font_names())
    return (FONT, *(family for family in OTHER_SCRIPTS if family in installed))


def theme() -> AbstractContextManager[None]:
    """Context in which figures are drawn in this style; the user's style is restored afterwards."""
    return mpl.rc_context({"font.family": list(font_families())}, fname=STYLE)


def shorten(text: str, width: int) -> str:
    """Text of at most `width` characters; the middle of longer text is left out.

    >>> shorten("a long name", 7)
    'a l…ame'
    """
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}{ELLIPSIS}{text[len(text) - tail :]}"


def literal(text: str, width: int = 16) -> str:
    r"""A name as it is written, on one line; characters that no font has are spelled out.

    Args:
        text: Any text, such as a label or the name of a file.
        width: Number of characters there is room for.

    >>> print(literal("two\nlines"), literal("a_very_long_$name$.wav", 12))
    two\nlines a_very…$.wav
    """
    known = _known_characters()
    drawn = (sign if sign.isprintable() and ord(sign) in known else ascii(sign)[1:-1] for sign in text)
    return shorten("".join(drawn), width)


def number(value: float, *, signed: bool = False) -> str:
    """Three significant digits, with a true minus sign.

    >>> number(0.01234), number(3.0, signed=True), number(-31.41) == f"{MINUS}31.4"
    ('0.0123', '+3', True)
    """
    return f"{value:{'+' if signed else ''}.3g}".replace("-", MINUS)


def percent(share: float) -> str:
    """A share of one in per cent, with two significant digits or more.

    >>> percent(0.00002), percent(0.0123), percent(0.874), percent(1.613)
    ('0 %', '1.2 %', '87 %', '161 %')
    """
    if abs(share) < SMALLEST_SHARE:
        return "0 %"
    return f"{100 * share:.2g} %" if abs(share) < 0.0995 else f"{share * 100:.0f} %"


@cache
def _known_characters() -> frozenset[int]:
    fonts = (font_manager.get_font(font_manager.findfont(family)) for family in font_families())
    return frozenset(code for font in fonts for code in font.get_charmap())
