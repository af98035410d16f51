"""Laws of clips and spans: what they accept, what they refuse, and what they are called."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavshap_lightning.corpora.clip import SPLITS, Clip, Span, normalized
from wavshap_lightning.errors import CorpusError

times_s = st.floats(0, 1e6, allow_nan=False)
BAD_STARTS = [-0.001, float("nan"), float("inf"), -float("inf")]
BAD_ENDS = [1.0, 0.5, -1.0, float("nan"), float("inf")]


@given(times_s, times_s)
def test_a_span_takes_times_in_order_and_nothing_else(one_s, other_s):
    if one_s < other_s:
        span = Span(one_s, other_s, "tremor")
        assert (span.start_s, span.end_s, span.kind) == (one_s, other_s, "tremor")
    else:
        with pytest.raises(CorpusError, match="end_s="):
            Span(one_s, other_s)


@pytest.mark.parametrize("start_s", BAD_STARTS)
def test_a_start_that_is_no_time_is_refused(start_s):
    with pytest.raises(CorpusError, match=r"start_s=.* must be a finite time of at least 0"):
        Span(start_s, 2.0)
    with pytest.raises(CorpusError, match=r"start_s=.* must be a finite time of at least 0"):
        Clip(Path("a.wav"), "angry", start_s=start_s)


@pytest.mark.parametrize("end_s", BAD_ENDS)
def test_an_end_that_is_not_after_the_start_is_refused(end_s):
    with pytest.raises(CorpusError, match=r"end_s=.* must be a finite time after start_s=1.0"):
        Span(1.0, end_s)
    with pytest.raises(CorpusError, match=r"end_s=.* must be a finite time after start_s=1.0"):
        Clip(Path("a.wav"), "angry", start_s=1.0, end_s=end_s)


@pytest.mark.parametrize("end_s", [0.0, -1.0, float("nan")])
def test_an_end_alone_is_measured_from_the_start_of_the_file(end_s):
    assert Clip(Path("a.wav"), "angry", end_s=0.5).end_s == 0.5
    with pytest.raises(CorpusError, match=r"after start_s=0.0"):
        Clip(Path("a.wav"), "angry", end_s=end_s)


ALIKE = {
    "Unicode form": "Jo\u0308rg Koch",
    "a byte order mark": "\ufeffJörg Koch",
    "a zero-width space": "Jö\u200brg Koch",
    "a soft hyphen": "Jörg Ko\u00adch",
    "direction marks": "\u200eJörg\u200f Koch\u202c",
    "an idle joiner": "Jör\u200dg Koch\u200c",
    "a no-break space": "Jörg\u00a0Koch",
    "a narrow no-break space": "Jörg\u202fKoch",
    "an ideographic space": "\u3000Jörg\u3000Koch",
    "spaces, a tab and a line break": " Jörg\t  Koch\r\n",
    "a control character": "Jörg\x00 Koch\x1a",
    "bytes of Windows": "J\udcf6rg Koch",
}


@pytest.mark.parametrize("name", ALIKE.values(), ids=ALIKE)
def test_what_looks_alike_is_equal_in_every_field(name):
    def build(name):
        return Clip(
            Path("a.wav"),
            label=name,
            speaker=name,
            corpus=name,
            text=name,
            dialogue=name,
            votes=((name, 1.0),),
            values=((name, 1.0),),
            evidence=(Span(0.0, 1.0, name),),
        )

    assert build(name) == build("Jörg Koch")
    assert build(name).speaker == "Jörg Koch"


@pytest.mark.parametrize("name", ["می\u200cرود", "क्\u200dष", "👩\u200d🔬", "Ann", "O'Neil", "王 伟"])
def test_joiners_stay_where_they_shape_the_writing(name):
    assert Clip(Path("a.wav"), name).label == name


@given(st.text())
def test_normalized_text_stays_as_it_is_and_can_be_stored(text):
    once = normalized(text)
    assert normalized(once) == once
    assert once.encode().decode() == once


def test_paths_stay_as_they_are_on_the_disk():
    path = Path("Jo\u0308rg/a\u200b.wav")
    assert Clip(path, "sad").path == path


def test_a_clip_needs_a_label():
    for label in ("", " ", "\u200b"):
        with pytest.raises(CorpusError, match=r"path=a.wav: label='' is empty; give every clip a label"):
            Clip(Path("a.wav"), label)


@pytest.mark.parametrize("split", [*SPLITS, None])
def test_a_clip_knows_the_official_splits(split):
    assert Clip(Path("a.wav"), "angry", split=split).split == split


@pytest.mark.parametrize("split", ["dev", "Train", ""])
def test_other_splits_are_refused_by_name(split):
    with pytest.raises(CorpusError, match=f"split='{split}' must be one of train, validation, test"):
        Clip(Path("a.wav"), "angry", split=split)


@pytest.mark.parametrize(
    ("path", "start_s", "name"),
    [
        ("deep/down/03-01.wav", None, "03-01"),
        ("two.dots.flac", None, "two.dots"),
        ("session.wav", 12.5, "session@12.500"),
        ("session.wav", 0.0, "session@0.000"),
    ],
)
def test_a_clip_is_called_after_its_file_and_start(path, start_s, name):
    assert Clip(Path(path), "angry", start_s=start_s).name == name


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_spans_of_one_file_a_millisecond_apart_have_different_names(one_ms, other_ms):
    one, other = (Clip(Path("a.wav"), "angry", start_s=time_ms / 1000) for time_ms in (one_ms, other_ms))
    assert (one.name == other.name) == (one_ms == other_ms)


def test_a_clip_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Clip(Path("a.wav"), "angry").label = "happy"


def test_equal_clips_are_one_key_and_changed_copies_are_checked_again():
    clip = Clip(Path("a.wav"), "angry", evidence=(Span(0.1, 0.2),), votes=(("angry", 3.0),))
    assert {clip, replace(clip)} == {clip}
    assert replace(clip, label="happy") != clip
    with pytest.raises(CorpusError):
        replace(clip, label="")


@pytest.mark.parametrize("field", ["votes", "values"])
@pytest.mark.parametrize("pairs", [(("sad", float("nan")),), (("sad", float("inf")),), (("", 1.0),)])
def test_votes_and_values_are_finite_numbers_with_names(field, pairs):
    with pytest.raises(CorpusError, match=f"{field}=.* must name each once, with a finite number"):
        Clip(Path("a.wav"), "sad", **{field: pairs})


def test_names_that_look_alike_are_named_twice_and_only_votes_cannot_be_negative():
    for field in ("votes", "values"):
        with pytest.raises(CorpusError, match=f"{field}=.* must name each once"):
            Clip(Path("a.wav"), "sad", **{field: (("sad", 1.0), ("sad\u200b", 2.0))})
    assert Clip(Path("a.wav"), "sad", values=(("valence", -1.0),)).values == (("valence", -1.0),)
    with pytest.raises(CorpusError, match="of at least 0"):
        Clip(Path("a.wav"), "sad", votes=(("sad", -1.0),))
