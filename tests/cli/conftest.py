"""What is typed, and a place to type it in that leaves nothing behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.cli.train import DEMO
from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.manifest import save_manifest
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.checkpoint import CLASSIFIER_KEY, trained_state
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import Outputs

REPOSITORY = Path(__file__).parents[2]
CORPUS_LABELS = ("angry", "happy", "sad")
OPTIONS = {"num_speakers": 3, "clips_per_speaker_and_label": 2, "labels": ["neutral", "happy"]}


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def surroundings(monkeypatch, tmp_path, cache_folder):
    """An empty folder to stand in, a cache of our own, and one thread; nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("WAVSHAP_CACHE", str(cache_folder))
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "WANDB_ERROR_REPORTING", "WANDB_SILENT"):
        monkeypatch.setenv(name, "0")  # so that it is taken away again
        monkeypatch.delenv(name)
    interrupt = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)
    signal.signal(signal.SIGINT, interrupt)


@pytest.fixture(scope="session")
def flags():
    """`(command="fit", *more, wandb="off", epochs=2, watched=False, **options) -> flags` of a small demo."""

    def flags(command="fit", *more, wandb="off", epochs=2, watched=False, **options):
        settings = {
            "config": DEMO,
            "data.options": json.dumps({**OPTIONS, **options}),
            "data.batch_size": 4,
            "run.wandb": wandb,
            "trainer.max_epochs": epochs,
            **({} if watched else {"trainer.callbacks": "null"}),
        }
        given = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        return [command, *given, *map(str, more)]

    return flags


@pytest.fixture(scope="session")
def read_csv():
    """`(path) -> rows`, each by column."""

    def read_csv(path):
        with Path(path).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read_csv


@pytest.fixture(scope="session")
def run_main():
    """`(arguments, code)`: the command line, which must end with that status."""
    from wavshap_lightning.cli.train import main

    def run_main(arguments, *, code):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == code

    return run_main


@pytest.fixture(scope="session")
def run_program():
    """`(program, *arguments)`: a fresh process; `program` is text, or None for `train.py` itself."""

    def run_program(program, *arguments):
        script = [str(REPOSITORY / "train.py")] if program is None else ["-c", textwrap.dedent(program)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        command = [sys.executable, *script, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run_program


@pytest.fixture(scope="session")
def weights():
    """`(path) -> state dict` of a checkpoint."""
    return lambda path: torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture(scope="session")
def classifier():
    """The embedded backbone under a head of chance."""
    return _build_classifier(seed=0)


@pytest.fixture(scope="session")
def other_classifier():
    """The same backbone under another head."""
    return _build_classifier(seed=1)


@pytest.fixture(scope="session")
def checkpoint(classifier, tmp_path_factory):
    return _save(classifier, tmp_path_factory.mktemp("model") / "best.ckpt")


@pytest.fixture(scope="session")
def other_checkpoint(other_classifier, tmp_path_factory):
    return _save(other_classifier, tmp_path_factory.mktemp("model") / "other.ckpt")


@pytest.fixture(scope="session")
def regressor(tmp_path_factory):
    """Checkpoint of a model of two dimensions."""
    classifier = _build_classifier(0, ("arousal", "valence"), "dimensions")
    return _save(classifier, tmp_path_factory.mktemp("model") / "values.ckpt")


@pytest.fixture(scope="session")
def tagger(tmp_path_factory):
    """Checkpoint of a model of several labels a clip."""
    classifier = _build_classifier(0, ("angry", "laughs", "sad"), "labels")
    return _save(classifier, tmp_path_factory.mktemp("model") / "labels.ckpt")


@pytest.fixture(scope="session")
def several_tasks(tmp_path_factory):
    """Checkpoint of a model of classes, and of two dimensions from 1 to 7."""
    classes = Outputs("classes", CORPUS_LABELS)
    outputs = [classes, Outputs("dimensions", ("arousal", "valence"), (1.0, 7.0))]
    return _save(_build_classifier(0, outputs), tmp_path_factory.mktemp("model") / "several.ckpt")


@pytest.fixture
def clip(tmp_path):
    """Half a second: noise that swells, under a name that means something elsewhere."""
    waveform = np.linspace(0.01, 0.2, 8_000) * np.random.default_rng(0).standard_normal(8_000)
    save_audio(tmp_path / "clips" / "a clip <b>.wav", waveform.clip(-1, 1))
    return tmp_path / "clips" / "a clip <b>.wav"


@pytest.fixture(scope="session")
def run_explain():
    """`(*arguments) -> exit status` of `explain.py`."""
    from wavshap_lightning.cli.explain import main

    def run_explain(*arguments):
        with pytest.raises(SystemExit) as ending:
            main([str(argument) for argument in arguments])
        return ending.value.code

    return run_explain


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def few(out):
    """Arguments: into `out`, with few draws and no figures."""
    return (
        "--out",
        out,
        "--num_draws",
        "8",
        "--stages",
        "frames,layers",
        "--report=false",
        "--figures=false",
    )


@pytest.fixture
def quick(run_explain, checkpoint, few):
    """`(*arguments) -> exit status`, with few draws and no figures."""
    return lambda *arguments: run_explain(checkpoint, *few, *arguments)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """The manifest of eight clips of 0.2 to 0.5 s, six of which test, and one of these cannot be read."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(0)
    clips = []
    for index in range(8):
        num_samples = 3_200 + 800 * ((index * 3) % 7)
        waveform = np.linspace(0.01, 0.2, num_samples) * generator.standard_normal(num_samples)
        path = folder / f"clip {index}.wav"
        save_audio(path, waveform.clip(-1, 1))
        part = {6: "train", 7: "validation"}.get(index, "test")
        clips.append(Clip(path, CORPUS_LABELS[index % 3], f"speaker {index}", "small", part))
    clips[5].path.write_bytes(b"RIFF")
    save_manifest(folder / "clips.csv", clips)
    return folder / "clips.csv"


@torch.no_grad()
def _build_classifier(seed, labels=("angry", "happy", "sad"), task="classes"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = EmotionClassifier(SpeechBackbone("tiny"), labels, task=task).eval()
        for parameter in classifier.head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        return classifier


def _save(classifier, path):
    record = classifier.record
    state = {f"classifier.{name}": value for name, value in trained_state(classifier).items()}
    torch.save({"state_dict": state, CLASSIFIER_KEY: record.to_dict()}, path)
    return path
