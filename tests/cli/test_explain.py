"""The scoring command: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.cli.explain import main
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.checkpoint import CLASSIFIER_KEY, describe_classifier, trained_state
from wavshap_lightning.models.classifier import EmotionClassifier

LABELS = ["angry", "happy", "sad"]


@pytest.fixture(scope="module")
def classifier():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return EmotionClassifier(SpeechBackbone("tiny"), LABELS).eval()


@pytest.fixture
def checkpoint(classifier, tmp_path):
    record = describe_classifier(classifier, protocol={}, versions={})
    state = {f"classifier.{name}": value for name, value in trained_state(classifier).items()}
    torch.save({"state_dict": state, CLASSIFIER_KEY: record.to_dict()}, tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


@pytest.fixture
def clip(tmp_path):
    waveform = 0.1 * np.random.default_rng(0).standard_normal(8_000)
    save_audio(tmp_path / "clips" / "a clip <b>.wav", waveform.astype(np.float32))
    return tmp_path / "clips" / "a clip <b>.wav"


def run(*arguments):
    with pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    return ending.value.code


def test_a_clip_is_scored_as_the_classifier_scores_it(classifier, checkpoint, clip, capsys):
    from wavshap_lightning.audio.io import load_audio

    with torch.no_grad():
        probabilities = classifier(torch.from_numpy(load_audio(clip))[None]).softmax(1)[0]
    assert run(checkpoint, clip) == 0
    printed = capsys.readouterr().out
    first = LABELS[int(probabilities.argmax())]
    assert printed.startswith(f"{first:<5} {float(probabilities.max()):.3f}")
    assert printed.rstrip().endswith(str(clip))


def test_a_folder_is_searched(checkpoint, clip, capsys):
    assert run(checkpoint, clip.parent) == 0
    assert str(clip) in capsys.readouterr().out


def test_a_bad_clip_is_named_and_the_rest_is_scored(checkpoint, clip, tmp_path, capsys):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    assert run(checkpoint, broken, clip) == 1
    printed = capsys.readouterr()
    assert str(clip) in printed.out
    assert "broken.wav" in printed.err


def test_strange_names_spoil_neither_lines_nor_the_other_clips(checkpoint, clip, capsys):
    """A line break, and bytes that are no text, as archives from elsewhere have them."""
    shutil.copy(clip, clip.with_name(os.fsdecode(b"no text \xff.wav")))
    clip.rename(clip.with_name("two\nlines.wav"))
    assert run(checkpoint, clip.parent) in (0, 1)  # not every libsndfile opens them
    shown = capsys.readouterr()
    assert any(line.endswith(r"two\nlines.wav") for line in shown.out.splitlines())
    assert r"no text \udcff.wav" in shown.out + shown.err


def test_a_clip_without_a_single_frame_is_refused(checkpoint, tmp_path, capsys):
    save_audio(tmp_path / "short.wav", np.full(500, 0.1, dtype=np.float32))
    assert run(checkpoint, tmp_path / "short.wav") == 2
    assert "one frame needs 1080" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["missing.ckpt", "text.ckpt"])
def test_what_is_no_checkpoint_ends_with_2_and_a_message(model, clip, tmp_path, capsys):
    (tmp_path / "text.ckpt").write_text("hello")
    assert run(tmp_path / model, clip) == 2
    assert model in capsys.readouterr().err


def test_a_folder_without_audio_ends_with_2(checkpoint, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(checkpoint, tmp_path / "empty") == 2
    assert "holds no audio" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused(checkpoint, clip, capsys):
    assert run(checkpoint, clip, "--device", "nonsense") == 2
    assert "device='nonsense' cannot be used" in capsys.readouterr().err
