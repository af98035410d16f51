"""Decoding spans, and refusing files gone wrong."""

from __future__ import annotations

import re
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from wavshap_lightning.audio import io as decode
from wavshap_lightning.audio.io import BLOCK_SAMPLES, load_audio, read_native
from wavshap_lightning.errors import AudioError, SettingError


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


class TestSpans:
    @pytest.mark.parametrize(
        "name", ["s16.wav", "s24.flac", "vorbis.ogg", "opus.opus", "lame.mp3", "s16.aiff"]
    )
    @pytest.mark.parametrize(
        ("start_s", "end_s"), [(0.0, 0.5), (0.25, None), (0.123, 0.457), (None, 0.9), (None, 1.0)]
    )
    def test_a_span_is_a_slice_of_the_whole(self, tmp_path, name, start_s, end_s, write_format):
        path = write_format(tmp_path, name)
        whole = read_native(path).waveform
        first, last = (None if time_s is None else round(time_s * 48_000) for time_s in (start_s, end_s))
        span = read_native(path, start_s=start_s, end_s=end_s).waveform
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
        assert "()" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.wav", b"", r"empty \(0 bytes\); copy"),
            ("a.wav", b"<html>404 Not Found</html>" * 9, "cannot be read as audio .*Format not recognised"),
            ("a.flac", b"fLaC" + bytes(range(256)), "cannot be read as audio"),
            ("a.ogg", b"OggS" + bytes(range(256)), "cannot be read as audio"),
            ("a.mp3", bytes(range(256)) * 9, "it holds no whole MP3 frame"),
            (
                "a.m4a",
                b"....ftypM4A ",
                r"'\.m4a' must be wav, flac, .* or aif; convert .* ffmpeg -i a.m4a a.wav",
            ),
            ("a.raw", b"0123", r"suffix='\.raw' must be"),
            ("README", b"text", "suffix='' must be"),
        ],
    )
    def test_what_is_not_audio_is_refused(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        assert re.search(message, self.refusal(tmp_path / name))

    def test_a_missing_file_is_refused(self, tmp_path):
        assert "no such file; check the path" in self.refusal(tmp_path / "a.wav")

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
        assert "does not say how long it is; convert it again" in self.refusal(path)

    @pytest.mark.parametrize("num_samples", [16_001, 2**36 - 1])
    def test_a_flac_that_promises_more_than_it_holds_is_refused(self, tmp_path, num_samples, tones, write):
        path = with_flac_length(write(tmp_path / "a.flac", tones(16_000)), num_samples)
        assert "ends after 1.000 of the " in self.refusal(path)

    @pytest.mark.parametrize("promised", [0xFFFFFFFF, 0x7FFFF000, 32_000 + 44])
    def test_a_wav_from_a_pipe_or_a_sloppy_writer_is_read(self, tmp_path, promised, tones, write):
        path = write(tmp_path / "a.wav", tones(16_000))
        content = bytearray(path.read_bytes())
        content[40:44] = struct.pack("<I", promised)
        path.write_bytes(content)
        assert len(load_audio(path)) == 16_000

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
    def test_the_first_value_that_is_no_number_is_located(self, tmp_path, value, write):
        samples = np.zeros((BLOCK_SAMPLES + 32_000, 2))
        samples[BLOCK_SAMPLES + 16_000, 1] = value
        samples[BLOCK_SAMPLES + 16_001 :, 0] = np.nan
        path = write(tmp_path / "a.wav", samples, subtype="DOUBLE")
        for start_s in (0.0, 2.5):
            message = self.refusal(path, start_s=start_s)
            assert f"the sample at {BLOCK_SAMPLES / 16_000 + 1:.4f} s is NaN or infinite" in message

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
        monkeypatch.setattr(decode.soundfile, "SoundFile", fail)
        assert reason in self.refusal(path)

    @pytest.mark.parametrize("sample_rate", [0, -16_000])
    def test_a_sample_rate_below_one_is_refused(self, tmp_path, sample_rate):
        with pytest.raises(SettingError, match=f"sample_rate={sample_rate} must be at least 1"):
            load_audio(tmp_path / "a.wav", sample_rate=sample_rate)
