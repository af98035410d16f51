"""Fixtures of all rings."""

from __future__ import annotations

import jaxtyping
import pytest


@pytest.fixture
def unchecked_types():
    """Without the checks of types, which stop wrong values before ours do and draw from `random`."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
