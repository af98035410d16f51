"""Clips that cannot be explained are refused in words for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from wavshap_lightning.audio.frames import FrameGrid
from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.errors import AudioError
from wavshap_lightning.explainer.recording import MAX_DURATION_S, Recording, open_recording

RATE, SHORTEST = 16_000, 400
GRID = FrameGrid((SHORTEST,), (1,), RATE)
GOOD = torch.linspace(-0.5, 0.5, 800)


def noise_of(duration_s):
    return 0.1 * torch.ones(round(duration_s * RATE))


def with_sample(value):
    waveform = GOOD.clone()
    waveform[160] = value
    return waveform


@pytest.mark.parametrize(
    ("recording", "complaint"),
    [
        (GOOD[:399], r"clip: 399 samples at 16000 Hz, one frame needs 400; give more"),
        (torch.zeros(0), r"clip: 0 samples"),
        (torch.zeros(800), r"clip: peak=0, all 800 samples are silent"),
        (with_sample(torch.nan), r"clip: the sample at 0.0100 s is not finite"),
        (with_sample(torch.inf), r"clip: the sample at 0.0100 s is not finite"),
        (1000 * GOOD, r"clip: peak=500, and samples must lie in \[-1, 1\]; divide samples"),
        (GOOD[None, None], r"clip: shape=\(1, 1, 800\) must be \(num_samples,\), one clip"),
        (GOOD.reshape(2, 400).numpy(), r"clip: shape=\(2, 400\)"),
        (np.zeros(800, np.int16), r"clip: dtype=torch.int16 must be floating point; .* 32768 for 16-bit"),
        (Path("nowhere.wav"), r"path=nowhere.wav: there is no such file"),
        ("notes.txt", r"path=notes.txt: there is no such file"),
    ],
)
def test_refused(recording, complaint):
    with pytest.raises(AudioError, match=complaint):
        open_recording(recording, GRID)


def test_a_file_that_is_too_short_or_silent_is_named(tmp_path):
    for name, waveform, complaint in (
        ("short.wav", GOOD[:100].numpy(), "100 samples"),
        ("still.wav", np.zeros(800, np.float32), "peak=0"),
    ):
        save_audio(tmp_path / name, waveform)
        with pytest.raises(AudioError, match=f"path=.*{name}.*{complaint}"):
            open_recording(tmp_path / name, GRID)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("recording", [None, [0.1, 0.2], 7])
def test_what_is_no_recording(recording):
    with pytest.raises(AudioError, match=f"clip is a {type(recording).__name__}; give a file"):
        open_recording(recording, GRID)


def test_arrays_that_torch_does_not_take_as_they_are():
    still = GOOD.numpy().copy()
    still.setflags(write=False)
    for array in (GOOD.numpy()[::-1], still):
        opened = open_recording(array, GRID)
        assert opened.waveform.tolist() == array.tolist()


def test_a_single_channel_needs_no_average():
    for given in (GOOD[None], GOOD[:, None].numpy()):
        opened = open_recording(given, GRID)
        assert torch.equal(opened.waveform, GOOD)
        assert opened.sha256 == open_recording(GOOD, GRID).sha256


def test_what_is_given_is_copied():
    given = GOOD.clone()
    opened = open_recording(given, GRID)
    opened.waveform.zero_()
    assert torch.equal(given, GOOD)
    assert open_recording(GOOD.numpy(), GRID).sha256 == open_recording(given, GRID).sha256
    assert opened.path == ""


def test_more_than_a_minute_is_refused_with_advice():
    assert open_recording(noise_of(MAX_DURATION_S), GRID).duration_s == MAX_DURATION_S
    with pytest.raises(AudioError, match=r"clip: duration=60\.1 s must be at most 60 s; cut it .* start_s"):
        open_recording(noise_of(MAX_DURATION_S + 0.1), GRID)


def test_an_open_recording_is_taken_as_it_is_but_at_the_same_rate():
    opened = open_recording(GOOD, GRID)
    assert open_recording(opened, GRID) is opened
    with pytest.raises(AudioError, match="sample_rate=16000 must be 8000"):
        open_recording(opened, FrameGrid((SHORTEST,), (1,), 8000))
    with pytest.raises(AudioError, match="one frame needs 801"):
        open_recording(Recording(GOOD, RATE, "", ""), FrameGrid((801,), (1,), RATE))
