"""`explain.py compare`: the same clips under other classifiers."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from wavshap_lightning.explainer.files import load_clip

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


def test_another_model_that_is_missing_is_told_before_any_work(compare, clip, out, capsys):
    assert compare(clip, "--others", "missing.ckpt") == 2
    assert "model=missing.ckpt" in capsys.readouterr().err
    assert not (out / "clips").exists()
