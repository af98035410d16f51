"""Damaged alignments give the same words, or are refused by name; never other words without a word."""

from __future__ import annotations

import warnings
from itertools import pairwise

import pytest
from hypothesis import strategies as st

from wavshap_lightning.audio.alignments import read_alignment
from wavshap_lightning.errors import AudioError

WORDS = [("kids", 0.6, 0.9), ("are", 0.9, 1.0), ("talking", 1.05, 1.6), ("schön", 1.7, 2.1)]
PHONES = [
    ("K", 0.6, 0.7),
    ("IH1", 0.7, 0.8),
    ("DZ", 0.8, 0.9),
    ("AA1", 0.9, 1.0),
    ("T", 1.05, 1.6),
    ("S", 1.7, 2.1),
]
END_S = 2.5
TEXTS = [text for text, _, _ in WORDS]
SILENCES = ("sil", "sp", "SIL", "<eps>", "<sil>", "pau", "#")


def filled(intervals, mark=""):
    """The intervals with what lies between them, if their times are numbers."""
    if any(isinstance(edge, str) for one in intervals for edge in one[1:]):
        return intervals
    edges = [0.0, *(edge for _, *times in intervals for edge in times), END_S]
    gaps = [(mark, start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if end > start]
    return sorted([*intervals, *gaps], key=lambda one: one[1])


def jittered(intervals, draw, most_s):
    def later(time_s):
        return time_s + draw.uniform(0, most_s) if isinstance(time_s, float) else time_s

    return [(text, later(start), later(end)) for text, start, end in intervals]


def each(change):
    """A change of the intervals of every tier."""
    return lambda tiers, draw: [(name, change(intervals, draw)) for name, intervals in tiers]


def renamed(tiers, words, phones):
    return [({"words": words, "phones": phones}.get(name, name), intervals) for name, intervals in tiers]


# What aligners and people do to word times that are the same afterwards.
HARMLESS = {
    "rounding": each(lambda intervals, draw: jittered(intervals, draw, 1e-5)),
    "marks of silence": each(lambda intervals, draw: filled(intervals, draw.choice(SILENCES))),
    "empty intervals": each(lambda intervals, draw: filled(intervals)),
    "spaces": each(lambda intervals, draw: [(f" {text} ", start, end) for text, start, end in intervals]),
    "empty tier": lambda tiers, draw: [("notes", [("", 0.0, END_S)]), *tiers],
    "tiers shuffled": lambda tiers, draw: draw.sample(tiers, len(tiers)),
    "phones twice": lambda tiers, draw: [*tiers, ("phones", PHONES)],
    "other letter case": lambda tiers, draw: renamed(tiers, draw.choice(["WORDS", "Words "]), "PHONES"),
    "speaker in the name": lambda tiers, draw: renamed(tiers, "ann - words", "ann - phones"),
    "singular": lambda tiers, draw: renamed(tiers, "word", "phone"),
}

# What leaves other words, or none.
HARMFUL = {
    "no words": lambda tiers, draw: [(name, [("", 0.0, END_S)]) for name, _ in tiers],
    "no tier": lambda tiers, draw: [],
    "no tier of words": lambda tiers, draw: [one for one in tiers if one[0] == "phones"],
    "two speakers": lambda tiers, draw: [*tiers, ("bob - words", [("no", 0.1, 0.4)])],
    "two at a time": each(lambda intervals, draw: jittered(intervals, draw, 0.3)),
    "times that are none": each(
        lambda intervals, draw: [
            (text, draw.choice(["nan", "inf", "-1", "1e999", "0,6", "x", ""]), end)
            for text, _, end in intervals
        ]
    ),
    "end before start": each(lambda intervals, draw: [(text, end, start) for text, start, end in intervals]),
    "quotes": each(
        lambda intervals, draw: [
            (f'"{text}' if text.isalpha() else text, start, end) for text, start, end in intervals
        ]
    ),
}


def to_long(tiers):
    yield f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = {END_S}\n'
    yield f"tiers? <exists>\nsize = {len(tiers)}\nitem []:\n"
    for number, (name, intervals) in enumerate(tiers, 1):
        yield f'    item [{number}]:\n        class = "IntervalTier"\n        name = "{name}"\n'
        yield f"        xmin = 0\n        xmax = {END_S}\n        intervals: size = {len(intervals)}\n"
        for index, (text, start, end) in enumerate(intervals, 1):
            yield f"        intervals [{index}]:\n            xmin = {start}\n            xmax = {end}\n"
            yield f'            text = "{text}"\n'


def to_short(tiers):
    yield f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n{END_S}\n<exists>\n{len(tiers)}\n'
    for name, intervals in tiers:
        yield f'"IntervalTier"\n"{name}"\n0\n{END_S}\n{len(intervals)}\n'
        yield from (f'{start}\n{end}\n"{text}"\n' for text, start, end in intervals)


def to_ctm(tiers):
    for text, start, end in tiers[0][1]:
        if not text.strip():
            continue  # a row has five words
        duration = end if str in {type(start), type(end)} else end - start
        yield f"clip 1 {start} {duration} {text}\n"


def to_table(tiers, delimiter=","):
    yield delimiter.join(("text", "start_s", "end_s")) + "\n"
    yield from (f"{text}{delimiter}{start}{delimiter}{end}\n" for text, start, end in tiers[0][1])


FORMATS = {
    "long.TextGrid": to_long,
    "short.TextGrid": to_short,
    "clip.ctm": to_ctm,
    "clip.csv": to_table,
    "clip.tsv": lambda tiers: to_table(tiers, "\t"),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")


@pytest.fixture
def content_of(damaged):
    """`(form, chosen=(), encoding="utf-8", line_end="\\n") -> bytes` of an alignment after changes."""

    def content_of(form, chosen=(), encoding="utf-8", line_end="\n"):
        tiers = damaged([("words", WORDS), ("phones", PHONES)], {**HARMLESS, **HARMFUL}, chosen)
        if not form.endswith(".TextGrid"):
            tiers = [one for one in tiers if "word" in one[0].lower()][:1] or [("words", [])]
        return "".join(FORMATS[form](tiers)).replace("\n", line_end).encode(encoding)

    return content_of


@pytest.fixture
def read(tmp_path):
    """`(form, content) -> segments`, or None of a refusal, which names the file."""

    def read(form, content):
        path = tmp_path / form
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                found = read_alignment(path).words
        except AudioError as error:
            message = str(error)
            assert str(path) in message, message
            assert "\n" not in message, message
            assert not message.rstrip(")").endswith(":"), message
            return None
        assert all(0 <= one.start_s < one.end_s for one in found)
        assert all(before.end_s <= after.start_s for before, after in pairwise(found))
        return found

    return read


def test_what_means_the_same_gives_the_same_words(search, read, content_of, damages):
    def law(form, changes, line_end, encoding):
        if encoding == "utf-16" and not form.endswith(".TextGrid"):
            encoding = "utf-8"  # Praat alone writes UTF-16
        found = read(form, content_of(form, changes, encoding, line_end))
        assert [one.text for one in found] == TEXTS
        for one, (_, start_s, end_s) in zip(found, WORDS, strict=True):
            assert (one.start_s, one.end_s) == pytest.approx((start_s, end_s), abs=1e-4)

    search(
        law,
        250,
        form=st.sampled_from(list(FORMATS)),
        changes=damages(HARMLESS),
        line_end=st.sampled_from(["\n", "\r\n"]),
        encoding=st.sampled_from(ENCODINGS),
    )


def test_what_means_something_else_is_refused_or_has_words_of_the_file(search, read, content_of, damages):
    def law(form, changes):
        found = read(form, content_of(form, changes))
        without_words = {"no tier", "no tier of words"} & dict(changes).keys()
        there = {*TEXTS, "no", *(one[0] for one in PHONES if without_words)}
        assert found is None or {one.text.strip('"') for one in found} <= there

    search(law, 150, form=st.sampled_from(list(FORMATS)), changes=damages([*HARMLESS, *HARMFUL]))


def test_a_textgrid_that_was_cut_off_gives_all_words_or_is_refused(search, read, content_of):
    def law(form, end, encoding):
        content = content_of(form, encoding=encoding)
        found = read(form, content[: int(end * len(content))])
        assert found is None or [one.text for one in found] == TEXTS

    forms = st.sampled_from(["long.TextGrid", "short.TextGrid"])
    search(law, 100, form=forms, end=st.floats(0, 1), encoding=st.sampled_from(ENCODINGS))


def test_a_table_that_was_cut_off_gives_its_first_words_or_is_refused(search, read, content_of):
    def law(form, end):
        content = content_of(form)
        found = read(form, content[: int(end * len(content))]) or []
        texts = [one.text for one in found]
        assert texts[:-1] == TEXTS[: len(texts)][:-1]
        assert all(text.startswith(texts[-1]) for text in TEXTS[len(texts) - 1 : len(texts)] if texts)

    search(law, 80, form=st.sampled_from(["clip.ctm", "clip.csv", "clip.tsv"]), end=st.floats(0, 1))


def test_a_flipped_byte_changes_two_words_at_most(search, read, content_of):
    def law(form, share, byte):
        content = bytearray(content_of(form))
        content[int(share * len(content))] = byte
        found = read(form, bytes(content))
        if found is not None:
            texts = [one.text for one in found]
            assert len(texts) <= len(TEXTS)
            assert len({*TEXTS} & {*texts}) >= len(TEXTS) - 2, texts

    search(
        law,
        150,
        form=st.sampled_from(list(FORMATS)),
        share=st.floats(0, 1, exclude_max=True),
        byte=st.integers(0, 255),
    )
