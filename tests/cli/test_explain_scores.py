"""`explain.py scores`: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch

from wavshap_lightning.audio.io import load_audio, save_audio


@pytest.fixture
def run(run_explain):
    return lambda *arguments: run_explain("scores", *arguments)


def test_a_clip_is_scored_as_the_classifier_scores_it(run, classifier, checkpoint, clip, capsys):
    with torch.no_grad():
        probabilities = classifier(torch.from_numpy(load_audio(clip))[None]).softmax(1)[0]
    assert run(checkpoint, clip) == 0
    printed = capsys.readouterr().out
    first = classifier.labels[int(probabilities.argmax())]
    assert printed.startswith(f"{first:<5} {float(probabilities.max()):.3f}")
    assert printed.rstrip().endswith(str(clip))


def test_a_folder_is_searched(run, checkpoint, clip, capsys):
    assert run(checkpoint, clip.parent) == 0
    assert str(clip) in capsys.readouterr().out


def test_a_bad_clip_is_named_and_the_rest_is_scored(run, checkpoint, clip, tmp_path, capsys):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    assert run(checkpoint, broken, clip) == 1
    printed = capsys.readouterr()
    assert str(clip) in printed.out
    assert "broken.wav" in printed.err


def test_strange_names_spoil_neither_lines_nor_the_other_clips(run, checkpoint, clip, capsys):
    """A line break, and bytes that are no text, as archives from elsewhere have them."""
    shutil.copy(clip, clip.with_name(os.fsdecode(b"no text \xff.wav")))
    clip.rename(clip.with_name("two\nlines.wav"))
    assert run(checkpoint, clip.parent) in (0, 1)  # not every libsndfile opens them
    shown = capsys.readouterr()
    assert any(line.endswith(r"two\nlines.wav") for line in shown.out.splitlines())
    assert r"no text \udcff.wav" in shown.out + shown.err


def test_a_clip_without_a_single_frame_is_refused(run, checkpoint, tmp_path, capsys):
    save_audio(tmp_path / "short.wav", np.full(500, 0.1, dtype=np.float32))
    assert run(checkpoint, tmp_path / "short.wav") == 2
    assert "one frame needs 1080" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--backbone", "moved/elsewhere"), "backbone='moved/elsewhere' could not be opened"),
        (("--final_norm", "true"), "final_norm=True needs a Hugging Face model"),
    ],
    ids=["backbone", "final norm"],
)
def test_what_a_model_does_not_tell_may_be_given(options, words, run, checkpoint, clip, capsys):
    assert run(checkpoint, clip, *options) == 2
    assert words in capsys.readouterr().err
    assert run(checkpoint, clip, "--backbone", "tiny") == 0


@pytest.mark.parametrize("model", ["missing.ckpt", "text.ckpt"])
def test_what_is_no_checkpoint_ends_with_2_and_a_message(run, model, clip, tmp_path, capsys):
    (tmp_path / "text.ckpt").write_text("hello")
    assert run(tmp_path / model, clip) == 2
    assert model in capsys.readouterr().err


def test_a_folder_without_audio_ends_with_2(run, checkpoint, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(checkpoint, tmp_path / "empty") == 2
    assert "holds no audio" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused(run, checkpoint, clip, capsys):
    assert run(checkpoint, clip, "--device", "nonsense") == 2
    assert "device='nonsense' cannot be used" in capsys.readouterr().err


def test_without_recordings_there_is_nothing_to_score(run, checkpoint, capsys):
    assert run(checkpoint) == 2
    assert "audio=[]: give recordings" in capsys.readouterr().err


def test_options_of_other_commands_are_refused(run, checkpoint, clip, capsys):
    assert run(checkpoint, clip, "--num_draws", "8") == 2
    printed = capsys.readouterr()
    assert "unrecognized arguments: --num_draws" in printed.err
    assert not printed.out
