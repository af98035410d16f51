"""Pixels: those that are saved."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from wavshap_lightning.viz.figures import plot
from wavshap_lightning.viz.pixels import figure_pixels


def test_pixels_are_those_that_are_saved(explanation, waveform):
    figure = plot(explanation, waveform)
    pixels = figure_pixels(figure)
    stream = BytesIO()
    figure.savefig(stream)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(stream).convert("RGB")))
    assert pixels.shape[1] == 1100
