"""Reading and writing sound, against closed forms, soundfile and librosa; and files gone wrong."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import shutil
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from wavshap_lightning.audio.io import (
    FFMPEG_SUFFIXES,
    SAMPLE_RATE,
    hash_audio_file,
    load_audio,
    load_native,
    save_audio,
)
from wavshap_lightning.errors import AudioError, SettingError

LATE = 300_000  # samples into a file, seconds away from its start
RECORDINGS = Path(__file__).parents[2].parent / "shared/data"


class MuteDecoderError(soundfile.LibsndfileError):
    """What libsndfile raises where it knows an error's number but no words for it."""

    error_string = ""


def cut(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def with_flac_length(path: Path, num_samples: int) -> Path:
    """Changes the 36 bits of a FLAC header that say how many samples follow; 0 is unknown."""
    content = bytearray(path.read_bytes())
    content[21:26] = ((content[21] >> 4 << 36) + num_samples).to_bytes(5, "big")
    path.write_bytes(content)
    return path


def middle_error(waveform: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference away from the edges, where a resampler hears the silence outside."""
    edge = SAMPLE_RATE // 20
    return float(np.abs(waveform - expected)[edge:-edge].max())


class TestSound:
    def test_every_format_holds_the_same_sound(self, tmp_path, format_name, tones, write_format, formats):
        waveform = load_audio(write_format(tmp_path, format_name))
        assert (waveform.shape, waveform.dtype) == ((16_000,), np.float32)
        assert middle_error(waveform, tones(16_000)) < formats[format_name][2]

    @pytest.mark.parametrize("name", sorted(soundfile.available_formats().keys() - {"RAW", "SD2"}))
    @pytest.mark.parametrize("suffix", ["", ".wav", ".sound"])
    def test_the_content_says_what_it_is_and_not_the_suffix(self, tmp_path, name, suffix, tones):
        path = tmp_path / f"a{suffix}"
        soundfile.write(path, tones(16_000), 16_000, format=name, subtype=soundfile.default_subtype(name))
        np.testing.assert_allclose(load_native(path)[0], soundfile.read(path, dtype="float32")[0], atol=1e-6)

    def test_a_name_that_is_no_text_is_read(self, tmp_path, tones, write):
        path = write(tmp_path / "a.wav", tones(800))
        odd = path.rename(tmp_path / os.fsdecode(b"m\xfcde.wav"))
        assert len(load_audio(odd)) == 800
        assert len(hash_audio_file(odd)) == 64

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
        np.testing.assert_allclose(load_native(path)[0], expected, atol=1e-6)
        np.testing.assert_allclose(load_audio(path), expected, atol=1e-6)

    @pytest.mark.parametrize("name", ["s16.wav", "s16.flac", "vorbis.ogg", "opus.opus", "lame.mp3"])
    def test_a_long_file_is_what_soundfile_reads(self, tmp_path, name, write_format):
        path = write_format(tmp_path, name, num_samples=LATE)
        whole, sample_rate = soundfile.read(path, dtype="float32")
        waveform, native_rate = load_native(path)
        assert native_rate == sample_rate
        np.testing.assert_allclose(waveform, whole, atol=1e-6)

    @pytest.mark.parametrize("sample_rate", [8_000, 11_025, 22_050, 44_100, 48_000])
    @pytest.mark.parametrize("num_samples", [1, 441, 1_001, 9_999])
    def test_the_length_after_resampling_is_known_before(self, tmp_path, sample_rate, num_samples, write):
        path = write(tmp_path / "a.wav", np.zeros(num_samples), sample_rate)
        assert len(load_audio(path)) == -(-num_samples * SAMPLE_RATE // sample_rate)

    @pytest.mark.parametrize("name", ["s16.wav", "s24.flac", "vorbis.ogg"])
    def test_the_waveform_is_that_of_librosa(self, tmp_path, name, write_format):
        path = write_format(tmp_path, name)
        expected, _ = librosa.load(path, sr=SAMPLE_RATE)
        np.testing.assert_array_equal(load_audio(path), expected)

    @pytest.mark.skipif(not RECORDINGS.is_dir(), reason="real recordings are not here")
    def test_a_real_recording_is_what_soundfile_reads(self):
        path = min(RECORDINGS.rglob("*.flac"))
        expected, sample_rate = soundfile.read(path, dtype="float32")
        np.testing.assert_array_equal(load_audio(path, sample_rate=sample_rate), expected)


class TestSpans:
    @pytest.mark.parametrize(
        "name", ["s16.wav", "s24.flac", "vorbis.ogg", "opus.opus", "lame.mp3", "s16.aiff"]
    )
    @pytest.mark.parametrize(
        ("start_s", "end_s"), [(0.0, 0.5), (0.25, None), (0.123, 0.457), (None, 0.9), (None, 1.0)]
    )
    def test_a_span_is_a_slice_of_the_whole(self, tmp_path, name, start_s, end_s, write_format):
        path = write_format(tmp_path, name)
        whole = load_native(path)[0]
        first, last = (None if time_s is None else round(time_s * 48_000) for time_s in (start_s, end_s))
        span = load_native(path, start_s=start_s, end_s=end_s)[0]
        np.testing.assert_allclose(span, whole[first:last], atol=1e-6)

    @given(st.lists(st.integers(1, 15_999), min_size=1, max_size=6, unique=True))
    @settings(max_examples=25, derandomize=True, deadline=None)
    def test_neighbouring_spans_join_to_the_whole(self, tmp_path_factory, tones, write, cuts):
        path = write(tmp_path_factory.mktemp("spans") / "a.wav", tones(16_000))
        times_s = [None, *(sample / 16_000 for sample in sorted(cuts)), None]
        spans = [load_audio(path, start_s=a, end_s=b) for a, b in pairwise(times_s)]
        np.testing.assert_array_equal(np.concatenate(spans), load_audio(path))

    def test_what_lies_outside_the_span_is_not_read(self, tmp_path, write):
        path = cut(write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-1, 1, 160_000)), 0.5)
        assert len(load_audio(path, start_s=1.0, end_s=2.0)) == 16_000
        with pytest.raises(AudioError):
            load_audio(path, start_s=8.0, end_s=9.0)

    def test_an_end_rounded_up_in_the_corpus_table_is_the_end_of_the_file(self, tmp_path, tones, write):
        path = write(tmp_path / "a.wav", tones(15_950))
        np.testing.assert_array_equal(load_audio(path, end_s=1.0), load_audio(path))

    @pytest.mark.parametrize(
        ("start_s", "end_s"),
        [
            (1.0, None),
            (5.0, 6.0),
            (0.5, 0.5),
            (0.5, 0.2),
            (-0.1, 0.5),
            (0.0, 1.02),
            (float("nan"), None),
            (None, float("inf")),
        ],
    )
    def test_a_span_outside_the_file_is_refused(self, tmp_path, start_s, end_s, tones, write):
        path = write(tmp_path / "a.wav", tones(16_000))
        with pytest.raises(
            AudioError, match=rf"start_s={start_s}, end_s={end_s} .* the file's 1.000 s; correct"
        ):
            load_audio(path, start_s=start_s, end_s=end_s)

    def test_a_span_between_two_samples_is_refused(self, tmp_path, tones, write):
        path = write(tmp_path / "a.wav", tones(16_000))
        with pytest.raises(AudioError, match="at least one sample"):
            load_audio(path, start_s=0.5, end_s=0.500001)


class TestBadFiles:
    """Every refusal names the path, says what is wrong and what to do, and never leaves the reason empty."""

    def refusal(self, path: Path, **span: float) -> str:
        with pytest.raises(AudioError, match=rf"^path={re.escape(str(path))}: ") as caught:
            load_audio(path, **span)
        assert " ()" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.wav", b"", r"empty \(0 bytes\); copy"),
            (
                "a.wav",
                b"\n<!DOCTYPE html><html>404 Not Found</html>" * 9,
                "page or message of a web server; sign in",
            ),
            ("a.wav", b'{"error": "quota exceeded"}', "page or message of a web server"),
            (
                "a.wav",
                b"version https://git-lfs.github.com/spec/v1\noid sha256:4665a5ea423c2713\nsize 71086\n",
                "a Git LFS pointer, not the recording; run `git lfs pull`",
            ),
            ("a.flac", b"PK\x03\x04" + bytes(99), "it is an archive; unpack it"),
            ("a.wav", bytes(257) + b"ustar" + bytes(99), "it is an archive; unpack it"),
            ("a.wav", b"%PDF-1.7", "a picture or document"),
            ("a.wav", bytes(9_999), "nothing but zero bytes"),
            (".a.wav.icloud", b"bplist00\xd1\x01", "a placeholder of iCloud"),
            (
                "a.sph",
                b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head",
                "sph2pipe",
            ),
            ("a.wav", b"RIFF\x24\x00\x00\x00WAVEfmt ", "cannot be read as audio"),
            ("a.flac", b"fLaC" + bytes(range(256)), "cannot be read as audio"),
            ("a.ogg", b"OggS" + bytes(range(256)), "cannot be read as audio"),
            ("a.mp3", bytes(range(256)) * 9, "it holds no whole MP3 frame"),
            (
                "a.raw",
                bytes(range(256)),
                "Format not recognised.* without a header",
            ),
            ("a.gsm", bytes(range(256)), "Format not recognised.* without a header"),
            ("README", b"text", "cannot be read as audio: it is a text file"),
        ],
    )
    def test_what_is_not_audio_is_refused(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        assert re.search(message, self.refusal(tmp_path / name))

    def test_a_missing_file_is_refused(self, tmp_path):
        assert "no such file; check the path" in self.refusal(tmp_path / "a.wav")

    def test_a_link_to_what_was_not_fetched_says_so(self, tmp_path):
        path = tmp_path / "a.wav"
        path.symlink_to(".git/annex/objects/x.wav")
        assert "a link to a missing file; fetch it" in self.refusal(path)

    def test_a_folder_is_refused(self, tmp_path):
        assert "is a folder; name an audio file" in self.refusal(tmp_path)

    def test_a_name_too_long_for_the_disk_is_refused(self, tmp_path):
        assert "name too long" in self.refusal(tmp_path / ("a" * 300 + ".wav"))

    @pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
    def test_a_file_without_samples_is_refused(self, tmp_path, name, write):
        assert "holds no sound (0 samples)" in self.refusal(write(tmp_path / name, np.zeros(0)))

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.97])
    def test_a_file_cut_in_the_middle_is_refused(self, tmp_path, format_name, share, write_format):
        message = self.refusal(cut(write_format(tmp_path, format_name, num_samples=192_000), share))
        assert "truncated" in message

    def test_a_wav_of_which_only_the_header_came_is_truncated(self, tmp_path, tones, write):
        path = write(tmp_path / "a.wav", tones(16_000))
        path.write_bytes(path.read_bytes()[:44])
        assert "holds 0 of the 32000 bytes of sound its header promises" in self.refusal(path)

    def test_a_truncated_mp3_is_not_filled_with_what_lies_in_memory(self, tmp_path, write_format):
        path = cut(write_format(tmp_path, "lame.mp3", num_samples=192_000), 0.5)
        assert re.search(r"ends after [12]\.\d+ of the 4\.000 s its header promises", self.refusal(path))

    def test_a_flac_with_a_changed_byte_is_refused(self, tmp_path, tones, write):
        path = write(tmp_path / "a.flac", tones(96_000))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        assert "flac decoder" in self.refusal(path)

    def test_a_flac_that_does_not_know_its_length_is_refused(self, tmp_path, tones, write):
        path = with_flac_length(write(tmp_path / "a.flac", tones(16_000)), 0)
        assert "its header lacks the duration; convert it again" in self.refusal(path)

    @pytest.mark.parametrize("num_samples", [16_001, 2**36 - 1])
    def test_a_flac_that_promises_more_than_it_holds_is_refused(self, tmp_path, num_samples, tones, write):
        path = with_flac_length(write(tmp_path / "a.flac", tones(16_000)), num_samples)
        assert re.search("truncated|more samples than fit into memory", self.refusal(path))

    @pytest.mark.parametrize("promised", [0xFFFFFFFF, 0x7FFFF000, 32_000 + 44])
    def test_a_wav_from_a_pipe_or_a_sloppy_writer_is_read(self, tmp_path, promised, tones, write):
        path = write(tmp_path / "a.wav", tones(16_000))
        content = bytearray(path.read_bytes())
        content[40:44] = struct.pack("<I", promised)
        path.write_bytes(content)
        assert len(load_audio(path)) == 16_000

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
    def test_the_first_value_that_is_no_number_is_located(self, tmp_path, value, write):
        samples = np.zeros((LATE + 32_000, 2))
        samples[LATE + 16_000, 1] = value
        samples[LATE + 16_001 :, 0] = np.nan
        path = write(tmp_path / "a.wav", samples, subtype="DOUBLE")
        for start_s in (0.0, 2.5):
            message = self.refusal(path, start_s=start_s)
            assert f"the sample at {LATE / 16_000 + 1:.4f} s is NaN or infinite" in message

    def test_opposite_infinities_do_not_cancel(self, tmp_path, write):
        samples = np.full((100, 2), [np.inf, -np.inf])
        assert "NaN or infinite" in self.refusal(write(tmp_path / "a.wav", samples, subtype="FLOAT"))

    def test_integers_stored_as_floats_are_refused(self, tmp_path, tones, write):
        path = write(tmp_path / "a.wav", 32_768 * tones(4_000), subtype="FLOAT")
        assert re.search(r"peak=\d+\.\d+, and samples must lie in \[-1, 1\]; divide", self.refusal(path))

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (MuteDecoderError(29), "the decoder gives no reason"),
            (soundfile.LibsndfileError(2), "System error"),
            (ValueError("array is too big"), "array is too big"),
            (ValueError(), "ValueError"),
            (PermissionError(13, "Permission denied"), "Permission denied"),
        ],
    )
    def test_the_decoder_never_fails_without_a_reason(
        self, tmp_path, monkeypatch, error, reason, tones, write
    ):
        def fail(path):
            raise error

        path = write(tmp_path / "a.wav", np.zeros(100))
        monkeypatch.setattr(soundfile, "SoundFile", fail)
        assert reason in self.refusal(path)

    @pytest.mark.parametrize("sample_rate", [0, -16_000])
    def test_a_sample_rate_below_one_is_refused(self, tmp_path, sample_rate):
        with pytest.raises(SettingError, match=f"sample_rate={sample_rate} must be at least 1"):
            load_audio(tmp_path / "a.wav", sample_rate=sample_rate)


ADTS = b"\xff\xf1\x50\x80\x02\x1f\xfc"
CONTAINERS = {
    "a.m4a": b"\0\0\0\x20ftypM4A ",
    "a.wav": b"\0\0\0\x20ftypisom",
    "a.webm": b"\x1a\x45\xdf\xa3\x9f",
    "a.amr": b"#!AMR\n",
    "a.wma": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "a.avi": b"RIFF\0\0\0\0AVI LIST",
    "a.aac": ADTS * 99,
}


class TestContainers:
    """What only ffmpeg reads goes through it; a stand-in shows that its sound is checked like any other."""

    @pytest.fixture(params=CONTAINERS)
    def path(self, request, tmp_path):
        path = tmp_path / request.param
        path.write_bytes(CONTAINERS[request.param])
        return path

    @pytest.fixture
    def ffmpeg(self, tmp_path, monkeypatch):
        """Installs a shell script as the only program on the path."""

        def install(script: str) -> None:
            program = tmp_path / "bin/ffmpeg"
            program.parent.mkdir()
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
            monkeypatch.setenv("PATH", str(program.parent))

        return install

    def test_without_ffmpeg_the_message_names_it(self, tmp_path, monkeypatch, path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(AudioError, match=r"needs ffmpeg to be read; install it, or .*convert"):
            load_audio(path)

    def test_the_sound_of_ffmpeg_is_averaged_resampled_and_cut(self, tmp_path, ffmpeg, path, tones, write):
        sound = write(tmp_path / "s.wav", np.stack([tones(48_000, 48_000), np.zeros(48_000)], 1), 48_000)
        ffmpeg(f'exec /bin/cat "{sound}"')
        np.testing.assert_array_equal(load_audio(path), load_audio(sound))
        span = {"start_s": 0.25, "end_s": 0.5}
        np.testing.assert_array_equal(load_audio(path, **span), load_audio(sound, **span))

    @pytest.mark.parametrize("status", [0, 1])
    def test_the_words_of_ffmpeg_are_the_reason(self, ffmpeg, path, status):
        ffmpeg(f"echo '[mov @ 0x55] stream 0: partial file' >&2; echo more >&2; exit {status}")
        with pytest.raises(
            AudioError, match=r"cannot be read as audio \(ffmpeg: stream 0: partial file\); .* truncated"
        ):
            load_audio(path)

    def test_a_failure_of_ffmpeg_without_a_word_has_a_reason(self, ffmpeg, path):
        ffmpeg("exit 7")
        with pytest.raises(AudioError, match=r"\(ffmpeg: exit status 7\)"):
            load_audio(path)

    @pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
    @pytest.mark.parametrize("suffix", sorted({*FFMPEG_SUFFIXES} - {".amr", ".3gp"}))
    def test_ffmpeg_itself_gives_the_same_sound(self, tmp_path, suffix, tones, write):
        sound, path = write(tmp_path / "a.wav", tones(48_000)), tmp_path / f"b{suffix}"
        subprocess.run([shutil.which("ffmpeg"), "-v", "error", "-i", sound, path], check=True)
        waveform = load_audio(path)
        assert abs(len(waveform) - 48_000) < 1_600
        assert np.std(waveform) == pytest.approx(np.std(tones(48_000)), rel=0.1)
        if suffix != ".avi":
            with pytest.raises(AudioError, match=r"cannot be read as audio \(ffmpeg: "):
                load_audio(cut(path, 0.5))


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
        np.testing.assert_allclose(load_native(path)[0], waveform, atol=0.5001 / 32_768)
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
            ("a.wav", np.zeros(0), r"shape=\(0,\) must be"),
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
