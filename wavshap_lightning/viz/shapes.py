"""Bars and their colours, many in one artist."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.collections import PolyCollection

from wavshap_lightning.viz.estimates import Estimates
from wavshap_lightning.viz.theme import AGAINST, FOR, UNRESOLVED

Places = Float[np.ndarray, " bars"]


def boxes(
    left: Places, right: Places, low: Places, high: Places, colours: Sequence[str], *, zorder: float = 2.0
) -> PolyCollection:
    """A rectangle for each, to be added to Axes.

    Args:
        left: Where each begins, like the rest in units of the axes.
        right: Where it ends.
        low: Its foot.
        high: Its top.
        colours: One each.
        zorder: What it lies above.
    """
    corners = np.stack([left, low, left, high, right, high, right, low], 1).reshape(-1, 4, 2)
    return PolyCollection(list(corners), facecolors=colours, edgecolors="none", zorder=zorder)


def colours_of(
    shown: Estimates, positive: str = FOR, negative: str = AGAINST, unresolved: str = UNRESOLVED
) -> list[str]:
    """A colour a unit, in the order of the values: by its sign, or that of the unresolved."""
    colours = np.where(shown.values > 0, positive, negative).ravel()
    return np.where(shown.unresolved.ravel(), unresolved, colours).tolist()
