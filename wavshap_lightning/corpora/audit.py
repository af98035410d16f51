"""The audit: looks at the clips of a split before a run, and finds what would spoil it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from math import inf, log10
from textwrap import wrap
from typing import Literal

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import binary_opening

from wavshap_lightning.audio.io import SPAN_SLACK_S, hash_audio_file, load_native, resampled_length
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.folders import listed
from wavshap_lightning.corpora.splits import Split
from wavshap_lightning.errors import AudioError, AuditError, SettingError

# The largest 16-bit sample. One or two such samples are a peak; three in a row are a flat top.
FULL_SCALE = 1.0 - 2.0**-15
FLAT_TOP_SAMPLES = 3

BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What was measured of one clip.

    Peak, level and clipping are those at the file's own sample rate: resampling rounds off flat tops.

    Args:
        sha256: Hash of the whole file's bytes, in hexadecimal.
        sound: Hash of the clip's sample rate and samples, as 16-bit numbers: the same for one recording
            in two lossless formats, or beside other notes in the file.
        num_samples: Length at the sample rate asked for.
        duration_s: Length in seconds.
        peak: Largest absolute sample, at most 1.
        rms_db: Root mean square in dB relative to full scale; -inf for silence.
        clipped_share: Share of samples at full scale, three or more in a row.
        error: Why the clip could not be read; None if it could.
    """

    sha256: str = ""
    sound: str = ""
    num_samples: int = 0
    duration_s: float = 0.0
    peak: float = 0.0
    rms_db: float = -inf
    clipped_share: float = 0.0
    error: str | None = None


def measure_clip(clip: Clip, *, sample_rate: int) -> ClipFacts:
    """The facts of one clip; that its file cannot be read is a fact too, never an exception.

    Args:
        clip: The clip to read.
        sample_rate: Samples per second for `num_samples`.
    """
    try:
        waveform, native_rate = load_native(clip.path, start_s=clip.start_s, end_s=clip.end_s)
        return _facts(waveform, native_rate, hash_audio_file(clip.path), sample_rate)
    except AudioError as error:
        return ClipFacts(error=str(error))


def measure_clips(
    clips: Sequence[Clip],
    *,
    sample_rate: int,
    num_threads: int | None = None,
    measure: Callable[..., ClipFacts] = measure_clip,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[ClipFacts, ...]:
    """The facts of many clips, in their order, measured by several threads.

    Args:
        clips: The clips to read.
        sample_rate: Samples per second for `num_samples`.
        num_threads: How many clips to read at a time; a few more than there are processors if None.
        measure: Called as `measure(clip, sample_rate=sample_rate)` for each clip.
        on_progress: Called in this thread with the number of clips done so far.
    """
    facts: list[ClipFacts] = []
    with ThreadPoolExecutor(num_threads) as pool:
        for clip_facts in pool.map(lambda clip: measure(clip, sample_rate=sample_rate), clips):
            facts.append(clip_facts)
            if on_progress is not None:
                on_progress(len(facts))
    return tuple(facts)


def _facts(
    waveform: Float32[np.ndarray, " num_samples"], native_rate: int, file_hash: str, sample_rate: int
) -> ClipFacts:
    num_samples = len(waveform)
    sound = sha256(str(native_rate).encode())
    peak, energy, num_clipped = 0.0, 0.0, 0
    # Block by block: an hour of sound needs no second copy, and its sum of squares loses no precision.
    for start in range(0, num_samples, BLOCK_SAMPLES):
        block = waveform[start : start + BLOCK_SAMPLES]
        sound.update(np.clip(np.rint(block * 2.0**15), -(2**15), 2**15 - 1).astype("<i2").tobytes())
        peak = max(peak, float(block.max()), -float(block.min()))
        energy += float(np.dot(block, block))
        num_clipped += _num_clipped(waveform, start, start + len(block))
    return ClipFacts(
        sha256=file_hash,
        sound=sound.hexdigest(),
        num_samples=resampled_length(num_samples, native_rate, sample_rate),
        duration_s=num_samples / native_rate,
        peak=peak,
        rms_db=10.0 * log10(energy / num_samples) if energy > 0.0 else -inf,
        clipped_share=num_clipped / num_samples,
    )


def _num_clipped(waveform: Float32[np.ndarray, " num_samples"], start: int, stop: int) -> int:
    """How many samples from `start` to before `stop` lie in flat tops, which may reach beyond either."""
    first = max(0, start - FLAT_TOP_SAMPLES)
    loud = np.abs(waveform[first : stop + FLAT_TOP_SAMPLES]) >= FULL_SCALE
    if not loud.any():
        return 0
    flat_tops = binary_opening(loud, np.ones(FLAT_TOP_SAMPLES, dtype=bool))
    return int(np.count_nonzero(flat_tops[start - first : stop - first]))


Severity = Literal["error", "warning"]

TABLE_COLUMNS = 100
MOST_FINDINGS_IN_FULL = 3
MOST_NAMES = 6

REMEDIES = {
    "shared speaker": "choose a protocol that keeps every speaker in one part",
    "shared dialogue": "choose a protocol that keeps every dialogue in one part",
    "duplicate audio": "keep one of each group of clips, with the label that is right",
    "overlapping spans": "keep all spans of one file in one part, or those that overlap in none",
    "unreadable": "copy these files again, or leave the clips out",
    "empty": "leave these clips out: they hold no sound",
    "too short": "leave these clips out: they are shorter than one frame of the backbone",
    "silent": "leave these clips out: nothing can be heard in them",
    "clipped": "export these clips again at a lower level, if their originals can be had",
    "too long": "cut these clips, or raise the longest duration allowed",
    "unknown speaker": "name the speakers: without names nobody can tell whether the parts share any",
    "absent class": "choose a protocol whose parts hold every class, or leave the class out of the labels",
    "count": "check that the corpus was downloaded and unpacked completely",
}
CHECK_COLUMNS = max(map(len, REMEDIES))
NOUNS = {
    "shared speaker": "speakers",
    "shared dialogue": "dialogues",
    "duplicate audio": "recordings",
    "overlapping spans": "pairs",
    "absent class": "classes",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Args:
        severity: Whether a run must stop (`"error"`) or only be told (`"warning"`).
        check: The check that found it, one of `REMEDIES`.
        where: The clip, clips, speaker, dialogue or class it is about.
        detail: What is wrong.
        clips: The clip itself, or those that clash with one another; none where it is about no clips.
    """

    severity: Severity
    check: str
    where: str
    detail: str
    clips: tuple[Clip, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the audit of one split found."""

    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings a run must not ignore."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings a run may live with."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    @property
    def bad_clips(self) -> tuple[Clip, ...]:
        """The clips with an error of their own, each once: a run may leave them out and go on."""
        own = (finding.clips[0] for finding in self.errors if len(finding.clips) == 1)
        return tuple(dict.fromkeys(own))

    def table(self) -> str:
        """The findings as plain text: errors first, many alike folded into one row.

        >>> finding = Finding("warning", "count", "all parts", "1439 clips, expected 1440")
        >>> print(AuditReport((finding,)).table())
        severity  check              finding
        warning   count              all parts: 1439 clips, expected 1440
        """
        if not self.findings:
            return "The audit found nothing wrong."
        alike: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for finding in self.errors + self.warnings:
            alike[finding.severity, finding.check].append(finding)
        rows = [_row(severity, check, _folded(check, group)) for (severity, check), group in alike.items()]
        return "\n".join([_row("severity", "check", ["finding"]), *rows])

    def error_lines(self) -> list[str]:
        """Every error in a line of its own, none left out, with the whole path of every clip.

        >>> from pathlib import Path
        >>> silent = Clip(Path("talks/a.wav"), "sad", start_s=2.5)
        >>> finding = Finding("error", "silent", silent.name, "level -inf dBFS", (silent,))
        >>> AuditReport((finding,)).error_lines()
        ['silent: talks/a.wav from 2.500 s: level -inf dBFS']
        """
        return [f"{finding.check}: {_place(finding)}: {finding.detail}" for finding in self.errors]

    def raise_for_errors(self) -> None:
        """Do nothing if there is no error.

        Raises:
            AuditError: With the table, the remedy of each check that found an error, and every error.
        """
        if not self.errors:
            return
        checks = dict.fromkeys(finding.check for finding in self.errors)
        remedies = "\n".join(f"- {check}: {REMEDIES[check]}" for check in checks)
        everything = "\n".join(f"- {line}" for line in self.error_lines())
        raise AuditError(
            f"errors={len(self.errors)} found in the clips of this split, and there must be none\n\n"
            f"{self.table()}\n\nWhat to do\n{remedies}\n\nEvery error\n{everything}"
        )


def _place(finding: Finding) -> str:
    starts = ("" if clip.start_s is None else f" from {clip.start_s:.3f} s" for clip in finding.clips)
    paths = (clip.path for clip in finding.clips)
    return " and ".join(f"{path}{start}" for path, start in zip(paths, starts, strict=True)) or finding.where


def _row(severity: str, check: str, lines: Sequence[str]) -> str:
    indent = f"{severity:<8}  {check:<{CHECK_COLUMNS}}  "
    width = TABLE_COLUMNS - len(indent)
    wrapped = [
        part for line in lines for part in wrap(line, width, break_long_words=False, break_on_hyphens=False)
    ]
    return indent + ("\n" + " " * len(indent)).join(wrapped)


def _folded(check: str, group: Sequence[Finding]) -> list[str]:
    examples = [f"{finding.where}: {finding.detail}" for finding in group[:MOST_FINDINGS_IN_FULL]]
    if len(group) <= MOST_FINDINGS_IN_FULL:
        return examples
    names = listed((finding.where for finding in group), limit=MOST_NAMES)
    return [f"{len(group)} {NOUNS.get(check, 'clips')}: {names}", "For example", *examples]


SILENCE_DB = -80.0
CLIPPED_SHARE = 0.01


def audit_split(
    split: Split,
    facts: Mapping[Clip, ClipFacts],
    *,
    labels: Sequence[str],
    min_samples: int,
    max_duration_s: float | None = None,
    expected_clips: int | None = None,
    may_share_speakers: Collection[str] = (),
) -> AuditReport:
    """Everything in a split that would spoil a run or its numbers.

    Args:
        split: The clips of the three parts.
        facts: What was measured of every clip of the split.
        labels: The classes the model will know.
        min_samples: The backbone's receptive field in samples; a shorter clip has no frame.
        max_duration_s: The longest clip that passes without a warning, in seconds.
        expected_clips: How many clips the corpus is known to have.
        may_share_speakers: Parts among which a shared speaker is a warning and no error.

    Raises:
        SettingError: If a clip of the split was not measured.
    """
    case = _Case(split, facts, labels, min_samples, max_duration_s, expected_clips, may_share_speakers)
    for _, clip in case.members():
        if clip not in facts:
            raise SettingError(f"facts: clip={clip.name!r} was not measured; measure every clip of the split")
    return AuditReport(tuple(finding for check in _CHECKS for finding in check(case)))


@dataclass(frozen=True, slots=True)
class _Case:
    """What is audited, and against what."""

    split: Split
    facts: Mapping[Clip, ClipFacts]
    labels: Sequence[str]
    min_samples: int
    max_duration_s: float | None
    expected_clips: int | None
    may_share_speakers: Collection[str]

    def members(self) -> Iterator[tuple[str, Clip]]:
        for part, clips in self.split.items():
            for clip in clips:
                yield part, clip


@dataclass(frozen=True, slots=True)
class _Interval:
    """Where a clip lies in its file, and in which part it is."""

    start_s: float
    end_s: float
    part: str
    clip: Clip


def _shared_speakers(case: _Case) -> Iterator[Finding]:
    return _crossings(case, "shared speaker", lambda clip: clip.speaker, set(case.may_share_speakers))


def _shared_dialogues(case: _Case) -> Iterator[Finding]:
    return _crossings(case, "shared dialogue", lambda clip: clip.dialogue, set())


def _crossings(
    case: _Case, check: str, group_of: Callable[[Clip], str | None], tolerated: AbstractSet[str]
) -> Iterator[Finding]:
    parts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for part, clip in case.members():
        if group := group_of(clip):
            parts[clip.corpus, group][part] += 1
    for (_, group), counts in parts.items():
        if len(counts) > 1:
            severity: Severity = "warning" if counts.keys() <= tolerated else "error"
            detail = " and ".join(f"{count} clips in {part}" for part, count in counts.items())
            yield Finding(severity, check, group, detail)


def _duplicates(case: _Case) -> Iterator[Finding]:
    copies: dict[str, list[tuple[str, Clip]]] = defaultdict(list)
    for part, clip in case.members():
        if sound := case.facts[clip].sound:
            copies[sound].append((part, clip))
    return (_duplicate(group) for group in copies.values() if len(group) > 1)


def _duplicate(group: Sequence[tuple[str, Clip]]) -> Finding:
    parts = dict.fromkeys(part for part, _ in group)
    labels = dict.fromkeys(clip.label for _, clip in group)
    clips = tuple(clip for _, clip in group)
    where = listed((clip.name for clip in clips), limit=MOST_NAMES, separator=" = ")
    detail = f"the same sound, in {' and '.join(parts)}, labelled {' and '.join(labels)}"
    harmless = len(parts) == len(labels) == 1
    return Finding("warning" if harmless else "error", "duplicate audio", where, detail, clips)


def _overlapping_spans(case: _Case) -> Iterator[Finding]:
    spans: dict[str, list[_Interval]] = defaultdict(list)
    for part, clip in case.members():
        facts, start_s = case.facts[clip], clip.start_s or 0.0
        if facts.sha256:
            spans[facts.sha256].append(_Interval(start_s, start_s + facts.duration_s, part, clip))
    return (finding for intervals in spans.values() for finding in _overlaps(case, intervals))


def _overlaps(case: _Case, intervals: Sequence[_Interval]) -> Iterator[Finding]:
    """Where a span of one file begins before one of another part has ended; equal spans are duplicates."""
    latest: dict[str, _Interval] = {}
    for later in sorted(intervals, key=lambda interval: (interval.start_s, interval.end_s)):
        for part, earlier in latest.items():
            shared_s = min(earlier.end_s, later.end_s) - later.start_s
            is_copy = case.facts[earlier.clip].sound == case.facts[later.clip].sound
            if part != later.part and shared_s > SPAN_SLACK_S and not is_copy:
                where = f"{earlier.clip.name} and {later.clip.name}"
                detail = f"{shared_s:.2f} s of one file, in {part} and {later.part}"
                yield Finding("error", "overlapping spans", where, detail, (earlier.clip, later.clip))
        if later.part not in latest or later.end_s > latest[later.part].end_s:
            latest[later.part] = later


def _single_clips(case: _Case) -> Iterator[Finding]:
    for clip in dict.fromkeys(clip for _, clip in case.members()):
        for severity, check, judge in _CLIP_CHECKS:
            detail = judge(clip, case.facts[clip], case)
            if detail:
                yield Finding(severity, check, clip.name, detail, (clip,))


def _unreadable(clip: Clip, facts: ClipFacts, _case: _Case) -> str | None:
    return None if facts.error is None else facts.error.removeprefix(f"path={clip.path}: ")


def _empty(_clip: Clip, facts: ClipFacts, _case: _Case) -> str | None:
    return "0 samples" if facts.num_samples == 0 and facts.error is None else None


def _too_short(_clip: Clip, facts: ClipFacts, case: _Case) -> str | None:
    short = 0 < facts.num_samples < case.min_samples
    return f"{facts.num_samples} samples, and one frame needs {case.min_samples}" if short else None


def _silent(_clip: Clip, facts: ClipFacts, _case: _Case) -> str | None:
    silent = facts.num_samples > 0 and facts.rms_db < SILENCE_DB
    return f"level {facts.rms_db:.1f} dBFS, below {SILENCE_DB:.0f} dBFS" if silent else None


def _clipped(_clip: Clip, facts: ClipFacts, _case: _Case) -> str | None:
    clipped = facts.clipped_share > CLIPPED_SHARE
    return f"{facts.clipped_share:.1%} of its samples at full scale" if clipped else None


def _too_long(_clip: Clip, facts: ClipFacts, case: _Case) -> str | None:
    if case.max_duration_s is None or facts.duration_s <= case.max_duration_s:
        return None
    return f"{facts.duration_s:.2f} s, above {case.max_duration_s:g} s"


def _unknown_speaker(clip: Clip, _facts: ClipFacts, _case: _Case) -> str | None:
    return None if clip.speaker else "its speaker is not named"


def _absent_classes(case: _Case) -> Iterator[Finding]:
    present = {part: {clip.label for clip in clips} for part, clips in case.split.items() if clips}
    for label in case.labels:
        absent = [part for part, labels in present.items() if label not in labels]
        if "train" in absent:
            yield Finding("error", "absent class", label, "no clip in train")
        judged = [part for part in absent if part != "train"]
        if judged:
            yield Finding("warning", "absent class", label, f"no clip in {' and '.join(judged)}")


def _count(case: _Case) -> Iterator[Finding]:
    count = sum(1 for _ in case.members())
    if case.expected_clips is not None and count != case.expected_clips:
        yield Finding("warning", "count", "all parts", f"{count} clips, expected {case.expected_clips}")


_CLIP_CHECKS: tuple[tuple[Severity, str, Callable[[Clip, ClipFacts, _Case], str | None]], ...] = (
    ("error", "unreadable", _unreadable),
    ("error", "empty", _empty),
    ("error", "too short", _too_short),
    ("error", "silent", _silent),
    ("warning", "clipped", _clipped),
    ("warning", "too long", _too_long),
    ("warning", "unknown speaker", _unknown_speaker),
)
_CHECKS: tuple[Callable[[_Case], Iterator[Finding]], ...] = (
    _shared_speakers,
    _shared_dialogues,
    _duplicates,
    _overlapping_spans,
    _single_clips,
    _absent_classes,
    _count,
)
