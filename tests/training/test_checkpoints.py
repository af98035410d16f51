"""Checkpoints appear whole or not at all, and are found by name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from wavshap_lightning.errors import CheckpointError, SettingError
from wavshap_lightning.models.checkpoint import CLASSIFIER_KEY
from wavshap_lightning.training.checkpoints import AtomicCheckpointIO, find_checkpoint, run_of_checkpoint

CONTENT = {CLASSIFIER_KEY: {}, "state_dict": {"weight": torch.arange(3.0)}}


def test_what_is_saved_is_loaded(tmp_path):
    store, path = AtomicCheckpointIO(), tmp_path / "deep" / "last.ckpt"
    store.save_checkpoint(CONTENT, path)
    found = store.load_checkpoint(path)
    assert torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    store.remove_checkpoint(path)
    store.remove_checkpoint(path)
    assert not path.exists()


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    store, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    store.save_checkpoint(CONTENT, path)
    before = path.read_bytes()

    def refuse(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CheckpointError, match=r"MB cannot be written \(No space left.*run\.directory"):
        store.save_checkpoint({**CONTENT, "more": torch.zeros(1000)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_or_missing_checkpoint_is_told(tmp_path):
    store, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    with pytest.raises(CheckpointError, match="is not a file"):
        store.load_checkpoint(path)
    store.save_checkpoint(CONTENT, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"corrupt|damaged"):
        store.load_checkpoint(path)


def test_names_mean_the_latest_run_that_has_one(tmp_path):
    for version, names in {2: ("best", "last"), 9: ("last",), 10: ("last",), 11: ()}.items():
        folder = tmp_path / f"version_{version}" / "checkpoints"
        folder.mkdir(parents=True)
        for name in names:
            (folder / f"{name}.ckpt").touch()
    assert find_checkpoint(tmp_path, "last").parents[1].name == "version_10"
    assert find_checkpoint(tmp_path, "best").parents[1].name == "version_2"
    assert find_checkpoint(tmp_path, "some/file.ckpt").name == "file.ckpt"


def test_a_stored_configuration_means_its_own_run(tmp_path):
    for number in (0, 1, 2):
        (tmp_path / f"version_{number}/checkpoints").mkdir(parents=True)
    for number in (0, 2):
        (tmp_path / f"version_{number}/checkpoints/last.ckpt").touch()
    own, empty = (tmp_path / f"version_{number}/config.yaml" for number in (0, 1))
    assert find_checkpoint(tmp_path, "last", [own, tmp_path / "other.yaml"]).parents[1].name == "version_0"
    with pytest.raises(SettingError, match=r"ckpt_path='last': no last\.ckpt in .*version_1;"):
        find_checkpoint(tmp_path, "last", [own, empty])


def test_no_such_run_is_told(tmp_path):
    with pytest.raises(SettingError, match=r"ckpt_path='best': no best\.ckpt in .*; give its path"):
        find_checkpoint(tmp_path, "best")


def test_a_checkpoint_is_of_the_run_in_whose_folder_it_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = Path("runs/demo")
    (tmp_path / "linked").symlink_to(tmp_path / "runs")
    for path in ("runs/demo/version_2/checkpoints/a.ckpt", "linked/demo/version_2/checkpoints/a.ckpt"):
        assert run_of_checkpoint(home, path) == run_of_checkpoint(home, tmp_path / path) == home / "version_2"
    for path in (None, "runs/other/version_2/checkpoints/a.ckpt", "a.ckpt", "/a.ckpt"):
        assert run_of_checkpoint(home, path) is None
