"""Forced alignment: words in order within the clip, phones within words, and clear refusals."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from wavshap_lightning.audio import aligner
from wavshap_lightning.audio.aligner import align, align_cached, doubt, spoken_words
from wavshap_lightning.audio.alignments import Alignment, format_textgrid, read_alignment
from wavshap_lightning.audio.segments import LOW_CONFIDENCE, Segment
from wavshap_lightning.errors import AudioError, SettingError
from wavshap_lightning.planted.voices import (
    build_tracks,
    draw_source_noise,
    draw_speaker,
    draw_syllables,
    render_speech,
)

RATE = 16_000
TEXT = "Dogs are sitting by the door."


@pytest.fixture(scope="module")
def sound():
    """Synthetic syllables: speech-like, but of no words."""
    generator = np.random.default_rng(3)
    speaker = draw_speaker(generator, voice="female")
    tracks = build_tracks(draw_syllables(speaker, 2.4, generator), speaker, 2.5, generator)
    waveform = render_speech(tracks, speaker, draw_source_noise(len(tracks.voicing), generator))
    return np.float32(0.5 * waveform / np.abs(waveform).max())


@pytest.fixture(scope="module")
def aligned(sound):
    return align(sound, RATE, TEXT)


def test_words_are_those_of_the_text_in_order_within_the_clip(aligned, sound):
    assert [one.text for one in aligned.words] == ["dogs", "are", "sitting", "by", "the", "door"]
    edges = [edge for one in aligned.words for edge in (one.start_s, one.end_s)]
    assert edges == sorted(edges)
    assert 0 <= edges[0] < edges[-1] <= len(sound) / RATE


def test_phones_fill_their_words(aligned):
    for word in aligned.words:
        inside = [one for one in aligned.phones if word.start_s <= one.start_s < word.end_s]
        assert (inside[0].start_s, inside[-1].end_s) == (word.start_s, word.end_s)
        assert all(one.end_s == other.start_s for one, other in pairwise(inside))
    assert "".join(one.text for one in aligned.phones if one.start_s < aligned.words[0].end_s) in (
        "DAAGZ",
        "DAOGZ",
    )


def test_the_same_alignment_whatever_was_aligned_before(aligned, sound):
    align(sound[RATE // 2 : RATE], RATE, "the")
    again = align(sound, RATE, TEXT)
    assert again == aligned


def test_a_text_that_is_not_spoken_is_in_doubt(aligned):
    low = [one.text for one in aligned.words if one.confidence < LOW_CONFIDENCE]
    assert len(low) >= 3
    assert f"low confidence of {', '.join(low[:5])} ({len(low)} of 6)" in doubt(aligned)
    certain = Alignment(tuple(replace(one, confidence=0.9) for one in aligned.words))
    unknown = Alignment(tuple(replace(one, confidence=None) for one in aligned.words))
    assert doubt(certain) == doubt(unknown) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Kids\u2019 DOORS, it\u2019s [laughs] 'open'!", ["kids", "doors", "it's", "open"]),
        ("well-known <noise> Café", ["well", "known", "cafe"]),
        (
            "at 5 o'clock 30 dogs, 99 kids",
            ["at", "five", "o'clock", "thirty", "dogs", "ninety", "nine", "kids"],
        ),
    ],
)
def test_case_punctuation_accents_and_marks_are_left_out(text, words):
    assert spoken_words(text) == words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "text='' holds no word"),
        ("... !?", "holds no word"),
        ("[laughs]", "holds no word"),
        ("1984 dogs, 3.5 kids and 3rd", "write 1984, 3.5, 3rd as it is spoken, in words"),
        ("die Hunde", "words=hunde: not in the English dictionary"),
        ("孩子们", "not in the English dictionary"),
        (4 * TEXT, "does not fit the 2.50 s"),
    ],
)
def test_texts_that_cannot_be_aligned(sound, text, message):
    with pytest.raises(AudioError, match=message) as raised:
        align(sound, RATE, text)
    assert "\n" not in str(raised.value)


def test_sounds_that_hold_no_words(sound):
    with pytest.raises(AudioError, match=r"duration=0.50 s of silence"):
        align(np.zeros(RATE // 2, np.float32), RATE, TEXT)
    with pytest.raises(AudioError, match=r"does not fit the 0.30 s"):
        align(sound[: RATE * 3 // 10], RATE, TEXT)
    with pytest.raises(AudioError, match=r"does not fit the 0.00 s"):
        align(sound[:1] + 0.5, RATE, TEXT)


def test_compounds_are_pronounced_as_their_parts(sound):
    phones = [one.text for one in align(sound[:RATE], RATE, "kidsdoor").phones]
    assert phones == ["K", "IH", "D", "Z", "D", "AO", "R"]


def test_without_the_extra_the_remedy_is_named(monkeypatch, sound):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "pocketsphinx":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    aligner._decoder.cache_clear()  # one that was loaded before would hide it
    with pytest.raises(SettingError, match=r"pip install 'wavshap-lightning\[align\]'"):
        align(sound, RATE, TEXT)


# Kept alignments


def test_an_alignment_is_kept_by_content_and_damage_is_repaired(sound, tmp_path, monkeypatch):
    monkeypatch.setenv("WAVSHAP_CACHE", str(tmp_path))
    short = sound[:RATE]
    first = align_cached(short, RATE, "The kids!")
    (place,) = (tmp_path / "alignments").iterdir()
    content = json.loads(place.read_text())
    content["words"][0]["text"] = "cats"
    place.write_text(json.dumps(content))
    assert align_cached(short, RATE, "the kids").words[0].text == "cats"
    place.write_text("{")
    assert align_cached(short, RATE, "the kids") == first
    align_cached(short[1:], RATE, "the kids")
    assert len([*place.parent.iterdir()]) == 2


def test_a_folder_that_cannot_be_written_does_not_matter(sound, tmp_path, monkeypatch):
    monkeypatch.setenv("WAVSHAP_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    assert align_cached(sound[:RATE], RATE, "kids").words


# TextGrids


def test_a_textgrid_is_read_back(aligned, tmp_path):
    place = tmp_path / "a.TextGrid"
    place.write_text(format_textgrid(aligned, 2.5), encoding="utf-8")
    for tier, segments in (("words", aligned.words), ("phones", aligned.phones)):
        found = [(one.text, one.start_s, one.end_s) for one in read_alignment(place, tier=tier).words]
        assert found == [(one.text, one.start_s, one.end_s) for one in segments]


def test_a_textgrid_as_praat_reads_it(aligned, tmp_path):
    parselmouth = pytest.importorskip("parselmouth")
    quoted = Alignment((Segment('say "no"', 0.5, 1.0), *aligned.words[-1:]), aligned.phones)
    place = tmp_path / "a.TextGrid"
    place.write_text(format_textgrid(quoted, 2.5), encoding="utf-8")
    grid, call = parselmouth.read(str(place)), parselmouth.praat.call
    labels = [
        call(grid, "Get label of interval", 1, i + 1) for i in range(call(grid, "Get number of intervals", 1))
    ]
    assert [label for label in labels if label] == ['say "no"', "door"]
    assert [call(grid, "Get tier name", tier) for tier in (1, 2)] == ["words", "phones"]
    assert call(grid, "Get end time") == 2.5
