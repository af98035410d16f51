"""Damaged sound files: the samples that the header announces, or a refusal by name and reason."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
import soundfile
from hypothesis import strategies as st

from wavshap_lightning.audio.io import MP3_SLACK_SAMPLES, SAMPLE_RATE, load_audio, load_native
from wavshap_lightning.errors import AudioError

NUM_SAMPLES = 4_800
SOUND = 0.1 * np.sin(np.arange(2 * NUM_SAMPLES) * 0.3).reshape(NUM_SAMPLES, 2)

# Suffix, format and subtype of libsndfile, sample rate and channels.
FORMATS = {
    "wav": ("WAV", "PCM_16", 16_000, 1),
    "24.wav": ("WAV", "PCM_24", 44_100, 2),
    "float.wav": ("WAV", "FLOAT", 48_000, 1),
    "8.wav": ("WAV", "PCM_U8", 8_000, 1),
    "law.wav": ("WAV", "ULAW", 8_000, 1),
    "extensible.wav": ("WAVEX", "PCM_16", 22_050, 2),
    "64.wav": ("RF64", "PCM_16", 16_000, 1),
    "flac": ("FLAC", "PCM_16", 16_000, 1),
    "24.flac": ("FLAC", "PCM_24", 96_000, 2),
    "mp3": ("MP3", "MPEG_LAYER_III", 16_000, 1),
    "ogg": ("OGG", "VORBIS", 16_000, 1),
    "opus": ("OGG", "OPUS", 48_000, 2),
    "aiff": ("AIFF", "PCM_16", 44_100, 1),
}
CONTENTS = {}
SUFFIXES = ("wav", "flac", "mp3", "ogg", "opus", "aiff", "aif", "WAV", "m4a", "txt", "")

# Header of a WAV file: place and layout of some of its fields.
FIELDS = {
    "size": (4, "<I"),
    "kind": (20, "<H"),
    "channels": (22, "<H"),
    "rate": (24, "<I"),
    "bits": (34, "<H"),
    "data": (40, "<I"),
}
NUMBERS = (0, 1, 2, 3, 7, 255, 1_000, 16_001, 192_000, 3_000_000, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)

# What is found under the name of a recording.
STRANGERS = {
    "nothing": b"",
    "one byte": b"R",
    "RIFF": b"RIFF",
    "zeros": bytes(4_000),
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 109516\n",
    "page": b"<!DOCTYPE html><html><head><title>404</title></head></html>" * 9,
    "text": "Kein Ton, nur Wörter.\n".encode() * 99,
    "zip": b"PK\x03\x04" + bytes(range(256)) * 9,
    "gzip": b"\x1f\x8b\x08" + bytes(range(256)) * 9,
    "m4a": b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(range(256)) * 9,
    "webm": b"\x1aE\xdf\xa3" + bytes(range(256)) * 9,
    "sphere": b"NIST_1A\n   1024\nsample_rate -i 16000\nend_head\n" + bytes(2_000),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9,
}


def content_of(form):
    if form not in CONTENTS:
        kind, subtype, rate, channels = FORMATS[form]
        file = BytesIO()
        soundfile.write(file, SOUND[:, :channels], rate, subtype=subtype, format=kind)
        CONTENTS[form] = file.getvalue()
    return CONTENTS[form]


@pytest.fixture
def load(tmp_path):
    """`(content, suffix) -> samples and rate`, or None of a refusal, which names the file and a reason."""

    def load(content, suffix):
        path = tmp_path / f"clip.{suffix}"
        path.write_bytes(content)
        try:
            samples, rate = load_native(path)
            waveform = load_audio(path)
        except AudioError as error:
            message = str(error)
            assert message.startswith(f"path={path}: "), message
            assert len(message) > len(f"path={path}: ") + 20, message
            assert message.isprintable(), message
            return None
        assert len(waveform) == -(-len(samples) * SAMPLE_RATE // rate)
        assert np.isfinite(waveform).all()
        assert np.abs(waveform).max() <= 1
        return samples, rate

    return load


forms = st.sampled_from(list(FORMATS))
shares = st.floats(0, 1)


def test_what_was_cut_off_is_whole_or_refused(search, load):
    def law(form, end):
        content = content_of(form)
        cut = content[: int(end * len(content))]
        found = load(cut, form)
        slack = MP3_SLACK_SAMPLES if form == "mp3" else 64  # bytes, for writers that count too many
        assert found is None or abs(len(found[0]) - NUM_SAMPLES) <= slack, (len(cut), len(found[0]))

    search(law, 200, form=forms, end=shares)


def test_a_flipped_byte_gives_what_the_header_says_or_a_refusal(search, load):
    def law(form, flips, in_header):
        content = bytearray(content_of(form))
        for share, byte in flips:
            content[int(share * min(len(content), 80 if in_header else len(content)))] = byte
        found = load(bytes(content), form)
        if found is not None:
            with soundfile.SoundFile(BytesIO(bytes(content))) as sound:
                slack = MP3_SLACK_SAMPLES if sound.format == "MP3" else 0
                assert abs(len(found[0]) - sound.frames) <= slack
                assert found[1] == sound.samplerate

    flips = st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3
    )
    search(law, 300, form=forms, flips=flips, in_header=st.booleans())


def test_a_header_that_promises_what_is_not_there_takes_neither_time_nor_memory(search, load):
    def law(changes):
        content = bytearray(content_of("wav"))
        for name, number in changes.items():
            place, layout = FIELDS[name]
            struct.pack_into(layout, content, place, number % 2 ** (8 * struct.calcsize(layout)))
        found = load(bytes(content), "wav")
        assert found is None or len(found[0]) * SAMPLE_RATE / found[1] <= 99 * len(content)

    changes = st.dictionaries(st.sampled_from(list(FIELDS)), st.sampled_from(NUMBERS), min_size=1, max_size=3)
    search(law, 150, changes=changes)


def test_another_suffix_changes_no_sample(search, load):
    def law(form, suffix):
        found, expected = load(content_of(form), suffix), load(content_of(form), form)
        assert found is None or np.array_equal(found[0], expected[0])

    search(law, 60, form=forms, suffix=st.sampled_from(SUFFIXES))


def test_what_is_no_sound_is_refused_under_every_name(search, load):
    def law(name, suffix, end):
        content = STRANGERS[name]
        assert load(content[: 1 + int(end * len(content))], suffix) is None

    search(law, 60, name=st.sampled_from(list(STRANGERS)), suffix=st.sampled_from(SUFFIXES), end=shares)


def test_samples_that_are_no_sound_are_refused_with_their_time(search, load):
    def law(value, place, channels):
        samples = SOUND[:, :channels].copy()
        samples[place] = value
        file = BytesIO()
        soundfile.write(file, samples, SAMPLE_RATE, subtype="DOUBLE", format="WAV")
        assert load(file.getvalue(), "wav") is None

    values = st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -32_768.0, 3.0])
    search(law, 30, value=values, place=st.integers(0, NUM_SAMPLES - 1), channels=st.sampled_from([1, 2]))
