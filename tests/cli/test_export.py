"""`train.py export`: a folder that explains as its checkpoint does, and words where that cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import HfApi

from wavshap_lightning.cli.terminal import EXIT_USAGE
from wavshap_lightning.cli.train import main
from wavshap_lightning.explainer.files import load_clip
from wavshap_lightning.models.hub import NAMES
from wavshap_lightning.viz.report.study import render_study

pytestmark = pytest.mark.usefixtures("surroundings")

FEW = ("--num_draws", "8", "--stages", "frames,layers", "--report=false", "--figures=false", "--sounds=false")


@pytest.fixture
def hub(monkeypatch):
    """What was published, by repository."""
    published = {}

    def create_repo(_, repo_id, *, private, exist_ok):
        published[repo_id] = {"private": private}
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(_, *, repo_id, folder_path, **options):
        published[repo_id]["page"] = Path(folder_path, "README.md").read_text()
        return f"https://hub/{repo_id}"

    monkeypatch.setattr(HfApi, "repo_exists", lambda _, repo_id: False)
    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    return published


def test_what_is_exported_explains_as_its_checkpoint(checkpoint, run_explain, clip, tmp_path, read_csv):
    main(["export", str(checkpoint), "mine"])
    assert {path.name for path in (tmp_path / "mine").iterdir()} == set(NAMES)
    for model, out in ((checkpoint, "a"), ("mine", "b")):
        assert run_explain(model, clip, "--out", out, *FEW) == 0
    one, other = (load_clip(tmp_path / out / "clips", "a clip _b_") for out in "ab")
    assert one.numbers == other.numbers
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])
    rows = [read_csv(tmp_path / out / "summary.csv") for out in "ab"]
    assert {**rows[0][0], "seconds": ""} == {**rows[1][0], "seconds": ""}


def test_a_run_is_its_best_checkpoint(checkpoint, tmp_path, capsys):
    (tmp_path / "runs" / "version_0" / "checkpoints").mkdir(parents=True)
    shutil.copy(checkpoint, tmp_path / "runs" / "version_0" / "checkpoints" / "best.ckpt")
    main(["export", "runs", "of a run", "--license", "cc0-1.0", "--title", "My voices"])
    page = (tmp_path / "of a run" / "README.md").read_text()
    assert "license: cc0-1.0" in page
    assert "# My voices" in page
    assert capsys.readouterr().out.splitlines() == [
        "Written to       of a run",
        "Next             python explain.py 'of a run' CLIP.wav",
    ]


def test_scores_and_backbone_may_be_given(checkpoint, tmp_path):
    (tmp_path / "test.json").write_text(json.dumps({"uar": 0.625}))
    main(["export", str(checkpoint), "mine", "--scores", "test.json", "--backbone", "me/tiny"])
    record = json.loads((tmp_path / "mine" / "classifier.json").read_text())
    assert record["scores"] == {"test": {"uar": 0.625}}
    assert record["backbone"]["name"] == "me/tiny"


def test_the_card_names_its_study_by_the_hash_that_stands_on_the_page(checkpoint, tmp_path, study, capsys):
    (tmp_path / "study.json").write_text(json.dumps(study))
    main(["export", str(checkpoint), "mine", "--study", "study.json"])
    known = json.loads((tmp_path / "mine" / "classifier.json").read_text())["scores"]["study"]
    assert known["name"] == "a study"
    assert known["hash"] in render_study(study)
    page = (tmp_path / "mine" / "README.md").read_text()
    assert f"in the study a study (study.json, hash `{known['hash'][:12]}`)" in page
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(SystemExit):
        main(["export", str(checkpoint), "mine", "--study", "study.json"])
    assert "study=study.json has no readable systems" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "private"), [([], True), (["--public"], False)])
def test_it_is_published_where_asked_for(checkpoint, hub, capsys, more, private):
    main(["export", str(checkpoint), "mine", "--push_to_hub", "me/mine", "--title", "My voices", *more])
    assert list(hub) == ["me/mine"]
    assert hub["me/mine"]["private"] == private
    assert "# My voices" in hub["me/mine"]["page"]
    assert "Published        https://hub/me/mine" in capsys.readouterr().out


def test_nothing_is_published_unless_asked_for(checkpoint, hub):
    main(["export", str(checkpoint), "mine"])
    assert hub == {}


@pytest.mark.parametrize(
    ("model", "folder", "said"),
    [
        (None, "full", "folder=full holds other files (notes.txt), which are not overwritten"),
        (None, "full/notes.txt", "folder=full/notes.txt is a file; give a folder"),
        ("full/notes.txt", "mine", "checkpoint=full/notes.txt is not a checkpoint"),
        ("gone.ckpt", "mine", "model=gone.ckpt does not exist; expected a checkpoint"),
        ("full", "mine", "model=full is a folder with notes.txt; expected a checkpoint"),
    ],
)
def test_what_is_at_fault_is_told(checkpoint, run_main, tmp_path, capsys, model, folder, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    run_main(["export", str(model or checkpoint), folder], code=EXIT_USAGE)
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "mine").exists()


def test_help_is_found(run_main, capsys):
    run_main(["--help"], code=0)
    assert "export Write a trained classifier" in " ".join(capsys.readouterr().out.split())
    run_main(["export", "--help"], code=0)
    assert "--push_to_hub" in capsys.readouterr().out
