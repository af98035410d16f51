"""Colors: symmetric, and told apart by those who see fewer of them."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

from wavshap_lightning.viz.theme import (
    AGAINST,
    FOR,
    LEVEL,
    MARK_EDGE,
    PAPER,
    SIGNED,
    SIGNED_OVER_GRAY,
    UNRESOLVED,
    signed_norm,
    theme,
)

# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
SEEN_WITH = {
    "protanopia": "0.152286 1.052583 -0.204868 0.114503 0.786281 0.099216 -0.003882 -0.048116 1.051998",
    "deuteranopia": "0.367322 0.860646 -0.227968 0.280085 0.672501 0.047413 -0.011820 0.042940 0.968881",
    "tritanopia": "1.255528 -0.076749 -0.178779 -0.078411 0.930809 0.147602 0.004733 0.691367 0.303900",
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(color, seen_with=None):
    """CIE Lab of a colour as it is seen."""
    rgb = np.array(mpl.colors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if seen_with is not None:
        linear = np.clip(np.fromstring(SEEN_WITH[seen_with], sep=" ").reshape(3, 3) @ linear, 0, 1)
    x, y, z = np.cbrt(TO_XYZ @ linear / TO_XYZ.sum(1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen_with", [None, *SEEN_WITH])
def test_for_against_gray_and_paper_are_told_apart(seen_with):
    colors = [lab(color, seen_with) for color in (FOR, AGAINST, UNRESOLVED, PAPER)]
    distances = [
        np.linalg.norm(one - other) for place, one in enumerate(colors) for other in colors[place + 1 :]
    ]
    assert min(distances[:5]) > 30
    assert distances[5] > 10


@pytest.mark.parametrize("seen_with", [None, *SEEN_WITH])
def test_both_arms_of_the_signed_scale_darken_alike(seen_with):
    light = np.array([lab(SIGNED(value), seen_with)[0] for value in np.linspace(0, 1, 101)])
    assert light[50] > 98
    assert (np.diff(light[:51]) > 0).all()
    assert (np.diff(light[50:]) < 0).all()
    assert np.abs(light - light[::-1]).max() < 20


def test_zero_is_white_and_over_a_spectrogram_clear():
    norm = signed_norm(np.array([-2.0, 5.0]))
    np.testing.assert_allclose(SIGNED(norm(0.0)), (1, 1, 1, 1), atol=0.02)
    assert SIGNED_OVER_GRAY(norm(0.0))[3] < 0.02
    assert SIGNED_OVER_GRAY(norm(5.0))[3] == SIGNED_OVER_GRAY(norm(-5.0))[3] == 1


def test_levels_darken():
    light = [lab(LEVEL(value))[0] for value in np.linspace(0, 1, 30)]
    assert (np.diff(light) < 0).all()
    assert lab(MARK_EDGE)[0] < 65


@pytest.mark.parametrize(
    ("values", "quantile", "limit"),
    [
        ([1.0, -3.0, np.nan], 1.0, 3.0),
        ([0.0, 0.0], 1.0, 1.0),
        ([np.nan], 1.0, 1.0),
        (list(range(101)), 0.5, 50.0),
        ([-8.0, 2.0], 1.0, 8.0),
    ],
)
def test_the_scale_is_symmetric(values, quantile, limit):
    norm = signed_norm(np.array(values, dtype=float), quantile=quantile)
    assert (norm.vmin, norm.vmax) == (-limit, limit)
    assert norm(0.0) == 0.5


def test_the_theme_ends_even_when_drawing_fails():
    before = dict(mpl.rcParams)
    with pytest.raises(ZeroDivisionError), theme():
        raise ZeroDivisionError
    assert dict(mpl.rcParams) == before
