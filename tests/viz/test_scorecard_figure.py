"""The figure of a scorecard shows what the table says."""

from __future__ import annotations

import math

import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from wavshap_lightning.errors import SettingError
from wavshap_lightning.viz.scorecard_figure import plot_scorecard
from wavshap_lightning.viz.theme import INK, PAPER, UNRESOLVED


def row(method, metric, mean, over, better="higher"):
    half = 0.1
    return {
        "method": method, "metric": metric, "better": better, "mean": mean, "low": mean - half,
        "high": mean + half, "clips": 7, "resampled": "speakers", "units": 5,
        "minus_random": over, "minus_random_low": over - half,
        "minus_random_high": over + half,
    }  # fmt: skip


ROWS = [
    row("gradient_shap", "auc", 0.9, 0.4),
    row("gradient_shap", "deletion", -1.0, -0.5, "lower"),
    row("saliency", "auc", 0.55, 0.05),
    row("saliency", "deletion", 0.5, 1.0, "lower"),
    row("random", "auc", 0.5, math.nan),
    row("random", "deletion", -0.5, math.nan, "lower"),
]
TITLES = {"auc": "Evidence found", "deletion": "Area under deletion", "seconds": "Seconds"}


def dots_of(axes):
    return [found for found in axes.collections if isinstance(found, PathCollection)]


def words_of(figure):
    return figure.get_supxlabel().replace("\n", " ")


@pytest.fixture
def figure():
    return plot_scorecard(ROWS, controls=("random",), titles=TITLES, title="A $title$")


def test_dots_are_full_where_every_control_is_beaten_in_the_right_direction(figure):
    faces = [[to_hex(dots.get_facecolor()[0]) for dots in dots_of(axes)] for axes in figure.axes[:2]]
    assert faces == [[INK, PAPER, UNRESOLVED]] * 2
    at = [[tuple(dots.get_offsets()[0]) for dots in dots_of(axes)] for axes in figure.axes[:2]]
    assert at[0] == [(0.9, 0), (0.55, 1), (0.5, 2)]
    assert at[1] == [(-1.0, 0), (0.5, 1), (-0.5, 2)]


def test_methods_are_named_once_and_the_direction_is_said(figure):
    first, second = figure.axes[:2]
    assert [label.get_text() for label in first.get_yticklabels()] == ["gradient_shap", "saliency", "random"]
    assert not any(label.get_text() for label in second.get_yticklabels())
    assert "higher is better" in first.get_title(loc="left")
    assert "lower is better" in second.get_title(loc="left")


def test_metrics_without_a_value_have_no_panel_and_unknown_values_no_dot():
    rows = [*ROWS, row("saliency", "seconds", math.nan, math.nan, "lower"), row("new", "auc", math.nan, 0.0)]
    figure = plot_scorecard(rows, controls=("random",), titles=TITLES)
    assert [axes.get_label() for axes in figure.axes] == ["auc", "deletion"]
    assert len(dots_of(figure.axes[0])) == 3


def test_where_controls_can_say_nothing_methods_are_drawn_plain_with_a_line_at_chance():
    rows = [*ROWS, row("gradient_shap", "redrawn", 0.4, -0.6), row("random", "redrawn", 0.95, math.nan)]
    titles = TITLES | {"redrawn": "Likeness"}
    figure = plot_scorecard(rows, controls=("random",), titles=titles, plain={"redrawn"})
    axes = next(axes for axes in figure.axes if axes.get_title(loc="left").startswith("Likeness"))
    (stroke,) = dots_of(axes)
    assert tuple(stroke.get_offsets()[0]) == (0.4, 0)
    assert stroke.get_paths()[0].get_extents().width == 0
    assert [0, 0] in [list(line.get_xdata()) for line in axes.lines]
    low, high = axes.get_xlim()
    assert low < 0 < high < 0.95
    assert "Strokes: a property of each method by itself" in words_of(figure)
    without = plot_scorecard(ROWS, controls=("random",), titles=TITLES, plain={"redrawn"})
    assert "Strokes" not in words_of(without)


def test_nothing_to_draw_is_refused():
    with pytest.raises(SettingError, match="none of the metrics seconds has a value"):
        plot_scorecard(ROWS, controls=("random",), titles={"seconds": "Seconds"})


def test_the_foot_says_what_was_resampled_and_what_to_know_of_it():
    figure = plot_scorecard(ROWS, controls=("random",), titles=TITLES, note="who speaks is not known")
    words = words_of(figure)
    assert "Mean over clips (7) and 95 % interval of the paired bootstrap over their 5 speakers." in words
    assert words.endswith("Who speaks is not known.")
    of_clips = [{**one, "resampled": "clips", "units": 7} for one in ROWS]
    figure = plot_scorecard(of_clips, controls=("random",), titles=TITLES)
    words = words_of(figure)
    assert "of the paired bootstrap over them." in words


def test_a_panel_of_fewer_clips_says_so():
    rows = [*ROWS, {**row("gradient_shap", "other_class", 0.1, -0.9, "lower"), "clips": 3}]
    figure = plot_scorecard(rows, controls=("random",), titles=TITLES | {"other_class": "Another class"})
    assert ["clips" in axes.get_title(loc="left") for axes in figure.axes[:3]] == [False, False, True]
    assert figure.axes[2].get_title(loc="left").endswith("lower is better (3 clips)")
