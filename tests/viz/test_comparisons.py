"""Figures of several explanations of a clip: a row for each, with the right numbers, on the right scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wavshap_lightning.attribution.reliability import Agreement
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.errors import AttributionError, SettingError
from wavshap_lightning.explainer.compare import Comparison, Difference, agreement_of
from wavshap_lightning.viz.comparisons import plot_comparison, plot_epochs, plot_methods
from wavshap_lightning.viz.figures import plot
from wavshap_lightning.viz.theme import number


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
    return panels_of(figure)["caption"].texts[0].get_text()


def heights_of(axes):
    """Values of the line over frames."""
    return axes.patches[-1].get_data().values


def test_a_row_for_each_and_one_for_the_difference(comparison, waveform):
    figure = plot_comparison(comparison, waveform, names=("runs/one/best.ckpt", "runs/two/best.ckpt"))
    panels = panels_of(figure)
    assert {"model 0", "model 1", "difference 0", "beside difference 0"} <= panels.keys()
    drawn = heights_of(panels["difference 0"])
    np.testing.assert_allclose(drawn, comparison.differences["frames", "frames"].values.numpy())
    assert panels["model 0"].get_ylim() == panels["model 1"].get_ylim()
    assert "2: runs/two/best.ckpt" in words_of(figure)
    assert "draw by draw" in words_of(figure)


def test_three_have_two_differences_on_one_scale(build_comparisons, waveform):
    comparisons = build_comparisons(2)
    panels = panels_of(plot_comparison(comparisons, waveform, names=("now", "then", "before")))
    for place, one in enumerate(comparisons):
        drawn = heights_of(panels[f"difference {place}"])
        np.testing.assert_allclose(drawn, one.differences["frames", "frames"].values.numpy())
    assert panels["difference 0"].get_ylim() == panels["difference 1"].get_ylim()
    assert panels["difference 1"].get_title(loc="left") == "before minus now"


def test_frames_are_counted_that_models_have_in_common(build_comparisons, waveform):
    """In the figure of the comparison, and in that of the clip if it carries them."""
    comparisons = build_comparisons(2)
    first = comparisons[0].first
    found = agreement_of([first, *(one.second for one in comparisons)])
    clip = replace(first, agreement=found)
    for figure in (plot_comparison(comparisons, waveform), plot(clip, waveform)):
        assert panels_of(figure)["agreement"].patches[0].get_data().values.tolist() == found["counts"]
        assert f"Agreement: {Agreement(**found).in_words()}." in words_of(figure)


def test_many_are_rows_of_colour(build_comparisons, waveform):
    comparisons = build_comparisons(7)
    names = ["epoch 9", *(f"epoch {place}" for place in range(7))]
    figure = plot_comparison(comparisons, waveform, names=names)
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
    panels = panels_of(plot_comparison(comparisons, waveform))
    assert not [name for name in panels if "layers" in name or "beside" in name]


@pytest.mark.parametrize("count", [1, 5])
def test_every_classifier_has_a_name(build_comparisons, count):
    with pytest.raises(SettingError, match=f"must be {count + 1} names"):
        plot_comparison(build_comparisons(count), names=("one",))
    with pytest.raises(SettingError, match="must hold at least one"):
        plot_comparison([])


def test_without_frames_there_is_nothing_to_draw(comparison):
    layers = {key: one for key, one in comparison.differences.items() if key[0] == "layers"}
    with pytest.raises(SettingError, match="no frames were compared"):
        plot_comparison(Comparison(comparison.first, comparison.second, "happy", layers))


def test_epochs_are_in_order_and_on_one_scale(build_explanation, waveform):
    epochs = {epoch: build_explanation(seed=epoch) for epoch in (9, 0, 4)}
    figure = plot_epochs(epochs, waveform)
    mesh = panels_of(figure)["epochs"].collections[0]
    drawn = np.asarray(mesh.get_array()).reshape(3, -1)
    largest = max(float(one.values("frames", "frames").abs().max()) for one in epochs.values())
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-largest, largest)
    for row, epoch in zip(drawn, (0, 4, 9), strict=True):
        values = epochs[epoch].values("frames", "frames").numpy()
        hidden = np.abs(values) <= epochs[epoch].to_columns("frames")["half_width"]
        np.testing.assert_allclose(row[~hidden], values[~hidden])
    labels = [tick.get_text() for tick in panels_of(figure)["epochs"].get_yticklabels()]
    assert labels == ["0", "4", "9"]
    assert {"waveform", "spectrogram", "epochs", "probability", "layers of epochs"} <= set(panels_of(figure))


def test_methods_share_a_scale_where_their_units_are_the_same(build_explanation, waveform):
    methods = {
        "ours": build_explanation(seed=1),
        "again": build_explanation(seed=2),
        "saliency": build_explanation(seed=3, with_errors=False),
    }
    axes = panels_of(plot_methods(methods, waveform))
    assert axes["frames 0"].get_ylim() == axes["frames 1"].get_ylim()
    assert axes["frames 2"].get_ylim() != axes["frames 0"].get_ylim()
    assert "own scale" in axes["frames 2"].get_title(loc="left")


def test_explanations_must_be_of_one_clip_and_have_frames(explanation, waveform, build_explanation):
    with pytest.raises(SettingError, match="is empty"):
        plot_epochs({}, waveform)
    with pytest.raises(SettingError, match="'2' is of another clip"):
        plot_epochs({1: explanation, 2: replace(explanation, clip_sha256="other")}, waveform)
    with pytest.raises(SettingError, match="'x' has no frames"):
        plot_methods({"x": build_explanation(paths=("layers",))}, waveform)
    with pytest.raises(AttributionError, match="target='sad' was not explained"):
        plot_epochs({1: explanation}, waveform, target="sad")


@pytest.mark.parametrize("kind", ["epochs", "methods", "two", "many"])
def test_no_two_texts_overlap_and_none_leaves_the_page(
    kind, build_explanation, build_comparisons, waveform, assert_texts_are_apart
):
    marks = {"label": "sad", "evidence": [Span(0.1, 0.3, "tremor")]}
    epochs = {epoch: build_explanation(seed=epoch) for epoch in range(12)}
    names = ["runs/a/best.ckpt", *(f"epoch {place}" for place in range(8))]
    figure = {
        "epochs": lambda: plot_epochs(epochs, waveform, **marks),
        "methods": lambda: plot_methods({"a": epochs[0], "a long name": epochs[1]}, waveform, **marks),
        "two": lambda: plot_comparison(build_comparisons(1), waveform, names=("a", "b"), **marks),
        "many": lambda: plot_comparison(build_comparisons(8), waveform, names=names, **marks),
    }[kind]()
    assert_texts_are_apart(figure)


@pytest.mark.parametrize(
    ("count", "scale", "limits"), [(1, None, ()), (5, None, (-0.2, 0.3)), (5, (-1.0, 0.2), (-1.0, 0.3))]
)
def test_values_are_compared_on_their_own_scale(count, scale, limits, build_explanation, waveform):
    outputs = [(0.5, 0.1 * seed - 0.2, 0.0, 3.0) for seed in range(count + 1)]
    first, *others = (
        build_explanation(seed=seed, task="dimensions", logits=values, scale=scale)
        for seed, values in enumerate(outputs)
    )
    pairs = [Comparison(first, other, "happy", _differences(first, other)) for other in others]
    panels = panels_of(plot_comparison(pairs, waveform))
    if count == 1:
        assert panels["model 0"].get_title("left") == f"1, {number(first.score['happy'])}"
        return
    assert panels["probability"].get_xlim() == pytest.approx(limits)
    assert panels["probability"].get_title("left") == "happy"
