"""Exports on the Hub: what is pushed is what is exported, and nothing of others is touched."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi

from wavshap_lightning.errors import ModelError, SettingError
from wavshap_lightning.models.hub import NAMES


class Hub:
    """A repository that remembers what it was asked."""

    def __init__(self, monkeypatch):
        self.files, self.error, self.pushed, self.private = None, None, {}, None
        for name in ("repo_exists", "create_repo", "list_repo_files", "upload_folder"):
            method = getattr(self, name)
            monkeypatch.setattr(
                HfApi, name, lambda _, *args, method=method, **options: method(*args, **options)
            )

    def repo_exists(self, repo_id):
        return self.files is not None

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        if self.error:
            raise self.error
        self.private = private
        return SimpleNamespace(repo_id=repo_id)

    def list_repo_files(self, repo_id):
        return self.files

    def upload_folder(self, *, repo_id, folder_path, **_):
        self.pushed = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        return f"https://hub/{repo_id}/commit/1"


@pytest.fixture
def hub(monkeypatch):
    return Hub(monkeypatch)


def test_what_is_pushed_is_what_is_exported(on_tiny, hub, tmp_path):
    assert on_tiny.push_to_hub("me/mine") == "https://hub/me/mine/commit/1"
    assert hub.private is True
    on_tiny.save_pretrained(tmp_path / "mine", model_card_kwargs={"title": "me/mine", "place": "me/mine"})
    assert hub.pushed == {name: (tmp_path / "mine" / name).read_bytes() for name in NAMES}


def test_an_earlier_export_is_replaced(on_tiny, hub):
    hub.files = [".gitattributes", *NAMES]
    on_tiny.push_to_hub("me/mine", private=False)
    assert hub.pushed.keys() == {*NAMES}
    assert hub.private is False


def test_it_is_called_by_its_title_and_opened_by_its_name(on_tiny, hub):
    on_tiny.push_to_hub("me/mine", title="My voices")
    page = hub.pushed["README.md"].decode()
    assert "# My voices" in page
    assert "load_classifier('me/mine')" in page


def test_a_backbone_of_this_machine_alone_is_not_pushed(build_exportable, hub):
    classifier = build_exportable()
    with pytest.raises(SettingError, match=r"is a folder of this machine.*rename\('user/name'\)"):
        classifier.push_to_hub("me/mine")
    assert not hub.pushed
    classifier.backbone.rename("me/wavlm")
    classifier.push_to_hub("me/mine")
    assert json.loads(hub.pushed["classifier.json"])["backbone"]["name"] == "me/wavlm"
    assert b"base_model: me/wavlm" in hub.pushed["README.md"]


def test_a_repository_of_something_else_is_left_alone(on_tiny, hub):
    hub.files = [".gitattributes", "README.md", "pytorch_model.bin"]
    with pytest.raises(SettingError, match=r"repo_id='me/mine' holds other files \(pytorch_model.bin"):
        on_tiny.push_to_hub("me/mine")
    assert not hub.pushed


def test_a_hub_that_refuses_is_told(on_tiny, hub):
    hub.error = OSError("403 Forbidden\nmore")
    with pytest.raises(
        ModelError, match=r"repo_id='me/mine' could not be written: 403 Forbidden; check.*whoami"
    ):
        on_tiny.push_to_hub("me/mine")
