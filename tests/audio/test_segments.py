"""Segments are cut with their clip, and pauses are where it is quiet."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import pytest

from wavshap_lightning.audio.alignments import read_alignment
from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.audio.segments import PAUSE, Segment, _is_loud, cut_to, voiced_segments, with_pauses

RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "aligned_speech"
needs_recordings = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings in {RECORDINGS}")
WORDS = [Segment("mary", 0.25, 0.5), Segment("rolled", 0.75, 1.0)]


def test_segments_of_a_span_begin_with_the_span():
    first, second = cut_to(WORDS, 0.4, 0.8)
    assert (first.text, second.text) == ("mary", "rolled")
    assert [first.start_s, first.end_s, second.start_s, second.end_s] == pytest.approx([0, 0.1, 0.35, 0.4])


def test_speech_and_pauses_tile_the_clip():
    rng = np.random.default_rng(0)
    level = np.repeat([0.001, 0.1, 0.001, 0.1, 0.001], [4000, 8000, 1200, 8000, 6400])
    found = voiced_segments(level * rng.standard_normal(len(level)), 16_000)
    assert [one.text for one in found] == ["pause", "speech", "pause"]  # 75 ms are no pause
    assert found[0].start_s == 0
    assert [one.end_s for one in found] == pytest.approx([0.25, 1.325, 1.725], abs=0.02)
    assert all(one.end_s == after.start_s for one, after in pairwise(found))


def test_noise_alone_is_one_segment():
    found = voiced_segments(0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    assert [one.text for one in found] == ["speech"]


@needs_recordings
def test_words_lie_where_it_is_loud():
    words = read_alignment(RECORDINGS / "acoustic_corpus.TextGrid").words
    waveform = load_audio(RECORDINGS / "acoustic_corpus.wav")
    speech = [one for one in voiced_segments(waveform, 16_000) if one.text == "speech"]
    heard = sum(
        max(0.0, min(one.end_s, word.end_s) - max(one.start_s, word.start_s))
        for one in speech
        for word in words
    )
    assert heard > 0.8 * sum(word.end_s - word.start_s for word in words)


@pytest.mark.parametrize("num_samples", [1, 479, 480, 481, 16_000])
def test_levels_are_those_of_librosa(num_samples):
    """Of a silent half and a loud half."""
    waveform = np.random.default_rng(0).normal(size=num_samples) * (np.arange(num_samples) > num_samples / 2)
    rms = librosa.feature.rms(y=waveform, frame_length=480, hop_length=160)[0]
    loud = _is_loud(waveform, 16_000)
    assert len(loud) == len(rms)
    if num_samples == 16_000:
        assert loud.tolist() == (rms > rms.max() * 10**-1.5).tolist()


def test_words_and_pauses_cover_the_clip_without_gap_or_overlap():
    words = [Segment("a", 0.01, 0.2), Segment("b", 0.21, 0.5), Segment("c", 0.8, 0.99, 0.4)]
    whole = with_pauses(words, 1.0)
    assert [one.text for one in whole] == ["a", "b", PAUSE, "c"]
    assert [one.start_s for one in whole] == [0.0, *(one.end_s for one in whole[:-1])]
    assert whole[-1] == Segment("c", 0.8, 1.0, 0.4)
    assert with_pauses([], 1.0) == [Segment(PAUSE, 0.0, 1.0)]
