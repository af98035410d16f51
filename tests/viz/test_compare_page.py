"""The page of two classifiers: three rows, the right numbers in each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.compare import Comparison, Difference
from wavshap_lightning.viz.compare_page import plot_comparison


@pytest.fixture
def comparison(build_explanation):
    first, second = build_explanation(seed=0), build_explanation(seed=1)
    differences = {
        (path, view): Difference(
            first.attributions[path].views[view],
            second.attributions[path].views[view],
            0.1 * torch.ones_like(first.attributions[path].views[view].values[0]),
            paired=True,
        )
        for path, view in (("frames", "frames"), ("layers", "layers"))
    }
    return Comparison(first, second, "happy", differences)


def test_a_row_for_each_and_one_for_the_difference(comparison, waveform):
    figure = plot_comparison(comparison, waveform, names=("one.ckpt", "two.ckpt"))
    panels = {axes.get_label(): axes for axes in figure.axes}
    assert {"first", "second", "difference", "layers difference"} <= panels.keys()
    drawn = panels["difference"].patches[0].get_data().values
    np.testing.assert_allclose(drawn, comparison.differences["frames", "frames"].values.numpy())
    assert panels["first"].get_ylim() == panels["second"].get_ylim()
    caption = " ".join(text.get_text() for text in panels["caption"].texts)
    assert "one.ckpt" in caption
    assert "draw by draw" in caption


def test_without_layers(comparison, waveform):
    frames = {key: one for key, one in comparison.differences.items() if key[0] == "frames"}
    figure = plot_comparison(Comparison(comparison.first, comparison.second, "happy", frames), waveform)
    assert "decision first" in {axes.get_label() for axes in figure.axes}


def test_nothing_that_says_when_is_refused(comparison):
    layers = {key: one for key, one in comparison.differences.items() if key[0] == "layers"}
    with pytest.raises(SettingError, match="no path that says when"):
        plot_comparison(Comparison(comparison.first, comparison.second, "happy", layers))
