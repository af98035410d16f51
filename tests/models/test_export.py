"""Laws of exports: a folder comes back as the same classifier, and tells people what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub import HfApi

from wavshap_lightning.errors import CheckpointError, ModelError, SettingError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.checkpoint import trained_state
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.exported import NAMES
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.models.open import open_classifier
from wavshap_lightning.models.origin import Origin

LABELS = ("angry", "happy", "sad")
PROTOCOL = {
    "name": "ravdess-6-folds",
    "corpus": "ravdess",
    "folds": [{"name": "a", "train": ["01", "02"], "validation": ["03"], "test": ["04", "05"]}] * 6,
    "unit": "speaker",
    "shared_validation": False,
    "seed": 0,
    "hash": "f00d" * 16,
    "fold": 2,
    "clips": {"train": 120, "validation": 60, "test": 61},
    "digest": "d1",
}
SCORES = {
    "test": {"uar": 0.61234, "uar_low": 0.55, "uar_high": 0.66, "wa": 0.6, "macro_f1": 0.59, "loss": 1.0}
}
ORIGIN = Origin(PROTOCOL, {"torch": "2.8"}, SCORES)


@pytest.fixture
def build(build_model, save_model, tmp_path):
    """`(origin=ORIGIN, **backbone) -> EmotionClassifier` on a backbone in a folder."""
    folder = save_model(build_model(), tmp_path / "backbone")

    def build(origin=ORIGIN, labels=LABELS, **backbone):
        head = HeadSettings(hidden_size=16)
        opened = SpeechBackbone(str(folder), **backbone)
        return EmotionClassifier(opened, labels, head, origin=origin).eval()

    return build


@pytest.fixture
def classifier(build):
    return build()


@pytest.fixture
def on_tiny():
    """A classifier whose backbone everybody has."""
    return EmotionClassifier(SpeechBackbone("tiny"), LABELS, origin=ORIGIN).eval()


def page(folder):
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), body


# It comes back


@pytest.mark.parametrize(
    "backbone", [{}, {"unfreeze_layers": 1}, {"lora_rank": 2}], ids=["frozen", "layers", "adapters"]
)
def test_an_export_comes_back_the_same(backbone, build, tmp_path, padded_batch):
    classifier = build(**backbone)
    again = open_classifier(classifier.export(tmp_path / "mine"))
    assert torch.equal(again(*padded_batch), classifier(*padded_batch))
    assert (again.labels, again.origin) == (classifier.labels, classifier.origin)
    assert again.backbone.settings == classifier.backbone.settings
    assert again.backbone.fingerprint == classifier.backbone.fingerprint


def test_what_is_trained_is_written_and_nothing_else(classifier, tmp_path):
    folder = classifier.export(tmp_path / "mine")
    assert {path.name for path in folder.iterdir()} == set(NAMES)
    stored = sum(value.numel() * value.element_size() for value in trained_state(classifier).values())
    assert stored < (folder / "model.safetensors").stat().st_size < stored + 1500


def test_equal_classifiers_give_equal_bytes(classifier, tmp_path):
    one, other = classifier.export(tmp_path / "a" / "mine"), classifier.export(tmp_path / "b" / "mine")
    again = open_classifier(one).export(tmp_path / "c" / "mine")
    for name in NAMES:
        assert (one / name).read_bytes() == (other / name).read_bytes() == (again / name).read_bytes()


def test_a_relative_backbone_is_found_from_elsewhere(build_model, save_model, tmp_path, monkeypatch, clip):
    save_model(build_model(), tmp_path / "backbone")
    monkeypatch.chdir(tmp_path)
    classifier = EmotionClassifier(SpeechBackbone("backbone"), LABELS).eval()
    classifier.export("mine")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert torch.equal(open_classifier("../mine")(clip), classifier(clip))


# It is not overwritten, and what was changed is noticed


def test_an_earlier_export_is_replaced(classifier, build, tmp_path, clip):
    classifier.export(tmp_path / "mine")
    other = build()
    assert torch.equal(open_classifier(other.export(tmp_path / "mine"))(clip), other(clip))


@pytest.mark.parametrize("name", ["notes.txt", "README.md", "config.json", "model.safetensors"])
def test_a_folder_of_something_else_is_left_alone(name, classifier, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(SettingError, match=f"holds something else \\({name}\\).*give a new folder"):
        classifier.export(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]
    assert (tmp_path / "mine" / name).read_text() == "mine"


def test_a_file_is_no_folder(classifier, tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(SettingError, match="is a file; give a folder"):
        classifier.export(tmp_path / "mine")
    with pytest.raises(SettingError, match="cannot be written"):
        classifier.export(tmp_path / "mine" / "below")


def test_a_flipped_bit_is_noticed(classifier, tmp_path):
    weights = classifier.export(tmp_path / "mine") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors has sha256=.*one of them was changed"):
        open_classifier(weights.parent)


def change_record(folder, **changes):
    content = json.loads((folder / "classifier.json").read_text())
    (folder / "classifier.json").write_text(json.dumps(content | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["angry", "happy"]}, "other shapes"),
        ({"format_version": 9}, "format_version=9"),
        ({"head": {"hidden_size": 8}}, "other shapes"),
        ({"backbone_fingerprint": "0" * 64}, "fingerprint=000000000000.*use the very same weights"),
        ({"unknown": 1}, "incomplete.*unknown"),
    ],
    ids=str,
)
def test_a_record_that_was_changed_is_refused(changes, message, classifier, tmp_path):
    folder = classifier.export(tmp_path / "mine")
    change_record(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        open_classifier(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", "\x00"], ids=repr)
def test_what_is_no_record_is_refused(content, classifier, tmp_path):
    folder = classifier.export(tmp_path / "mine")
    (folder / "classifier.json").write_text(content)
    with pytest.raises(CheckpointError, match="is not the record of a classifier"):
        open_classifier(folder)


def test_missing_weights_are_refused(classifier, tmp_path):
    folder = classifier.export(tmp_path / "mine")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_classifier(folder)


# The page


def test_the_page_tells_what_is_known(on_tiny, tmp_path):
    front, body = page(on_tiny.export(tmp_path / "mine", licence="cc-by-nc-sa-4.0"))
    assert front["license"] == "cc-by-nc-sa-4.0"
    assert front["labels"] == list(LABELS)
    metrics = {metric["type"]: metric["value"] for metric in front["model-index"][0]["results"][0]["metrics"]}
    assert metrics == {"recall": 0.6123, "accuracy": 0.6, "f1": 0.59}
    for hint in (
        "angry, happy, sad",
        "`tiny`",
        on_tiny.backbone.fingerprint[:16],
        "ravdess-6-folds",
        "fold 3 of 6: 120 clips for training, 60 clips for choosing the epoch, 61 clips for judging",
        "speakers that have not trained: 04, 05",
        "CC BY-NC-SA 4.0",
        "0.612 | 0.550 to 0.660",
        "UAR of 0.333",
        "open_classifier('mine')",
        "torch 2.8",
    ):
        assert hint in body


def test_the_page_does_not_make_up_what_is_not_known(build, tmp_path):
    front, body = page(build(Origin()).export(tmp_path / "mine"))
    assert "license" not in front
    assert "model-index" not in front
    assert "base_model" not in front
    assert body.count("Not known:") == 2


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"unit": "clip"}, "too high for voices never heard"),
        ({"unit": "split"}, "come with the corpus"),
        ({"shared_validation": True}, "with other texts"),
        ({"corpus": "planted"}, "no person's emotion"),
        ({"corpus": "planted-in-ravdess"}, "The recordings: Corpus: ravdess"),
        ({"corpus": "my corpus"}, "known to those who recorded it"),
        ({"corpus": "manifest"}, "known to those who recorded it"),
    ],
    ids=str,
)
def test_the_page_tells_the_protocol_in_words(changes, hint, build, tmp_path):
    _, body = page(build(Origin(PROTOCOL | changes)).export(tmp_path / "mine"))
    assert hint in body


def test_names_cannot_break_the_page(build, tmp_path):
    labels = ("<script>", "a|b", "c\n# d")
    front, body = page(build(Origin(), labels).export(tmp_path / "mine", title="<b>`x`"))
    assert front["labels"] == list(labels)
    body = re.sub(r"```.*?```|`[^`]*`", "", body, flags=re.DOTALL)  # in code nothing is markup
    assert "<script>" not in body
    assert "<b>" not in body
    assert "\n# d" not in body
    assert "a&#124;b" in body


def test_scores_of_another_test_may_be_given(classifier, tmp_path):
    (tmp_path / "test.json").write_text(json.dumps({"uar": 0.5, "loss": float("nan"), "protocol": {}}))
    again = open_classifier(classifier.export(tmp_path / "mine", scores=tmp_path / "test.json"))
    assert again.origin.scores == {"test": {"uar": 0.5}}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"uar": "high"}'], ids=repr)
def test_what_are_no_scores_is_refused(content, classifier, tmp_path):
    (tmp_path / "test.json").write_text(content)
    with pytest.raises(SettingError, match=r"give the test\.json of a test"):
        classifier.export(tmp_path / "mine", scores=tmp_path / "test.json")
    assert not (tmp_path / "mine").exists()


# The Hub


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
    folder = on_tiny.export(tmp_path / "mine", title="me/mine")
    assert hub.pushed == {name: (folder / name).read_bytes() for name in NAMES}


def test_a_backbone_of_this_machine_alone_is_not_pushed(classifier):
    hub = Hub()
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
