"""The report is one well-formed page that says what the clips' numbers say, and takes no name for HTML."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from typing import get_args

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

from wavshap_lightning.attribution.reliability import Agreement
from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.head import Task
from wavshap_lightning.viz.clip_view import COUNTS, ClipView
from wavshap_lightning.viz.report.page import build_report

HOSTILE = "</script><script>alert(1)</script>\"'<img src=x onerror=alert(1)>&amp;.wav"
VOID = {"meta", "link", "img", "br"}


class Balance(HTMLParser):
    """Counts what is opened and closed, and keeps tags and text."""

    def __init__(self):
        super().__init__()
        self.stack, self.tags, self.faults, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.faults.append((tag, self.getpos()))

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    found = Balance()
    found.feed(html.replace(get_plotlyjs().replace("\r\n", "\n"), ""))
    found.close()
    return found


def unpacked(html, index=0):
    content = re.search(rf'id="data-{index}">([^<]*)</script>', html)[1]
    return json.loads(zlib.decompress(base64.b64decode(content)))


def numbers_of(held):
    return np.frombuffer(base64.b64decode(held["bdata"]), dtype=f"<{held['dtype']}")


@pytest.fixture(scope="module")
def clip(build_clip):
    return build_clip()


@pytest.fixture(scope="module")
def html(clip):
    failed = [("gone.wav", "path=gone.wav does not exist; check the name")]
    return build_report([clip], failed=failed, title="Two clips", model={"Checkpoint": "best.ckpt"})


def test_page_is_well_formed_and_says_why_a_clip_failed(html):
    found = parsed(html)
    assert found.faults == []
    assert found.stack == []
    said = " ".join(found.text)
    assert "Two clips" in said
    assert "best.ckpt" in said
    assert "path=gone.wav does not exist; check the name" in said


def test_same_clips_give_the_same_page(clip, html):
    failed = [("gone.wav", "path=gone.wav does not exist; check the name")]
    assert build_report([clip], failed=failed, title="Two clips", model={"Checkpoint": "best.ckpt"}) == html


def test_nothing_is_fetched(html):
    fetched = [
        attrs[name]
        for _, attrs in parsed(html).tags
        for name in ("src", "href", "data-src", "srcset")
        if attrs.get(name)
    ]
    assert all(url.startswith(("#", "data:")) for url in fetched)
    (policy,) = (a["content"] for t, a in parsed(html).tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy


def test_every_name_is_text(build_clip):
    labels = {"labels": (HOSTILE, "happy", "sad", "angry"), "logits": (3.0, 2.0, 1.0, -1.0)}
    clip = build_clip(HOSTILE, HOSTILE, classes=(0,), warnings=[HOSTILE], **labels)
    page = build_report([clip, clip], failed=[(HOSTILE, HOSTILE)], title=HOSTILE, model={HOSTILE: HOSTILE})
    found = parsed(page)
    assert found.faults == []
    assert not [tag for tag, _ in found.tags if tag == "img"]
    assert sum(tag == "script" for tag, _ in found.tags) == 2 + 2 + 1  # clips, summary and ours
    ticks = unpacked(page)["plots"]["classes"]["layout"]["yaxis"]["ticktext"]
    assert all("<" not in tick for tick in ticks)


def test_a_name_that_is_no_unicode_is_spelled_out():
    page = build_report([], failed=[("caf\udce9.wav", "broken")], title="One")
    assert r"caf\udce9.wav" in page
    page.encode()


def test_plots_are_plotlys_and_show_the_saved_numbers(clip, html):
    plots = unpacked(html)["plots"]
    assert set(plots) == {"timeline", "classes", "shares", "layers", "neurons", "bands"}
    for plot in plots.values():
        go.Figure(plot)  # raises if plotly knows a name or value not
    frames = [t for t in plots["timeline"]["data"] if t["type"] == "bar" and "hovertext" in t]
    held = clip.numbers
    for trace, path in zip(frames, ("frames", "waveform"), strict=True):
        np.testing.assert_allclose(numbers_of(trace["y"]), held[path]["attribution"], rtol=1e-6)
    bands = next(t for t in plots["timeline"]["data"] if t["type"] == "heatmap")
    said = numbers_of(bands["customdata"]).reshape(*clip.arrays["band_frame"].shape, 2)
    np.testing.assert_allclose(said[..., 0], clip.arrays["band_frame"], rtol=1e-6)
    np.testing.assert_allclose(said[..., 1], clip.arrays["band_frame_half_width"], rtol=1e-6)
    clear = numbers_of(bands["z"]).reshape(said.shape[:2]) == 0
    np.testing.assert_array_equal(clear, np.abs(said[..., 0]) <= said[..., 1])


def test_unresolved_bars_are_grey_and_said_to_be(clip, html):
    trace = next(t for t in unpacked(html)["plots"]["timeline"]["data"] if "hovertext" in t)
    held = clip.numbers["frames"]
    unresolved = [abs(v) <= h for v, h in zip(held["attribution"], held["half_width"], strict=True)]
    assert any(unresolved)
    assert [words.endswith(", not resolved") for words in trace["hovertext"]] == unresolved
    assert [colour.startswith("#808080") for colour in trace["marker"]["color"]] == unresolved


def test_bars_that_are_certain_to_be_among_the_strongest_have_a_dot_and_are_said_to_be(sure, waveform):
    view = ClipView.from_explanation(sure, waveform)
    html, found = build_report([view], title="One"), view.numbers["reliability"]["frames"]
    traces = unpacked(html)["plots"]["timeline"]["data"]
    bars = next(t for t in traces if "hovertext" in t)
    dots = next(t for t in traces if t.get("mode") == "text")
    np.testing.assert_array_equal(numbers_of(dots["x"]), numbers_of(bars["x"])[found["certain"]])
    said = [place for place, words in enumerate(bars["hovertext"]) if "certain to be among" in words]
    assert said == found["certain"] != []
    assert "certain to be among the strongest" in html


def test_frames_are_counted_that_models_have_in_common(sure, waveform):
    count = len(sure.to_dict()["frames"]["attribution"])
    found = Agreement(3, 2, 0.5, 0.1, 0.9, [place % 4 for place in range(count)])
    html = build_report(
        [ClipView.from_explanation(replace(sure, agreement=vars(found)), waveform)], title="One"
    )
    plot = unpacked(html)["plots"]["timeline"]
    (row,) = [trace for trace in plot["data"] if trace.get("hovertemplate", "").startswith("%{y} models")]
    assert row["y"] == found.counts
    assert COUNTS in [title["text"] for title in plot["layout"]["annotations"]]
    assert found.in_words() in html


def test_spectrogram_is_darkest_where_the_tone_is(html, waveform):
    (image,) = unpacked(html)["plots"]["timeline"]["layout"]["images"]
    picture = Image.open(io.BytesIO(base64.b64decode(image["source"].split(",")[1]))).convert("RGBA")
    alpha = np.array(picture)[..., 3]
    row = alpha.sum(1).argmax()
    mel = (1 - (row + 0.5) / len(alpha)) * image["sizey"]
    assert abs(mel - 440 / (200 / 3)) < 1  # below 1 kHz a mel of librosa is 200 / 3 Hz
    assert image["x"] == pytest.approx(0, abs=0.02)
    assert image["x"] + image["sizex"] == pytest.approx(len(waveform) / 16_000, abs=0.02)


@pytest.mark.parametrize("paths", [("frames",), ("layers",), ("waveform",), ("frames", "layers", "waveform")])
@pytest.mark.parametrize("with_errors", [True, False])
@pytest.mark.parametrize("sound", [True, False])
def test_whatever_was_explained_makes_a_page(build_clip, paths, with_errors, sound):
    page = build_report(
        [build_clip(paths=paths, with_errors=with_errors, sound=sound, label=None)], title="One"
    )
    assert parsed(page).faults == []
    for plot in unpacked(page)["plots"].values():
        go.Figure(plot)


def test_an_error_that_is_not_known_yet_is_not_a_number(build_clip):
    clip = build_clip()
    half = [None] * len(clip.numbers["frames"]["half_width"])
    frames = {**clip.numbers["frames"], "half_width": half}
    page = build_report([replace(clip, numbers={**clip.numbers, "frames": frames})], title="One")
    trace = next(t for t in unpacked(page)["plots"]["timeline"]["data"] if "hovertext" in t)
    assert trace["hovertext"][0].endswith("no interval known, not resolved")


def test_diagnostics_are_listed_as_they_are_stated(build_clip):
    page = build_report([build_clip(warnings=["Use more <draws>."]), build_clip()], title="Two")
    said = parsed(page).text
    assert said.count("Use more <draws>.") == 1
    assert "1 warning" in said


def test_no_clip_is_refused():
    with pytest.raises(SettingError, match="at least one clip"):
        build_report([], title="None")


@pytest.mark.parametrize(
    ("task", "title", "headings"),
    [
        ("dimensions", "Value of each dimension (\N{BLACK CIRCLE} explained)", ["neutral", "angry"]),
        ("labels", "Probability of each label", ["Top label", "Probability"]),
    ],
)
def test_a_page_of_other_outputs_says_what_they_are(task, title, headings, build_clip):
    clips = [build_clip(name, None, task=task, logits=(0.5, 0.62, -0.3, 0.1)) for name in ("a", "b")]
    html = build_report(clips, title="Page")
    page = parsed(html)
    text = " ".join(page.text)
    assert not page.faults
    assert title in text
    assert all(heading in page.text for heading in headings)
    assert f"Per-{clips[0].words['one']} attribution summary" in text
    for note in ("the page is about ", "where there are 15 clips or more"):
        assert (note in text) == (task == "dimensions")
    assert not any(word in text for word in ("Prediction", "predicted", "class "))
    (shown,) = unpacked(html)["plots"]["classes"]["data"]
    assert shown["x"] == list(clips[0].outputs.values())
    assert any("%" in text for text in shown["text"]) == (task == "labels")
    go.Figure(unpacked(html)["plots"]["classes"])


@pytest.mark.parametrize("task", get_args(Task))
def test_a_page_marks_what_annotators_gave(task, build_clip):
    votes, values = {"sad": 3.0, "angry": 1.0}, {"sad": 4.0}
    known = {"scale": (1.0, 7.0), "annotated_values": values} if task == "dimensions" else {"votes": votes}
    view = build_clip(task=task, logits=(5.0, 0.62, 2.0, 7.5), **known)
    html = build_report([view], title="Page")
    figure = go.Figure(unpacked(html)["plots"]["classes"])
    expected = (None, None, 4.0, None) if task == "dimensions" else (None, None, 0.75, 0.25)
    assert figure.data[1].x == expected
    heading = "annotated" if task == "dimensions" else "listeners (n=4)"
    assert f"\N{WHITE DIAMOND} {heading}" in " ".join(parsed(html).text)
    if task == "dimensions":
        assert (figure.layout.xaxis.range, figure.layout.xaxis.tickvals) == ((0.62, 7.5), (1.0, 7.0))
        assert "sad 2 (annotated 4)" in view.headline
        assert " on a scale from 1 to 7, labeled sad; " in view.headline
    else:
        assert view.facts["Votes"] == "sad 3, angry 1"
