"""Pages: which panels there are, what is marked, and that nothing is left behind."""

from __future__ import annotations

import gc
import warnings
import weakref
from dataclasses import replace
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.patches import StepPatch
from PIL import Image

from wavshap_lightning.audio.io import hash_audio_file, load_audio, save_audio
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.errors import AttributionError, AudioError, SettingError
from wavshap_lightning.explainer.diagnostics import Diagnostic
from wavshap_lightning.viz.figures import figure_pixels, plot
from wavshap_lightning.viz.panels import CERTAIN_GID, EVIDENCE_GID, MARK_GID
from wavshap_lightning.viz.theme import FOR_PALE, MARK, UNRESOLVED_PALE

SOUND = {"waveform", "spectrogram"}
AROUND = {"heading", "classes", "legend", "caption"}
CLIP = SOUND | AROUND | {"bands", "frames", "shares", "layers over time", "layers"}


def panels(figure):
    named = {axes.get_label(): axes for axes in figure.axes}
    assert len(named) == len(figure.axes)
    return named


def marked(axes):
    """Spans that are marked, in the order of rank."""
    spans = [patch for patch in axes.patches if patch.get_gid() == MARK_GID]
    return [(span.get_x(), span.get_x() + span.get_width()) for span in spans]


def steps(axes):
    return [patch for patch in axes.patches if isinstance(patch, StepPatch)]


def bars(axes, color):
    """The bars of frames in one color, as one patch."""
    return next(patch for patch in steps(axes) if mpl.colors.same_color(patch.get_facecolor(), color))


def heights(axes):
    """Values of the line over frames."""
    return steps(axes)[-1].get_data().values


def texts(figure):
    """What text a figure shows."""
    return [text for text in figure.findobj(mpl.text.Text) if text.get_text() and text.get_visible()]


def words(figure):
    """The same as it is written."""
    return [text.get_text() for text in texts(figure)]


def doubted(explanation, *messages):
    """The explanation with these diagnostics."""
    doubts = tuple(Diagnostic("test", "warning", message) for message in messages)
    return replace(explanation, diagnostics=dict.fromkeys(explanation.targets, doubts))


def test_diagnostics_are_written_below(explanation, waveform):
    figure = plot(doubted(explanation, "Use more draws.", "The clip is unusual."), waveform)
    caption = panels(figure)["caption"].texts[0].get_text()
    assert caption.endswith("Warning: Use more draws.\nWarning: The clip is unusual.")


def png(figure):
    stream = BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def test_of_many_classes_the_marked_ones_are_always_shown(build_explanation, waveform):
    labels = tuple(f"class{index}" for index in range(20))
    logits = tuple(0.1 * index for index in range(20))
    explanation = build_explanation(classes=(0,), labels=labels, logits=logits)
    classes = panels(plot(explanation, waveform, label="class1"))["classes"]
    shown = {tick.get_text() for tick in classes.get_yticklabels()}
    signs = {
        "\N{BLACK CIRCLE} class0",
        "\N{BLACK DIAMOND} class1",
        "\N{BLACK RIGHT-POINTING TRIANGLE} class19",
    }
    assert signs <= shown
    assert "class5" not in shown
    assert "10 more" in classes.get_title(loc="left")


def test_pixels_are_those_that_are_saved(explanation, waveform):
    figure = plot(explanation, waveform)
    pixels = figure_pixels(figure)
    saved = Image.open(BytesIO(png(figure))).convert("RGB")
    np.testing.assert_array_equal(pixels, np.asarray(saved))
    assert pixels.shape[1] == 1100


def test_one_axes_a_panel(explanation, waveform):
    assert set(panels(plot(explanation, waveform))) == CLIP


@pytest.mark.parametrize(
    ("paths", "missing"),
    [
        (("frames",), {"bands", "layers over time", "layers"}),
        (("layers",), {"bands", "frames", "shares"}),
        (("waveform",), {"shares", "layers over time", "layers"}),
        (("frames", "waveform"), {"layers over time", "layers"}),
    ],
)
def test_panels_are_those_of_the_paths_taken(paths, missing, build_explanation, waveform):
    figure = plot(build_explanation(paths=paths), waveform)
    assert set(panels(figure)) == CLIP - missing
    png(figure)


def test_time_is_shared_and_as_long_as_the_clip(explanation, waveform):
    axes = panels(plot(explanation, waveform))
    for name in ("waveform", "spectrogram", "frames", "layers over time"):
        assert axes[name].get_xlim() == (0, explanation.duration_s)
    axes["waveform"].set_xlim(0.1, 0.2)
    assert axes["layers over time"].get_xlim() == (0.1, 0.2)


def test_the_marked_frames_are_the_records_strongest_in_every_panel(explanation, waveform):
    axes = panels(plot(explanation, waveform, num_top=4))
    expected = [(frame["start_s"], frame["end_s"]) for frame in explanation.top("frames", 4)]
    for name in ("waveform", "spectrogram", "frames", "layers over time"):
        np.testing.assert_allclose(marked(axes[name]), expected)
    ranks = "".join(text.get_text() for text in axes["waveform"].texts).replace("\N{THIN SPACE}", "")
    assert sorted(ranks) == ["1", "2", "3", "4"]
    assert not marked(axes["layers"])


def test_without_frames_those_of_the_waveform_are_marked(build_explanation, waveform):
    explanation = build_explanation(paths=("waveform",))
    axes = panels(plot(explanation, waveform, num_top=3))
    expected = [
        (frame["start_s"], frame["end_s"]) for frame in explanation.top("frames", 3, stage="waveform")
    ]
    np.testing.assert_allclose(marked(axes["frames"]), expected)


def test_units_that_are_certain_to_be_among_the_strongest_have_a_dot(sure, waveform):
    figure = plot(sure, waveform)
    axes, held = panels(figure), sure.to_dict()
    for name, across in {"frames": False, "bands": True, "layers": True}.items():
        dots = [line.get_xydata() for line in axes[name].lines if line.get_gid() == CERTAIN_GID]
        ends = np.concatenate([*dots, np.empty((0, 2))])[:, 0 if across else 1]
        found = held["reliability"][name]["certain"]
        values, halves = (np.array(held[name][key])[found] for key in ("attribution", "half_width"))
        np.testing.assert_allclose(sorted(ends), sorted(values + np.sign(values) * halves))
    assert held["reliability"]["frames"]["certain"]
    assert "certain" in words(figure)
    counts = "{} of {k}".format(
        len(held["reliability"]["frames"]["certain"]), **held["reliability"]["frames"]
    )
    assert any(f"(dots): frames {counts}, " in text for text in words(figure))


def test_without_standard_errors_nothing_is_certain(build_explanation, waveform):
    figure = plot(build_explanation(with_errors=False), waveform)
    assert not figure.findobj(lambda artist: artist.get_gid() == CERTAIN_GID)
    assert "certain" not in words(figure)


def test_no_mark_where_none_is_wanted(explanation, waveform):
    figure = plot(explanation, waveform, num_top=0)
    assert not figure.findobj(lambda artist: artist.get_gid() == MARK_GID)
    assert not any("strongest frame" in text for text in words(figure))


def test_evidence_is_bracketed_where_it_lies(explanation, waveform):
    axes = panels(plot(explanation, waveform, evidence=[Span(0.2, 0.4, "tremor")]))
    for name in ("waveform", "spectrogram", "frames", "layers over time"):
        lines = next(lines for lines in axes[name].collections if lines.get_gid() == EVIDENCE_GID)
        assert [segment[0, 0] for segment in lines.get_segments()] == [0.2, 0.4]
    assert "tremor" in [text.get_text() for text in axes["waveform"].texts]


def test_the_clips_file_is_read(on_disk):
    figure = plot(on_disk)
    assert set(panels(figure)) >= SOUND
    assert "clip.flac" in words(figure)


def test_of_a_part_of_a_file_that_part_is_read(build_explanation, waveform, tmp_path):
    path = tmp_path / "long.flac"
    save_audio(path, np.concatenate([np.ones(1600), waveform]).clip(-1, 1))
    found = replace(build_explanation(), clip=str(path), clip_sha256=hash_audio_file(path), clip_start_s=0.1)
    assert png(plot(found)) == png(plot(found, load_audio(path)[1600:]))


@pytest.mark.parametrize(
    ("change", "words_for_it"),
    [
        (lambda found: replace(found, clip=""), "given as numbers"),
        (lambda found: replace(found, clip="/nowhere/clip.flac"), "cannot be read"),
        (lambda found: replace(found, clip_sha256="other"), "has changed since"),
        (lambda found: replace(found, num_samples=found.num_samples - 1), "has changed since"),
    ],
)
def test_without_sound_the_figure_says_so(change, words_for_it, on_disk):
    figure = plot(change(on_disk))
    assert not SOUND & set(panels(figure))
    assert any(words_for_it in text and "waveform=" in text for text in words(figure))
    assert marked(panels(figure)["frames"])


def test_a_waveform_of_another_length_is_refused(explanation, waveform):
    with pytest.raises(AudioError, match=r"shape=\(12344,\) must be \(12345,\)"):
        plot(explanation, waveform[1:])


def test_what_cannot_be_drawn(explanation, waveform, build_explanation):
    with pytest.raises(AttributionError, match="target='sad' was not explained"):
        plot(explanation, waveform, target="sad")
    with pytest.raises(SettingError, match="num_top=-1 must be at least 0"):
        plot(explanation, waveform, num_top=-1)


def test_several_targets_have_a_row_each_on_one_scale(build_explanation, waveform):
    explanation = build_explanation(classes=(0, 1, 2, 3))
    axes = panels(plot(explanation, waveform))
    rows = [axes[f"frames {place}"] for place in range(4)]
    assert len({row.get_ylim() for row in rows}) == 1
    assert [row.get_title(loc="left") for row in rows] == list(explanation.labels)
    for label, row in zip(explanation.labels, rows, strict=True):
        np.testing.assert_allclose(heights(row), explanation.values("frames", "frames", label))
    assert set(panels(plot(explanation, waveform, target="sad"))) == CLIP


def test_without_errors_nothing_is_gray_and_no_interval_is_spoken_of(build_explanation, waveform):
    explanation = build_explanation(with_errors=False)
    figure = plot(explanation, waveform)
    assert not any("interval" in text for text in words(figure))
    gray = bars(panels(figure)["frames"], UNRESOLVED_PALE)
    assert not gray.get_data().values.any()
    png(figure)


def test_caption_names_what_the_numbers_depend_on(explanation, waveform):
    shown = " ".join(words(plot(explanation, waveform, label="sad")))
    for part in ("log-odds of happy", "predicted happy", "labeled sad", "gap", "noise", "64", "Seed: 7"):
        assert part in shown


@pytest.mark.parametrize(
    "name", ["$x^2$", r"a_b 100 % \alpha {curly}", "two\nlines", "l" * 300, "\ud800", "\U0001f600"]
)
def test_odd_names_are_drawn_as_they_are_written(name, build_explanation, waveform):
    labels = ("neutral", name, "sad", "angry")
    figure = plot(build_explanation(labels=labels, clip=f"/nowhere/{name}.wav"), waveform, label=name)
    page = figure.get_window_extent()
    png(figure)
    for text in texts(figure):
        assert not text.get_parse_math()
        assert not text.get_usetex()
        extent = text.get_window_extent()
        assert extent.x0 >= page.x0
        assert extent.x1 <= page.x1
    if name.isprintable() and name.isascii() and len(name) < 30:
        assert f"{name}.wav" in words(figure)
    assert sum("\n" in text for text in words(figure)) == 1  # only the caption has lines


@pytest.mark.parametrize("name", ["gain$_2", "悲しい気持ちの声"])
def test_the_names_of_classes_end_before_their_bars(name, build_explanation, waveform):
    labels = (f"{name}a", name, f"{name}b", f"{name}c")
    figure = plot(build_explanation(labels=labels), waveform, label=name)
    png(figure)
    (axes,) = (one for one in figure.axes if one.get_label() == "classes")
    ends = [one.get_window_extent().x1 for one in axes.get_yticklabels()]
    assert max(ends) < axes.transData.transform((0, 0))[0] - 1


@pytest.mark.parametrize("classes", [(1,), (0, 1, 2, 3)])
@pytest.mark.parametrize("name", ["angry", "l" * 300])
def test_no_two_texts_overlap_and_none_leaves_the_page(
    classes, name, build_explanation, make_sure, waveform, assert_texts_are_apart
):
    labels = ("neutral", name, "sad", "fearful")
    explanation = make_sure(build_explanation(classes=classes, labels=labels))
    evidence = [Span(0.1, 0.3, "tremor")]
    explanation = doubted(explanation, "Use more draws. " * 30)
    figure = plot(explanation, waveform, label="sad", evidence=evidence, num_top=5)
    assert_texts_are_apart(figure)


def test_the_users_style_is_untouched_and_without_influence(explanation, waveform):
    before = dict(mpl.rcParams)
    usual = png(plot(explanation, waveform))
    assert dict(mpl.rcParams) == before
    with mpl.rc_context(
        {"font.size": 30, "axes.facecolor": "black", "lines.linewidth": 9, "text.color": "red"}
    ):
        held = plot(explanation, waveform)
        assert png(held) == usual


def test_a_figure_that_is_dropped_is_gone(explanation, waveform):
    figure = plot(explanation, waveform)
    png(figure)
    assert not Gcf.figs
    known = weakref.ref(figure)
    del figure
    gc.collect()
    assert known() is None


def test_marks_lie_behind_what_they_mark(explanation, waveform):
    axes = panels(plot(explanation, waveform))["frames"]
    fills = [patch for patch in axes.patches if patch.get_gid() == MARK_GID]
    assert all(fill.get_zorder() < bars(axes, FOR_PALE).get_zorder() for fill in fills)
    assert all(np.allclose(fill.get_facecolor(), mpl.colors.to_rgba(MARK)) for fill in fills)


VALUES = (0.5, 0.62, -0.3, 0.1)


@pytest.mark.parametrize("classes", [(1,), (0, 1, 2, 3)])
def test_a_figure_of_values_predicts_nothing(classes, build_explanation, waveform, assert_texts_are_apart):
    figure = plot(build_explanation(classes, task="dimensions", logits=VALUES), waveform)
    found = panels(figure)
    explained = " (explained)" if len(classes) == 1 else ""
    heading = f"neutral 0.5, happy 0.62{explained}, sad \N{MINUS SIGN}0.3, angry 0.1"
    assert found["heading"].texts[0].get_text() == heading
    assert found["classes"].get_title("left") == "Value of each dimension"
    assert not any("redict" in text or "class" in text for text in words(figure))
    legend = [text.get_text() for text in found["legend"].get_legend().get_texts()]
    assert legend[:2] == [f"{sign} {'happy' if explained else 'the value'}" for sign in ("raises", "lowers")]
    assert_texts_are_apart(figure)


VOTES = {"sad": 3.0, "angry": 1.0, "bored": 1.0}
ANNOTATED = {"happy": 0.9, "sad": -0.5}


@pytest.mark.parametrize("task", ["distribution", "dimensions"])
def test_annotations_are_drawn_beside_the_outputs(task, build_explanation, waveform, assert_texts_are_apart):
    is_value = task == "dimensions"
    known = {"scale": (-1.0, 1.0), "annotated_values": ANNOTATED} if is_value else {"votes": VOTES}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plot(build_explanation(task=task, logits=VALUES, **known), waveform, label="sad")
        png(figure)
    axes = panels(figure)["classes"]
    if is_value:
        assert [one.get_text() for one in axes.get_xticklabels()] == ["\N{MINUS SIGN}1", "1"]
        np.testing.assert_array_equal(axes.lines[-1].get_xdata(), [np.nan, 0.9, -0.5, np.nan])
    else:
        widths = [bar.get_width() for bar in axes.patches[len(VALUES) :]]
        np.testing.assert_array_equal(widths, [np.nan, np.nan, 0.6, 0.2])  # a fifth is for another label
        assert [one.get_text() for one in axes.get_legend().get_texts()] == ["listeners (n=5)"]
    assert_texts_are_apart(figure)


def test_a_value_beyond_the_scale_is_drawn(build_explanation, waveform):
    found = build_explanation(task="dimensions", logits=(0.0, 7.9, 3.0, 1.0), scale=(1.0, 7.0))
    low, high = panels(plot(found, waveform))["classes"].get_xlim()
    assert low < 0.0
    assert high > 7.9


def test_a_figure_of_labels_has_a_probability_for_each(build_explanation, waveform, assert_texts_are_apart):
    figure = plot(build_explanation(task="labels"), waveform)
    found = panels(figure)
    assert found["classes"].get_title("left") == "Probability of each label"
    assert {"50 %", "88 %", "73 %", "27 %"} <= {text.get_text() for text in found["classes"].texts}
    assert "top label happy" in found["heading"].texts[0].get_text()
    assert_texts_are_apart(figure)
