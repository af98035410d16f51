"""Odd and broken audio: each becomes a row with a reason, and the rest is explained."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
import soundfile

from wavshap_lightning.cli.clips import ClipExplainer

pytestmark = pytest.mark.usefixtures("surroundings")

NOISE = 0.1 * np.random.default_rng(0).standard_normal(8_000)


@pytest.fixture
def odd(tmp_path):
    """A folder of files that a parser of audio may stumble over."""
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is no sound at all\n" * 40)
    soundfile.write(folder / "nan.wav", np.where(np.arange(8_000) == 99, np.nan, NOISE), 16_000, "FLOAT")
    soundfile.write(folder / "short.wav", NOISE[:160], 16_000)
    soundfile.write(folder / "silent.wav", np.zeros(8_000), 16_000)
    soundfile.write(folder / "cut.wav", NOISE, 16_000)
    content = bytearray((folder / "cut.wav").read_bytes())
    content[40:44] = struct.pack("<I", 0x7000_0000)
    (folder / "cut.wav").write_bytes(content)
    soundfile.write(folder / "eight bits.wav", NOISE, 16_000, "PCM_U8")
    soundfile.write(folder / "eight channels.wav", np.stack([NOISE] * 8, 1), 44_100)
    soundfile.write(folder / "slow.wav", NOISE, 8_000)
    soundfile.write(folder / "two\nlines <script>.wav", NOISE, 16_000)
    soundfile.write(folder / "\u611f\u60c5.flac", NOISE, 16_000)
    soundfile.write(folder / f"{'long' * 60}.wav", NOISE, 16_000)
    (folder / "deep").mkdir()
    soundfile.write(folder / "deep" / "slow.flac", NOISE, 16_000)
    return folder


REASONS = {
    "empty.wav": "the file is empty",
    "text.wav": "cannot be read as audio",
    "nan.wav": "is NaN or infinite",
    "short.wav": "one frame needs 1080",
    "silent.wav": "silent",
    "cut.wav": "truncated",
}


def test_each_is_a_row_and_the_rest_is_explained(run_explain, checkpoint, odd, tmp_path, read_csv, capsys):
    arguments = (
        "--out",
        tmp_path / "out",
        "--num_draws",
        "2",
        "--stages",
        "frames",
        "--figures=false",
        "--report=false",
    )
    assert run_explain(checkpoint, odd, *arguments) == 1
    rows = {os.path.relpath(row["clip"], odd): row for row in read_csv(tmp_path / "out" / "summary.csv")}
    assert len(rows) == 13
    failed = {name for name, row in rows.items() if row["status"] == "failed"}
    assert failed == set(REASONS)
    for name, reason in REASONS.items():
        assert reason in rows[name]["reason"], name
        assert "\n" not in rows[name]["reason"]
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert all(name in shown for name in REASONS)
    stems = [path.name for path in (tmp_path / "out" / "clips").glob("*.json")]
    assert len(stems) == 7
    assert sum(stem.startswith("slow-") for stem in stems) == 2


def test_nothing_but_broken_clips_ends_with_2(run_explain, checkpoint, odd, tmp_path, read_csv):
    assert run_explain(checkpoint, odd / "text.wav", tmp_path / "gone.wav", "--out", tmp_path / "out") == 2
    rows = read_csv(tmp_path / "out" / "summary.csv")
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert all(row["reason"] for row in rows)


def test_a_name_that_is_no_text(run_explain, checkpoint, tmp_path, read_csv):
    path = tmp_path / os.fsdecode(b"no text \xff.wav")
    soundfile.write(tmp_path / "plain.wav", NOISE, 16_000)
    (tmp_path / "plain.wav").rename(path)
    status = run_explain(
        checkpoint,
        path,
        "--out",
        tmp_path / "out",
        "--num_draws",
        "2",
        "--stages",
        "frames",
        "--report=false",
    )
    (row,) = read_csv(tmp_path / "out" / "summary.csv")
    assert (status, row["status"]) in ((0, "ok"), (2, "failed"))  # not every libsndfile opens it
    assert "no text" in row["clip"]


def test_running_out_of_memory_is_a_reason(run_explain, checkpoint, clip, tmp_path, read_csv, monkeypatch):
    def explode(work, item):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(ClipExplainer, "explain", explode)
    assert run_explain(checkpoint, clip, "--out", tmp_path / "out", "--report=false") == 2
    (row,) = read_csv(tmp_path / "out" / "summary.csv")
    assert "allocate memory" in row["reason"]
