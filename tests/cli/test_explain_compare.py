"""`explain.py compare`: the same clips under other classifiers."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from wavshap_lightning.explainer.files import load_clip
from wavshap_lightning.models.checkpoint import CLASSIFIER_KEY

STEM = "a clip _b_"

pytestmark = pytest.mark.usefixtures("surroundings")


@pytest.fixture
def run(checkpoint, other_checkpoint, tmp_path):
    """A run whose best epoch is its first, with its second besides, which is the last."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for name, path, epoch in (
        ("best", checkpoint, 0),
        ("epoch_000", checkpoint, 0),
        ("epoch_001", other_checkpoint, 1),
        ("last", other_checkpoint, 1),
    ):
        torch.save({**torch.load(path, weights_only=True), "epoch": epoch}, folder / f"{name}.ckpt")
    return folder.parent


@pytest.fixture
def compare(run_explain, checkpoint, few):
    """`(*arguments) -> exit status` of `explain.py compare`, with few draws and no figures."""
    return lambda *arguments: run_explain("compare", checkpoint, *few, *arguments)


@pytest.fixture
def compared(out):
    """`() -> numbers` of the comparison of the clip."""
    return lambda: json.loads((out / "compare" / f"{STEM}.json").read_text())


def test_two_models(compare, out, clip, other_checkpoint, compared):
    assert compare(clip, "--others", other_checkpoint, "--figures=true") == 0
    numbers = compared()
    frames = numbers["stages"]["frames"]["frames"]
    (other,) = frames["others"]
    assert other["paired"]
    assert np.subtract(other["attribution"], frames["first"]) == pytest.approx(other["difference"])
    first = load_clip(out / "clips", STEM).arrays["frame_attribution"]
    assert frames["first"] == pytest.approx(first, abs=1e-4)
    assert other["attribution"] != pytest.approx(first, abs=1e-2)
    assert (out / "compare" / f"{STEM}.png").is_file()


def test_several_models_are_each_compared_with_the_first(
    compare, clip, checkpoint, other_checkpoint, compared, tmp_path
):
    """The first under another name does not differ from itself."""
    again = shutil.copy(checkpoint, tmp_path / "again.ckpt")
    assert compare("--others", f"{other_checkpoint},{again}", clip, "--figures=true") == 0
    numbers = compared()
    assert [model["model"] for model in numbers["models"]] == list(
        map(str, (checkpoint, other_checkpoint, again))
    )
    far, none = numbers["stages"]["frames"]["frames"]["others"]
    assert np.abs(far["difference"]).max() > 0.01
    assert not np.any(none["difference"])
    assert not np.any(none["half_width"])


@pytest.mark.parametrize("wanted", ["all", "1"])
def test_epochs_of_a_run(run_explain, run, clip, out, few, compared, wanted):
    assert run_explain("compare", run, clip, "--epochs", wanted, *few) == 0
    numbers = compared()
    assert [model["model"] for model in numbers["models"]] == ["epoch 0", "epoch 1"]
    assert len(numbers["stages"]["layers"]["layers"]["others"]) == 1


def test_other_files_beside_the_checkpoints_are_left_alone(run_explain, run, clip, few, compared):
    for name in ("notes.ckpt", "epoch_of_another.ckpt"):
        (run / "checkpoints" / name).write_text("no checkpoint")
    assert run_explain("compare", run, clip, "--epochs", "all", *few) == 0
    assert [model["model"] for model in compared()["models"]] == ["epoch 0", "epoch 1"]


def test_any_epoch_may_be_the_first(run_explain, run, clip, few, compared):
    model = run / "checkpoints" / "last.ckpt"
    assert run_explain("compare", model, clip, "--epochs", "0,1", *few) == 0
    assert [one["model"] for one in compared()["models"]] == ["epoch 1", "epoch 0", "epoch 1"]
    before, same = compared()["stages"]["frames"]["frames"]["others"]
    assert np.any(before["difference"])
    assert not np.any(same["difference"])


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            "0,7",
            "has checkpoints of the epochs 0, 1, and of 7 none; keep more with train.py --run.keep_every",
        ),
        ("last", "epochs='last' must be all, or numbers such as 9,19,29"),
    ],
)
def test_an_epoch_that_was_not_kept_is_told(run_explain, run, clip, out, few, capsys, wanted, said):
    assert run_explain("compare", run, clip, "--epochs", wanted, *few) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_model_without_epochs_is_told(compare, clip, checkpoint, capsys):
    """A single checkpoint, and a folder that is no run."""
    assert compare(clip, "--epochs", "all") == 2
    assert "has checkpoints of the epochs none, and no other" in capsys.readouterr().err


def test_nothing_to_compare_with_is_told(compare, clip, capsys):
    assert compare(clip) == 2
    assert "give models to compare with, or epochs of the run" in capsys.readouterr().err


@pytest.fixture
def folds(checkpoint, other_checkpoint, tmp_path):
    """A cross-validation of RAVDESS: two finished folds, the first trained on actor 03, and another."""
    groups = [{"name": f"fold-{n}", "train": train} for n, train in enumerate((["02", "03"], ["01", "02"]))]
    protocol = {"corpus": "ravdess", "unit": "speaker", "folds": groups}
    for n, path in enumerate((checkpoint, other_checkpoint, checkpoint)):
        fold = tmp_path / f"cv/fold_{n}"
        (fold / "checkpoints").mkdir(parents=True)
        content = torch.load(path, weights_only=True)
        content[CLASSIFIER_KEY]["protocol"] = {**protocol, "fold": n}
        torch.save(content, fold / "checkpoints/best.ckpt")
        if n < len(groups):
            (fold / "fold.json").write_text("{}")
    return tmp_path / "cv"


def test_folds_of_a_cross_validation(run_explain, folds, clip, few, compared, out, capsys):
    """All that are finished, the first one first; as MODEL, and beside one of them."""
    spoken = clip.rename(clip.with_name("03-01-05-01-01-01-03.wav"))
    assert run_explain("compare", folds, spoken, *few) == 0
    found = json.loads((out / "compare" / f"{spoken.stem}.json").read_text())
    assert [model["model"] for model in found["models"]] == [str(folds / "fold_0"), str(folds / "fold_1")]
    numbers = load_clip(out / "clips", spoken.stem).numbers
    assert numbers["agreement"] == found["agreement"]
    assert "training split of 1 of the 2 models (fold-0)" in numbers["diagnostics"][-1]["message"]
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        printed.count(f"2 models share {found['agreement']['shared']:.0%} of their 3 strongest frames") == 1
    )
    assert run_explain("compare", folds / "fold_1", clip.parent, "--others", folds, *few) == 0
    again = json.loads((out / "compare" / f"{spoken.stem}.json").read_text())
    assert [model["model"] for model in again["models"]] == [str(folds / "fold_1"), str(folds / "fold_0")]
    assert again["agreement"]["shared"] == found["agreement"]["shared"]


def test_a_cross_validation_without_a_finished_fold_is_told(run_explain, folds, clip, few, capsys):
    for finished in folds.glob("fold_*/fold.json"):
        finished.unlink()
    assert run_explain("compare", folds, clip, *few) == 2
    assert "none of its 3 folds is finished" in capsys.readouterr().err


def test_another_model_that_is_missing_is_told_before_any_work(compare, clip, out, capsys):
    assert compare(clip, "--others", "missing.ckpt") == 2
    assert "model=missing.ckpt" in capsys.readouterr().err
    assert not (out / "clips").exists()
