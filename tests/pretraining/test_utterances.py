"""What is said of an utterance is what Praat and an ear would find in it."""

from __future__ import annotations

import numpy as np
import pytest
from pretraining.espeak import LANGUAGES, VARIANTS, EspeakVoice, speak
from pretraining.utterances import (
    FRAME_S,
    NUM_SAMPLES,
    QUALITIES,
    Manner,
    draw_procedural_speaker,
    draw_ssml,
    draw_text,
    espeak_utterance,
    measure_pitch,
    place,
    procedural_utterance,
)

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.models.pretrained import tiny_config

TEXT = "balo tira meloni suga nemo."
VOICE = EspeakVoice("es", "f2", rate_wpm=175, pitch=50, pitch_range=50)


def voiced_pitch_hz(waveform: np.ndarray) -> np.ndarray:
    f0_hz, _ = measure_pitch(waveform)
    return f0_hz[f0_hz > 0]


def say(**changes: object) -> np.ndarray:
    fields = {name: getattr(VOICE, name) for name in VOICE.__slots__}
    return speak(TEXT, EspeakVoice(**fields | changes), seed=1)


def in_window(spoken: np.ndarray) -> np.ndarray:
    return place(spoken, np.random.default_rng(0))


def test_frames_are_those_of_the_backbone():
    config = tiny_config()
    grid = FrameGrid(tuple(config.conv_kernel), tuple(config.conv_stride), 16_000)
    assert len(FRAME_S) == grid.num_frames(NUM_SAMPLES)
    np.testing.assert_allclose(FRAME_S, grid.center_s(len(FRAME_S)))


def test_pitch_of_a_pulse_train_is_found_in_every_frame():
    time_s = np.arange(NUM_SAMPLES) / 16_000
    buzz = sum(np.cos(2 * np.pi * 150.0 * k * time_s) / k for k in range(1, 20)).astype(np.float32)
    f0_hz, periodicity = measure_pitch(0.1 * buzz)
    np.testing.assert_allclose(f0_hz, 150.0, rtol=2e-3)
    assert periodicity.min() > 0.98


def test_noise_has_no_pitch():
    noise = np.random.default_rng(0).standard_normal(NUM_SAMPLES).astype(np.float32)
    f0_hz, periodicity = measure_pitch(noise)
    assert (f0_hz == 0).mean() > 0.9
    assert periodicity.mean() < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_the_pitch_of_a_plain_procedural_voice_is_the_one_praat_finds(seed):
    generator = np.random.default_rng(seed)
    utterance = procedural_utterance(draw_procedural_speaker(generator), Manner(), generator)
    found, _ = measure_pitch(utterance.waveform)
    both = (found > 0) & (utterance.f0_hz > 0)
    assert both.sum() > 20
    assert np.mean(np.abs(found[both] / utterance.f0_hz[both] - 1) < 0.03) > 0.9


def test_qualities_are_told_where_there_is_voice_and_only_there():
    generator = np.random.default_rng(5)
    manner = Manner(roughness=0.6, tremor=0.0, effort=0.5)
    utterance = procedural_utterance(draw_procedural_speaker(generator), manner, generator)
    known = np.isfinite(utterance.qualities)
    assert (known == (utterance.f0_hz > 0)).all()
    told = dict(zip(QUALITIES, utterance.qualities[:, known[0]], strict=True))
    np.testing.assert_allclose(told["roughness"], 0.6, rtol=1e-5)
    np.testing.assert_allclose(told["effort"], 0.75, rtol=1e-5)
    assert not told["tremor"].any()


def test_espeak_follows_pitch_range_and_rate():
    assert np.median(voiced_pitch_hz(in_window(say(pitch=80)))) > 1.2 * np.median(
        voiced_pitch_hz(in_window(say(pitch=20)))
    )
    wide, narrow = (np.log2(voiced_pitch_hz(in_window(say(pitch_range=r)))).std() for r in (95, 5))
    assert wide > 1.5 * narrow
    assert len(say(rate_wpm=120)) > 1.3 * len(say(rate_wpm=240))


def test_whisper_has_no_pitch():
    assert len(voiced_pitch_hz(in_window(say(variant="whisper")))) < 0.3 * len(
        voiced_pitch_hz(in_window(say()))
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_speaks(variant):
    assert len(say(variant=variant)) > 8_000


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_speaks(language):
    assert len(say(language=language)) > 8_000


def test_an_unknown_voice_is_refused_by_name():
    with pytest.raises(RuntimeError, match="nobody"):
        say(variant="nobody")


def test_texts_differ_and_their_marks_are_balanced():
    generator = np.random.default_rng(0)
    texts = [draw_text(generator, 6) for _ in range(20)]
    assert len(set(texts)) == 20
    marked = [draw_ssml(generator, text) for text in texts]
    assert any("<prosody" in ssml for ssml in marked)
    assert all(ssml.count("<prosody") == ssml.count("</prosody>") for ssml in marked)


@pytest.mark.parametrize("num_samples", [1_000, NUM_SAMPLES, 2 * NUM_SAMPLES])
def test_speech_of_any_length_fills_a_window_at_one_peak(num_samples):
    spoken = np.full(num_samples, 0.01, np.float32)
    window = in_window(spoken)
    assert window.shape == (NUM_SAMPLES,)
    assert window.max() == pytest.approx(0.9)
    assert (window > 0).sum() == min(num_samples, NUM_SAMPLES)


def test_an_utterance_of_espeak_says_nothing_of_qualities():
    utterance = espeak_utterance(VOICE, 3, np.random.default_rng(0))
    assert np.isnan(utterance.qualities).all()
    assert (utterance.voice, utterance.rate) == (3, 0.0)
    assert (utterance.f0_hz > 0).any()
