"""`train.py import`: from another project's tables to a manifest, a trained head and an explained clip."""

from __future__ import annotations

import shlex

import pytest

from wavshap_lightning.cli.train import DEMO, main
from wavshap_lightning.corpora.imports import FORMATS
from wavshap_lightning.corpora.manifest import read_manifest

pytestmark = pytest.mark.usefixtures("surroundings")

TINY = (
    "--trainer.max_epochs",
    "1",
    "--run.wandb",
    "off",
    "--trainer.callbacks",
    "null",
    "--data.batch_size",
    "4",
)
FEW = ("--num_draws", "8", "--stages", "frames", "--report=false", "--figures=false", "--sounds=false")


@pytest.mark.parametrize(
    "kind", [name if name == "kaldi" else pytest.param(name, marks=pytest.mark.slow) for name in FORMATS]
)
def test_what_is_imported_trains_and_explains(kind, build_tree, tmp_path, run_explain, capsys):
    main(["import", kind, str(build_tree(kind, tmp_path)), "clips.csv"])
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert shown["Splits"] == "test (4), train (4), validation (4)"
    assert shown["Classes"] == "happy (6), sad (6)"
    assert shown["Speakers"] == "ann (4), ben (4), cat (4)"
    command = shlex.split(shown["Next"])
    assert command[:2] == ["python", "train.py"]
    tiny = DEMO.parent / "backbones/tiny.yaml"
    main([*command[2:], "--config", str(tiny), *TINY])
    best = tmp_path / "runs/manifest/version_0/checkpoints/best.ckpt"
    assert run_explain(best, read_manifest("clips.csv")[0].path, "--out", tmp_path / "out", *FEW) == 0


def test_without_speakers_and_splits_the_next_command_takes_random_clips(build_tree, tmp_path, capsys):
    table = build_tree("nkululeko", tmp_path) / "toy_train.csv"
    main(["import", "nkululeko", str(table), "clips.jsonl", "--speaker", ""])
    shown = capsys.readouterr().out
    assert "Speakers         unknown (4)" in shown
    assert shown.rstrip().endswith("--data.root clips.jsonl --data.protocol random-clips")


def test_without_a_validation_split_the_next_command_trains_without_one(build_tree, tmp_path, capsys):
    source = build_tree("nkululeko", tmp_path)
    (source / "toy_dev.csv").unlink()
    main(["import", "nkululeko", str(source), "clips.csv"])
    assert capsys.readouterr().out.rstrip().endswith("--data.root clips.csv --data.validation false")


def test_a_manifest_is_not_overwritten(build_tree, tmp_path, run_main, capsys):
    (tmp_path / "clips.csv").write_text("mine")
    run_main(["import", "lhotse", str(build_tree("lhotse", tmp_path)), "clips.csv"], code=2)
    assert "manifest=clips.csv exists; name a new file" in capsys.readouterr().err
    assert (tmp_path / "clips.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("kaldy", "."), "format='kaldy' must be one of"),
        (("kaldi", "nowhere"), "there is no such folder"),
        (("kaldi", "."), "no known label"),
    ],
)
def test_what_cannot_be_imported_is_one_message(words, message, run_main, capsys, tmp_path):
    run_main(["import", *words, "clips.csv"], code=2)
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "clips.csv").exists()
