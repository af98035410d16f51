"""Files of any kind are read without running anything in them, and refused with a reason."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from wavshap_lightning.errors import CheckpointError
from wavshap_lightning.models.checkpoint import CLASSIFIER_KEY, read_checkpoint


class MakesFolder:
    """Pickled, it makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


WRITE_WITH_CODE = {
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "pickle": lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)),
}


@pytest.mark.parametrize("way", WRITE_WITH_CODE)
def test_pickled_code_is_refused_and_not_run(way, tmp_path):
    path, made = tmp_path / "evil.ckpt", tmp_path / "made"
    WRITE_WITH_CODE[way]({CLASSIFIER_KEY: MakesFolder(made), "state_dict": {}}, path)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert not made.exists()
    assert f"checkpoint={path}" in str(caught.value)
    assert "weights_only" not in str(caught.value)
    if way == "zip":
        assert "carries pickled code and was refused" in str(caught.value)


@pytest.mark.parametrize("name", ["nothing.ckpt", "."])
def test_what_is_no_file_is_refused(name, tmp_path):
    with pytest.raises(CheckpointError, match=r"is not a file; give a \.ckpt"):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [b"", b"epoch,uar\n1,0.5\n", b"{}", b"\x80\x02", b"j\xd5\x11", b"e^\xe2", b"hA", b"\x00" * 64],
    ids=repr,
)
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "other.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"checkpoint={path} is not a checkpoint, or a damaged one"):
        read_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_truncated_checkpoint_is_refused_wherever_it_ends(legacy, tmp_path):
    path = tmp_path / "cut.ckpt"
    content = {CLASSIFIER_KEY: {"labels": ["angry", "happy"]}, "state_dict": {"a": torch.arange(20)}}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=f"checkpoint={path} is .*"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [{"state_dict": {}}, {CLASSIFIER_KEY: {}}, [1, 2], torch.ones(3)],
    ids=["another trainer's", "no weights", "list", "tensor"],
)
def test_a_foreign_checkpoint_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="was not written by wavshap-lightning"):
        read_checkpoint(tmp_path / "foreign.ckpt")
