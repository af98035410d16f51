"""The audit: looks at the clips of a split before a run, and finds what would spoil it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from wavshap_lightning.audio.decode import SPAN_SLACK_S
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.files import listed
from wavshap_lightning.corpora.findings import MOST_NAMES, AuditReport, Finding, Severity
from wavshap_lightning.corpora.measure import ClipFacts, measure_clip, measure_clips
from wavshap_lightning.corpora.splits import Split
from wavshap_lightning.errors import SettingError

__all__ = ["AuditReport", "ClipFacts", "Finding", "audit_split", "measure_clip", "measure_clips"]

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
