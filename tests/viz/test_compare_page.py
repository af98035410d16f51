"""The page of several classifiers: a row for each and for each difference, the right numbers in each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.compare import Comparison, Difference
from wavshap_lightning.viz.compare_page import plot_comparison, plot_comparisons


@pytest.fixture
def build_comparisons(build_explanation):
    """`(count) -> comparisons` of one first with so many others."""

    def build(count):
        first, *others = (build_explanation(seed=seed) for seed in range(count + 1))
        return [Comparison(first, other, "happy", _differences(first, other)) for other in others]

    return build


@pytest.fixture
def comparison(build_comparisons):
    return build_comparisons(1)[0]


def _differences(first, second):
    keys = (("frames", "frames"), ("layers", "layers"))
    views = {
        (path, view): [one.attributions[path].views[view] for one in (first, second)] for path, view in keys
    }
    return {
        key: Difference(*both, 0.1 * torch.ones_like(both[0].values[0]), paired=True)
        for key, both in views.items()
    }


def panels_of(figure):
    return {axes.get_label(): axes for axes in figure.axes}


def words_of(figure):
    return " ".join(text.get_text() for text in panels_of(figure)["caption"].texts)


def test_a_row_for_each_and_one_for_the_difference(comparison, waveform):
    figure = plot_comparison(comparison, waveform, names=("runs/one/best.ckpt", "runs/two/best.ckpt"))
    panels = panels_of(figure)
    assert {"model 0", "model 1", "difference 1", "beside difference 1"} <= panels.keys()
    drawn = panels["difference 1"].patches[0].get_data().values
    np.testing.assert_allclose(drawn, comparison.differences["frames", "frames"].values.numpy())
    assert panels["model 0"].get_ylim() == panels["model 1"].get_ylim()
    assert "2: runs/two/best.ckpt" in words_of(figure)
    assert "draw by draw" in words_of(figure)


def test_three_have_two_differences_on_one_scale(build_comparisons, waveform):
    comparisons = build_comparisons(2)
    panels = panels_of(plot_comparisons(comparisons, waveform, names=("now", "then", "before")))
    for place, one in enumerate(comparisons, 1):
        drawn = panels[f"difference {place}"].patches[0].get_data().values
        np.testing.assert_allclose(drawn, one.differences["frames", "frames"].values.numpy())
    assert panels["difference 1"].get_ylim() == panels["difference 2"].get_ylim()
    assert "before minus now" in [text.get_text() for text in panels["difference 2"].texts]


def test_many_are_rows_of_colour(build_comparisons, waveform):
    comparisons = build_comparisons(7)
    names = ["epoch 9", *(f"epoch {place}" for place in range(7))]
    figure = plot_comparisons(comparisons, waveform, names=names)
    panels = panels_of(figure)
    shown = np.asarray(panels["differences"].collections[0].get_array().filled(np.nan))
    for row, one in zip(shown, comparisons, strict=True):
        values = one.differences["frames", "frames"].values.double().numpy()
        np.testing.assert_allclose(row, np.where(np.abs(values) <= 0.1, np.nan, values), rtol=1e-6)
    assert [text.get_text() for text in panels["models"].get_yticklabels()] == names
    assert "epoch 6 (" in words_of(figure)


@pytest.mark.parametrize("count", [1, 2, 6])
def test_without_layers(build_comparisons, waveform, count):
    comparisons = [
        replace(one, differences={key: found for key, found in one.differences.items() if key[0] == "frames"})
        for one in build_comparisons(count)
    ]
    panels = panels_of(plot_comparisons(comparisons, waveform))
    assert "layers" not in panels
    assert count > 3 or panels["beside model 0"].texts[0].get_text().startswith("score ")


@pytest.mark.parametrize("count", [1, 5])
def test_every_classifier_has_a_name(build_comparisons, count):
    with pytest.raises(SettingError, match=f"must name {count + 1} classifiers"):
        plot_comparisons(build_comparisons(count), names=("one",))
    with pytest.raises(SettingError, match="there is nothing to draw"):
        plot_comparisons([])


def test_nothing_that_says_when_is_refused(comparison):
    layers = {key: one for key, one in comparison.differences.items() if key[0] == "layers"}
    with pytest.raises(SettingError, match="no path that says when"):
        plot_comparison(Comparison(comparison.first, comparison.second, "happy", layers))
