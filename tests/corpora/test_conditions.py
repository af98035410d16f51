"""Conditions of a recording are those that were put into it, and tell a class only where they do."""

import numpy as np
import pytest

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.conditions import CONDITIONS, class_conditions, mean_areas, measure_conditions

RATE = 16_000
LABELS = ("angry", "happy", "neutral", "sad")


def recording(generator, *, seconds=1.0, lead_s=0.3, floor_db=-70.0, hum_db=None, mains_hz=50.0):
    """A noise like a voice after some silence, over a floor of noise and hum."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    floor = 10 ** (floor_db / 20) * generator.standard_normal(len(time_s))
    voice = np.sin(2 * np.pi * np.cumsum(150 + 40 * np.sin(5 * time_s)) / RATE) * (np.sin(9 * time_s) > 0)
    sound = floor + 0.1 * voice * (time_s >= lead_s)
    if hum_db is not None:
        harmonics = (np.sin(2 * np.pi * k * mains_hz * time_s) / k for k in range(1, 6))
        sound = sound + 10 ** (hum_db / 20) * sum(harmonics)
    return sound.astype(np.float32)


def measured(waveform, rate=RATE):
    return dict(zip(CONDITIONS, measure_conditions(waveform, rate).tolist(), strict=True))


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_hum_is_found_at_either_frequency(generator, mains_hz):
    silent = measured(recording(generator))
    humming = measured(recording(generator, hum_db=-50.0, mains_hz=mains_hz))
    assert abs(silent["hum"]) < 4.0
    assert humming["hum"] > 15.0


def test_noise_floor_level_duration_and_silence_are_measured(generator):
    first = measured(recording(generator))
    other = measured(recording(generator, floor_db=-60.0, seconds=2.5, lead_s=0.6))
    assert other["noise floor"] - first["noise floor"] == pytest.approx(10.0, abs=3.0)
    assert (first["duration"], other["duration"]) == (1.0, 2.5)
    assert first["leading silence"] == pytest.approx(0.3, abs=0.05)
    assert other["leading silence"] == pytest.approx(0.7, abs=0.11)
    louder = measured(2 * recording(np.random.default_rng(0)))
    assert louder["level"] - first["level"] == pytest.approx(6.02, abs=0.01)
    assert louder["hum"] == pytest.approx(first["hum"], abs=1e-3)


@pytest.mark.parametrize("num_samples", [1, 100, 4000])
@pytest.mark.parametrize("rate", [1_000, 8_000, 48_000])
def test_short_and_silent_clips_have_finite_numbers(num_samples, rate):
    assert np.isfinite(measure_conditions(np.zeros(num_samples, dtype=np.float32), rate)).all()


def test_areas_are_those_of_pairs(generator):
    """The share of pairs in which the clip of the class is above the other, within strata."""
    ranks = [np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([[2.0], [1.0]])]
    areas = mean_areas(ranks, [np.array([0, 1, 0, 1]), np.array([0, 1])], 2)
    np.testing.assert_allclose(areas, [[(0.25 + 1.0) / 2], [(0.75 + 0.0) / 2]])


def corpus(folder, generator, *, speakers=5, clips=3, odd="sad", **odd_conditions):
    made = []
    for speaker in range(speakers):
        for label in LABELS:
            for take in range(clips):
                path = folder / f"{speaker}" / f"{label}{take}.wav"
                save_audio(
                    path, np.clip(recording(generator, **(odd_conditions if label == odd else {})), -1, 1)
                )
                made.append(Clip(path, label, f"s{speaker}", "toy"))
    return made


@pytest.mark.parametrize(
    ("condition", "planted"),
    [
        ("hum", {"hum_db": -60.0}),
        ("noise floor", {"floor_db": -60.0}),
        ("leading silence", {"lead_s": 0.6}),
        ("duration", {"seconds": 1.2}),
    ],
)
def test_a_planted_condition_tells_its_class_and_no_other(tmp_path, generator, condition, planted):
    rows = class_conditions(corpus(tmp_path, generator, **planted))
    told = {(row["condition"], row["label"]) for row in rows if row["tells"]}
    assert (condition, "sad") in told
    assert {label for _, label in told} == {"sad"}
    assert len(rows) == len(CONDITIONS) * len(LABELS)


def test_equal_recordings_tell_nothing_and_unreadable_clips_are_left_out(tmp_path, generator):
    clips = corpus(tmp_path, generator)
    rows = class_conditions(clips)
    assert not any(row["tells"] for row in rows)
    assert class_conditions(clips) == rows
    assert class_conditions([*clips, Clip(tmp_path / "gone.wav", "happy", "s0", "toy")]) == rows


def test_classes_without_a_common_speaker_are_compared_all_together(tmp_path, generator):
    clips = [
        one
        for one in corpus(tmp_path, generator, hum_db=-50.0)
        if (one.label == "sad") == (one.speaker < "s2")
    ]
    told = [row for row in class_conditions(clips) if row["tells"] and row["condition"] == "hum"]
    assert [row["label"] for row in told] == ["sad"]


def test_one_class_or_none_is_told_by_nothing(tmp_path, generator):
    assert class_conditions([]) == []
    assert class_conditions([one for one in corpus(tmp_path, generator) if one.label == "sad"]) == []
