"""Exports on the Hub: what is pushed is what is exported, and nothing of others is touched."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi

from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.hub import NAMES


class Hub(HfApi):
    """A repository that remembers what it was asked."""

    def __init__(self, files=(".gitattributes",), error=None):
        self.files, self.error, self.pushed, self.private = list(files), error, {}, None

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        if self.error:
            raise self.error
        self.private = private

    def list_repo_files(self, repo_id):
        return self.files

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        self.pushed = {name: Path(folder_path, name).read_bytes() for name in allow_patterns}
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


def test_what_is_pushed_is_what_is_exported(on_tiny, tmp_path):
    hub = Hub()
    assert on_tiny.push_to_hub("me/mine", api=hub) == "https://hub/me/mine/commit/1"
    assert hub.private is True
    folder = on_tiny.export(tmp_path / "mine", title="me/mine", place="me/mine")
    assert hub.pushed == {name: (folder / name).read_bytes() for name in NAMES}


def test_it_is_called_by_its_title_and_opened_by_its_name(on_tiny):
    hub = Hub()
    on_tiny.push_to_hub("me/mine", api=hub, title="My voices")
    page = hub.pushed["README.md"].decode()
    assert "# My voices" in page
    assert "me/mine" in page


def test_a_backbone_of_this_machine_alone_is_not_pushed(build_exportable):
    classifier, hub = build_exportable(), Hub()
    with pytest.raises(SettingError, match=r"is a folder of this machine.*backbone='user/name'"):
        classifier.push_to_hub("me/mine", api=hub)
    assert not hub.pushed
    classifier.push_to_hub("me/mine", api=hub, backbone="me/wavlm")
    assert json.loads(hub.pushed["classifier.json"])["backbone"]["name"] == "me/wavlm"
    assert b"base_model: me/wavlm" in hub.pushed["README.md"]


def test_a_repository_of_something_else_is_left_alone(on_tiny):
    hub = Hub(files=[".gitattributes", "README.md", "pytorch_model.bin"])
    with pytest.raises(SettingError, match=r"repo_id='me/mine' holds something else \(pytorch_model.bin"):
        on_tiny.push_to_hub("me/mine", api=hub)
    assert not hub.pushed


def test_a_hub_that_refuses_is_told(on_tiny):
    with pytest.raises(
        ModelError, match=r"repo_id='me/mine' could not be written: 403 Forbidden; check.*whoami"
    ):
        on_tiny.push_to_hub("me/mine", api=Hub(error=OSError("403 Forbidden\nmore")))
