"""Edits of a voice: each moves its own cue, by measures that do not come from WORLD, and no other."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.signal import lfilter

from wavshap_lightning.audio.voice import (
    CUES,
    UNITS,
    VoiceMeasures,
    analyze_voice,
    differences,
    mean_measures,
    resynthesize,
)
from wavshap_lightning.errors import AudioError, SettingError

RATE = 16_000
SPAN_S = (0.15, 0.85)


TOLERANCES = {"pitch_level": 0.3, "pitch_range": 0.6, "loudness": 0.6, "tempo": 0.06, "spectrum": 2.0}


@pytest.fixture(scope="module")
def voice(spoken):
    return analyze_voice(spoken(), RATE)


@pytest.fixture(scope="module")
def reference(voice):
    """A reference that differs in every cue."""
    own = voice.measures
    tilt = np.linspace(-20, 20, len(own.spectrum))
    return VoiceMeasures(
        own.pitch_level + 4,
        own.pitch_range * 0.5,
        own.loudness - 6,
        own.tempo * 1.3,
        np.add(own.spectrum, tilt).tolist(),
    )


@pytest.fixture(scope="module")
def plain(voice, reference, measured):
    return measured(resynthesize(voice, reference))


@pytest.mark.parametrize("cue", CUES)
@pytest.mark.parametrize("amount", [1.0, -0.5])
def test_an_edit_moves_its_own_cue_and_no_other(voice, reference, plain, measured, cue, amount):
    found = measured(resynthesize(voice, reference, {cue: amount}))
    whole = {
        "pitch_level": 4.0,
        "pitch_range": -0.5 * plain["pitch_range"],
        "loudness": -6.0,
        "tempo": np.log2(1.3),
    }
    for other in CUES:
        moved = found[other] - plain[other]
        if other != cue:
            assert abs(moved) < TOLERANCES[other], other
        elif cue == "spectrum":
            assert moved / amount > 5
        else:
            assert moved == pytest.approx(amount * whole[cue], abs=TOLERANCES[cue])


def test_without_amounts_it_is_the_clip_again(voice, reference, spoken, measured):
    before, after = measured(spoken()), measured(resynthesize(voice, reference))
    for cue, tolerance in TOLERANCES.items():
        assert after[cue] == pytest.approx(before[cue], abs=tolerance)
    assert np.array_equal(resynthesize(voice, reference), resynthesize(voice, voice.measures, {"tempo": 1.0}))


def test_all_cues_together_arrive_at_the_reference(voice, reference):
    moved = analyze_voice(resynthesize(voice, reference, dict.fromkeys(CUES, 1.0)), RATE)
    apart = differences(moved.measures, reference)
    assert apart.pop("tempo") == pytest.approx(1, abs=0.04)
    assert all(abs(value) < TOLERANCES[cue] for cue, value in apart.items())


def test_silence_before_and_after_keeps_its_length(voice, reference):
    samples = resynthesize(voice, reference, {"tempo": 1.0})
    added_s = 0.3 * voice.measures.tempo
    assert len(samples) == pytest.approx(RATE * (1 + added_s), abs=1)
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    assert loud[0] / RATE == pytest.approx(SPAN_S[0], abs=0.03)
    assert loud[-1] / RATE == pytest.approx(SPAN_S[1] + added_s, abs=0.03)


def test_a_loud_sound_keeps_its_level_though_it_leaves_full_scale(voice, reference):
    loud = replace(reference, loudness=voice.measures.loudness + 40)
    sound, usual = (resynthesize(voice, to, {"loudness": 1.0}) for to in (loud, reference))
    assert np.abs(sound).max() > 1
    assert sound == pytest.approx(usual * 10 ** (46 / 20), rel=1e-4)


def test_a_filter_leaves_the_active_span_where_it_is(spoken):
    """Nor does it change the tempo: a hiss at the end is faint in the tilted clip, and loud in the other."""
    hiss = np.random.default_rng(0).standard_normal(RATE // 10) * 0.02
    clip = spoken()
    clip[13_600:15_200] += np.diff(hiss, prepend=0).astype(np.float32)
    dark, bright = lfilter([1], [1, -0.9], clip), lfilter([1, -0.9], [1], clip)
    (start_s, end_s), *others = (analyze_voice(one, RATE).active_s for one in (clip, dark, bright))
    for other in others:
        assert other == pytest.approx((start_s, end_s), abs=0.02)


def test_the_same_edit_gives_the_same_samples(voice, reference, spoken):
    again = analyze_voice(spoken(), RATE)
    edit = {"pitch_level": 0.5, "spectrum": 1.0}
    assert np.array_equal(resynthesize(voice, reference, edit), resynthesize(again, reference, edit))


def test_noise_has_no_pitch_and_its_other_cues_move():
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.05
    hushed = analyze_voice(noise, RATE)
    assert hushed.measures.pitch_level is hushed.measures.pitch_range is None
    louder = replace(hushed.measures, loudness=hushed.measures.loudness + 6)
    assert differences(louder, hushed.measures).keys() == {"loudness", "tempo", "spectrum"}
    sound = resynthesize(hushed, louder, {"loudness": 1.0})
    assert np.square(sound).mean() == pytest.approx(4 * np.square(noise).mean(), rel=0.05)
    with pytest.raises(AudioError, match=r"amounts=\['pitch_level'\]"):
        resynthesize(hushed, louder, {"pitch_level": 1.0})


def test_trackers_disagree_about_two_voices(voice, spoken):
    both = spoken(hertz=110.0, semitones=9) + spoken(hertz=170.0, semitones=-9)
    assert analyze_voice(both, RATE).tracker_disagreement > 0.05
    assert voice.tracker_disagreement < 0.01


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.3])
def test_short_sounds_are_voices_too(spoken, seconds):
    sound = spoken()[4000:][: round(seconds * RATE)]
    voice = analyze_voice(sound, RATE)
    assert len(resynthesize(voice, voice.measures)) == len(sound)


def test_measures_pass_through_json_and_have_a_mean(voice, reference):
    for one in (voice.measures, reference):
        assert VoiceMeasures(**json.loads(json.dumps(asdict(one)))) == one
    mean = mean_measures([voice.measures, reference])
    assert mean.pitch_level == pytest.approx(voice.measures.pitch_level + 2)
    assert mean.spectrum == pytest.approx(np.mean([voice.measures.spectrum, reference.spectrum], 0))
    whispered = replace(reference, pitch_level=None, pitch_range=None)
    assert mean_measures([whispered, reference]).pitch_level == reference.pitch_level
    assert mean_measures([whispered]).pitch_level is None


@pytest.mark.parametrize(
    ("cue", "difference", "words"),
    [
        ("loudness", -3.04, "-3.0 dB"),
        ("tempo", 0.8, "0.80 times as long"),
        ("spectrum", 2.0, "+2.0 dB above 1 kHz"),
    ],
)
def test_differences_have_units(cue, difference, words):
    assert UNITS[cue].format(difference) == words


def test_refusals_are_one_clear_line(monkeypatch, spoken):
    with pytest.raises(AudioError, match="all 160 samples are silent"):
        analyze_voice(np.zeros(160, dtype=np.float32), RATE)
    with pytest.raises(AudioError, match="measures: 0 clips"):
        mean_measures([])
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(SettingError, match=r"pip install 'wavshap-lightning\[cues\]'"):
        analyze_voice(spoken(), RATE)
