"""Measuring clips, against closed forms of level and clipping, and against files gone wrong."""

from __future__ import annotations

import hashlib
import threading
import tracemalloc
from math import inf
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.corpora import audit as measure_module
from wavshap_lightning.corpora.audit import BLOCK_SAMPLES, ClipFacts, measure_clip, measure_clips
from wavshap_lightning.corpora.clip import Clip

RECORDINGS = Path(__file__).parents[2].parent / "shared/data"


def clip_of(path: Path, samples: np.ndarray, sample_rate: int = 16_000, **span: float) -> Clip:
    soundfile.write(path, samples, sample_rate, subtype="FLOAT")
    return Clip(path, "angry", **span)


def facts_of(path: Path, samples: np.ndarray, sample_rate: int = 16_000, **span: float) -> ClipFacts:
    return measure_clip(clip_of(path, samples, sample_rate, **span), sample_rate=16_000)


@pytest.mark.parametrize(("level", "rms_db"), [(1.0, -3.0103), (0.1, -23.0103), (1e-4, -83.0103)])
def test_a_sine_is_three_db_below_its_peak(tmp_path, level, rms_db):
    sine = level * np.sin(2 * np.pi * 100 * np.arange(160_000) / 16_000)
    facts = facts_of(tmp_path / "a.wav", sine)
    assert facts.rms_db == pytest.approx(rms_db, abs=1e-3)
    assert facts.peak == pytest.approx(level, rel=1e-6)
    assert (facts.num_samples, facts.duration_s, facts.error) == (160_000, 10.0, None)


def test_silence_has_no_level(tmp_path):
    facts = facts_of(tmp_path / "a.wav", np.zeros(800))
    assert (facts.rms_db, facts.peak, facts.clipped_share, facts.error) == (-inf, 0.0, 0.0, None)


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
    facts = measure_clip(clip, sample_rate=16_000)
    assert facts.num_samples == len(load_audio(clip.path, start_s=0.05, end_s=0.2))
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


@pytest.mark.parametrize("block_samples", [1, 2, 3, 7, 64, 1_000])
def test_blocks_leave_no_seam(tmp_path, monkeypatch, block_samples):
    rng = np.random.default_rng(1)
    samples = np.clip(rng.normal(0, 1.2, 500).repeat(rng.integers(1, 5, 500)), -1, 1)
    whole = facts_of(tmp_path / "a.wav", samples)
    assert 0.1 < whole.clipped_share < 0.5
    monkeypatch.setattr(measure_module, "BLOCK_SAMPLES", block_samples)
    parts = facts_of(tmp_path / "a.wav", samples)
    assert parts.rms_db == pytest.approx(whole.rms_db, abs=1e-5)
    assert (parts.sound, parts.peak, parts.clipped_share) == (whole.sound, whole.peak, whole.clipped_share)


def test_measuring_needs_no_second_copy_of_a_long_recording():
    waveform = np.ones(20 * BLOCK_SAMPLES, np.float32)
    tracemalloc.start()
    measure_module._facts(waveform, 16_000, "", 16_000)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 5 * BLOCK_SAMPLES * waveform.itemsize


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "no such file"), (b"", "empty"), (b"not audio", "cannot be read as audio")]
)
def test_a_bad_file_is_a_fact_and_no_exception(tmp_path, content, reason):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    facts = measure_clip(Clip(path, "angry"), sample_rate=16_000)
    assert f"path={path}: " in facts.error
    assert reason in facts.error
    assert facts == ClipFacts(error=facts.error)


def test_a_span_outside_the_file_is_a_fact_too(tmp_path):
    assert "end_s=9.0" in facts_of(tmp_path / "a.wav", np.zeros(800), end_s=9.0).error


def test_many_clips_keep_their_order_whichever_is_done_first():
    clips = [Clip(Path(f"{index}.wav"), "angry") for index in range(20)]
    last_is_done = threading.Event()

    def measure(clip, *, sample_rate):
        if clip is clips[1]:
            last_is_done.set()
        if clip is clips[0]:
            assert last_is_done.wait(timeout=5)
        return ClipFacts(num_samples=int(clip.path.stem) * sample_rate)

    done: list[int] = []
    facts = measure_clips(clips, sample_rate=10, num_threads=2, measure=measure, on_progress=done.append)
    assert [fact.num_samples for fact in facts] == [10 * index for index in range(20)]
    assert done == list(range(1, 21))


def test_no_clips_have_no_facts():
    assert measure_clips([], sample_rate=16_000) == ()


def test_a_bug_in_measuring_is_not_taken_for_a_bad_file():
    def measure(clip, *, sample_rate):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure_clips([Clip(Path("a.wav"), "angry")], sample_rate=16_000, measure=measure)


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="real recordings are not here")
def test_real_recordings_are_readable_and_sound():
    clips = [Clip(path, "any") for path in sorted(RECORDINGS.rglob("*.flac"))[::200]]
    facts = measure_clips(clips, sample_rate=16_000)
    assert [fact.error for fact in facts] == [None] * len(clips)
    assert all(-70 < fact.rms_db < -10 and 1 < fact.duration_s < 8 for fact in facts)
