"""Laws of cues in a recording: in its span, nothing else changes, and loudness does not show where."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import pytest
from scipy import signal, stats

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.errors import AudioError
from wavshap_lightning.planted.cues import CUES, DIFFICULTIES, CuePlace
from wavshap_lightning.planted.recorded_cues import (
    RECORDED_CUES,
    cue_starts,
    draw_excerpt,
    find_voicing,
    free_starts,
    plant_cue,
)

RAVDESS = Path(__file__).parents[2].parent / "shared/data/ravdess"
SEEDS = range(4)


def draw(recording, seed, difficulty="easy"):
    return draw_excerpt(recording, DIFFICULTIES[difficulty], np.random.default_rng([5, seed]))


def samples(place):
    return slice(place.start * 16, place.stop * 16)


def energy_auc(waveform, place):
    """Chance that a frame inside the span is louder than one outside."""
    level = librosa.feature.rms(y=waveform, frame_length=400, hop_length=320, center=False)[0]
    center_s = (np.arange(len(level)) * 320 + 200) / 16_000
    span = place.span("")
    inside = (center_s >= span.start_s) & (center_s < span.end_s)
    return stats.mannwhitneyu(level[inside], level[~inside]).statistic / (inside.sum() * (~inside).sum())


def cut(recording, excerpt):
    """The excerpt of a recording without cues."""
    return excerpt.gain * recording[excerpt.start : excerpt.stop]


@pytest.fixture(scope="module")
def recordings(draw_recording):
    return [draw_recording(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def drawn(recordings):
    """Recordings with what was drawn in them, by difficulty."""
    return {
        level: [(one, draw(one, seed, level)) for seed, one in enumerate(recordings)]
        for level in DIFFICULTIES
    }


def test_same_generator_same_bytes(recordings, drawn):
    excerpt = draw(recordings[0], 0, "hard")
    assert excerpt == drawn["hard"][0][1]
    first, again = (plant_cue(recordings[0], excerpt, "tremor", 1.0) for _ in range(2))
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1] == again[1]


def test_another_seed_plants_elsewhere(recordings):
    assert len({draw(recordings[0], seed).place.start for seed in range(4)}) > 1


@pytest.mark.parametrize("kind", RECORDED_CUES)
def test_outside_the_span_nothing_changes_and_inside_the_energy_stays(drawn, kind):
    for recording, excerpt in drawn["easy"]:
        waveform, (evidence,) = plant_cue(recording, excerpt, kind, 1.0)
        original, span = recording[excerpt.start : excerpt.stop], samples(excerpt.place)
        assert (evidence.start_s, evidence.end_s) == (span.start / 16_000, span.stop / 16_000)
        assert evidence.kind == kind
        assert np.array_equal(np.delete(waveform, np.r_[span]), np.delete(original, np.r_[span]))
        assert np.sum(waveform[span] ** 2) == pytest.approx(np.sum(original[span] ** 2), rel=1e-4)
        assert np.abs(waveform[span] - original[span]).max() > 0.05 * np.abs(original[span]).max()


@pytest.mark.parametrize("kind", RECORDED_CUES)
def test_there_is_no_step_where_a_span_begins_and_ends(drawn, kind):
    for recording, excerpt in drawn["easy"]:
        waveform, _ = plant_cue(recording, excerpt, kind, 1.0)
        change = waveform - cut(recording, excerpt)
        span = samples(excerpt.place)
        edges = change[[span.start, span.start + 1, span.stop - 2, span.stop - 1]]
        assert np.abs(edges).max() <= 0.01 * np.abs(change).max()


def test_without_a_cue_the_recording_stays_as_it_is(drawn):
    for recording, excerpt in drawn["easy"]:
        for kind, strength in ((None, 1.0), ("tremor", 0.0)):
            waveform, evidence = plant_cue(recording, excerpt, kind, strength)
            assert evidence == ()
            assert np.array_equal(waveform, recording[excerpt.start : excerpt.stop])


def test_the_silence_around_the_speech_is_cut(drawn):
    for recording, excerpt in drawn["easy"]:
        assert excerpt.start > 0.3 * 16_000
        assert excerpt.stop < len(recording) - 0.3 * 16_000
        assert excerpt.stop - excerpt.start > 0.8 * 16_000


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_spans_are_as_long_as_asked_voiced_and_clear_of_the_ends(drawn, difficulty):
    for recording, excerpt in drawn[difficulty]:
        span = excerpt.place.span("")
        shortest_s, longest_s = DIFFICULTIES[difficulty].span_s
        assert shortest_s - 1e-9 <= span.end_s - span.start_s <= longest_s + 1e-9
        assert span.start_s >= 0.1
        assert span.end_s <= (excerpt.stop - excerpt.start) / 16_000 - 0.1
        voiced = find_voicing(cut(recording, excerpt))[0]
        assert voiced[excerpt.place.start // 10 : excerpt.place.stop // 10].mean() >= 0.9


@pytest.mark.parametrize("kind", RECORDED_CUES)
def test_loudness_does_not_show_where_the_evidence_is(drawn, kind):
    aucs = [energy_auc(plant_cue(r, s, kind, 1.0)[0], s.place) for r, s in drawn["easy"]]
    assert 0.4 <= np.mean(aucs) <= 0.6


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_weak_cues_elsewhere_mislead(drawn, difficulty):
    fewest, most = DIFFICULTIES[difficulty].num_lookalikes
    counts = [len(excerpt.lookalikes) for _, excerpt in drawn[difficulty]]
    assert max(counts) <= most
    assert np.mean(counts) >= 0.7 * fewest
    for recording, excerpt in drawn[difficulty]:
        others = [samples(place) for _, place in excerpt.lookalikes]
        true, places = samples(excerpt.place), sorted((o.start, o.stop) for o in others)
        assert all(stop + 480 <= true.start or start >= true.stop + 480 for start, stop in places)
        assert all(stop + 480 <= start for (_, stop), (start, _) in pairwise(places))
        waveform, _ = plant_cue(recording, excerpt, None, 1.0)
        changed = np.flatnonzero(waveform != cut(recording, excerpt))
        inside = np.isin(changed, np.concatenate([np.r_[o] for o in others])) if others else changed < 0
        assert inside.all()
        assert bool(len(changed)) == bool(others)


def test_a_loud_recording_is_halved_whatever_is_planted(recordings):
    loud = recordings[0] * 0.99 / np.abs(recordings[0]).max()
    excerpt = draw(loud, 0)
    assert excerpt.gain == 0.5
    for kind in (None, *RECORDED_CUES):
        waveform, _ = plant_cue(loud, excerpt, kind, 1.0)
        outside = np.r_[samples(excerpt.place)]
        original = np.delete(loud[excerpt.start : excerpt.stop], outside)
        assert np.array_equal(2 * np.delete(waveform, outside), original)
        assert np.abs(waveform).max() < 1


def test_what_has_no_place_for_a_cue_says_why():
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    for recording, message in (
        (noise, r"\d+% of it is voiced, but no 300 ms in a row as loud as the rest"),
        (np.zeros(32_000, np.float32), "no speech"),
        (noise[:500], "no speech"),
        (np.tile(noise, 16), "it is 32.0 s long, more than 30 s; cut it"),
    ):
        with pytest.raises(AudioError, match=message):
            draw(recording, 0)


@pytest.mark.skipif(not RAVDESS.is_dir(), reason="RAVDESS is not at ../shared/data/ravdess")
def test_loudness_does_not_show_where_the_evidence_is_in_ravdess():
    paths = sorted(RAVDESS.glob("Actor_*/*"))[::120]
    aucs = {kind: [] for kind in RECORDED_CUES}
    for seed, path in enumerate(paths):
        recording = load_audio(path)
        try:
            excerpt = draw(recording, seed)
        except AudioError:
            continue
        for kind, found in aucs.items():
            found.append(energy_auc(plant_cue(recording, excerpt, kind, 1.0)[0], excerpt.place))
    assert len(aucs["tremor"]) > 0.7 * len(paths)
    assert all(0.4 <= np.mean(found) <= 0.6 for found in aucs.values())


# Each cue does to a sound of known pitch and level what it says

PLACE = CuePlace(300, 700, rate=0.5, phase=0.1)
INSIDE = slice(4_800, 11_200)
TIME_S = np.arange(16_000) / 16_000


def tone(frequency_hz):
    return 0.1 * np.sin(2 * np.pi * frequency_hz * TIME_S)


def voice(pitch_hz=150.0):
    return sum(tone(pitch_hz * k) / k for k in range(1, 20))


def level_db(waveform):
    return 10 * np.log10(np.mean(waveform**2))


def modulation_hz(waveform):
    """Frequency of the strongest modulation of the envelope inside the span."""
    envelope = np.abs(signal.hilbert(waveform))[INSIDE]
    frequency_hz, power = signal.periodogram(envelope - envelope.mean(), 16_000, window="hann", nfft=65_536)
    return frequency_hz[np.argmax(power * (frequency_hz < 200))]


def test_every_cue_is_one_of_the_synthetic_ones():
    assert set(RECORDED_CUES) == set(CUES) - {"vowel_pattern"}


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_pitch_step_is_so_many_semitones(strength):
    cued = RECORDED_CUES["pitch_step"](voice(), PLACE, strength)
    f0_hz = librosa.yin(cued[INSIDE], fmin=65, fmax=600, sr=16_000, frame_length=1_024)
    assert np.median(f0_hz) == pytest.approx(150 * 2 ** (strength * 7 / 12), rel=0.01)


def test_a_band_tilt_attenuates_what_lies_above_1_khz_and_keeps_the_rest():
    for frequency_hz, expected_db in ((300.0, 0.0), (4_000.0, -24.0)):
        cued = RECORDED_CUES["band_tilt"](tone(frequency_hz), PLACE, 1.0)
        assert level_db(cued[INSIDE]) - level_db(tone(frequency_hz)[INSIDE]) == pytest.approx(
            expected_db, abs=0.2
        )


@pytest.mark.parametrize(
    ("cue", "frequency_hz"),
    [("tremor", 8.0), ("roughness", 55.0), ("energy_bursts", 21.0)],
)
def test_the_level_is_modulated_in_the_middle_of_the_range(cue, frequency_hz):
    assert modulation_hz(RECORDED_CUES[cue](tone(1_000.0), PLACE, 1.0)) == pytest.approx(
        frequency_hz, rel=0.1
    )


@pytest.mark.parametrize(("cue", "semitones"), [("tremor", 3.5), ("roughness", 1.5)])
def test_the_pitch_is_bent_by_so_many_semitones(cue, semitones):
    phase = np.unwrap(np.angle(signal.hilbert(RECORDED_CUES[cue](tone(1_000.0), PLACE, 1.0))))
    frequency_hz = np.diff(phase)[INSIDE][400:-400] * 16_000 / (2 * np.pi)
    factor = 2 ** (semitones / 12) - 1
    assert frequency_hz.max() == pytest.approx(1_000 * (1 + factor), rel=0.03)
    assert frequency_hz.min() == pytest.approx(1_000 * (1 - factor), rel=0.03)


@pytest.mark.parametrize("kind", ["tremor", "roughness", "energy_bursts", "band_tilt"])
def test_a_cue_of_no_strength_changes_nothing(kind):
    np.testing.assert_allclose(RECORDED_CUES[kind](voice(), PLACE, 0.0), voice(), atol=1e-9)


def test_a_pitch_step_of_no_strength_changes_little():
    change = RECORDED_CUES["pitch_step"](voice(), PLACE, 0.0) - voice()
    assert level_db(change[INSIDE]) < level_db(voice()[INSIDE]) - 60


@pytest.mark.parametrize("kind", ["tremor", "roughness"])
def test_modulations_stay_in_the_span(kind):
    changed = np.flatnonzero(np.abs(RECORDED_CUES[kind](voice(), PLACE, 1.0) - voice()) > 1e-9)
    assert INSIDE.start - 16 <= changed.min() < changed.max() <= INSIDE.stop + 16


# Where a cue may go: voiced, and neither loud nor quiet

LENGTH = 30


@pytest.fixture
def voicing():
    """Two seconds that grow louder and fade, with a pause."""
    rng = np.random.default_rng(0)
    level = np.sin(np.linspace(0, np.pi, 200)) + 0.1 * rng.standard_normal(200)
    voiced = np.ones(200, dtype=bool)
    voiced[120:130] = False
    return voiced, stats.rankdata(level)


def auc(rank, start):
    inside = np.zeros(len(rank), dtype=bool)
    inside[start : start + LENGTH] = True
    return stats.mannwhitneyu(rank[inside], rank[~inside]).statistic / (LENGTH * (200 - LENGTH))


def test_places_are_those_that_loudness_does_not_show(voicing):
    voiced, rank = voicing
    expected = [
        start
        for start in range(10, 200 - 10 - LENGTH)
        if 0.35 <= auc(rank, start) <= 0.65 and voiced[start : start + LENGTH].mean() >= 0.9
    ]
    assert 0 < len(expected) < 100
    assert cue_starts(voiced, rank, LENGTH).tolist() == expected


def test_free_starts_keep_away_from_what_is_taken(voicing):
    voiced, _ = voicing
    taken = np.zeros(200, dtype=bool)
    taken[60:90] = True
    found = free_starts(voiced, 10, taken).tolist()
    assert found == [
        s for s in range(10, 180) if s + 13 <= 60 or s - 3 >= 90 if voiced[s : s + 10].mean() >= 0.5
    ]


def test_what_is_too_short_has_no_place(voicing):
    voiced, rank = voicing
    assert len(cue_starts(voiced, rank, 190)) == len(free_starts(voiced, 190, voiced)) == 0
