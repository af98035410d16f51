"""Fixtures of all rings."""

from __future__ import annotations

import jaxtyping
import pytest
import torch


@pytest.fixture
def unchecked_types():
    """Without the checks of types, which stop wrong values before ours do and draw from `random`."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Networks as small as those of the tests spend their time on handing work to threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
