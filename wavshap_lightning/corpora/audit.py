"""The audit: measure the clips of a split before a run, and find what would spoil the run or its scores."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import groupby, product
from math import inf, log10
from operator import itemgetter
from typing import Any, Literal, get_args
from unicodedata import normalize

import numpy as np
from rich.box import HORIZONTALS
from rich.table import Column, Table
from rich.text import Text
from scipy.ndimage import binary_opening

from wavshap_lightning.audio.io import SPAN_SLACK_S, hash_audio_file, load_native
from wavshap_lightning.corpora.clip import SPLITS, Clip, Scale
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.corpora.protocols import Split
from wavshap_lightning.errors import AudioError, AuditError

# The largest 16-bit sample. One or two such samples are a peak; three in a row are a flat top.
FULL_SCALE = 1.0 - 2.0**-15
FLAT_TOP_SAMPLES = 3

# Letters of Cyrillic and Greek that look like Latin ones, small or capital, and apostrophes.
_LOOK_ALIKE = str.maketrans("авеснһіјкморԛѕтухαβεηικμνορτυχζ’ʼ", "abechhijkmopqstyxabehikmnoptyxz''")  # noqa: RUF001
_STROKED = str.maketrans("ıłøđħ", "ilodh")
_SEPARATORS = re.compile(r"[\s_\u034f\u115f\u1160\u2800\u200c\u200d\u2010-\u2015\u2212\ufe00-\ufe0f-]+")

SILENCE_DB = -80.0
CLIPPED_SHARE = 0.01

REMEDIES = {
    "shared speaker": "choose a protocol that keeps every speaker in one split",
    "shared dialogue": "choose a protocol that keeps every dialogue in one split",
    "similar speakers": "write a speaker in one way, or give two people names that differ in more than signs",
    "similar dialogues": "write a dialogue in one way, or give two names that differ in more than signs",
    "similar labels": "if they are one class, write it in one way or give both one name in label_map",
    "empty split": "nothing is tested; for scores of new speakers, choose a protocol with test clips",
    "duplicate audio": "keep one of each group of clips, with the label that is right",
    "overlapping spans": "keep all spans of one file in one split, or those that overlap in none",
    "unreadable": "copy these files again, or leave the clips out",
    "too short": "leave these clips out: they are shorter than one frame of the backbone",
    "silent": "leave these clips out: they are inaudible",
    "clipped": "export these clips again at a lower level, if their originals can be had",
    "too long": "only their beginning is used: cut these clips, or raise the longest duration allowed",
    "unknown speaker": "name the speakers: without names, splits may share speakers unnoticed",
    "absent class": "choose a protocol whose splits hold every class, or leave the class out of the labels",
    "off scale": "correct these values, or declare the scale that they are on",
    "missing value": "clips without one are left out of the loss and the scores of this dimension",
    "empty votes": "correct the counts, or leave the votes out: the label then counts as one vote",
    "votes for no class": "these votes are left out; to count them, make the label a class or rename it",
    "count": "check that the corpus was downloaded and unpacked completely",
}

# Of a refusal for 7,442 files one screen must remain: reasons of one check, and places of one reason.
MAX_REASONS, MAX_EXAMPLES = 5, 3

Severity = Literal["error", "warning", "note"]
Members = Sequence[tuple[str, Clip]]
"""Every clip of a split with the name of its split."""


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """Measurements of one clip.

    Level and clipping are those at the file's own sample rate: resampling rounds off flat tops.

    Args:
        sha256: Hash of the whole file's bytes, in hexadecimal.
        sound: Hash of the clip's sample rate and samples, as 16-bit numbers: the same for one recording
            in two lossless formats, or with other metadata in the file.
        duration_s: Length in seconds.
        rms_db: Root mean square in dB relative to full scale; -inf for silence.
        clipped_share: Share of samples at full scale, three or more in a row.
        error: Why the clip could not be read; None if it could.
        sample_rate: Samples per second of the file.
    """

    sha256: str = ""
    sound: str = ""
    duration_s: float = 0.0
    rms_db: float = -inf
    clipped_share: float = 0.0
    error: str | None = None
    sample_rate: int = 0


def measure_clip(clip: Clip) -> ClipFacts:
    """Measurements of one clip; for a file that cannot be read, `error` is set and nothing is raised."""
    try:
        waveform, native_rate = load_native(clip.path, start_s=clip.start_s, end_s=clip.end_s)
        file_sha256 = hash_audio_file(clip.path)
    except AudioError as error:
        return ClipFacts(error=str(error))
    samples = np.clip(np.rint(waveform * 2.0**15), -(2**15), 2**15 - 1).astype("<i2")
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    flat_tops = binary_opening(np.abs(waveform) >= FULL_SCALE, np.ones(FLAT_TOP_SAMPLES))
    return ClipFacts(
        sha256=file_sha256,
        sound=sha256(str(native_rate).encode() + samples.tobytes()).hexdigest(),
        duration_s=len(waveform) / native_rate,
        rms_db=10.0 * log10(power) if power > 0.0 else -inf,
        clipped_share=float(np.mean(flat_tops)),
        sample_rate=native_rate,
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of a split.

    Args:
        severity: `"error"` if a run must stop, `"warning"` if it may continue, `"note"` if it may be meant.
        check: The check that found it, one of `REMEDIES`.
        where: The path of the clip or clips, or the speaker, dialogue or class it is about.
        detail: What is wrong.
        clips: The clips that are affected; empty if the fault does not concern single clips.
    """

    severity: Severity
    check: str
    where: str
    detail: str
    clips: tuple[Clip, ...] = ()


def bad_clips(findings: Sequence[Finding]) -> tuple[Clip, ...]:
    """The clips with an error of their own, each once: a run may continue without them."""
    own = (one.clips[0] for one in findings if one.severity == "error" and len(one.clips) == 1)
    return tuple(dict.fromkeys(own))


def audit_table(findings: Sequence[Finding]) -> str:
    """The findings by check and reason, errors first: how many, what to do, and a few examples.

    >>> print(audit_table([Finding("note", "count", "all splits", "1439 clips, expected 1440")]))
    note: count (1): check that the corpus was downloaded and unpacked completely
      all splits: 1439 clips, expected 1440
    """
    lines = []
    for (severity, check), reasons in groupby(group_findings(findings), itemgetter("severity", "check")):
        groups = [one["where"] for one in reasons]
        lines.append(f"{severity}: {check} ({sum(map(len, groups))}): {REMEDIES[check]}")
        lines.append("  " + listed(map(_reason_lines, groups), limit=MAX_REASONS, separator="\n  "))
    return "\n".join(lines)


def group_findings(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings by check and reason, errors first, for JSON: how many, and what is said of each place.

    Reasons that differ in numbers only are one.
    """
    groups: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for one in findings:
        groups[one.severity, one.check, re.sub(r"[\d.]+", "", one.detail)][one.where] = one.detail
    order = [*product(get_args(Severity), REMEDIES)]
    return [
        {"severity": severity, "check": check, "count": len(where), "where": where}
        for (severity, check, _), where in sorted(groups.items(), key=lambda group: order.index(group[0][:2]))
    ]


def raise_for_errors(findings: Sequence[Finding]) -> None:
    """Raise AuditError with the table of the findings if there is an error among them."""
    if num_errors := sum(one.severity == "error" for one in findings):
        raise AuditError(
            f"errors={num_errors} found in the clips of this split, and there must be no errors\n\n"
            f"{audit_table(findings)}\n\n"
            "All of them: python train.py audit with the same data settings, which writes audit.json"
        )


def _reason_lines(where: Mapping[str, str]) -> str:
    """Equal details once, with examples below; details with other numbers each beside its example."""
    if len(where) > 1 and len({*where.values()}) == 1:
        places = listed(where, limit=MAX_EXAMPLES, separator="\n    ")
        return f"{len(where)} x {next(iter(where.values()))}\n    {places}"
    examples = (f"{place}: {detail}" for place, detail in where.items())
    return listed(examples, limit=MAX_EXAMPLES, separator="\n  ")


def summarize_clips(split: Split, facts: Mapping[Clip, ClipFacts]) -> dict[str, dict[str, Any]]:
    """Number, length, level, sample rates and labels of the clips of each split and of `all`, for JSON."""
    parts = {**split, "all": tuple(clip for clips in split.values() for clip in clips)}
    return {name: _summarize(clips, [facts[one] for one in clips]) for name, clips in parts.items() if clips}


def _summarize(clips: Sequence[Clip], facts: Sequence[ClipFacts]) -> dict[str, Any]:
    """Lengths are those of readable clips, levels those of audible ones."""
    read = [one for one in facts if one.error is None]
    lengths = sorted(round(one.duration_s, 2) for one in read) or [0.0]
    levels = sorted(round(one.rms_db, 1) for one in read if one.rms_db >= SILENCE_DB) or [SILENCE_DB]
    middle, total = round(float(np.median(lengths)), 2), round(sum(lengths), 2)
    return {
        "number": {
            "clips": len(clips),
            "speakers": len({(clip.corpus, clip.speaker) for clip in clips if clip.speaker}),
            "clipped": sum(one.clipped_share > CLIPPED_SHARE for one in read),
            "silent": sum(one.rms_db < SILENCE_DB for one in read),
            "unreadable": len(clips) - len(read),
        },
        "seconds": {"total": total, "shortest": lengths[0], "median": middle, "longest": lengths[-1]},
        "dBFS": {"quietest": levels[0], "loudest": levels[-1]},
        "sample rate": dict(sorted(Counter(f"{one.sample_rate} Hz" for one in read).items())),
        "label": dict(sorted(Counter(clip.label for clip in clips).items())),
    }


def summary_table(summary: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """A printable table of what [`summarize_clips`][] found, with a column for each split."""
    columns = (Column(name, justify="right") for name in summary)
    table = Table("", "", *columns, title=Text(title), box=HORIZONTALS)
    for section, rows in summary["all"].items():
        table.add_section()
        for index, row in enumerate(rows):
            numbers = (part[section].get(row, 0) for part in summary.values())
            cells = (f"{one:,}" if isinstance(one, int) else f"{one:,.1f}" for one in numbers)
            table.add_row("" if index else section, Text(row), *cells)
    return table


def audit_split(
    split: Split,
    facts: Mapping[Clip, ClipFacts],
    *,
    labels: Sequence[str],
    min_duration_s: float,
    max_duration_s: float | None = None,
    expected_clips: int | None = None,
    may_share_speakers: Collection[str] = (),
    dimensions: Mapping[str, Scale] | None = None,
    voted: Collection[str] = (),
) -> tuple[Finding, ...]:
    """Find the faults of a split that would invalidate a run or its scores.

    Args:
        split: The training, validation and test clips.
        facts: Measurements of every clip of the split.
        labels: The classes of the model.
        min_duration_s: The backbone's receptive field in seconds; a shorter clip has no frame.
        max_duration_s: The longest clip that passes without a warning, in seconds.
        expected_clips: Number of clips that the corpus is known to have.
        may_share_speakers: Splits between which a shared speaker is a warning instead of an error.
        dimensions: Scale of each emotional dimension that the model learns.
        voted: Labels of which the model learns from votes.

    Returns:
        The findings, in the order of the checks.
    """
    members = [(name, clip) for name, clips in split.items() for clip in clips]
    max_s = inf if max_duration_s is None else max_duration_s
    findings = [
        *_crossings(members, "speaker", may_share_speakers),
        *_crossings(members, "dialogue"),
        *_similar(members, "speaker", may_share_speakers),
        *_similar(members, "dialogue"),
        *_similar(members, "label", SPLITS),
        *_duplicates(members, facts),
        *_overlaps(members, facts),
    ]
    clips = list(dict.fromkeys(clip for _, clip in members))
    for clip in clips:
        findings += _clip_findings(clip, facts[clip], min_duration_s, max_s)
    findings += _absent_classes(split, labels)
    findings += _value_findings(clips, dimensions or {})
    findings += _vote_findings(clips, voted) if voted else ()
    if not split.get("test"):
        findings.append(Finding("warning", "empty split", "test", "no clip"))
    if expected_clips not in {None, len(members)}:
        detail = f"{len(members)} clips, expected {expected_clips}"
        findings.append(Finding("note", "count", "all splits", detail))
    return tuple(findings)


def _grouped(members: Members, key: Callable[[Clip], Hashable]) -> Iterable[list[tuple[str, Clip]]]:
    """Clips with equal keys, each with the name of its split; a clip with an empty key is in no group."""
    groups: dict[Hashable, list[tuple[str, Clip]]] = defaultdict(list)
    for name, clip in members:
        if found := key(clip):
            groups[found].append((name, clip))
    return groups.values()


def _crossings(members: Members, field: str, tolerated: Collection[str] = ()) -> Iterator[Finding]:
    """Speakers or dialogues of one corpus that are in more than one split."""
    for group in _grouped(members, lambda clip: (name := getattr(clip, field)) and (clip.corpus, name)):
        counts = Counter(split for split, _ in group)
        if len(counts) > 1:
            severity: Severity = "warning" if counts.keys() <= set(tolerated) else "error"
            detail = " and ".join(f"{count} clips in {split}" for split, count in counts.items())
            yield Finding(severity, f"shared {field}", getattr(group[0][1], field), detail)


@cache
def plain_name(name: str) -> str:
    r"""A name without letter case, width, look-alikes of other alphabets, and separators next to a letter.

    >>> plain_name("Spk_\uff11"), plain_name("spk-1"), plain_name("1-11") == plain_name("11-1")
    ('spk1', 'spk1', False)
    """
    folded = normalize("NFKC", normalize("NFKC", name).casefold()).translate(_LOOK_ALIKE)
    return re.sub(r"(?<!\d) | (?!\d)", "", _SEPARATORS.sub(" ", folded))


@cache
def _bare_name(name: str) -> str:
    """A plain name without accents, leading zeros and a last `.0`, which may be meant to be another.

    >>> _bare_name("José-01"), _bare_name("1.0")
    ('jose1', '1')
    """
    whole = re.sub(r"(?<=\d)\.0+$", "", name)  # a column of numbers with a gap becomes 1.0 in many programs
    unaccented = re.sub("[\u0300-\u036f]", "", normalize("NFKD", plain_name(whole).translate(_STROKED)))
    return re.sub(r"(?<!\d)0+(?=\d)", "", unaccented)


def _similar(members: Members, field: str, tolerated: Collection[str] = ()) -> Iterator[Finding]:
    """Names of one corpus that differ only in how they are written."""
    for group in _grouped(
        members, lambda one: (name := getattr(one, field)) and (one.corpus, _bare_name(name))
    ):
        names = sorted({getattr(clip, field) for _, clip in group})
        if len(names) > 1:
            splits = dict.fromkeys(split for split, _ in group)
            may_be_two = len({*map(plain_name, names)}) == len(names)
            passes = may_be_two or len(splits) == 1 or splits.keys() <= set(tolerated)
            shown = [repr(name) if name.isascii() else f"{name!r} ({name!a})" for name in names]
            detail = f"they differ only in how they are written, in {' and '.join(splits)}"
            yield Finding("warning" if passes else "error", f"similar {field}s", " and ".join(shown), detail)


def _duplicates(members: Members, facts: Mapping[Clip, ClipFacts]) -> Iterator[Finding]:
    for group in _grouped(members, lambda clip: facts[clip].sound):
        if len(group) > 1:
            names = dict.fromkeys(name for name, _ in group)
            labels = dict.fromkeys(clip.label for _, clip in group)
            where = listed((_place(clip) for _, clip in group), limit=6, separator=" = ")
            detail = f"the same sound, in {' and '.join(names)}, labeled {' and '.join(labels)}"
            severity: Severity = "warning" if len(names) == len(labels) == 1 else "error"
            yield Finding(severity, "duplicate audio", where, detail, tuple(clip for _, clip in group))


def _overlaps(members: Members, facts: Mapping[Clip, ClipFacts]) -> Iterator[Finding]:
    """Spans of one file that begin before one of another split has ended; equal spans are duplicates."""
    starts_s = {clip: clip.start_s or 0.0 for _, clip in members}
    ends_s = {clip: start_s + facts[clip].duration_s for clip, start_s in starts_s.items()}
    for group in _grouped(members, lambda clip: facts[clip].sha256):
        latest: dict[str, Clip] = {}  # the clip of each split that ends last so far
        for name, clip in sorted(group, key=lambda member: (starts_s[member[1]], ends_s[member[1]])):
            for other, earlier in latest.items():
                shared_s = min(ends_s[earlier], ends_s[clip]) - starts_s[clip]
                is_copy = facts[earlier].sound == facts[clip].sound
                if other != name and shared_s > SPAN_SLACK_S and not is_copy:
                    where = f"{_place(earlier)} and {_place(clip)}"
                    detail = f"{shared_s:.2f} s of one file, in {other} and {name}"
                    yield Finding("error", "overlapping spans", where, detail, (earlier, clip))
            latest[name] = max(latest.get(name, clip), clip, key=ends_s.__getitem__)


def _place(clip: Clip) -> str:
    return str(clip.path) if clip.start_s is None else f"{clip.path} from {clip.start_s:.3f} s"


def _clip_findings(clip: Clip, facts: ClipFacts, min_s: float, max_s: float) -> Iterator[Finding]:
    """Faults of one clip by itself."""
    name = str(clip.path)
    reason = (facts.error or "").removeprefix(f"path={name}: ").replace(f": {name!r}", "")
    short = f"{facts.duration_s:.4f} s, and one frame needs {min_s:.4f} s"
    silent = f"level {facts.rms_db:.1f} dBFS, below {SILENCE_DB:.0f} dBFS"
    clipped = f"{facts.clipped_share:.1%} of its samples at full scale"
    checks: tuple[tuple[Severity, str, bool, str], ...] = (
        ("error", "unreadable", facts.error is not None, reason),
        ("error", "too short", facts.error is None and facts.duration_s < min_s, short),
        ("error", "silent", facts.error is None and facts.rms_db < SILENCE_DB, silent),
        ("warning", "clipped", facts.clipped_share > CLIPPED_SHARE, clipped),
        ("warning", "too long", facts.duration_s > max_s, f"{facts.duration_s:.2f} s, above {max_s:g} s"),
        ("warning", "unknown speaker", not clip.speaker, "its speaker is not named"),
    )
    for severity, check, is_found, detail in checks:
        if is_found:
            yield Finding(severity, check, _place(clip), detail, (clip,))


def _absent_classes(split: Split, labels: Sequence[str]) -> Iterator[Finding]:
    present = {name: {clip.label for clip in clips} for name, clips in split.items() if clips}
    for label in labels:
        if absent := [name for name, found in present.items() if label not in found]:
            severity: Severity = "error" if "train" in absent else "warning"
            yield Finding(severity, "absent class", label, f"no clip in {' and '.join(absent)}")


def _value_findings(clips: Sequence[Clip], dimensions: Mapping[str, Scale]) -> Iterator[Finding]:
    for name, (low, high) in dimensions.items():
        values = {clip: value for clip in clips for known, value in clip.values if known == name}
        for clip, value in values.items():
            if not low <= value <= high:
                detail = f"{name}={value:g}, outside the scale from {low:g} to {high:g}"
                yield Finding("error", "off scale", _place(clip), detail, (clip,))
        if missing := len(clips) - len(values):
            detail = f"{missing} of {len(clips)} clips have no value"
            yield Finding("note" if values else "error", "missing value", name, detail)


def _vote_findings(clips: Sequence[Clip], labels: Collection[str]) -> Iterator[Finding]:
    unused: Counter[str] = Counter()
    for clip in clips:
        voted = [label for label, count in clip.votes if count]
        if clip.votes and not voted:
            yield Finding("warning", "empty votes", _place(clip), "its votes sum to nothing", (clip,))
        elif voted and {*voted}.isdisjoint(labels):
            yield Finding("note", "votes for no class", _place(clip), "it has no others, and no target")
        unused.update(label for label in voted if label not in labels)
    for label, count in unused.items():
        yield Finding("note", "votes for no class", label, f"votes in {count} of {len(clips)} clips")
