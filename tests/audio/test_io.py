"""Reading and writing sound, against closed forms and against soundfile."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import tracemalloc
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from wavshap_lightning.audio.io import (
    AUDIO_SUFFIXES,
    BLOCK_SAMPLES,
    SAMPLE_RATE,
    NativeAudio,
    hash_audio_file,
    load_audio,
    read_duration_s,
    read_native,
    save_audio,
)
from wavshap_lightning.errors import AudioError, SettingError

RECORDINGS = Path(__file__).parents[2].parent / "shared/data"


def middle_error(waveform: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference away from the edges, where a resampler hears the silence outside."""
    edge = SAMPLE_RATE // 20
    return float(np.abs(waveform - expected)[edge:-edge].max())


class TestSound:
    def test_every_format_holds_the_same_sound(self, tmp_path, format_name, tones, write_format, formats):
        waveform = load_audio(write_format(tmp_path, format_name))
        assert (waveform.shape, waveform.dtype) == ((16_000,), np.float32)
        assert middle_error(waveform, tones(16_000)) < formats[format_name][2]

    def test_the_formats_tried_are_all_the_formats_read(self, formats):
        assert {Path(name).suffix for name in formats} == set(AUDIO_SUFFIXES)

    def test_a_suffix_may_be_written_in_capitals(self, tmp_path, tones, write):
        assert len(load_audio(write(tmp_path / "A.WAV", tones(800)))) == 800

    @pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
    def test_every_rate_gives_the_same_waveform(self, tmp_path, sample_rate, tones, write):
        path = write(tmp_path / "a.wav", tones(sample_rate, sample_rate), sample_rate, "FLOAT")
        waveform = load_audio(path)
        assert waveform.shape == (16_000,)
        assert middle_error(waveform, tones(16_000)) < 2e-4

    def test_any_rate_can_be_asked_for(self, tmp_path, tones, write):
        path = write(tmp_path / "a.wav", tones(16_000), subtype="FLOAT")
        assert np.abs(load_audio(path, sample_rate=24_000) - tones(24_000, 24_000))[999:-999].max() < 2e-4

    @pytest.mark.parametrize("sample_rate", [8_000, 11_025, 44_100, 48_000])
    def test_resampled_as_librosa_does(self, tmp_path, sample_rate, write):
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, 9_999)
        path = write(tmp_path / "a.wav", noise, sample_rate, "FLOAT")
        expected = librosa.resample(noise.astype(np.float32), orig_sr=sample_rate, target_sr=SAMPLE_RATE)
        np.testing.assert_array_equal(load_audio(path), np.clip(expected, -1, 1))

    @pytest.mark.parametrize("num_channels", [1, 2, 5, 8])
    def test_channels_are_averaged(self, tmp_path, num_channels, tones, write):
        weights = np.linspace(-0.2, 1.0, num_channels)
        path = write(tmp_path / "a.wav", np.outer(tones(4_000), weights), subtype="FLOAT")
        np.testing.assert_allclose(load_audio(path), tones(4_000) * weights.mean(), atol=1e-6)

    def test_opposite_channels_cancel_before_they_are_resampled(self, tmp_path, write):
        noise = np.random.default_rng(0).uniform(-1, 1, 44_100)
        path = write(tmp_path / "a.wav", np.stack([noise, -noise], axis=1), 44_100, "FLOAT")
        assert not load_audio(path).any()

    def test_silence_is_sound(self, tmp_path, write):
        assert not load_audio(write(tmp_path / "a.flac", np.zeros(500))).any()

    def test_a_single_sample_is_sound(self, tmp_path, write):
        assert load_audio(write(tmp_path / "a.wav", np.array([0.5]), 192_000)).shape == (1,)

    def test_a_full_scale_square_stays_within_full_scale(self, tmp_path, write):
        square = np.sign(np.sin(2 * np.pi * 100 * np.arange(48_000) / 48_000) + 1e-9)
        waveform = load_audio(write(tmp_path / "a.wav", square, 48_000, "FLOAT"))
        assert np.abs(waveform).max() == 1.0

    def test_a_little_overshoot_is_clipped(self, tmp_path, tones, write):
        path = write(tmp_path / "a.wav", 1.5 * tones(4_000) / np.abs(tones(4_000)).max(), subtype="FLOAT")
        expected = np.clip(1.5 * tones(4_000) / np.abs(tones(4_000)).max(), -1, 1)
        np.testing.assert_allclose(read_native(path).waveform, expected, atol=1e-6)
        np.testing.assert_allclose(load_audio(path), expected, atol=1e-6)

    @pytest.mark.parametrize("name", ["s16.wav", "s16.flac", "vorbis.ogg", "opus.opus", "lame.mp3"])
    def test_blocks_join_without_a_seam(self, tmp_path, name, write_format):
        path = write_format(tmp_path, name, num_samples=2 * BLOCK_SAMPLES + 77)
        whole, sample_rate = soundfile.read(path, dtype="float32")
        native = read_native(path)
        assert native.sample_rate == sample_rate
        np.testing.assert_allclose(native.waveform, whole, atol=1e-6)

    @pytest.mark.parametrize("sample_rate", [8_000, 11_025, 22_050, 44_100, 48_000])
    @pytest.mark.parametrize("num_samples", [1, 441, 1_001, 9_999])
    def test_the_length_after_resampling_is_known_before(self, tmp_path, sample_rate, num_samples, write):
        path = write(tmp_path / "a.wav", np.zeros(num_samples), sample_rate)
        native = NativeAudio(np.zeros(num_samples, np.float32), sample_rate)
        assert native.num_samples_at(SAMPLE_RATE) == len(load_audio(path))

    def test_a_file_of_many_channels_is_never_held_whole(self, tmp_path):
        path = tmp_path / "a.wav"
        with soundfile.SoundFile(path, "w", 48_000, 8) as sound:
            for _ in range(60):
                sound.write(np.zeros((48_000, 8), np.float32))
        tracemalloc.start()
        waveform = load_audio(path)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        mono_bytes, block_bytes = 60 * 48_000 * 4, BLOCK_SAMPLES * 8 * 4
        assert peak_bytes < 2 * mono_bytes + 2 * block_bytes + waveform.nbytes

    @pytest.mark.skipif(not RECORDINGS.is_dir(), reason="real recordings are not here")
    def test_a_real_recording_is_what_soundfile_reads(self):
        path = min(RECORDINGS.rglob("*.flac"))
        expected, sample_rate = soundfile.read(path, dtype="float32")
        np.testing.assert_array_equal(load_audio(path, sample_rate=sample_rate), expected)


class TestHash:
    def test_the_hash_is_that_of_the_bytes(self, tmp_path, tones, write):
        path = write(tmp_path / "a.wav", tones(300_000))
        assert hash_audio_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_a_missing_file_has_no_hash(self, tmp_path):
        with pytest.raises(AudioError, match="no such file"):
            hash_audio_file(tmp_path / "a.wav")


class TestSaving:
    @pytest.mark.parametrize("suffix", [".wav", ".flac", ".FLAC"])
    def test_what_is_saved_is_16_bit_and_within_half_a_step(self, tmp_path, suffix):
        path = tmp_path / f"new/folder/a{suffix}"
        waveform = np.random.default_rng(0).uniform(-0.999, 0.999, 5_000)
        save_audio(path, waveform, sample_rate=22_050)
        info = soundfile.info(path)
        assert (info.subtype, info.samplerate, info.channels) == ("PCM_16", 22_050, 1)
        np.testing.assert_allclose(read_native(path).waveform, waveform, atol=0.5001 / 32_768)
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]

    @given(st.lists(st.integers(-32_768, 32_767), min_size=1, max_size=200))
    @settings(max_examples=25, derandomize=True, deadline=None)
    def test_saving_what_was_read_changes_nothing(self, tmp_path_factory, steps):
        path = tmp_path_factory.mktemp("saved") / "a.flac"
        waveform = np.array(steps, dtype=np.float32) / 32_768
        save_audio(path, waveform)
        np.testing.assert_array_equal(load_audio(path), waveform)

    def test_full_scale_is_kept_to_one_step(self, tmp_path):
        save_audio(tmp_path / "a.wav", np.array([1.0, -1.0]))
        np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), [1.0, -1.0], atol=1 / 32_768)

    @pytest.mark.parametrize(
        ("name", "waveform", "message"),
        [
            ("a.mp3", np.zeros(9), r"suffix='\.mp3' must be \.flac or \.wav"),
            ("a.wav", np.zeros(0), "0 samples"),
            ("a.wav", np.array([0.0, np.nan]), "NaN or infinite"),
            ("a.wav", np.array([0.0, -np.inf]), "NaN or infinite"),
            ("a.wav", np.array([0.0, 1.001]), r"peak=1.001, and samples must lie in \[-1, 1\]"),
            ("a.wav", np.array([0.0, -1.001]), r"peak=1.001, and samples must lie in \[-1, 1\]"),
        ],
    )
    def test_what_cannot_be_read_back_is_not_written(self, tmp_path, name, waveform, message):
        with pytest.raises(AudioError, match=message):
            save_audio(tmp_path / name, waveform)
        assert not list(tmp_path.iterdir())

    def test_a_write_that_breaks_off_leaves_the_old_file(self, tmp_path, monkeypatch, tones):
        def break_off(*args):
            raise OSError(28, "No space left on device")

        path = tmp_path / "a.wav"
        save_audio(path, tones(100))
        before = path.read_bytes()
        monkeypatch.setattr(os, "fsync", break_off)
        with pytest.raises(
            AudioError, match=r"cannot be written .*No space left on device.*check the folder"
        ):
            save_audio(path, np.zeros(200))
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("shape", [(9, 2), (2, 9), (1, 9), ()])
    def test_an_array_with_channels_is_not_written_as_stereo(self, tmp_path, shape):
        unchecked = inspect.unwrap(save_audio)  # where no tests run, nobody checks the shape before
        with pytest.raises(
            AudioError, match=rf"shape={re.escape(str(shape))} must be .* average the channels"
        ):
            unchecked(tmp_path / "a.wav", np.zeros(shape))
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("sample_rate", [0, -16_000])
    def test_a_sample_rate_below_one_is_refused(self, tmp_path, sample_rate):
        with pytest.raises(SettingError, match=f"sample_rate={sample_rate} must be at least 1"):
            save_audio(tmp_path / "a.wav", np.zeros(9), sample_rate=sample_rate)
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_is_a_file_is_refused(self, tmp_path, tones):
        (tmp_path / "file").write_bytes(b"x")
        with pytest.raises(AudioError, match="cannot be written"):
            save_audio(tmp_path / "file/a.wav", tones(100))


def test_a_duration_is_read_from_the_header(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((22_050, 2)), 44_100)
    assert read_duration_s(tmp_path / "a.wav") == 0.5
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    for name in ("b.wav", "c.wav"):
        with pytest.raises(AudioError, match=f"path=.*{name}: "):
            read_duration_s(tmp_path / name)
