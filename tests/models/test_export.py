"""Laws of exports: a folder comes back as the same classifier, and what was changed is noticed."""

from __future__ import annotations

import json

import pytest
import torch

from wavshap_lightning.errors import CheckpointError, SettingError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.checkpoint import trained_state
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.hub import NAMES
from wavshap_lightning.models.loading import load_classifier

LABELS = ("angry", "happy", "sad")


@pytest.fixture
def classifier(build_exportable):
    return build_exportable()


# It comes back


@pytest.mark.parametrize(
    "backbone", [{}, {"unfreeze_layers": 1}, {"lora_rank": 2}], ids=["frozen", "layers", "adapters"]
)
def test_an_export_comes_back_the_same(backbone, build_exportable, tmp_path, padded_batch, export):
    classifier = build_exportable(**backbone)
    again = load_classifier(export(classifier, tmp_path / "mine"))
    assert torch.equal(again(*padded_batch), classifier(*padded_batch))
    assert (again.labels, again.provenance) == (classifier.labels, classifier.provenance)
    assert again.backbone.settings == classifier.backbone.settings
    assert again.backbone.fingerprint == classifier.backbone.fingerprint


def test_what_is_trained_is_written_and_nothing_else(classifier, tmp_path, export):
    folder = export(classifier, tmp_path / "mine")
    assert {path.name for path in folder.iterdir()} == set(NAMES)
    stored = sum(value.numel() * value.element_size() for value in trained_state(classifier).values())
    assert stored < (folder / "model.safetensors").stat().st_size < stored + 1500


def test_equal_classifiers_give_equal_bytes(classifier, tmp_path, export):
    one, other = export(classifier, tmp_path / "a" / "mine"), export(classifier, tmp_path / "b" / "mine")
    again = export(load_classifier(one), tmp_path / "c" / "mine")
    for name in NAMES:
        assert (one / name).read_bytes() == (other / name).read_bytes() == (again / name).read_bytes()


@pytest.mark.parametrize("task", ["classes", "labels", "dimensions"])
def test_an_export_keeps_the_meaning_of_the_outputs(task, build_exportable, tmp_path, export):
    folder = export(build_exportable(labels=("arousal", "valence"), task=task), tmp_path / "mine")
    assert load_classifier(folder).task == task
    record = json.loads((folder / "classifier.json").read_text())
    assert record.get("task", "classes") == task
    assert ("task" in record) == (task != "classes")  # those of classes have the bytes of older versions


def test_a_relative_backbone_is_found_from_elsewhere(
    build_model, save_model, tmp_path, monkeypatch, clip, export
):
    save_model(build_model(), tmp_path / "backbone")
    monkeypatch.chdir(tmp_path)
    classifier = EmotionClassifier(SpeechBackbone("backbone"), LABELS).eval()
    export(classifier, "mine")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert torch.equal(load_classifier("../mine")(clip), classifier(clip))


# It is not overwritten, and what was changed is noticed


def test_an_earlier_export_is_replaced(classifier, build_exportable, tmp_path, clip, export):
    export(classifier, tmp_path / "mine")
    other = build_exportable()
    assert torch.equal(load_classifier(export(other, tmp_path / "mine"))(clip), other(clip))


@pytest.mark.parametrize("name", ["notes.txt", "README.md", "config.json", "model.safetensors"])
def test_a_folder_of_something_else_is_left_alone(name, classifier, tmp_path, export):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(SettingError, match=f"holds other files \\({name}\\).*give a new folder"):
        export(classifier, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]
    assert (tmp_path / "mine" / name).read_text() == "mine"


def test_a_file_is_no_folder(classifier, tmp_path, export):
    (tmp_path / "mine").write_text("")
    with pytest.raises(SettingError, match="is a file; give a folder"):
        export(classifier, tmp_path / "mine")
    with pytest.raises(SettingError, match="cannot be written"):
        export(classifier, tmp_path / "mine" / "below")


def test_a_flipped_bit_is_noticed(classifier, tmp_path, export):
    weights = export(classifier, tmp_path / "mine") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors has sha256=.*one of them was changed"):
        load_classifier(weights.parent)


def change_record(folder, **changes):
    content = json.loads((folder / "classifier.json").read_text())
    (folder / "classifier.json").write_text(json.dumps(content | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["angry", "happy"]}, "other shapes"),
        ({"format_version": 9}, "format_version=9"),
        ({"head": {"hidden_size": 8}}, "other shapes"),
        ({"backbone_fingerprint": "0" * 64}, "fingerprint=000000000000.*use the same weights"),
        ({"unknown": 1}, "incomplete.*unknown"),
    ],
    ids=str,
)
def test_a_record_that_was_changed_is_refused(changes, message, classifier, tmp_path, export):
    folder = export(classifier, tmp_path / "mine")
    change_record(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_classifier(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", "\x00"], ids=repr)
def test_what_is_no_record_is_refused(content, classifier, tmp_path, export):
    folder = export(classifier, tmp_path / "mine")
    (folder / "classifier.json").write_text(content)
    with pytest.raises(CheckpointError, match="is not the record of a classifier"):
        load_classifier(folder)


def test_missing_weights_are_refused(classifier, tmp_path, export):
    folder = export(classifier, tmp_path / "mine")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no model\.safetensors.*export or fetch it again"):
        load_classifier(folder)
