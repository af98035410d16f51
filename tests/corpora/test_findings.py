"""The audit's table and error: what people read."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavshap_lightning.corpora.audit import REMEDIES, AuditReport, Finding
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.errors import AuditError, CorpusError

CLIPS = tuple(Clip(Path(f"clip-{index:02}.wav"), "angry") for index in range(12))
SILENT = tuple(Finding("error", "silent", clip.name, "level -inf dBFS", (clip,)) for clip in CLIPS)
SPEAKER = Finding("error", "shared speaker", "ann", "3 clips in train and 2 clips in test")
COUNT = Finding("warning", "count", "all parts", "9 clips, expected 10")


def test_findings_are_told_apart_by_severity():
    report = AuditReport((COUNT, SPEAKER, *SILENT))
    assert report.errors == (SPEAKER, *SILENT)
    assert report.warnings == (COUNT,)


def test_bad_clips_are_those_with_an_error_of_their_own_each_once():
    short = Finding("error", "too short", CLIPS[0].name, "9 samples", (CLIPS[0],))
    clipped = Finding("warning", "clipped", CLIPS[5].name, "2.0% of its samples", (CLIPS[5],))
    assert AuditReport((SILENT[1], SILENT[0], short, clipped, SPEAKER)).bad_clips == (CLIPS[1], CLIPS[0])


def test_clips_that_clash_with_each_other_are_not_bad_by_themselves():
    duplicate = Finding("error", "duplicate audio", "a = b", "the same sound", CLIPS[:2])
    assert AuditReport((duplicate, SILENT[2])).bad_clips == (CLIPS[2],)


def test_the_error_lists_every_bad_clip_by_its_whole_path():
    """Names repeat among folders, and sixty truncated files are sixty files to repair."""
    clips = [Clip(Path(f"actor-{index:02}/take.wav"), "angry", start_s=0.5) for index in range(60)]
    findings = [Finding("error", "too short", clip.name, "9 samples", (clip,)) for clip in clips]
    pair = Finding("error", "duplicate audio", "a = b", "the same sound", (CLIPS[0], CLIPS[1]))
    with pytest.raises(AuditError) as caught:
        AuditReport((*findings, pair, SPEAKER, COUNT)).raise_for_errors()
    lines = str(caught.value).partition("Every error\n")[2].splitlines()
    assert lines == [
        *(f"- too short: actor-{index:02}/take.wav from 0.500 s: 9 samples" for index in range(60)),
        "- duplicate audio: clip-00.wav and clip-01.wav: the same sound",
        "- shared speaker: ann: 3 clips in train and 2 clips in test",
    ]


def test_the_table_puts_errors_first_and_folds_what_is_alike():
    assert AuditReport((COUNT, *SILENT, SPEAKER)).table().splitlines() == [
        "severity  check              finding",
        "error     silent             12 clips: clip-00, clip-01, clip-02, clip-03, clip-04, clip-05 and 6",
        "                             more",
        "                             For example",
        "                             clip-00: level -inf dBFS",
        "                             clip-01: level -inf dBFS",
        "                             clip-02: level -inf dBFS",
        "error     shared speaker     ann: 3 clips in train and 2 clips in test",
        "warning   count              all parts: 9 clips, expected 10",
    ]


def test_a_few_alike_are_told_one_by_one():
    table = AuditReport(SILENT[:3]).table()
    assert [line[29:38] for line in table.splitlines()[1:]] == ["clip-00: ", "clip-01: ", "clip-02: "]


@pytest.mark.parametrize("check", REMEDIES)
def test_no_line_is_wider_than_100_columns_and_no_word_is_lost(check):
    findings = tuple(Finding("error", check, f"name-{index}", "what is wrong " * 20) for index in range(4))
    table = AuditReport(findings).table()
    assert max(map(len, table.splitlines())) <= 100
    assert table.count("what") == 3 * 20


def test_a_path_is_never_broken_in_two():
    path = "/".join(["folder"] * 30)
    assert path in AuditReport((Finding("error", "unreadable", "a", f"path={path}: gone"),)).table()


def test_nothing_wrong_is_said_in_words():
    assert AuditReport().table() == "The audit found nothing wrong."


@pytest.mark.parametrize("findings", [(), (COUNT,)])
def test_warnings_stop_no_run(findings):
    assert AuditReport(findings).raise_for_errors() is None


def test_errors_stop_a_run_with_the_table_and_a_remedy_for_each():
    report = AuditReport((COUNT, SPEAKER, *SILENT))
    with pytest.raises(AuditError) as caught:
        report.raise_for_errors()
    message = str(caught.value)
    assert isinstance(caught.value, CorpusError)
    assert message.startswith("errors=13 ")
    assert report.table() in message
    assert message.count("- silent: leave these clips out") == 1
    assert message.count("- shared speaker: choose a protocol") == 1
    assert "- count" not in message
