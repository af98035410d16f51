"""The audit of a split: measurements, checks that fire on their fault alone, and the report people read."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import replace
from math import ceil, inf
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.corpora.audit import (
    REMEDIES,
    ClipFacts,
    Finding,
    audit_split,
    audit_table,
    bad_clips,
    group_findings,
    measure_clip,
    raise_for_errors,
    summarize_clips,
    summary_table,
)
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.protocols import Split
from wavshap_lightning.errors import AuditError, CorpusError

LABELS = ("angry", "happy")
SPLIT_NAMES = ("train", "validation", "test")

MAY_SHARE = ("train", "validation")


def clips_of(speaker: str, num_clips: int = 4) -> tuple[Clip, ...]:
    return tuple(
        Clip(Path(f"{speaker}-{index}.wav"), LABELS[index % 2], speaker, "toy", dialogue=f"{speaker}-talk")
        for index in range(num_clips)
    )


CLEAN = {"train": clips_of("ann"), "validation": clips_of("bob"), "test": clips_of("cat")}


def good_facts(clip: Clip) -> ClipFacts:
    start_s = clip.start_s or 0.0
    duration_s = (clip.end_s or start_s + 2.0) - start_s
    sound = f"sound of {clip.path} from {start_s} for {duration_s}"
    return ClipFacts(f"hash of {clip.path}", sound, duration_s, -20.0, 0.001)


def audit(split: Split, facts: dict[Clip, ClipFacts] | None = None, **options) -> tuple[Finding, ...]:
    everything = {clip: good_facts(clip) for clips in split.values() for clip in clips} | (facts or {})
    return audit_split(split, everything, **{"labels": LABELS, "min_duration_s": 0.025, **options})


def with_first(name: str, **changes) -> Split:
    """The clean split with the first clip of one name changed."""
    first, *rest = CLEAN[name]
    return CLEAN | {name: (replace(first, **changes), *rest)}


def found(report: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.check, finding.where) for finding in report]


def test_a_clean_split_has_no_findings():
    assert audit(CLEAN, max_duration_s=2.0, expected_clips=12) == ()


SCALES = {"arousal": (1.0, 7.0)}
RATED = {
    name: tuple(replace(clip, values=(("arousal", 4.0),), votes=(("happy", 2.0),)) for clip in clips)
    for name, clips in CLEAN.items()
}


class TestValuesAndVotes:
    def with_first(self, **changes):
        first, *rest = RATED["train"]
        return RATED | {"train": (replace(first, **changes), *rest)}

    def test_what_the_model_does_not_learn_is_not_asked_for(self):
        split = self.with_first(values=(("arousal", 99.0),), votes=(("awe", 2.0), ("happy", 0.0)))
        assert audit(split) == ()
        assert audit(RATED, dimensions=SCALES, voted=LABELS) == ()

    @pytest.mark.parametrize("value", [0.99, 7.01])
    def test_a_value_off_the_scale_is_an_error_of_its_clip(self, value):
        report = audit(self.with_first(values=(("arousal", value),)), dimensions=SCALES)
        assert found(report) == [("error", "off scale", "ann-0.wav")]
        assert report[0].detail == f"arousal={value}, outside the scale from 1 to 7"
        assert [clip.path.name for clip in bad_clips(report)] == ["ann-0.wav"]

    @pytest.mark.parametrize("value", [1.0, 7.0])
    def test_the_ends_of_a_scale_are_on_it(self, value):
        assert audit(self.with_first(values=(("arousal", value),)), dimensions=SCALES) == ()

    def test_missing_values_are_counted_and_a_dimension_without_any_is_an_error(self):
        report = audit(self.with_first(values=()), dimensions=SCALES)
        assert found(report) == [("note", "missing value", "arousal")]
        assert report[0].detail == "1 of 12 clips have no value"
        report = audit(CLEAN, dimensions=SCALES)
        assert found(report) == [("error", "missing value", "arousal")]

    def test_votes_that_sum_to_nothing_and_votes_for_no_class_are_told(self):
        report = audit(self.with_first(votes=(("happy", 0.0),)), voted=LABELS)
        assert found(report) == [("warning", "empty votes", "ann-0.wav")]
        report = audit(self.with_first(votes=(("awe", 1.0), ("calm", 0.0), ("happy", 1.0))), voted=LABELS)
        assert found(report) == [("note", "votes for no class", "awe")]
        assert report[0].detail == "votes in 1 of 12 clips"

    def test_a_clip_whose_votes_are_all_for_no_class_is_told_to_have_no_target(self):
        report = audit(self.with_first(votes=(("awe", 2.0),)), voted=LABELS)
        expected = [("note", "votes for no class", "ann-0.wav"), ("note", "votes for no class", "awe")]
        assert found(report) == expected
        assert report[0].detail == "it has no others, and no target"


class TestLeaks:
    @pytest.mark.parametrize(
        ("one", "other"), [("train", "validation"), ("train", "test"), ("validation", "test")]
    )
    def test_a_speaker_in_two_splits(self, one, other):
        speaker = CLEAN[one][0].speaker
        report = audit(with_first(other, speaker=speaker))
        assert found(report) == [("error", "shared speaker", speaker)]
        assert report[0].detail == f"4 clips in {one} and 1 clips in {other}"
        assert bad_clips(report) == ()

    @pytest.mark.parametrize(("other", "num_errors"), [("validation", 0), ("test", 1)])
    def test_a_shared_validation_may_share_with_train_only(self, other, num_errors):
        report = audit(with_first(other, speaker="ann"), may_share_speakers=MAY_SHARE)
        assert [one.severity for one in report].count("error") == num_errors

    def test_a_shared_validation_may_not_share_with_test(self):
        report = audit(with_first("validation", speaker="cat"), may_share_speakers=MAY_SHARE)
        assert found(report) == [("error", "shared speaker", "cat")]

    def test_a_speaker_in_all_three_splits_is_an_error_even_with_a_shared_validation(self):
        split = CLEAN | {"validation": with_first("validation", speaker="ann")["validation"]}
        split = split | {"test": with_first("test", speaker="ann")["test"]}
        assert found(audit(split, may_share_speakers=MAY_SHARE)) == [("error", "shared speaker", "ann")]

    def test_the_same_name_in_two_corpora_is_two_speakers(self):
        assert audit(with_first("test", speaker="ann", corpus="other")) == ()

    def test_clips_without_a_speaker_share_none_but_are_told(self):
        split = {name: tuple(replace(clip, speaker="") for clip in clips) for name, clips in CLEAN.items()}
        report = audit(split)
        assert {(finding.severity, finding.check) for finding in report} == {("warning", "unknown speaker")}
        assert len(report) == 12

    @pytest.mark.parametrize("may_share", [(), ("train", "validation")])
    def test_a_dialogue_in_two_splits(self, may_share):
        report = audit(with_first("validation", dialogue="ann-talk"), may_share_speakers=may_share)
        assert found(report) == [("error", "shared dialogue", "ann-talk")]

    def test_clips_without_a_dialogue_share_none(self):
        split = {name: tuple(replace(clip, dialogue=None) for clip in clips) for name, clips in CLEAN.items()}
        assert audit(split) == ()


class TestSpelling:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Ann", "ann"),
            ("spk_1", "spk-1"),
            ("spk 1", "SPK1"),
            ("ann", "аnn"),  # noqa: RUF001 - a Cyrillic letter
            ("spk1", "spk１"),  # noqa: RUF001 - a full-width digit
            ("Straße", "STRASSE"),
            ("O'Neil", "O’Neil"),  # noqa: RUF001
            ("Ann", "Ann\u3164"),
        ],
    )
    def test_one_name_in_two_spellings_crosses_splits(self, one, other):
        split = {name: tuple(replace(clip, dialogue=None) for clip in clips) for name, clips in CLEAN.items()}
        split["train"] = tuple(replace(clip, speaker=one) for clip in split["train"])
        split["test"] = tuple(replace(clip, speaker=other) for clip in split["test"])
        (finding,) = audit(split)
        assert (finding.severity, finding.check) == ("error", "similar speakers")
        assert repr(one) in finding.where
        assert repr(other) in finding.where
        assert [one.severity for one in audit(split, may_share_speakers=SPLIT_NAMES)] == ["warning"]

    @pytest.mark.parametrize(
        ("one", "other"), [("01", "1"), ("spk_01", "Spk1"), ("José", "jose"), ("K\u0131r\u0131", "Kiri")]
    )
    def test_names_that_two_people_may_have_are_a_warning(self, one, other):
        split = CLEAN | {
            "train": tuple(replace(clip, speaker=one) for clip in CLEAN["train"]),
            "test": tuple(replace(clip, speaker=other) for clip in CLEAN["test"]),
        }
        assert [(one.severity, one.check) for one in audit(split)] == [("warning", "similar speakers")]

    def test_in_one_split_it_is_a_warning(self):
        assert [(one.severity, one.check) for one in audit(with_first("train", speaker="Ann"))] == [
            ("warning", "similar speakers")
        ]

    def test_dialogues_are_compared_as_speakers_are(self):
        assert found(audit(with_first("test", dialogue="Ann_talk"))) == [
            ("error", "similar dialogues", "'Ann_talk' and 'ann-talk'")
        ]

    def test_labels_are_compared(self):
        split = {name: tuple(replace(clip, label="angry") for clip in clips) for name, clips in CLEAN.items()}
        split["train"] = tuple(replace(clip, label="Angry") for clip in split["train"])
        report = audit(split, labels=("Angry", "angry"))
        assert ("warning", "similar labels", "'Angry' and 'angry'") in found(report)

    def test_whole_numbers_with_a_decimal_point_are_told(self):
        split = {name: tuple(replace(clip, label="1") for clip in clips) for name, clips in CLEAN.items()}
        split["train"] = (*split["train"][1:], replace(split["train"][0], label="1.0"))
        report = audit(split, labels=("1", "1.0"))
        assert ("warning", "similar labels", "'1' and '1.0'") in found(report)

    @pytest.mark.parametrize(
        "names",
        [
            [f"{number:02}" for number in range(1, 25)],
            [str(number) for number in range(1, 125)],
            [f"Ses0{number}{letter}" for number in range(1, 6) for letter in "FM"],
            ["1-11", "11-1", "111", "1_1-1"],
            ["DC", "JE", "JK", "KL", "female1", "female2", "male1", "male2", "OAF", "YAF"],
            ["か", "が", "कल", "कुल", "王伟", "王维"],
        ],
    )
    def test_other_names_are_other_people(self, names):
        clips = [Clip(Path(f"{name}.wav"), "angry", name) for name in names]
        split = {name: tuple(clips[place::3]) for place, name in enumerate(SPLIT_NAMES)}
        assert audit(split, labels=("angry",)) == ()


class TestDuplicates:
    @pytest.mark.parametrize(
        ("original", "copy", "severity"),
        [
            (CLEAN["train"][0], CLEAN["test"][0], "error"),
            (CLEAN["train"][0], CLEAN["validation"][0], "error"),
            (CLEAN["train"][0], CLEAN["train"][1], "error"),
            (CLEAN["train"][0], CLEAN["train"][2], "warning"),
        ],
    )
    def test_the_same_sound_twice(self, original, copy, severity):
        report = audit(CLEAN, {copy: good_facts(original)})
        assert found(report) == [(severity, "duplicate audio", f"{original.path} = {copy.path}")]
        assert report[0].clips == (original, copy)
        assert bad_clips(report) == ()

    def test_one_sound_in_two_files_of_other_bytes(self):
        original, copy = CLEAN["train"][0], CLEAN["test"][0]
        facts = replace(good_facts(original), sha256="hash of another format")
        assert found(audit(CLEAN, {copy: facts})) == [
            ("error", "duplicate audio", f"{original.path} = {copy.path}")
        ]

    def test_the_detail_names_splits_and_labels(self):
        first, second = CLEAN["train"][0], CLEAN["test"][1]
        [finding] = audit(CLEAN, {second: good_facts(first)})
        assert finding.detail == "the same sound, in train and test, labeled angry and happy"

    def test_other_spans_of_one_file_are_other_sounds(self):
        spans = tuple(
            Clip(Path("session.wav"), label, "ann", "toy", start_s=start_s, end_s=start_s + 2.0)
            for start_s, label in ((0.0, "angry"), (2.0, "happy"))
        )
        report = audit(CLEAN | {"train": spans})
        assert report == ()

    def test_a_span_that_covers_its_file_is_the_file(self):
        whole = Clip(Path("a.wav"), "angry", "ann", "toy")
        span = replace(whole, start_s=0.0, end_s=2.0)
        report = audit(CLEAN | {"train": (*CLEAN["train"], whole, span)})
        assert found(report) == [("warning", "duplicate audio", "a.wav = a.wav from 0.000 s")]

    def test_a_clip_listed_twice_is_its_own_duplicate(self):
        clip = CLEAN["train"][0]
        report = audit(CLEAN | {"train": (*CLEAN["train"], clip)})
        assert found(report) == [("warning", "duplicate audio", f"{clip.path} = {clip.path}")]

    def test_unreadable_clips_are_not_duplicates_of_each_other(self):
        unreadable = {clip: ClipFacts(error="gone") for clip in CLEAN["train"]}
        assert {finding.check for finding in audit(CLEAN, unreadable)} == {"unreadable"}


def spans_of_one_file(**times: tuple[float, float]) -> Split:
    """The clean split with one more clip in each name named, all from one recording."""
    extended = {}
    for name, (start_s, end_s) in times.items():
        first = CLEAN[name][0]
        span = replace(first, path=Path("session.wav"), start_s=start_s, end_s=end_s)
        extended[name] = (*CLEAN[name], span)
    return CLEAN | extended


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
    def test_spans_of_one_file_that_overlap_across_splits(self, one, other, shared):
        split = spans_of_one_file(train=one, test=other)
        report = audit(split)
        [finding] = report
        assert (finding.severity, finding.check) == ("error", "overlapping spans")
        assert set(finding.clips) == {split["train"][-1], split["test"][-1]}
        assert finding.detail.startswith(f"{shared} s of one file, in t")
        assert bad_clips(report) == ()

    def test_a_whole_file_overlaps_its_spans(self):
        split = spans_of_one_file(test=(0.5, 1.0))
        whole = replace(CLEAN["train"][0], path=Path("session.wav"))
        report = audit(split | {"train": (*CLEAN["train"], whole)})
        assert found(report) == [("error", "overlapping spans", "session.wav and session.wav from 0.500 s")]

    @pytest.mark.parametrize("other", [(2.0, 4.0), (1.995, 4.0), (7.0, 8.0)])
    def test_spans_that_only_touch_within_the_rounding_of_a_table_do_not(self, other):
        assert audit(spans_of_one_file(train=(0.0, 2.0), validation=other)) == ()

    def test_people_of_one_split_may_talk_at_the_same_time(self):
        first = spans_of_one_file(train=(0.0, 2.0))
        second = replace(first["train"][-1], start_s=1.0, end_s=3.0, label="happy")
        assert audit(first | {"train": (*first["train"], second)}) == ()

    def test_a_long_span_is_not_forgotten_behind_a_short_one(self):
        split = spans_of_one_file(train=(0.0, 9.0), test=(8.0, 10.0))
        short = replace(split["train"][-1], start_s=1.0, end_s=2.0)
        report = audit(split | {"train": (*split["train"], short)})
        assert found(report) == [
            ("error", "overlapping spans", "session.wav from 0.000 s and session.wav from 8.000 s")
        ]

    def test_equal_spans_are_told_once_as_duplicates(self):
        report = audit(spans_of_one_file(train=(0.0, 2.0), test=(0.0, 2.0)))
        assert [finding.check for finding in report] == ["duplicate audio"]


class TestSingleClips:
    @pytest.mark.parametrize(
        ("changes", "severity", "check", "detail"),
        [
            ({"error": "path=bob-2.wav: gone"}, "error", "unreadable", "gone"),
            ({"duration_s": 0.0249}, "error", "too short", "0.0249 s, and one frame needs 0.0250 s"),
            ({"rms_db": -80.1}, "error", "silent", "level -80.1 dBFS, below -80 dBFS"),
            ({"rms_db": -inf}, "error", "silent", "level -inf dBFS, below -80 dBFS"),
            ({"clipped_share": 0.011}, "warning", "clipped", "1.1% of its samples at full scale"),
            ({"duration_s": 30.01}, "warning", "too long", "30.01 s, above 30 s"),
        ],
    )
    def test_a_fault_of_one_clip(self, changes, severity, check, detail):
        clip = CLEAN["validation"][2]
        facts = ClipFacts(**changes) if "error" in changes else replace(good_facts(clip), **changes)
        report = audit(CLEAN, {clip: facts}, max_duration_s=30.0)
        assert report == (Finding(severity, check, str(clip.path), detail, (clip,)),)
        assert bad_clips(report) == ((clip,) if severity == "error" else ())

    @pytest.mark.parametrize(
        "changes", [{"duration_s": 0.025}, {"rms_db": -80.0}, {"clipped_share": 0.01}, {"duration_s": 30.0}]
    )
    def test_the_limits_themselves_pass(self, changes):
        clip = CLEAN["train"][0]
        assert not audit(CLEAN, {clip: replace(good_facts(clip), **changes)}, max_duration_s=30.0)

    def test_a_long_clip_is_fine_where_nobody_minds(self):
        clip = CLEAN["train"][0]
        assert not audit(CLEAN, {clip: replace(good_facts(clip), duration_s=4_000.0)})

    @given(st.sets(st.sampled_from([clip for _, clips in CLEAN.items() for clip in clips])))
    def test_without_its_bad_clips_a_split_has_no_bad_clips(self, silent):
        facts = {clip: replace(good_facts(clip), rms_db=-90.0) for clip in silent}
        report = audit(CLEAN, facts)
        assert set(bad_clips(report)) == silent
        kept = {name: tuple(clip for clip in clips if clip not in silent) for name, clips in CLEAN.items()}
        assert bad_clips(audit(kept, facts)) == ()


class TestCompleteness:
    @pytest.mark.parametrize("name", SPLIT_NAMES)
    def test_a_class_absent_from_a_split(self, name):
        only_angry = tuple(clip for clip in CLEAN[name] if clip.label == "angry")
        report = audit(CLEAN | {name: only_angry})
        assert found(report) == [("error" if name == "train" else "warning", "absent class", "happy")]
        assert report[0].detail == f"no clip in {name}"

    def test_a_class_absent_everywhere_is_one_error(self):
        report = audit(CLEAN, labels=(*LABELS, "bored"))
        assert found(report) == [("error", "absent class", "bored")]
        assert report[0].detail == "no clip in train and validation and test"

    @pytest.mark.parametrize("expected_clips", [11, 13])
    def test_another_count_than_expected(self, expected_clips):
        [finding] = audit(CLEAN, expected_clips=expected_clips)
        assert (finding.severity, finding.check) == ("note", "count")
        assert finding.detail == f"12 clips, expected {expected_clips}"


def test_every_finding_has_a_remedy():
    clip = CLEAN["train"][0]
    spoilt = CLEAN | {"train": (clip, clip, replace(clip, speaker="")), "validation": (clip,)}
    overlapping = replace(CLEAN["test"][2], path=clip.path, start_s=1.0, end_s=3.0)
    spoilt = spoilt | {"test": (*CLEAN["test"], overlapping)}
    facts = {
        clip: ClipFacts(good_facts(clip).sha256, "x", 99.0, -inf, 0.5),
        CLEAN["test"][0]: ClipFacts(error="gone"),
        CLEAN["test"][1]: ClipFacts(),
    }
    report = audit(spoilt, facts, max_duration_s=1.0, expected_clips=1)
    similar = replace(clip, speaker="Ann", label="Angry", dialogue="Ann-talk")
    untested = audit({"train": (clip, similar), "test": ()})
    rated = replace(clip, values=(("arousal", 9.0),), votes=(("happy", 0.0),))
    voted = replace(similar, votes=(("awe", 1.0),))
    unrated = audit({"train": (rated, voted)}, dimensions=SCALES, voted=LABELS)
    assert {finding.check for finding in (*report, *untested, *unrated)} == set(REMEDIES)


# Files on disk


def test_files_on_disk_are_measured_audited_and_refused(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (3, 16_000))
    sounds = {"a": noise[0], "b": noise[1], "c": noise[0], "d": np.zeros(16_000), "e": noise[2][:300]}
    for name, samples in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
    (tmp_path / "f.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:9_000])
    clips = tuple(
        Clip(tmp_path / f"{name}.wav", label, speaker)
        for name, label, speaker in zip("abcdef", ["angry", "happy"] * 3, "112233", strict=True)
    )
    split = {"train": clips[:2], "validation": clips[2:4], "test": clips[4:]}
    facts = dict(zip(clips, [measure_clip(clip) for clip in clips], strict=True))
    report = audit_split(split, facts, labels=LABELS, min_duration_s=0.025)
    paths = [str(clip.path) for clip in clips]
    assert found(report) == [
        ("error", "duplicate audio", f"{paths[0]} = {paths[2]}"),
        ("error", "silent", paths[3]),
        ("error", "too short", paths[4]),
        ("error", "unreadable", paths[5]),
    ]
    assert bad_clips(report) == clips[3:]
    with pytest.raises(AuditError, match=r"errors=4 (?s:.*)truncated"):
        raise_for_errors(report)


def test_a_take_saved_again_in_another_format_is_found(tmp_path):
    noise = np.random.default_rng(0).integers(-9_000, 9_000, 16_000).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", noise, 16_000)
    soundfile.write(tmp_path / "b.wav", noise, 16_000)
    notes = b"LIST" + (12).to_bytes(4, "little") + b"INFOISFTtest"
    wav = bytearray((tmp_path / "b.wav").read_bytes() + notes)
    wav[4:8] = (len(wav) - 8).to_bytes(4, "little")
    (tmp_path / "c.wav").write_bytes(wav)
    clips = [
        Clip(tmp_path / name, label, name)
        for name, label in (("a.flac", "angry"), ("b.wav", "angry"), ("c.wav", "happy"))
    ]
    facts = dict(zip(clips, [measure_clip(clip) for clip in clips], strict=True))
    assert len({fact.sha256 for fact in facts.values()}) == 3
    report = audit_split(
        {name: (clip,) for name, clip in zip(SPLIT_NAMES, clips, strict=True)},
        facts,
        labels=(),
        min_duration_s=0.025,
    )
    assert found(report) == [("error", "duplicate audio", " = ".join(str(clip.path) for clip in clips))]


# The report

TWELVE = tuple(Clip(Path(f"clip-{index:02}.wav"), "angry") for index in range(12))
SILENT = tuple(Finding("error", "silent", str(clip.path), "level -inf dBFS", (clip,)) for clip in TWELVE)
SHARED = Finding("error", "shared speaker", "ann", "3 clips in train and 2 clips in test")
MISCOUNT = Finding("note", "count", "all splits", "9 clips, expected 10")


def test_bad_clips_are_those_with_an_error_of_their_own_each_once():
    short = Finding("error", "too short", TWELVE[0].name, "9 samples", (TWELVE[0],))
    clipped = Finding("warning", "clipped", TWELVE[5].name, "2.0% of its samples", (TWELVE[5],))
    report = (SILENT[1], SILENT[0], short, clipped, SHARED)
    assert bad_clips(report) == (TWELVE[1], TWELVE[0])


def test_clips_that_clash_with_each_other_are_not_bad_by_themselves():
    duplicate = Finding("error", "duplicate audio", "a = b", "the same sound", TWELVE[:2])
    assert bad_clips((duplicate, SILENT[2])) == (TWELVE[2],)


def test_the_table_puts_errors_first_and_says_equal_reasons_once_with_three_paths():
    """Names repeat among folders, so clips are named by their paths."""
    clips = [Clip(Path(f"actor-{index:02}/take.wav"), "angry", start_s=0.5) for index in range(60)]
    short = [
        Finding("error", "too short", f"{clip.path} from 0.500 s", "9 samples", (clip,)) for clip in clips
    ]
    pair = Finding("error", "duplicate audio", "a = b", "the same sound", TWELVE[:2])
    assert audit_table((MISCOUNT, *short, pair, SHARED)).splitlines() == [
        "error: shared speaker (1): choose a protocol that keeps every speaker in one split",
        "  ann: 3 clips in train and 2 clips in test",
        "error: duplicate audio (1): keep one of each group of clips, with the label that is right",
        "  a = b: the same sound",
        "error: too short (60): leave these clips out: they are shorter than one frame of the backbone",
        "  60 x 9 samples",
        "    actor-00/take.wav from 0.500 s",
        "    actor-01/take.wav from 0.500 s",
        "    actor-02/take.wav from 0.500 s and 57 more",
        "note: count (1): check that the corpus was downloaded and unpacked completely",
        "  all splits: 9 clips, expected 10",
    ]


def test_reasons_that_differ_in_numbers_are_one_reason():
    details = [f"{level}.5 dBFS; try: ffmpeg -i {clip.path} out.wav" for level, clip in enumerate(TWELVE)]
    alike = [
        Finding("error", "silent", str(clip.path), detail, (clip,))
        for clip, detail in zip(TWELVE, details, strict=True)
    ]
    other = replace(alike[0], where="elsewhere", detail="gone")
    lines = audit_table((*alike, other)).splitlines()
    assert len(lines) == 5
    assert lines[1] == "  clip-00.wav: 0.5 dBFS; try: ffmpeg -i clip-00.wav out.wav"
    assert lines[3].endswith("out.wav and 9 more")
    assert lines[4] == "  elsewhere: gone"
    assert [one["count"] for one in group_findings((*alike, other))] == [12, 1]


def test_a_refusal_of_thousands_of_files_fits_on_one_screen():
    reasons = ("Git LFS pointer", "empty", "a web page", "truncated", "an archive", "no sound", "NaN")
    clips = [Clip(Path(f"folder/{index:04}.wav"), "angry") for index in range(7_442)]
    findings = [
        Finding("error", "unreadable", str(clip.path), reasons[index % 7], (clip,))
        for index, clip in enumerate(clips)
    ]
    with pytest.raises(AuditError) as caught:
        raise_for_errors(findings)
    lines = str(caught.value).splitlines()
    assert len(lines) < 40
    assert lines[0].startswith("errors=7442 ")
    assert "audit.json" in lines[-1]
    assert sum(one["count"] for one in group_findings(findings)) == 7_442


def test_the_summary_counts_clips_speakers_seconds_levels_rates_and_classes():
    facts = {
        clip: replace(good_facts(clip), sample_rate=16_000) for clips in CLEAN.values() for clip in clips
    }
    first, second, third, _ = CLEAN["train"]
    facts[first] = replace(facts[first], duration_s=5.0, rms_db=-50.0, sample_rate=48_000, clipped_share=0.5)
    facts[second] = replace(facts[second], rms_db=-inf)
    facts[third] = ClipFacts(error="gone")
    summary = summarize_clips(CLEAN, facts)
    assert list(summary) == [*SPLIT_NAMES, "all"]
    assert summary["train"] == {
        "number": {"clips": 4, "speakers": 1, "clipped": 1, "silent": 1, "unreadable": 1},
        "seconds": {"total": 9.0, "shortest": 2.0, "median": 2.0, "longest": 5.0},
        "dBFS": {"quietest": -50.0, "loudest": -20.0},
        "sample rate": {"16000 Hz": 2, "48000 Hz": 1},
        "label": {"angry": 2, "happy": 2},
    }
    assert (summary["all"]["number"]["clips"], summary["all"]["number"]["speakers"]) == (12, 3)
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_the_summary_shows_every_number_beside_its_name(width):
    odd = CLEAN | {"train": (replace(CLEAN["train"][0], label="[red]so happy[/red]"),)}
    facts = {clip: good_facts(clip) for clips in odd.values() for clip in clips}
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(summary_table(summarize_clips(odd, facts), "a title"))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    rows = {cells[-5]: cells[-4:] for line in lines if len(cells := re.split(r"\s{2,}", line.strip())) > 4}
    assert rows["longest"] == ["2.0"] * 4
    assert rows["[red]so happy[/red]"] == ["1", "0", "0", "1"]


def test_a_corpus_of_which_nothing_can_be_read_has_a_summary():
    broken = {clip: ClipFacts(error="gone") for clips in CLEAN.values() for clip in clips}
    summary = summarize_clips(CLEAN, broken)
    assert summary["all"]["number"]["unreadable"] == 12
    json.dumps(summary, allow_nan=False)
    assert summary_table(summary, "a title").row_count > 10


@pytest.mark.parametrize("findings", [(), (MISCOUNT,)])
def test_warnings_stop_no_run(findings):
    assert raise_for_errors(findings) is None


def test_errors_stop_a_run_with_the_table_and_a_remedy_for_each():
    report = (MISCOUNT, SHARED, *SILENT)
    with pytest.raises(AuditError) as caught:
        raise_for_errors(report)
    message = str(caught.value)
    assert isinstance(caught.value, CorpusError)
    assert len(message.splitlines()) < 15
    assert message.startswith("errors=13 ")
    assert audit_table(report) in message
    assert message.count("leave these clips out") == 1
    assert message.count("choose a protocol") == 1


# Measurements

RECORDINGS = Path(__file__).parents[2].parent / "shared/data"


def clip_of(path: Path, samples: np.ndarray, sample_rate: int = 16_000, **span: float) -> Clip:
    soundfile.write(path, samples, sample_rate, subtype="FLOAT")
    return Clip(path, "angry", **span)


def facts_of(path: Path, samples: np.ndarray, sample_rate: int = 16_000, **span: float) -> ClipFacts:
    return measure_clip(clip_of(path, samples, sample_rate, **span))


@pytest.mark.parametrize(("level", "rms_db"), [(1.0, -3.0103), (0.1, -23.0103), (1e-4, -83.0103)])
def test_a_sine_is_three_db_below_its_peak(tmp_path, level, rms_db):
    sine = level * np.sin(2 * np.pi * 100 * np.arange(160_000) / 16_000)
    facts = facts_of(tmp_path / "a.wav", sine)
    assert facts.rms_db == pytest.approx(rms_db, abs=1e-3)
    assert (facts.duration_s, facts.error, facts.sample_rate) == (10.0, None, 16_000)


def test_silence_has_no_level(tmp_path):
    facts = facts_of(tmp_path / "a.wav", np.zeros(800))
    assert (facts.rms_db, facts.clipped_share, facts.error) == (-inf, 0.0, None)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("run", "share"), [(1, 0.0), (2, 0.0), (3, 0.03), (7, 0.07), (100, 1.0)])
def test_clipping_is_three_full_scale_samples_in_a_row(tmp_path, sign, run, share):
    samples = np.full(100, 0.5)
    samples[-run:] = sign
    assert facts_of(tmp_path / "a.wav", samples).clipped_share == pytest.approx(share)


def test_the_largest_16_bit_sample_is_full_scale_and_the_next_is_not(tmp_path):
    for step, share in ((32_767, 1.0), (32_766, 0.0)):
        assert facts_of(tmp_path / "a.wav", np.full(10, step / 32_768)).clipped_share == share


def test_a_flat_top_is_seen_at_the_rate_of_the_file(tmp_path):
    sine = 4 * np.sin(2 * np.pi * 700 * np.arange(48_000) / 48_000)
    expected = 1 - 2 * np.arcsin(1 / 4) / np.pi
    facts = facts_of(tmp_path / "a.wav", np.clip(sine, -1, 1), 48_000)
    assert facts.clipped_share == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 44_100, 48_000])
def test_the_length_is_that_of_the_waveform_a_model_gets(tmp_path, sample_rate):
    clip = clip_of(tmp_path / "a.wav", np.zeros(12_345), sample_rate, start_s=0.05, end_s=0.2)
    facts = measure_clip(clip)
    assert ceil(facts.duration_s * 16_000) == len(load_audio(clip.path, start_s=0.05, end_s=0.2))
    assert facts.duration_s == pytest.approx(0.15, abs=1 / sample_rate)


def test_the_hash_is_that_of_the_whole_file_for_every_span(tmp_path):
    facts = facts_of(tmp_path / "a.wav", np.zeros(800), start_s=0.01, end_s=0.02)
    assert facts.sha256 == hashlib.sha256((tmp_path / "a.wav").read_bytes()).hexdigest()


def test_the_sound_is_that_of_the_samples_and_their_rate(tmp_path):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 800)
    expected = hashlib.sha256(b"16000" + samples.astype("<i2").tobytes()).hexdigest()
    assert facts_of(tmp_path / "a.wav", samples / 2**15).sound == expected
    assert facts_of(tmp_path / "b.wav", samples / 2**15, 8_000).sound != expected
    assert facts_of(tmp_path / "c.wav", samples / 2**15, start_s=0.0, end_s=0.05).sound == expected
    assert facts_of(tmp_path / "d.wav", samples / 2**15, start_s=0.01).sound != expected


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "no such file"), (b"", "empty"), (b"not audio", "cannot be read as audio")]
)
def test_a_bad_file_is_a_fact_and_no_exception(tmp_path, content, reason):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    facts = measure_clip(Clip(path, "angry"))
    assert f"path={path}: " in facts.error
    assert reason in facts.error
    assert facts == ClipFacts(error=facts.error)


def test_a_span_outside_the_file_is_a_fact_too(tmp_path):
    assert "end_s=9.0" in facts_of(tmp_path / "a.wav", np.zeros(800), end_s=9.0).error


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="real recordings are not here")
def test_real_recordings_are_readable_and_sound():
    clips = [Clip(path, "any") for path in sorted(RECORDINGS.rglob("*.flac"))[::200]]
    facts = [measure_clip(clip) for clip in clips]
    assert [fact.error for fact in facts] == [None] * len(clips)
    assert all(-70 < fact.rms_db < -10 and 1 < fact.duration_s < 8 for fact in facts)
