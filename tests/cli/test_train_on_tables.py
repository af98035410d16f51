"""Training from a table as people have them: what is told, what is refused, who ends up in which split."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from wavshap_lightning.audio.io import save_audio
from wavshap_lightning.cli.train import main

pytestmark = pytest.mark.usefixtures("surroundings")

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def run(capsys):
    """`(command, *more) -> (exit status, standard error)` on the table clips.csv."""

    def run(command, *more):
        settings = {
            "data.root": "clips.csv",
            "trainer.max_epochs": "2",
            "trainer.accelerator": "cpu",
            "trainer.enable_progress_bar": "false",
            "trainer.callbacks": "null",
            "run.wandb": "off",
        }
        configs = (CONFIGS / "manifest.yaml", CONFIGS / "backbones/tiny.yaml")
        given = [word for path in configs for word in ("--config", str(path))]
        given += [word for name, value in settings.items() for word in (f"--{name}", value)]
        capsys.readouterr()
        try:
            main([command, *given, *more])
        except SystemExit as end:
            return end.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def write_table(rows, header="path,label,speaker"):
    """A table of rows, each with a recording of its own."""
    generator = np.random.default_rng(0)
    for number in range(len(rows)):
        samples = generator.uniform(-0.1, 0.1, 4_000).astype(np.float32)
        save_audio(f"{number}.wav", samples)
    lines = [header, *(f"{number}.wav,{row}" for number, row in enumerate(rows))]
    Path("clips.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def names_of(fold):
    return [{unicodedata.normalize("NFC", name) for name in fold[split]} for split in ("train", "test")]


def test_a_speaker_in_two_unicode_forms_is_one_speaker(run):
    rows = [
        f"{label},{unicodedata.normalize(form, speaker)}"
        for speaker in ("Jörg", "Zoë", "Änne")
        for form in ("NFC", "NFD")
        for label in ("happy", "sad")
    ]
    write_table(rows)
    assert run("fit")[0] == 0
    protocol = json.loads(Path("runs/manifest/version_0/protocol.json").read_text(encoding="utf-8"))
    for fold in protocol["folds"]:
        speakers = [name for split in ("train", "validation", "test") for name in fold[split]]
        assert sorted(unicodedata.normalize("NFC", name) for name in speakers) == ["Jörg", "Zoë", "Änne"]


def test_a_speaker_in_two_cases_stops_the_run_and_both_spellings_are_named(run):
    rows = [f"{label},{who}" for who in ("Ann", "ann", "Bo", "Cy", "Di") for label in ("happy", "sad")]
    write_table(rows)
    status, told = run("fit")
    assert status == 2
    assert "error: similar speakers (1)" in told
    assert "'Ann' and 'ann': they differ only" in told
    assert "Traceback" not in told


SPLIT_ROWS = {
    split: [f"{label},{who},{split}" for who in speakers for label in ("happy", "sad")]
    for split, speakers in (("train", ("ann", "bo")), ("validation", ("cy",)), ("test", ("di",)))
}


def write_splits(*splits):
    write_table([row for split in splits for row in SPLIT_ROWS[split]], "path,label,speaker,split")


def test_without_test_clips_a_run_trains_and_says_that_nothing_is_tested(run):
    write_splits("train", "validation")
    with pytest.warns(UserWarning, match=r"empty split \(1\): nothing is tested"):
        assert run("fit")[0] == 0
    with pytest.warns(UserWarning, match="nothing is tested"):
        assert run("validate", "--ckpt_path", "best")[0] == 0
    for command in (["test", "--ckpt_path", "best"], ["fit", "--run.test", "true"], ["cv"]):
        status, told = run(*command)
        assert status == 2
        assert "test is empty, since no clip belongs to its splits=['test']" in told


def test_a_command_needs_the_clips_of_its_own_splits_alone(run):
    write_splits("train", "validation", "test")
    assert run("fit")[0] == 0
    write_splits("test")
    assert run("test", "--ckpt_path", "best")[0] == 0
    status, told = run("fit")
    assert status == 2
    assert "train is empty" in told
    write_splits("train", "test")
    status, told = run("fit")
    assert status == 2
    assert "validation is empty" in told
    assert "validation=False" in told
    assert run("fit", "--data.validation", "false")[0] == 0


def test_a_test_needs_no_clip_of_every_class_but_a_training_does(run):
    write_splits("train", "validation", "test")
    assert run("fit")[0] == 0
    rows = [row for row in SPLIT_ROWS["test"] if not row.startswith("sad")]
    write_table(rows, "path,label,speaker,split")
    with pytest.warns(UserWarning, match="no clip in test"):
        assert run("test", "--ckpt_path", "best", "--data.labels", "[happy, sad]")[0] == 0
    write_splits("train", "validation")
    status, told = run("fit", "--data.labels", "[happy, sda]")
    assert status == 2
    assert "missing=['sda'], found happy (3), sad (3)" in told
