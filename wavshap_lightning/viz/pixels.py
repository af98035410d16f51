"""A figure as pixels, rendered once for all who want it."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def figure_pixels(figure: Figure) -> UInt8[np.ndarray, "height width 3"]:
    """Red, green and blue of each pixel, 0 to 255, from the top left.

    Loggers take these; W&B refuses a figure itself unless someone has imported pyplot.

    >>> figure_pixels(Figure(figsize=(0.2, 0.1), dpi=100)).shape
    (10, 20, 3)
    """
    canvas: Any = FigureCanvasAgg(figure)  # matplotlib has no types for what follows
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
