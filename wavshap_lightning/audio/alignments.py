"""Alignment files: who said what when, as TextGrid, CTM or CSV, in the conventions of many aligners."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from math import inf
from operator import attrgetter
from pathlib import Path, PureWindowsPath

from wavshap_lightning.audio.segments import Segment
from wavshap_lightning.errors import AudioError, first_line
from wavshap_lightning.files import parse_csv, read_text

SUFFIXES = (".TextGrid", ".ctm", ".csv", ".tsv")
Tiers = dict[str, list[Segment]]

# Names of tiers of words; the first pattern that fits any of them decides, so that `words` comes before
# `Ann - words` (MFA, FAVE), `ORT-MAU` (MAUS) and `TokensAlign` (SPPAS).
WORD_TIERS = (
    r"words?([ _-]?tier)?(_2)*",
    r"(.*[\W\d_])?(words?|wrds?|tokens?|ort)[\W\d_]*|words? *[-:/(\[].*|ort-mau|tokensalign|w",
)

# Texts that are no word: signs for a pause; all in angle, square or curly brackets but unknown words such as
# `<unk>`; and what aligners write for silence and noise. Words of a language such as `pause` and `noise` are
# no marks unless they are in brackets, and `@`, `?` and `&` may be phones or be read aloud.
NO_WORD = re.compile(
    r"(?i)[\s#_.…,*+|()♪/–—-]*"  # noqa: RUF001 - dashes as people write them
    r"|(?!\W*(unk|oov))(<[^<>]*>|\[[^][]*\]|\{[^{}]*\}|\+\+.*\+\+|\s)+"
    r"|\W*(sil[be]?|ssil|sp|spn|nsn|pau|ns|lg|br|cg|ls|sent-start|sent-end)\W*|h#|#\d+|!enter|!exit"
)

# Names of the columns of a table, the first of them that is there before the others.
COLUMNS = {
    "text": ("text", "word", "label", "token", "name", "segment", "phone"),
    "start_s": ("start_s", "start", "start_time", "begin", "begin_time", "onset", "from", "xmin", "tmin"),
    "end_s": ("end_s", "end", "end_time", "stop", "offset", "to", "xmax", "tmax"),
    "duration_s": ("duration_s", "duration", "dur"),
    "tier": ("tier", "type"),
}

LEAST_GAP_S = 1e-6  # the last digit of a TextGrid

# Ends are rounded; more than this is two people at a time, or a mistake.
OVERLAP_SLACK_S = 0.02


@dataclass(frozen=True)
class Alignment:
    """Words and phones of a clip, each in order and apart from one another, without pauses.

    Args:
        words: The words, with their confidence where the aligner gives one.
        phones: Their phones; empty if unknown.
    """

    words: tuple[Segment, ...]
    phones: tuple[Segment, ...] = ()


def format_textgrid(alignment: Alignment, duration_s: float) -> str:
    """Text of a TextGrid (short form) with the tiers `words` and `phones`; pauses are empty intervals.

    Args:
        alignment: Words and phones.
        duration_s: Duration of the recording, in seconds.
    """
    text = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n{duration_s:.6f}\n<exists>\n2\n'
    for name, tier in vars(alignment).items():
        times_s = [0.0, *(edge for one in tier for edge in (one.start_s, one.end_s)), duration_s]
        texts = ["", *(part for one in tier for part in (one.text.replace('"', '""'), ""))]
        spans = zip(texts, pairwise(times_s), strict=True)
        rows = [f'{low:.6f}\n{high:.6f}\n"{one}"\n' for one, (low, high) in spans if high - low > LEAST_GAP_S]
        text += f'"IntervalTier"\n"{name}"\n0\n{duration_s:.6f}\n{len(rows)}\n{"".join(rows)}'
    return text


def read_alignment(path: str | Path, *, tier: str = "", recording: str = "") -> Alignment:
    """Words of an alignment, and phones where a tier is named `phones`; empty if there are none.

    Silence and noise are left out. Ends that overlap the next beginning by rounding are cut.

    Args:
        path: A TextGrid (long or short), a CTM, or a CSV with columns such as `text,start_s,end_s`.
        tier: Of a TextGrid, or of a table with a column `tier` or `type`; the tier of words if empty.
        recording: Of a CTM that holds several.

    Raises:
        AudioError: If the file cannot be read, a time is out of order, words overlap, or several tiers
            hold words.

    Warns:
        UserWarning: If no tier is named words, no recording is named so, or a word has no duration.
    """
    tiers = _read_tiers(path := Path(path).expanduser(), recording)
    return Alignment(*(_apart(path, one) for one in (_chosen(path, tiers, tier), tiers.get("phones", []))))


def same_spelling(name: str) -> str:
    """A name without letter case and in one Unicode form: names that look alike become equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _apart(path: Path, rows: Sequence[Segment]) -> tuple[Segment, ...]:
    """Words or phones in order, apart from one another."""
    rows = sorted(rows, key=attrgetter("start_s"))
    for row in rows:
        if not 0 <= row.start_s <= row.end_s < inf:  # true of NaN as well
            raise AudioError(f"segments={path}: {_place(row)} must begin at 0 or later and end after that")
    instants = [_place(row) for row in rows if row.start_s == row.end_s]
    if instants:
        _warn(path, f"words without duration are left out: {', '.join(instants)}")
        rows = [row for row in rows if row.start_s < row.end_s]
    for before, after in pairwise(rows):
        if before.end_s > after.start_s + OVERLAP_SLACK_S or before.start_s == after.start_s:
            both = f"{_place(before)} and {_place(after)}"
            raise AudioError(f"segments={path}: {both} overlap; give one speaker's words")
    apart = (replace(row, end_s=min(row.end_s, after.start_s)) for row, after in pairwise(rows))
    return (*apart, *rows[-1:])


def _place(row: Segment) -> str:
    return f"{row.text!r} ({row.start_s:g}-{row.end_s:g} s)"


def _warn(path: Path, message: str) -> None:
    warnings.warn(f"segments={path}: {message}", stacklevel=4)


def _read_tiers(path: Path, recording: str) -> Tiers:
    """The words of an alignment file by tier; `""` is the tier of a format that has none."""
    suffix = path.suffix.lower()
    if suffix not in map(str.lower, SUFFIXES):
        must = f"must be one of {', '.join(SUFFIXES)}; export the words as one of them"
        raise AudioError(f"segments={path}: suffix={path.suffix!r} {must}")
    try:
        text = read_text(path)
        read = _read_textgrid if suffix == ".textgrid" else _read_table
        tiers = _read_ctm(path, text, recording) if suffix == ".ctm" else read(text)
    except (OSError, ValueError) as error:
        reason = f"cannot be read as {suffix[1:]} ({first_line(error)})"
        raise AudioError(f"segments={path} {reason}; export it again, in UTF-8 and seconds") from error
    return {name: [row for row in rows if not NO_WORD.fullmatch(row.text)] for name, rows in tiers.items()}


def _chosen(path: Path, tiers: Tiers, tier: str) -> list[Segment]:
    """The rows of the tier asked for, or else of the tier of words."""
    is_textgrid, there = path.suffix.lower() == ".textgrid", ", ".join(map(repr, tiers)) or "none"
    if (is_textgrid and not tiers) or (tier and any(tiers) and tier not in tiers):
        raise AudioError(f"segments={path}: tier={tier!r} is not an interval tier; the file has {there}")
    if tier in tiers:
        return tiers[tier]
    names = ([name for name in tiers if re.fullmatch(one, name.strip(), re.IGNORECASE)] for one in WORD_TIERS)
    named = next(filter(None, names), [])
    filled = [name for name in named or tiers if tiers[name]]
    if named and len(filled) > 1:
        raise AudioError(f"segments={path}: tiers={filled} hold words; choose one with tier")
    if is_textgrid and filled and not named:
        _warn(path, f"no tier is named words, and {filled[0]!r} of {there} is taken; choose one with tier")
    return [row for name in (filled[:1] if is_textgrid else filled) for row in tiers[name]]


def _read_textgrid(text: str) -> Tiers:
    """The interval tiers of a TextGrid, those of one name told apart by `_2`."""
    tokens, tiers = _tokens_of(text), Tiers()
    *_, num_tiers = islice(tokens, 5)
    for _ in range(int(num_tiers)):
        kind, name, _, _, num_rows = islice(tokens, 5)
        rows = [list(islice(tokens, 3 if kind == "IntervalTier" else 2)) for _ in range(int(num_rows))]
        if kind == "IntervalTier":
            while name in tiers:
                name += "_2"
            tiers[name] = [_segment(word, start, end) for start, end, word in rows]
    return tiers


def _tokens_of(text: str) -> Iterator[str]:
    """The parts of a TextGrid that count, long or short: texts in quotes, and numbers that stand alone."""
    for quoted, number in re.findall(r'"((?:[^"]|"")*)"|(?<!\S)([-+.\d]\S*)', text):
        yield number or quoted.replace('""', '"')
    raise ValueError("it breaks off, or is something else")


def _read_ctm(path: Path, text: str, recording: str) -> Tiers:
    """Lines of `recording channel start duration word`, in seconds; what follows is left out."""
    rows = [row for line in text.splitlines() if (row := line.split()) and not row[0].startswith((";;", "#"))]
    short = next((row for row in rows if len(row) < 5), None)
    if short is not None:
        raise ValueError(f"the line {' '.join(short)!r} must be: recording channel start duration word")
    mine, words, kept = _recording_of(path, sorted({row[0] for row in rows}), recording), [], True
    for name, _, start, duration, word, *_ in rows:
        if start == "*":  # of what lies between <ALT_BEGIN> and <ALT_END> the first alternative is taken
            kept = word.upper() != "<ALT>"
        elif kept and name == mine:
            words.append(_segment(word, start, duration, is_duration=True))
    return {"": words}


def _recording_of(path: Path, names: Sequence[str], recording: str) -> str | None:
    """The name of a recording in a CTM, where it may be spelled otherwise or be that of a file."""
    wanted = same_spelling(recording)
    alike = [name for name in names if name == recording]
    alike = alike or [name for name in names if same_spelling(name) == wanted]
    alike = alike or [name for name in names if same_spelling(PureWindowsPath(name).stem) == wanted]
    if len(alike) == 1:
        return alike[0]
    found = f"{len(names)} recordings and {len(alike) or 'none'} named {recording!r}"
    problem = f"the file holds {found}; found {', '.join(names[:5])}"
    if len(names) > 1 and not recording:
        raise AudioError(f"segments={path}: {problem}")
    if names and recording:
        _warn(path, problem)
    return names[0] if len(names) == 1 else None


def _read_table(text: str) -> Tiers:
    """Rows of a table by tier."""
    rows = parse_csv(text)
    names = [re.sub(r"\W+", "_", name.lower()).strip("_") for _, header in islice(rows, 1) for name in header]
    place = {of: names.index(one) for of, known in COLUMNS.items() for one in known[::-1] if one in names}
    last = "end_s" if "end_s" in place else "duration_s"
    if not {"text", "start_s", last} <= place.keys():
        raise ValueError(f"columns={names} must hold text, start_s and end_s")
    tiers = Tiers()
    for _, cells in rows:
        text, start, end = (cells[place[one]] for one in ("text", "start_s", last))
        tier = cells[place["tier"]] if "tier" in place else ""
        tiers.setdefault(tier, []).append(_segment(text, start, end, is_duration=last != "end_s"))
    return tiers


def _segment(text: str, start: str, end: str, *, is_duration: bool = False) -> Segment:
    """A segment from what is written, with decimal points or commas."""
    start_s, end_s = (float(cell.replace(",", ".")) for cell in (start, end))
    return Segment(" ".join(text.split()), start_s, start_s + end_s if is_duration else end_s)
