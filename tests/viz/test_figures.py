"""Pages: which panels there are, what is marked, and that nothing is left behind."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf

from wavshap_lightning.audio.io import hash_audio_file, load_audio, save_audio
from wavshap_lightning.corpora.clip import Span
from wavshap_lightning.errors import AttributionError, AudioError, SettingError
from wavshap_lightning.viz.figures import plot, plot_epochs, plot_methods
from wavshap_lightning.viz.marks import EVIDENCE_GID, MARK_GID
from wavshap_lightning.viz.theme import MARK, UNRESOLVED

SOUND = {"waveform", "spectrogram"}
AROUND = {"heading", "classes", "key", "caption"}
CLIP = SOUND | AROUND | {"bands", "frames", "shares", "layers over time", "layers"}


def panels(figure):
    named = {axes.get_label(): axes for axes in figure.axes}
    assert len(named) == len(figure.axes)
    return named


def marked(axes):
    """Spans that are marked, in the order of rank."""
    spans = [patch for patch in axes.patches if patch.get_gid() == MARK_GID]
    return [(span.get_x(), span.get_x() + span.get_width()) for span in spans]


def texts(figure):
    """What text a figure shows."""
    return [text for text in figure.findobj(mpl.text.Text) if text.get_text() and text.get_visible()]


def words(figure):
    """The same as it is written."""
    return [text.get_text() for text in texts(figure)]


def png(figure):
    stream = BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


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
    expected = [(frame.start_s, frame.end_s) for frame in explanation.top_frames(4)]
    for name in ("waveform", "spectrogram", "frames", "layers over time"):
        np.testing.assert_allclose(marked(axes[name]), expected)
    ranks = "".join(text.get_text() for text in axes["waveform"].texts).replace("\N{THIN SPACE}", "")
    assert sorted(ranks) == ["1", "2", "3", "4"]
    assert not marked(axes["layers"])


def test_without_frames_those_of_the_waveform_are_marked(build_explanation, waveform):
    explanation = build_explanation(paths=("waveform",))
    axes = panels(plot(explanation, waveform, num_top=3))
    expected = [(frame.start_s, frame.end_s) for frame in explanation.top_frames(3, stage="waveform")]
    np.testing.assert_allclose(marked(axes["frames"]), expected)


def test_no_mark_where_none_is_wanted(explanation, waveform):
    figure = plot(explanation, waveform, num_top=0)
    assert not figure.findobj(lambda artist: artist.get_gid() == MARK_GID)
    assert not any("strongest" in text for text in words(figure))


def test_evidence_is_bracketed_where_it_lies(explanation, waveform):
    axes = panels(plot(explanation, waveform, evidence=[Span(0.2, 0.4, "tremor")]))
    for name in ("waveform", "spectrogram", "frames", "layers over time"):
        edges = {line.get_xdata()[0] for line in axes[name].lines if line.get_gid() == EVIDENCE_GID}
        assert {0.2, 0.4} <= edges
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
        (
            lambda found: replace(found, num_samples=found.num_samples - 1),
            "is read as another length",
        ),
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
    with pytest.raises(SettingError, match="is empty"):
        plot_epochs({}, waveform)
    with pytest.raises(SettingError, match="2 is of another clip"):
        plot_epochs({1: explanation, 2: replace(explanation, clip_sha256="other")}, waveform)
    with pytest.raises(SettingError, match="'x' has path=layers, which does not say when"):
        plot_methods({"x": build_explanation(paths=("layers",))}, waveform)
    with pytest.raises(AttributionError, match="target='sad' was not explained"):
        plot_epochs({1: explanation}, waveform, target="sad")


def test_several_targets_have_a_row_each_on_one_scale(build_explanation, waveform):
    explanation = build_explanation(classes=(0, 1, 2, 3))
    axes = panels(plot(explanation, waveform))
    rows = [axes[f"frames {label}"] for label in explanation.labels]
    assert len({row.get_ylim() for row in rows}) == 1
    assert [row.texts[0].get_text() for row in rows] == list(explanation.labels)
    for label, row in zip(explanation.labels, rows, strict=True):
        tops = [path.vertices[1, 1] for path in row.collections[0].get_paths()]
        np.testing.assert_allclose(tops, explanation.values("frames", "frames", label))
    assert set(panels(plot(explanation, waveform, target="sad"))) == CLIP


def test_epochs_are_in_order_and_on_one_scale(build_explanation, waveform):
    epochs = {epoch: build_explanation(seed=epoch) for epoch in (9, 0, 4)}
    figure = plot_epochs(epochs, waveform)
    mesh = panels(figure)["epochs"].collections[0]
    drawn = np.asarray(mesh.get_array()).reshape(3, -1)
    largest = max(float(one.values("frames", "frames").abs().max()) for one in epochs.values())
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-largest, largest)
    for row, epoch in zip(drawn, (0, 4, 9), strict=True):
        values = epochs[epoch].values("frames", "frames").numpy()
        hidden = np.abs(values) <= epochs[epoch].half_widths("frames", "frames").numpy()
        np.testing.assert_allclose(row[~hidden], values[~hidden])
    labels = [tick.get_text() for tick in panels(figure)["epochs"].get_yticklabels()]
    assert labels == ["0", "4", "9"]
    assert set(panels(figure)) == SOUND | AROUND | {"epochs", "probability", "layers"}
    png(figure)


def test_methods_share_a_scale_where_their_units_are_the_same(build_explanation, waveform):
    methods = {
        "ours": build_explanation(seed=1),
        "again": build_explanation(seed=2),
        "saliency": build_explanation(seed=3, with_errors=False),
    }
    axes = panels(plot_methods(methods, waveform))
    assert axes["frames ours"].get_ylim() == axes["frames again"].get_ylim()
    assert axes["frames saliency"].get_ylim() != axes["frames ours"].get_ylim()
    assert "own scale" in axes["frames saliency"].texts[0].get_text()


def test_without_errors_nothing_is_grey_and_no_interval_is_spoken_of(build_explanation, waveform):
    explanation = build_explanation(with_errors=False)
    figure = plot(explanation, waveform)
    assert not any("interval" in text for text in words(figure))
    bars = panels(figure)["frames"].collections[0]
    grey = mpl.colors.to_rgba(UNRESOLVED)
    assert not any(np.allclose(color, grey) for color in bars.get_facecolor())
    png(figure)


def test_caption_names_what_the_numbers_depend_on(explanation, waveform):
    shown = " ".join(words(plot(explanation, waveform, label="sad")))
    for part in ("log-odds of happy", "predicted happy", "labelled sad", "gap", "noise", "64", "seed 7"):
        assert part in shown


@pytest.mark.parametrize(
    "name", ["$x^2$", "a_b", "100 %", r"\alpha", "{curly}", "two\nlines", "l" * 300, "\ud800", "\U0001f600"]
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
    if name.isprintable() and name.isascii() and len(name) < 20:
        assert f"{name}.wav" in words(figure)
    assert sum("\n" in text for text in words(figure)) == 1  # the caption


@pytest.mark.parametrize("kind", ["clip", "targets", "epochs", "methods"])
def test_no_two_texts_overlap_and_none_leaves_the_page(kind, build_explanation, waveform):
    marks = {"label": "sad", "evidence": [Span(0.1, 0.3, "tremor")], "num_top": 5}
    epochs = {epoch: build_explanation(seed=epoch) for epoch in range(12)}
    figure = {
        "clip": lambda: plot(epochs[0], waveform, **marks),
        "targets": lambda: plot(build_explanation(classes=(0, 1, 2, 3)), waveform, **marks),
        "epochs": lambda: plot_epochs(epochs, waveform, **marks),
        "methods": lambda: plot_methods({"a": epochs[0], "a long name": epochs[1]}, waveform, **marks),
    }[kind]()
    png(figure)
    page = figure.get_window_extent()
    boxes = [(text.get_text(), text.get_window_extent().padded(-1.5)) for text in texts(figure)]
    for place, (first, one) in enumerate(boxes):
        assert page.x0 <= one.x0 < one.x1 <= page.x1, first
        assert page.y0 <= one.y0 < one.y1 <= page.y1, first
        for second, other in boxes[place + 1 :]:
            assert not one.overlaps(other), (first, second)


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
    assert all(fill.get_zorder() < axes.collections[0].get_zorder() for fill in fills)
    assert all(np.allclose(fill.get_facecolor(), mpl.colors.to_rgba(MARK)) for fill in fills)
