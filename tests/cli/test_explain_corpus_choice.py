"""`explain.py --corpus`: which clips are explained, and what is refused before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from wavshap_lightning.cli.clips import ClipExplainer
from wavshap_lightning.corpora.manifest import read_manifest, save_manifest

pytestmark = pytest.mark.usefixtures("surroundings")

FEW = ("--num_draws", "8", "--stages", "frames,layers", "--accelerator", "cpu")


@pytest.fixture
def quick(run_explain, checkpoint, corpus, tmp_path):
    """`(*arguments) -> exit status`, into `out`."""
    return lambda *arguments: run_explain("corpus", checkpoint, *asked(corpus, tmp_path / "out"), *arguments)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def explained(monkeypatch):
    """The stems of the clips that are explained from here on."""
    stems, explain = [], ClipExplainer.explain

    def noted(work, clip):
        stems.append(clip.path.stem)
        return explain(work, clip)

    monkeypatch.setattr(ClipExplainer, "explain", noted)
    return stems


def asked(corpus, out):
    return ("--corpus", "manifest", "--root", corpus, "--split", "test", "--out", out, *FEW)


def test_a_first_look(quick, out, read_csv, explained):
    assert quick("--limit", "2", "--report=false") == 0
    assert len(read_csv(out / "summary.csv")) == 2
    assert quick("--report=false") == 1
    assert len(explained) == len(set(explained)) == 6  # what was explained then counts


def test_a_baseline_that_cannot_be_read_is_named(run_explain, checkpoint, corpus, tmp_path, capsys):
    clips = read_manifest(corpus)
    again = replace(clips[0], path=tmp_path / "again.wav", split="train")
    again.path.write_bytes(clips[0].path.read_bytes())
    save_manifest(tmp_path / "nine.csv", [*clips, again])
    more = ("--limit", "1", "--report=false")
    assert run_explain("corpus", checkpoint, *asked(tmp_path / "nine.csv", tmp_path / "out"), *more) == 0
    assert "clip 5.wav" in (said := capsys.readouterr().err)
    assert "left out of the baselines" in said


def test_other_parts(quick, out, read_csv):
    assert quick("--split", "all", "--report=false") == 1
    assert len(read_csv(out / "summary.csv")) == 8
    assert quick("--split", "validation", "--report=false") == 0
    assert [Path(row["clip"]).stem for row in read_csv(out / "summary.csv")] == ["clip 7"]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--split", "exam"], "Expected a typing.Literal['train', 'validation', 'test', 'all']"),
        (["--fold", "7"], "fold=7 must lie in 0..0"),
        (["--limit", "0"], "limit=0 must be at least 1"),
        (["--corpus", "nowhere"], "corpus='nowhere' must be one of ravdess"),
        (["--root", "nowhere.csv"], "nowhere.csv"),
        (["--options", "colour"], "options"),
        (["--options.colour", "red"], "colour"),
        (["--target", "bored"], "target='bored'"),
        (["--accelerator", "abacus"], "accelerator='abacus'"),
        (["--strategy", "luck"], "strategy='luck'"),
        (["--devices", "0"], "devices=0"),
        (["--device", "cuda"], "unrecognized arguments: --device"),
        (["--others", "other.ckpt"], "unrecognized arguments: --others"),
        (["a.wav"], "unrecognized arguments: a.wav"),
    ],
)
def test_a_wrong_option_is_told_before_any_work(quick, out, capsys, more, said):
    assert quick(*more) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert not (out / "records").exists()
