"""Damaged tables: read as they stand, or refused with a place; never another corpus without a word."""

from __future__ import annotations

import csv
import io
import json
from unicodedata import normalize

import pytest
from hypothesis import strategies as st

HEADER = ["path", "label", "speaker"]
UNSEEN = "\u200b\u200e\ufeff\u00ad\u2060"
NO_FILES = ("x" * 300, "~nobody/a.wav", "/", "..", "a\0.wav", "a.wav/", "?")


def edited(rows, draw, change, *columns):
    """The rows with one cell changed, of one of these columns where the header has it."""
    row = draw.choice([row for row in rows[1:] if any(row)])
    places = [place for place, name in enumerate(rows[0]) if name in (columns or HEADER) and place < len(row)]
    if places:
        place = draw.choice(places)
        row[place] = change(row[place])
    return rows


def inserted(rows, draw, signs, *columns):
    """The rows with one of these signs somewhere in one cell."""
    sign, share = draw.choice(signs), draw.random()
    return edited(rows, draw, lambda cell: sign.join(split_at(cell, share)), *columns)


def split_at(cell, share):
    place = round(share * len(cell))
    return cell[:place], cell[place:]


def ordered(rows, order):
    return [[row[place] for place in order if place < len(row)] for row in rows]


# What programs and people do to a table that means the same afterwards.
HARMLESS = {
    "bare commas": lambda rows, draw: rows + [[""] * len(rows[0])] * draw.randint(1, 5),
    "blank line": lambda rows, draw: [*rows[:9], [], *rows[9:]],
    "rows shuffled": lambda rows, draw: [rows[0], *draw.sample(rows[1:], len(rows) - 1)],
    "columns shuffled": lambda rows, draw: ordered(rows, draw.sample(range(len(HEADER)), len(HEADER))),
    "another column": lambda rows, draw: [[*row, "" if index else "notes"] for index, row in enumerate(rows)],
    "decomposed": lambda rows, draw: [[normalize("NFD", cell) for cell in row] for row in rows],
    "one decomposed": lambda rows, draw: edited(rows, draw, lambda cell: normalize("NFD", cell)),
    "spaces": lambda rows, draw: edited(rows, draw, lambda cell: draw.choice(" \t\xa0\u3000") + cell + " "),
    "unseen sign": lambda rows, draw: inserted(rows, draw, UNSEEN, "label", "speaker"),
    "backslash": lambda rows, draw: edited(rows, draw, ".\\{}".format, "path"),
}

# Further columns, with cells that people write.
ODD_CELLS = {
    "start_s": ("0", "0.05", "0,05", "nan", "-1", "1e999", "00:01", "\uff10", "0.2", "[]", "true"),
    "end_s": ("0.09", "0,09", "inf", "0", "99", "0.1 s"),
    "split": ("train", "Train", "TEST", "val", "dev", "0", "training", "trian", "\u200btrain"),
    "text": ("kids", '"kids"', "=A1", "[1]", "null", "-"),
    "dialogue": ("d1", "D1", "1", "1.0"),
    "corpus": ("a", "A"),
    "votes": (
        '[["sad", 1]]',
        "[]",
        "{}",
        "sad",
        '[["sad"]]',
        '[["sad", true]]',
        "[[1, 2]]",
        "null",
        "[" * 9_999,
    ),
    "evidence": (
        '[{"start_s": 0, "end_s": 0.05}]',
        "[]",
        "[0, 1]",
        '[{"start_s": 1, "end_s": 0}]',
        "{}",
        "NaN",
    ),
}


def with_odd_cells(rows, draw):
    name = draw.choice(list(ODD_CELLS))
    cells, share = ODD_CELLS[name], draw.choice([0.1, 1.0])
    chosen = [draw.choice(cells[: draw.randint(1, len(cells))]) for _ in rows[1:]]
    return [
        [*rows[0], name],
        *([*row, cell if draw.random() < share else ""] for row, cell in zip(rows[1:], chosen, strict=True)),
    ]


# What makes another table of it, or none.
HARMFUL = {
    "odd cells": with_odd_cells,
    "header in capitals": lambda rows, draw: [[name.upper() for name in rows[0]], *rows[1:]],
    "header lost": lambda rows, draw: rows[1:],
    "header misspelled": lambda rows, draw: [
        [*HEADER[:2], draw.choice(["speakr", "actor", "", "label"])],
        *rows[1:],
    ],
    "columns swapped": lambda rows, draw: [draw.sample(HEADER, 3), *rows[1:]],
    "column lost": lambda rows, draw: ordered(rows, draw.sample(range(3), 2)),
    "row twice": lambda rows, draw: [*rows, list(draw.choice(rows[1:]))],
    "one class": lambda rows, draw: [rows[0], *([row[0], "sad", *row[2:]] for row in rows[1:] if row)],
    "row lost": lambda rows, draw: [rows[0], *draw.sample(rows[1:], len(rows) - 2)],
    "cell missing at the right": lambda rows, draw: [*rows[:-1], rows[-1][:-1]],
    "cell too many": lambda rows, draw: [*rows[:-1], [*rows[-1], "x"]],
    "cell emptied": lambda rows, draw: edited(rows, draw, lambda cell: ""),
    "sign inserted": lambda rows, draw: inserted(rows, draw, '\0\n\r"\x1b,;\ufffe\U0001f600'),
    "unseen sign in a path": lambda rows, draw: inserted(rows, draw, UNSEEN, "path"),
    "no such file": lambda rows, draw: edited(rows, draw, lambda cell: draw.choice(NO_FILES), "path"),
    "spelled otherwise": lambda rows, draw: edited(rows, draw, draw.choice(SPELLINGS), "label", "speaker"),
}

# Names that look the same, or nearly.
SPELLINGS = (
    str.upper,
    str.title,
    lambda name: normalize("NFD", name),
    lambda name: "".join(chr(ord(sign) + 0xFEE0) if sign.isascii() else sign for sign in name),
    lambda name: f"{name[:2]}\u200b{name[2:]}",
)

SAME_DIALECTS = ({}, {"lineterminator": "\r\n"}, {"lineterminator": "\r"}, {"quoting": csv.QUOTE_ALL})
DIALECTS = (*SAME_DIALECTS, {"delimiter": ";"}, {"delimiter": "\t"}, {"delimiter": "|"})
SAME_ENCODINGS, ENCODINGS = (
    ("utf-8", "utf-8-sig"),
    ("utf-8", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"),
)


def to_csv(rows, dialect, encoding):
    text = io.StringIO(newline="")
    csv.writer(text, **{"lineterminator": "\n", **dialect}).writerows(rows)
    return text.getvalue().encode(encoding, errors="replace")


def to_json_lines(rows):
    cells = (dict(zip(rows[0], row, strict=False)) for row in rows[1:])
    return "".join(json.dumps(one) + "\n" for one in cells).encode()


@pytest.fixture
def rows(corpus, damaged):
    """`(chosen) -> rows` of the table of the corpus after changes."""

    def rows(chosen):
        table = [HEADER, *([clip.path.name, clip.label, clip.speaker] for clip in corpus)]
        return damaged(table, {**HARMLESS, **HARMFUL}, chosen)

    return rows


@pytest.fixture
def read(audit, corpus):
    """`(content, suffix=".csv") -> Outcome` of the audit of a table next to the clips; a refusal names it."""

    def read(content, suffix=".csv"):
        table = corpus[0].path.with_name(f"table{suffix}")
        table.write_bytes(content)
        outcome = audit("manifest", table)
        assert outcome.counts or table.name in outcome.said or "speaker" in outcome.said, outcome.said
        return outcome

    return read


def literal(content, plain):
    """Clips, classes and speakers as an independent reader finds them; None of what is no table."""
    try:
        text = content.decode("utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")
        delimiter = max(",;\t|", key=text.split("\n")[0].count)
        lines = [*csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)]
    except (UnicodeDecodeError, csv.Error):
        return None
    header, *rows = [[plain(cell) for cell in line] for line in lines if any(map(plain, line))] or [[]]
    header = [name.lower() for name in header]
    if not {"path", "label"} <= {*header}:
        return None
    cells = [dict(zip(header, row, strict=False)) for row in rows]
    speakers = {(row.get("corpus", ""), row["speaker"]) for row in cells if row.get("speaker")}
    return len(cells), len({row.get("label", "") for row in cells}), len(speakers)


def test_a_table_that_means_the_same_is_the_same_corpus(search, read, rows, damages):
    def law(changes, dialect, encoding):
        outcome = read(to_csv(rows(changes), dialect, encoding))
        assert (outcome.status, outcome.counts) == (0, (24, 3, 4)), outcome.said

    search(
        law,
        300,
        changes=damages(HARMLESS),
        dialect=st.sampled_from(SAME_DIALECTS),
        encoding=st.sampled_from(SAME_ENCODINGS),
    )


def test_another_table_is_read_as_it_stands_or_refused(search, read, rows, plain, damages):
    def law(changes, dialect, encoding):
        content = to_csv(rows(changes), dialect, encoding)
        outcome = read(content)
        assert outcome.status == 2 or outcome.counts in {literal(content, plain), (24, 3, 4)}, outcome

    search(
        law,
        500,
        changes=damages([*HARMLESS, *HARMFUL]),
        dialect=st.sampled_from(DIALECTS),
        encoding=st.sampled_from(ENCODINGS),
    )


def test_json_lines_are_read_like_commas(search, read, rows, plain, damages):
    def law(changes):
        table = rows(changes)
        by_commas, by_lines = read(to_csv(table, {}, "utf-8")), read(to_json_lines(table), ".jsonl")
        assert None in {by_lines.counts, by_commas.counts} or by_lines.counts == by_commas.counts, by_lines

    search(law, 100, changes=damages([*HARMLESS, *HARMFUL]))


def test_a_table_that_was_cut_or_flipped_is_read_as_it_stands_or_refused(search, read, rows, plain, damages):
    def law(end, flips, lines):
        content = bytearray(to_json_lines(rows([])) if lines else to_csv(rows([]), {}, "utf-8"))
        for share, byte in flips:
            content[int(share * len(content))] = byte
        content = bytes(content[: int(end * len(content))])
        outcome = read(content, ".jsonl" if lines else ".csv")
        if outcome.status == 0 and not lines:
            assert outcome.counts == literal(content, plain), outcome

    flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3)
    search(law, 300, end=st.just(1.0) | st.floats(0, 1), flips=flips, lines=st.booleans())
