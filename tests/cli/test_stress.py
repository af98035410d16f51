"""`train.py stress`: files and lines of a test, and what cannot be tested."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from wavshap_lightning.cli.terminal import EXIT_SOME_FAILED, EXIT_USAGE
from wavshap_lightning.corpora.manifest import read_manifest, save_manifest

pytestmark = pytest.mark.usefixtures("surroundings")

FEW = ("--kinds", "telephone,silence", "--maps", "1", "--out", "found")


def test_a_corpus_is_tested_and_what_cannot_be_read_is_named(
    run_main, checkpoint, corpus, read_csv, capsys, tmp_path
):
    run_main(["stress", str(checkpoint), str(corpus), *FEW], code=EXIT_SOME_FAILED)
    told = capsys.readouterr()
    assert "clip 5.wav" in told.err
    assert "telephone" in told.out
    found = json.loads((tmp_path / "found/stress.json").read_text())
    steps = [(row["kind"], row["level"]) for row in found["ladder"]]
    assert steps == [
        ("clean", None),
        *(("telephone", kbps) for kbps in (64.0, 13.0)),
        *(("silence", s) for s in (0.5, 1.0, 2.0)),
    ]
    assert (found["clips"], found["speakers"], found["resampled"], found["score"]) == (
        7,
        7,
        "speakers",
        "uar",
    )
    assert read_csv("found/stress.csv")[0]["kept"] == "1.0"
    assert (tmp_path / "found/stress.png").read_bytes().startswith(b"\x89PNG")


def test_recordings_without_labels_show_how_predictions_change(
    run_main, checkpoint, corpus, capsys, tmp_path
):
    for clip in read_manifest(corpus)[:3]:
        shutil.copy(clip.path, tmp_path)
    files = map(str, tmp_path.glob("*.wav"))
    run_main(["stress", str(checkpoint), *files, "--kinds", "telephone", "--maps", "0"], code=0)
    told = capsys.readouterr().out
    assert "no clip has a label of the model" in told
    assert "intervals are over clips" in told
    found = json.loads((tmp_path / "stress/stress.json").read_text())
    assert found["ladder"][1]["value"] is None
    assert 0 <= found["ladder"][1]["kept"] <= 1


def test_without_recordings_the_test_clips_of_the_run_are_taken(
    run_main, checkpoint, corpus, capsys, tmp_path
):
    run = tmp_path / "runs/small/version_0"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(checkpoint, run / "checkpoints/best.ckpt")
    clips = [clip for clip in read_manifest(corpus) if clip.path.name != "clip 5.wav"]
    save_manifest(tmp_path / "own.csv", clips)
    data = {"corpus": "manifest", "root": str(tmp_path / "own.csv"), "labels": ["angry", "happy"]}
    (run / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    run_main(["stress", str(tmp_path / "runs/small"), *FEW], code=0)
    assert "the test clips of manifest" in capsys.readouterr().out
    found = json.loads((tmp_path / "found/stress.json").read_text())
    of_test = [clip for clip in clips if clip.split == "test" and clip.label in data["labels"]]
    assert found["clips"] == len(of_test)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["{clips}", "--kinds", "thunder"], "kinds=['thunder'] must be some of white noise"),
        (["{clip}"], "clips=1: a stress test needs two or more"),
        ([], "does not tell its corpus; give recordings, or --corpus and --root"),
        (["--corpus", "ravdess"], "root=None: corpus='ravdess' needs its folder"),
    ],
)
def test_what_cannot_be_tested_is_one_line(arguments, hint, run_main, checkpoint, corpus, capsys, tmp_path):
    places = {"clips": corpus, "clip": read_manifest(corpus)[0].path}
    words = [one.format(**places) for one in arguments]
    run_main(["stress", str(checkpoint), *words, "--maps", "0"], code=EXIT_USAGE)
    error = capsys.readouterr().err.strip()
    assert hint in error
    assert len(error.splitlines()) == 1
