"""`train.py predict`: the model's own outputs in a table, and every clip that cannot be read by name."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from wavshap_lightning.audio.io import load_audio, save_audio
from wavshap_lightning.cli.terminal import EXIT_SOME_FAILED, EXIT_USAGE
from wavshap_lightning.cli.train import main
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import Outputs
from wavshap_lightning.models.loading import load_classifier

pytestmark = pytest.mark.usefixtures("surroundings")

CLASSES = ("angry", "happy", "sad")
EMOTIONS = Outputs("classes", CLASSES)
DIMENSIONS = Outputs("dimensions", ("arousal", "valence", "dominance"), (1.0, 7.0))


@pytest.fixture
def models(tmp_path):
    """Folders of two exported classifiers of classes and dimensions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name in ("a", "b"):
            classifier = EmotionClassifier(SpeechBackbone("tiny"), [EMOTIONS, DIMENSIONS]).eval()
            with torch.no_grad():
                classifier.head.mlp[-2].weight.mul_(4.0)
            classifier.save_pretrained(tmp_path / "models" / name)
    return [tmp_path / "models" / name for name in ("a", "b")]


@pytest.fixture
def sounds(tmp_path):
    """A folder of three recordings of different lengths."""
    generator = np.random.default_rng(0)
    for name, num_samples in (("one.wav", 8000), ("two.wav", 5000), ("three.wav", 12000)):
        save_audio(tmp_path / "sounds" / name, 0.1 * generator.standard_normal(num_samples))
    return tmp_path / "sounds"


def run(*arguments):
    with pytest.raises(SystemExit) as ending:
        main(["predict", *map(str, arguments)])
    return ending.value.code


def outputs_of(model, path):
    """Probabilities and values of one recording alone."""
    with torch.no_grad():
        logits = load_classifier(model)(torch.from_numpy(load_audio(path))[None])[0]
    return torch.cat([logits[:3].softmax(0), logits[3:]])


def numbers(row, suffix=""):
    columns = [f"classes_{name}" for name in CLASSES] + [f"dimensions_{name}" for name in DIMENSIONS.labels]
    return torch.tensor([float(row[name + suffix]) for name in columns])


def test_the_table_holds_the_outputs_of_the_model(models, sounds, read_csv):
    assert run(models[0], sounds) == 0
    rows = read_csv("predictions.csv")
    assert {row["path"] for row in rows} == {str(path) for path in sounds.iterdir()}
    for row in rows:
        expected = outputs_of(models[0], row["path"])
        torch.testing.assert_close(numbers(row), expected, rtol=1e-4, atol=1e-4)
        assert row["classes_prediction"] == CLASSES[int(expected[:3].argmax())]
        assert "classes_angry_std" not in row


def test_several_models_are_averaged(models, sounds, read_csv):
    assert run(models[0], sounds, "--models", models[1], "--out", "t.csv") == 0
    for row in read_csv("t.csv"):
        each = torch.stack([outputs_of(model, row["path"]) for model in models])
        torch.testing.assert_close(numbers(row), each.mean(0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(numbers(row, "_std"), each.std(0), rtol=1e-3, atol=1e-4)


def test_probabilities_have_the_temperature_of_the_run(models, sounds, read_csv):
    record = models[0] / "classifier.json"
    known = json.loads(record.read_text())
    record.write_text(json.dumps({**known, "scores": {"test": {"uar": 0.5, "temperature": 2.0}}}))
    assert run(models[0], sounds / "one.wav") == 0
    with torch.no_grad():
        logits = load_classifier(models[0])(torch.from_numpy(load_audio(sounds / "one.wav"))[None])[0]
    expected = torch.cat([(logits[:3] / 2.0).softmax(0), logits[3:]])
    torch.testing.assert_close(numbers(read_csv("predictions.csv")[0]), expected, rtol=1e-4, atol=1e-4)


def test_submissions_are_as_the_challenges_want_them(models, sounds, read_csv):
    with torch.no_grad():
        classifier = load_classifier(models[0])
        classifier.head.mlp[-2].bias[3:] = torch.tensor([2.0, -2.0, 0.0])
    classifier.save_pretrained(models[0])
    assert run(models[0], sounds, "--format", "classes", "--out", "c.csv") == 0
    assert run(models[0], sounds, "--format", "values", "--out", "v.csv") == 0
    classes, values = read_csv("c.csv"), read_csv("v.csv")
    assert [*classes[0]] == ["FileName", "EmoClass"]
    assert {row["FileName"] for row in classes} == {"one.wav", "two.wav", "three.wav"}
    for row in classes:
        code = "AHS"[int(outputs_of(models[0], sounds / row["FileName"])[:3].argmax())]
        assert row["EmoClass"] == code
    assert [*values[0]] == ["FileName", "EmoAct", "EmoVal", "EmoDom"]
    assert (values[0]["EmoAct"], values[0]["EmoVal"]) == ("7.0", "1.0")  # limited to the scale


def test_what_cannot_be_read_is_named(models, sounds, read_csv, capsys):
    (sounds / "bad.wav").write_bytes(b"no sound")
    assert run(models[0], sounds) == EXIT_SOME_FAILED
    assert "bad.wav" in capsys.readouterr().err
    assert len(read_csv("predictions.csv")) == 3


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["{model}"], "audio=[]: give recordings"),
        (["{model}", "{sounds}", "--out", "{sounds}"], "must be a CSV file, and is a folder"),
        (
            ["{regressor}", "{sounds}", "--format", "classes"],
            "format='classes' needs a model of classes among",
        ),
        (["{regressor}", "{sounds}", "--format", "values"], "valence, dominance, 1 to 7; this one is of"),
        (["{model}", "{sounds}", "{again}", "--format", "values"], "one.wav stands for 2 clips"),
        (["{model}", "{sounds}", "--models", "{regressor}"], "must have the same outputs and frames as"),
    ],
)
def test_what_does_not_go_together_is_one_line(arguments, hint, models, sounds, regressor, capsys):
    again = shutil.copytree(sounds, sounds.with_name("again"), ignore=shutil.ignore_patterns("t*"))
    places = {"model": models[0], "sounds": sounds, "again": again, "regressor": regressor}
    assert run(*(one.format(**places) for one in arguments)) == EXIT_USAGE
    error = capsys.readouterr().err.strip()
    assert hint in error
    assert len(error.splitlines()) == 1
