"""The audit of real files, from the disk to the message."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from wavshap_lightning.corpora.audit import AuditReport, audit_split, measure_clips
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.splits import Split
from wavshap_lightning.errors import AuditError

LABELS = ("angry", "happy")


def found(report: AuditReport) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.check, finding.where) for finding in report.findings]


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
    split = Split(clips[:2], clips[2:4], clips[4:])
    facts = dict(zip(clips, measure_clips(clips, sample_rate=16_000), strict=True))
    report = audit_split(split, facts, labels=LABELS, min_samples=400)
    assert str(clips[5].path) in str(report.error_lines())
    assert found(report) == [
        ("error", "duplicate audio", "a = c"),
        ("error", "silent", "d"),
        ("error", "too short", "e"),
        ("error", "unreadable", "f"),
    ]
    assert report.bad_clips == clips[3:]
    with pytest.raises(AuditError, match=r"errors=4 (?s:.*)truncated"):
        report.raise_for_errors()


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
    facts = dict(zip(clips, measure_clips(clips, sample_rate=16_000), strict=True))
    assert len({fact.sha256 for fact in facts.values()}) == 3
    report = audit_split(Split(*((clip,) for clip in clips)), facts, labels=(), min_samples=400)
    assert found(report) == [("error", "duplicate audio", "a = b = c")]
