"""The report is one well-formed page that says what the clips' numbers say, and takes no name for HTML."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest
import soundfile
from PIL import Image

from wavshap_lightning.errors import SettingError
from wavshap_lightning.explainer.files import SavedClip
from wavshap_lightning.viz.estimates import Estimates
from wavshap_lightning.viz.report import ReportClip, build_report
from wavshap_lightning.viz.report.embed import plotly_script
from wavshap_lightning.viz.report.evidence import headline, shortest_stretch
from wavshap_lightning.viz.report.listening import sound_url
from wavshap_lightning.viz.report.notes import warnings_of
from wavshap_lightning.viz.report.reading import Moments, coarsened

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
    found.feed(html.replace(str(plotly_script()), ""))
    found.close()
    return found


def unpacked(html, index=0):
    content = re.search(rf'id="data-{index}">([^<]*)</script>', html)[1]
    return json.loads(zlib.decompress(base64.b64decode(content)) if index else content)


def numbers_of(held):
    return np.frombuffer(base64.b64decode(held["bdata"]), dtype=f"<{held['dtype']}")


@pytest.fixture(scope="module")
def clip(build_clip):
    return build_clip()


@pytest.fixture(scope="module")
def html(clip):
    failed = ReportClip("gone.wav", None, None, "path=gone.wav does not exist; check the name")
    return build_report([clip, failed], title="Two clips", model={"Checkpoint": "best.ckpt"})


def test_page_is_well_formed_and_says_why_a_clip_failed(html):
    found = parsed(html)
    assert found.faults == []
    assert found.stack == []
    said = " ".join(found.text)
    assert "Two clips" in said
    assert "best.ckpt" in said
    assert "path=gone.wav does not exist; check the name" in said


def test_same_clips_give_the_same_page(clip, html):
    failed = ReportClip("gone.wav", None, None, "path=gone.wav does not exist; check the name")
    assert build_report([clip, failed], title="Two clips", model={"Checkpoint": "best.ckpt"}) == html


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
    page = build_report(
        [clip, ReportClip(HOSTILE, None, None, HOSTILE)], title=HOSTILE, model={HOSTILE: HOSTILE}
    )
    found = parsed(page)
    assert found.faults == []
    assert not [tag for tag, _ in found.tags if tag == "img"]
    assert sum(tag == "script" for tag, _ in found.tags) == 2 + 2 + 1  # clips, summary and ours
    ticks = unpacked(page)["plots"]["classes"]["layout"]["yaxis"]["ticktext"]
    assert all("<" not in tick for tick in ticks)


def test_a_name_that_is_no_unicode_is_spelled_out():
    page = build_report([ReportClip("caf\udce9.wav", None, None, "broken")], title="One")
    assert r"caf\udce9.wav" in page
    page.encode()


def test_plots_are_plotlys_and_show_the_saved_numbers(clip, html):
    plots = unpacked(html)["plots"]
    assert set(plots) == {"timeline", "classes", "shares", "layers", "neurons", "bands"}
    for plot in plots.values():
        go.Figure(plot)  # raises if plotly knows a name or value not
    frames = [t for t in plots["timeline"]["data"] if t["type"] == "bar" and "hovertext" in t]
    held = clip.saved.numbers
    for trace, path in zip(frames, ("frames", "waveform"), strict=True):
        np.testing.assert_allclose(numbers_of(trace["y"]), held[path]["attribution"], rtol=1e-6)
    bands = next(t for t in plots["timeline"]["data"] if t["type"] == "heatmap")
    said = numbers_of(bands["customdata"]).reshape(*clip.saved.arrays["band_frame"].shape, 2)
    np.testing.assert_allclose(said[..., 0], clip.saved.arrays["band_frame"], rtol=1e-6)
    np.testing.assert_allclose(said[..., 1], clip.saved.arrays["band_frame_half_width"], rtol=1e-6)
    clear = numbers_of(bands["z"]).reshape(said.shape[:2]) == 0
    np.testing.assert_array_equal(clear, np.abs(said[..., 0]) <= said[..., 1])


def test_unresolved_bars_are_grey_and_said_to_be(clip, html):
    trace = next(t for t in unpacked(html)["plots"]["timeline"]["data"] if "hovertext" in t)
    held = clip.saved.numbers["frames"]
    unresolved = [abs(v) <= h for v, h in zip(held["attribution"], held["half_width"], strict=True)]
    assert any(unresolved)
    assert [words.endswith(", not resolved") for words in trace["hovertext"]] == unresolved
    assert [colour.startswith("#808080") for colour in trace["marker"]["color"]] == unresolved


@pytest.mark.parametrize(
    ("sample_rate", "kind", "least_db"), [(16_000, "mpeg", 15), (44_100, "mpeg", 15), (16_001, "flac", 60)]
)
def test_sound_is_the_clips_at_its_place(sample_rate, kind, least_db):
    rng = np.random.default_rng(0)
    time_s = np.arange(sample_rate) / sample_rate
    sound = 0.3 * np.sin(2 * np.pi * (300 + 200 * time_s) * time_s) * (time_s > 0.4)
    sound += 0.001 * rng.standard_normal(sample_rate)
    head, content = sound_url(sound, sample_rate).split(",")
    assert head == f"data:audio/{kind};base64"
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
    assert (rate, len(heard)) == (sample_rate, len(sound))
    error = np.mean((heard - sound) ** 2)
    assert 10 * np.log10(np.mean(sound**2) / error) > least_db


def test_spectrogram_is_darkest_where_the_tone_is(html, waveform):
    (image,) = unpacked(html)["plots"]["timeline"]["layout"]["images"]
    picture = Image.open(io.BytesIO(base64.b64decode(image["source"].split(",")[1]))).convert("RGBA")
    alpha = np.array(picture)[..., 3]
    row = alpha.sum(1).argmax()
    mel = (1 - (row + 0.5) / len(alpha)) * image["sizey"]
    assert abs(mel - 440 / (200 / 3)) < 1  # below 1 kHz a mel of librosa is 200 / 3 Hz
    assert image["sizex"] == pytest.approx(len(waveform) / 16_000, abs=0.01)


def moments(values, half_widths=None):
    starts = np.arange(len(values), dtype=float)
    half = None if half_widths is None else np.array(half_widths, dtype=float)
    return Moments(Estimates(np.array(values, dtype=float), half), starts, starts + 1)


def test_shortest_stretch_is_that_of_all_stretches():
    rng = np.random.default_rng(1)
    for _ in range(50):
        values = rng.standard_normal(12)
        found = shortest_stretch(moments(values))
        gain = np.maximum(values, 0)
        lengths = [
            j - i for i in range(12) for j in range(i + 1, 13) if gain[i:j].sum() >= 0.5 * gain.sum() - 1e-9
        ]
        assert found.end_s - found.start_s == min(lengths)
        inside = gain[int(found.start_s) : int(found.end_s)].sum() / gain.sum()
        assert found.share == pytest.approx(inside)
        assert inside >= 0.5 - 1e-9


def test_unresolved_moments_are_no_evidence():
    assert shortest_stretch(moments([1, 1], [2, 2])) is None
    assert shortest_stretch(moments([-1, -2])) is None
    assert shortest_stretch(moments([5, 1], [6, 0.5])).start_s == 1


def test_neighbours_keep_the_sum_and_their_interval_is_no_narrower():
    rng = np.random.default_rng(2)
    errors = rng.uniform(size=(3, 101))
    found = Moments(Estimates(rng.standard_normal((3, 101)), errors), np.arange(101.0), np.arange(1, 102.0))
    drawn = coarsened(found, 20)
    assert drawn.shown.values.shape == (3, 17)
    np.testing.assert_allclose(drawn.shown.values.sum(1), found.shown.values.sum(1))
    alone = np.sqrt(np.add.reduceat(errors**2, np.arange(0, 101, 6), axis=1))
    assert (drawn.shown.half_widths >= alone).all()


def with_numbers(saved, **changed):
    return SavedClip({**saved.numbers, **changed}, saved.arrays)


def test_headline_says_what_was_heard_and_where(build_clip):
    saved = build_clip(label="sad").saved
    frames = saved.numbers["frames"]
    peak = [10.0 if 4 <= place < 7 else 0.0 for place in range(len(frames["attribution"]))]
    sharp = {**frames, "attribution": peak, "half_width": [0.1] * len(peak)}
    assert (
        headline(with_numbers(saved, frames=sharp))
        == "Heard as happy (64 %), labelled sad; most of the evidence between 0.08 and 0.12 s."
    )
    wide = {**sharp, "half_width": [11.0] * len(peak)}
    assert "no moment is resolved: ask for more draws" in headline(with_numbers(saved, frames=wide))
    against = {**sharp, "attribution": [-value for value in peak]}
    assert "no resolved moment speaks for happy" in headline(with_numbers(saved, frames=against))


def test_doubts_are_stated_plainly(build_clip):
    saved = build_clip(warnings=["This clip is unlike those the head learned from"]).saved
    paths = {name: {**one, "relative_gap": 0.0} for name, one in saved.numbers["stages"].items()}
    paths["frames"] |= {"resolved": False, "draws_needed": 512, "relative_gap": 0.4}
    shares = {"speech": 0.25, "pause": 0.25, "edges": 0.5}
    said = warnings_of(with_numbers(saved, stages=paths, shares=shares))
    assert said[0] == "This clip is unlike those the head learned from."
    assert said[1].endswith("before its tolerance was reached; about 512 draws would do.")
    assert "missed their sum by 40 %" in said[2]
    assert said[3].startswith("75 % of the attribution")


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
    half = [None] * len(clip.saved.numbers["frames"]["half_width"])
    frames = {**clip.saved.numbers["frames"], "half_width": half}
    page = build_report([ReportClip("x", with_numbers(clip.saved, frames=frames), None)], title="One")
    trace = next(t for t in unpacked(page)["plots"]["timeline"]["data"] if "hovertext" in t)
    assert trace["hovertext"][0].endswith("(no interval known), not resolved")


def test_no_clip_is_refused():
    with pytest.raises(SettingError, match="at least one clip"):
        build_report([], title="None")
