"""Laws of one recording: the cue is in its span, nothing else changes, and loudness does not show where."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import pytest
from scipy import stats

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.errors import AudioError
from wavshap_lightning.planted.cues import DIFFICULTIES
from wavshap_lightning.planted.recorded_cues import RECORDED_CUES, draw_stretch, find_voicing, plant_cue

RAVDESS = Path(__file__).parents[3].parent / "shared/data/ravdess"
SEEDS = range(4)


def draw(recording, seed, difficulty="easy"):
    return draw_stretch(recording, DIFFICULTIES[difficulty], np.random.default_rng([5, seed]))


def samples(planting):
    return slice(planting.start * 16, planting.stop * 16)


def energy_auc(waveform, planting):
    """Chance that a frame inside the span is louder than one outside."""
    level = librosa.feature.rms(y=waveform, frame_length=400, hop_length=320, center=False)[0]
    center_s = (np.arange(len(level)) * 320 + 200) / 16_000
    span = planting.span("")
    inside = (center_s >= span.start_s) & (center_s < span.end_s)
    return stats.mannwhitneyu(level[inside], level[~inside]).statistic / (inside.sum() * (~inside).sum())


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
    stretch = draw(recordings[0], 0, "hard")
    assert stretch == drawn["hard"][0][1]
    first, again = (plant_cue(recordings[0], stretch, "tremor", 1.0) for _ in range(2))
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1] == again[1]


def test_another_seed_plants_elsewhere(recordings):
    assert len({draw(recordings[0], seed).planting.start for seed in range(4)}) > 1


@pytest.mark.parametrize("kind", RECORDED_CUES)
def test_outside_the_span_nothing_changes_and_inside_the_energy_stays(drawn, kind):
    for recording, stretch in drawn["easy"]:
        waveform, (evidence,) = plant_cue(recording, stretch, kind, 1.0)
        original, span = recording[stretch.start : stretch.stop], samples(stretch.planting)
        assert (evidence.start_s, evidence.end_s) == (span.start / 16_000, span.stop / 16_000)
        assert evidence.kind == kind
        assert np.array_equal(np.delete(waveform, np.r_[span]), np.delete(original, np.r_[span]))
        assert np.sum(waveform[span] ** 2) == pytest.approx(np.sum(original[span] ** 2), rel=1e-4)
        assert np.abs(waveform[span] - original[span]).max() > 0.05 * np.abs(original[span]).max()


@pytest.mark.parametrize("kind", RECORDED_CUES)
def test_there_is_no_step_where_a_span_begins_and_ends(drawn, kind):
    for recording, stretch in drawn["easy"]:
        waveform, _ = plant_cue(recording, stretch, kind, 1.0)
        change = waveform - stretch.cut(recording)
        span = samples(stretch.planting)
        edges = change[[span.start, span.start + 1, span.stop - 2, span.stop - 1]]
        assert np.abs(edges).max() <= 0.01 * np.abs(change).max()


def test_without_a_cue_the_recording_stays_as_it_is(drawn):
    for recording, stretch in drawn["easy"]:
        for kind, strength in ((None, 1.0), ("tremor", 0.0)):
            waveform, evidence = plant_cue(recording, stretch, kind, strength)
            assert evidence == ()
            assert np.array_equal(waveform, recording[stretch.start : stretch.stop])


def test_the_silence_around_the_speech_is_cut(drawn):
    for recording, stretch in drawn["easy"]:
        assert stretch.start_s > 0.3
        assert stretch.end_s < len(recording) / 16_000 - 0.3
        assert stretch.end_s - stretch.start_s > 0.8


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_spans_are_as_long_as_asked_voiced_and_clear_of_the_ends(drawn, difficulty):
    for recording, stretch in drawn[difficulty]:
        span = stretch.planting.span("")
        shortest_s, longest_s = DIFFICULTIES[difficulty].span_s
        assert shortest_s - 1e-9 <= span.end_s - span.start_s <= longest_s + 1e-9
        assert span.start_s >= 0.1
        assert span.end_s <= stretch.end_s - stretch.start_s - 0.1
        voiced = find_voicing(stretch.cut(recording)).voiced
        assert voiced[stretch.planting.start // 10 : stretch.planting.stop // 10].mean() >= 0.9


@pytest.mark.parametrize("kind", RECORDED_CUES)
def test_loudness_does_not_show_where_the_evidence_is(drawn, kind):
    aucs = [energy_auc(plant_cue(r, s, kind, 1.0)[0], s.planting) for r, s in drawn["easy"]]
    assert 0.4 <= np.mean(aucs) <= 0.6


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_weak_cues_elsewhere_mislead(drawn, difficulty):
    fewest, most = DIFFICULTIES[difficulty].num_lookalikes
    counts = [len(stretch.lookalikes) for _, stretch in drawn[difficulty]]
    assert max(counts) <= most
    assert np.mean(counts) >= 0.7 * fewest
    for recording, stretch in drawn[difficulty]:
        others = [samples(planting) for _, planting in stretch.lookalikes]
        true, places = samples(stretch.planting), sorted((o.start, o.stop) for o in others)
        assert all(stop + 480 <= true.start or start >= true.stop + 480 for start, stop in places)
        assert all(stop + 480 <= start for (_, stop), (start, _) in pairwise(places))
        waveform, _ = plant_cue(recording, stretch, None, 1.0)
        changed = np.flatnonzero(waveform != stretch.cut(recording))
        inside = np.isin(changed, np.concatenate([np.r_[o] for o in others])) if others else changed < 0
        assert inside.all()
        assert bool(len(changed)) == bool(others)


def test_a_loud_recording_is_halved_whatever_is_planted(recordings):
    loud = recordings[0] * 0.99 / np.abs(recordings[0]).max()
    stretch = draw(loud, 0)
    assert stretch.gain == 0.5
    for kind in (None, *RECORDED_CUES):
        waveform, _ = plant_cue(loud, stretch, kind, 1.0)
        outside = np.r_[samples(stretch.planting)]
        original = np.delete(loud[stretch.start : stretch.stop], outside)
        assert np.array_equal(2 * np.delete(waveform, outside), original)
        assert np.abs(waveform).max() < 1


def test_what_has_no_place_for_a_cue_says_why():
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    for recording, message in (
        (noise, r"\d+% of its speech is voiced, but no 300 ms on end that are about as loud as the rest"),
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
            stretch = draw(recording, seed)
        except AudioError:
            continue
        for kind, found in aucs.items():
            found.append(energy_auc(plant_cue(recording, stretch, kind, 1.0)[0], stretch.planting))
    assert len(aucs["tremor"]) > 0.7 * len(paths)
    assert all(0.4 <= np.mean(found) <= 0.6 for found in aucs.values())
