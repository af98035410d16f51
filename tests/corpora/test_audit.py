"""The audit of a split: every check fires on its fault, and none on a clean split."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavshap_lightning.corpora.audit import REMEDIES, AuditReport, ClipFacts, Finding, audit_split
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.splits import Split
from wavshap_lightning.errors import SettingError

LABELS = ("angry", "happy")
PARTS = ("train", "validation", "test")

SHARED = ("train", "validation")


def clips_of(speaker: str, num_clips: int = 4) -> tuple[Clip, ...]:
    return tuple(
        Clip(Path(f"{speaker}-{index}.wav"), LABELS[index % 2], speaker, "toy", dialogue=f"{speaker}-talk")
        for index in range(num_clips)
    )


CLEAN = Split(clips_of("ann"), clips_of("bob"), clips_of("cat"))


def good_facts(clip: Clip) -> ClipFacts:
    start_s = clip.start_s or 0.0
    duration_s = (clip.end_s or start_s + 2.0) - start_s
    sound = f"sound of {clip.path} from {start_s} for {duration_s}"
    return ClipFacts(f"hash of {clip.path}", sound, 32_000, duration_s, 0.5, -20.0, 0.001)


def audit(split: Split, facts: dict[Clip, ClipFacts] | None = None, **options) -> AuditReport:
    everything = {clip: good_facts(clip) for _, clips in split.items() for clip in clips} | (facts or {})
    return audit_split(split, everything, **{"labels": LABELS, "min_samples": 400, **options})


def with_first(part: str, **changes) -> Split:
    """The clean split with the first clip of one part changed."""
    first, *rest = getattr(CLEAN, part)
    return replace(CLEAN, **{part: (replace(first, **changes), *rest)})


def found(report: AuditReport) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.check, finding.where) for finding in report.findings]


def test_a_clean_split_has_no_findings():
    assert audit(CLEAN, max_duration_s=2.0, expected_clips=12).findings == ()


class TestLeaks:
    @pytest.mark.parametrize(
        ("one", "other"), [("train", "validation"), ("train", "test"), ("validation", "test")]
    )
    def test_a_speaker_in_two_parts(self, one, other):
        speaker = getattr(CLEAN, one)[0].speaker
        report = audit(with_first(other, speaker=speaker))
        assert found(report) == [("error", "shared speaker", speaker)]
        assert report.findings[0].detail == f"4 clips in {one} and 1 clips in {other}"
        assert report.bad_clips == ()

    @pytest.mark.parametrize(("other", "num_errors"), [("validation", 0), ("test", 1)])
    def test_a_shared_validation_may_share_with_train_only(self, other, num_errors):
        assert len(audit(with_first(other, speaker="ann"), may_share_speakers=SHARED).errors) == num_errors

    def test_a_shared_validation_may_not_share_with_test(self):
        assert len(audit(with_first("validation", speaker="cat"), may_share_speakers=SHARED).errors) == 1

    def test_a_speaker_in_all_three_parts_is_an_error_even_with_a_shared_validation(self):
        split = Split(clips_of("ann"), with_first("validation", speaker="ann").validation, ())
        split = replace(split, test=with_first("test", speaker="ann").test)
        assert found(audit(split, may_share_speakers=SHARED)) == [("error", "shared speaker", "ann")]

    def test_the_same_name_in_two_corpora_is_two_speakers(self):
        assert audit(with_first("test", speaker="ann", corpus="other")).findings == ()

    def test_clips_without_a_speaker_share_none_but_are_told(self):
        split = Split(*(tuple(replace(clip, speaker="") for clip in clips) for _, clips in CLEAN.items()))
        report = audit(split)
        assert {(finding.severity, finding.check) for finding in report.findings} == {
            ("warning", "unknown speaker")
        }
        assert len(report.findings) == 12

    @pytest.mark.parametrize("may_share", [(), ("train", "validation")])
    def test_a_dialogue_in_two_parts(self, may_share):
        report = audit(with_first("validation", dialogue="ann-talk"), may_share_speakers=may_share)
        assert found(report) == [("error", "shared dialogue", "ann-talk")]

    def test_clips_without_a_dialogue_share_none(self):
        split = Split(*(tuple(replace(clip, dialogue=None) for clip in clips) for _, clips in CLEAN.items()))
        assert audit(split).findings == ()


class TestDuplicates:
    @pytest.mark.parametrize(
        ("original", "copy", "severity"),
        [
            (CLEAN.train[0], CLEAN.test[0], "error"),
            (CLEAN.train[0], CLEAN.validation[0], "error"),
            (CLEAN.train[0], CLEAN.train[1], "error"),
            (CLEAN.train[0], CLEAN.train[2], "warning"),
        ],
    )
    def test_the_same_sound_twice(self, original, copy, severity):
        report = audit(CLEAN, {copy: good_facts(original)})
        assert found(report) == [(severity, "duplicate audio", f"{original.name} = {copy.name}")]
        assert report.findings[0].clips == (original, copy)
        assert report.bad_clips == ()

    def test_one_sound_in_two_files_of_other_bytes(self):
        original, copy = CLEAN.train[0], CLEAN.test[0]
        facts = replace(good_facts(original), sha256="hash of another format")
        assert found(audit(CLEAN, {copy: facts})) == [
            ("error", "duplicate audio", f"{original.name} = {copy.name}")
        ]

    def test_the_detail_names_parts_and_labels(self):
        first, second = CLEAN.train[0], CLEAN.test[1]
        [finding] = audit(CLEAN, {second: good_facts(first)}).findings
        assert finding.detail == "the same sound, in train and test, labelled angry and happy"

    def test_other_spans_of_one_file_are_other_sounds(self):
        spans = tuple(
            Clip(Path("session.wav"), label, "ann", "toy", start_s=start_s, end_s=start_s + 2.0)
            for start_s, label in ((0.0, "angry"), (2.0, "happy"))
        )
        report = audit(replace(CLEAN, train=spans))
        assert report.findings == ()

    def test_a_span_that_covers_its_file_is_the_file(self):
        whole = Clip(Path("a.wav"), "angry", "ann", "toy")
        span = replace(whole, start_s=0.0, end_s=2.0)
        report = audit(replace(CLEAN, train=(*CLEAN.train, whole, span)))
        assert found(report) == [("warning", "duplicate audio", "a = a@0.000")]

    def test_a_clip_listed_twice_is_its_own_duplicate(self):
        clip = CLEAN.train[0]
        report = audit(replace(CLEAN, train=(*CLEAN.train, clip)))
        assert found(report) == [("warning", "duplicate audio", f"{clip.name} = {clip.name}")]

    def test_unreadable_clips_are_not_duplicates_of_each_other(self):
        unreadable = {clip: ClipFacts(error="gone") for clip in CLEAN.train}
        assert {finding.check for finding in audit(CLEAN, unreadable).findings} == {"unreadable"}


def spans_of_one_file(**times: tuple[float, float]) -> Split:
    """The clean split with one more clip in each part named, all from one recording."""
    parts = {}
    for part, (start_s, end_s) in times.items():
        first = getattr(CLEAN, part)[0]
        span = replace(first, path=Path("session.wav"), start_s=start_s, end_s=end_s)
        parts[part] = (*getattr(CLEAN, part), span)
    return replace(CLEAN, **parts)


class TestOverlaps:
    @pytest.mark.parametrize(
        ("one", "other", "shared"),
        [
            ((0.0, 2.0), (0.1, 2.0), "1.90"),
            ((0.0, 2.0), (1.5, 3.0), "0.50"),
            ((1.0, 2.0), (0.0, 9.0), "1.00"),
            ((5.0, 6.0), (4.0, 5.1), "0.10"),
        ],
    )
    def test_spans_of_one_file_that_overlap_across_parts(self, one, other, shared):
        split = spans_of_one_file(train=one, test=other)
        report = audit(split)
        [finding] = report.findings
        assert (finding.severity, finding.check) == ("error", "overlapping spans")
        assert set(finding.clips) == {split.train[-1], split.test[-1]}
        assert finding.detail.startswith(f"{shared} s of one file, in t")
        assert report.bad_clips == ()

    def test_a_whole_file_overlaps_its_spans(self):
        split = spans_of_one_file(test=(0.5, 1.0))
        whole = replace(CLEAN.train[0], path=Path("session.wav"))
        report = audit(replace(split, train=(*CLEAN.train, whole)))
        assert found(report) == [("error", "overlapping spans", "session and session@0.500")]

    @pytest.mark.parametrize("other", [(2.0, 4.0), (1.995, 4.0), (7.0, 8.0)])
    def test_spans_that_only_touch_within_the_rounding_of_a_table_do_not(self, other):
        assert audit(spans_of_one_file(train=(0.0, 2.0), validation=other)).findings == ()

    def test_people_of_one_part_may_talk_at_the_same_time(self):
        first = spans_of_one_file(train=(0.0, 2.0))
        second = replace(first.train[-1], start_s=1.0, end_s=3.0, label="happy")
        assert audit(replace(first, train=(*first.train, second))).findings == ()

    def test_a_long_span_is_not_forgotten_behind_a_short_one(self):
        split = spans_of_one_file(train=(0.0, 9.0), test=(8.0, 10.0))
        short = replace(split.train[-1], start_s=1.0, end_s=2.0)
        report = audit(replace(split, train=(*split.train, short)))
        assert found(report) == [("error", "overlapping spans", "session@0.000 and session@8.000")]

    def test_equal_spans_are_told_once_as_duplicates(self):
        report = audit(spans_of_one_file(train=(0.0, 2.0), test=(0.0, 2.0)))
        assert [finding.check for finding in report.findings] == ["duplicate audio"]


class TestSingleClips:
    @pytest.mark.parametrize(
        ("changes", "severity", "check", "detail"),
        [
            ({"error": "path=bob-2.wav: gone"}, "error", "unreadable", "gone"),
            ({"num_samples": 0, "rms_db": -inf}, "error", "empty", "0 samples"),
            ({"num_samples": 399}, "error", "too short", "399 samples, and one frame needs 400"),
            ({"rms_db": -80.1}, "error", "silent", "level -80.1 dBFS, below -80 dBFS"),
            ({"rms_db": -inf}, "error", "silent", "level -inf dBFS, below -80 dBFS"),
            ({"clipped_share": 0.011}, "warning", "clipped", "1.1% of its samples at full scale"),
            ({"duration_s": 30.01}, "warning", "too long", "30.01 s, above 30 s"),
        ],
    )
    def test_a_fault_of_one_clip(self, changes, severity, check, detail):
        clip = CLEAN.validation[2]
        facts = ClipFacts(**changes) if "error" in changes else replace(good_facts(clip), **changes)
        report = audit(CLEAN, {clip: facts}, max_duration_s=30.0)
        assert report.findings == (Finding(severity, check, clip.name, detail, (clip,)),)
        assert report.bad_clips == ((clip,) if severity == "error" else ())

    @pytest.mark.parametrize(
        "changes", [{"num_samples": 400}, {"rms_db": -80.0}, {"clipped_share": 0.01}, {"duration_s": 30.0}]
    )
    def test_the_limits_themselves_pass(self, changes):
        clip = CLEAN.train[0]
        assert not audit(CLEAN, {clip: replace(good_facts(clip), **changes)}, max_duration_s=30.0).findings

    def test_a_long_clip_is_fine_where_nobody_minds(self):
        clip = CLEAN.train[0]
        assert not audit(CLEAN, {clip: replace(good_facts(clip), duration_s=4_000.0)}).findings

    @given(st.sets(st.sampled_from([clip for _, clips in CLEAN.items() for clip in clips])))
    def test_without_its_bad_clips_a_split_has_no_bad_clips(self, silent):
        facts = {clip: replace(good_facts(clip), rms_db=-90.0) for clip in silent}
        report = audit(CLEAN, facts)
        assert set(report.bad_clips) == silent
        kept = Split(*(tuple(clip for clip in clips if clip not in silent) for _, clips in CLEAN.items()))
        assert audit(kept, facts).bad_clips == ()


class TestCompleteness:
    @pytest.mark.parametrize("part", PARTS)
    def test_a_class_absent_from_a_part(self, part):
        only_angry = tuple(clip for clip in getattr(CLEAN, part) if clip.label == "angry")
        report = audit(replace(CLEAN, **{part: only_angry}))
        assert found(report) == [("error" if part == "train" else "warning", "absent class", "happy")]
        assert report.findings[0].detail == f"no clip in {part}"

    def test_a_class_absent_everywhere_is_an_error_and_one_warning(self):
        report = audit(CLEAN, labels=(*LABELS, "bored"))
        assert found(report) == [("error", "absent class", "bored"), ("warning", "absent class", "bored")]
        assert report.warnings[0].detail == "no clip in validation and test"

    @pytest.mark.parametrize("expected_clips", [11, 13])
    def test_another_count_than_expected(self, expected_clips):
        [finding] = audit(CLEAN, expected_clips=expected_clips).findings
        assert (finding.severity, finding.check) == ("warning", "count")
        assert finding.detail == f"12 clips, expected {expected_clips}"

    def test_a_clip_that_was_not_measured_is_a_mistake_of_the_caller(self):
        facts = {clip: good_facts(clip) for clip in CLEAN.train}
        with pytest.raises(SettingError, match="clip='bob-0' was not measured; measure every clip"):
            audit_split(CLEAN, facts, labels=LABELS, min_samples=400)


def test_every_finding_has_a_remedy():
    clip = CLEAN.train[0]
    spoilt = Split((clip, clip, replace(clip, speaker="")), (clip,), CLEAN.test)
    overlapping = replace(CLEAN.test[2], path=clip.path, start_s=1.0, end_s=3.0)
    spoilt = replace(spoilt, test=(*CLEAN.test, overlapping))
    facts = {
        clip: ClipFacts(good_facts(clip).sha256, "x", 1, 99.0, 1.0, -inf, 0.5),
        CLEAN.test[0]: ClipFacts(error="gone"),
        CLEAN.test[1]: ClipFacts(),
    }
    report = audit(spoilt, facts, max_duration_s=1.0, expected_clips=1)
    assert {finding.check for finding in report.findings} == set(REMEDIES)
