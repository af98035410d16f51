"""Laws of checkpoints: only what is trained goes in, nothing is unpickled, and it comes back the same."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from wavshap_lightning.errors import CheckpointError, ModelError, SettingError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.checkpoint import (
    CLASSIFIER_KEY,
    load_trained_state,
    trained_state,
)
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.models.record import FORMAT_VERSION, ClassifierRecord, TrainingProvenance

LABELS = ["angry", "happy", "sad"]
TRAINED = [{}, {"unfreeze_layers": 1}, {"lora_rank": 2}, {"unfreeze_layers": 1, "lora_rank": 2}]
TRAINED_IDS = ["frozen", "layers", "adapters", "both"]


@pytest.fixture
def folder(build_model, save_model, tmp_path):
    """A backbone on disk."""
    return save_model(build_model(), tmp_path / "backbone")


@pytest.fixture
def build_classifier(folder, generator):
    """`(**options) -> EmotionClassifier` on the folder's backbone, everything trained drawn anew."""

    def build(**options):
        head = HeadSettings(hidden_size=16, layer="learned")
        classifier = EmotionClassifier(SpeechBackbone(str(folder), **options), LABELS, head)
        with torch.no_grad():
            for value in trained_state(classifier).values():
                if value.is_floating_point():
                    value.copy_(0.1 + torch.rand(value.shape, generator=generator))
        return classifier

    return build


@pytest.fixture
def classifier(build_classifier):
    return build_classifier()


@pytest.fixture
def write(tmp_path):
    """`(classifier, **changes) -> path` of a checkpoint as the trainer writes it."""

    def write(classifier, **changes):
        record = classifier.record
        state = {f"classifier.{name}": value for name, value in trained_state(classifier).items()}
        path = tmp_path / "best.ckpt"
        torch.save({"state_dict": state, CLASSIFIER_KEY: record.to_dict() | changes}, path)
        return path

    return write


# What is trained


def test_a_frozen_classifier_stores_its_head_alone(classifier):
    state = trained_state(classifier)
    assert state.keys() == {f"head.{name}" for name in classifier.head.state_dict()}
    assert sum(value.numel() for value in state.values()) < 3000


@pytest.mark.parametrize("options", TRAINED[1:], ids=TRAINED_IDS[1:])
def test_what_is_trained_of_the_backbone_is_stored_too(options, build_classifier):
    classifier = build_classifier(**options)
    trained = {name for name, value in classifier.named_parameters() if value.requires_grad}
    buffers = {f"head.{name}" for name, _ in classifier.head.named_buffers()}
    stored = trained_state(classifier).keys()
    assert stored == trained | buffers
    assert any("layers.1.feed_forward" in name for name in stored) == ("unfreeze_layers" in options)
    assert any("lora_A" in name for name in stored) == ("lora_rank" in options)


def test_the_module_around_it_does_not_matter(classifier):
    wrapped = nn.ModuleDict({"classifier": classifier})
    assert trained_state(wrapped).keys() == {f"classifier.{name}" for name in trained_state(classifier)}


@pytest.mark.parametrize("options", TRAINED, ids=TRAINED_IDS)
def test_what_was_stored_can_be_loaded(options, build_classifier, padded_batch):
    one, other = build_classifier(**options).eval(), build_classifier(**options).eval()
    assert not torch.equal(one(*padded_batch), other(*padded_batch))
    load_trained_state(other, trained_state(one))
    assert torch.equal(one(*padded_batch), other(*padded_batch))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("head.mlp.2.weight"), r"missing=\['head.mlp.2.weight'\], unknown=\[\]"),
        (lambda state: state.update(extra=torch.ones(1)), r"missing=\[\], unknown=\['extra'\]"),
        (
            lambda state: state.update({"head.mix.scores": torch.ones(5)}),
            r"other shapes \(head.mix.scores: \(5,\) for \(3,\)\)",
        ),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_loaded(change, message, classifier):
    state = {name: torch.zeros_like(value) for name, value in trained_state(classifier).items()}
    before = {name: value.clone() for name, value in trained_state(classifier).items()}
    change(state)
    with pytest.raises(CheckpointError, match=message):
        load_trained_state(classifier, state)
    assert all(torch.equal(value, before[name]) for name, value in trained_state(classifier).items())


def test_adapters_do_not_fit_a_frozen_backbone(classifier, build_classifier):
    with pytest.raises(CheckpointError, match=r"unknown=.*lora_A"):
        load_trained_state(classifier, trained_state(build_classifier(lora_rank=2)))


# The record


def test_the_record_is_plain_and_comes_back(build_classifier):
    classifier = build_classifier(unfreeze_layers=1)
    classifier.provenance = TrainingProvenance({"name": "p", "fold": 2}, {"torch": "2"})
    record = classifier.record
    assert ClassifierRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    assert (record.labels, record.sample_rate) == (LABELS, 16_000)
    assert record.backbone == classifier.backbone.settings
    assert record.backbone_fingerprint == classifier.backbone.fingerprint
    assert record.head == classifier.head.settings
    assert (record.protocol, record.versions) == ({"name": "p", "fold": 2}, {"torch": "2"})


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, None, "1"])
def test_another_format_is_refused(version, classifier, write):
    with pytest.raises(CheckpointError, match=f"format_version={version!r} is not 1.*update wavshap"):
        load_classifier(write(classifier, format_version=version))


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("labels"),
        lambda record: record.pop("head"),
        lambda record: record["backbone"].update(unknown=1),
    ],
    ids=["no labels", "no head", "unknown setting"],
)
def test_an_incomplete_record_is_refused(change, classifier):
    values = classifier.record.to_dict()
    change(values)
    with pytest.raises(CheckpointError, match=r"record is incomplete: .*(labels|head|unknown)"):
        ClassifierRecord.from_dict(values)


# The classifier


@pytest.mark.parametrize("options", TRAINED, ids=TRAINED_IDS)
def test_a_classifier_comes_back_with_the_same_logits(options, build_classifier, write, padded_batch):
    classifier = build_classifier(**options).eval()
    loaded = load_classifier(write(classifier))
    assert not any(module.training for module in loaded.modules())
    assert loaded.labels == tuple(LABELS)
    assert loaded.backbone.settings == classifier.backbone.settings
    torch.testing.assert_close(loaded(*padded_batch), classifier(*padded_batch), rtol=1e-6, atol=1e-6)


def test_a_frozen_checkpoint_is_small(classifier, write, folder):
    assert write(classifier).stat().st_size < 20_000 < (folder / "model.safetensors").stat().st_size


def test_a_frozen_checkpoint_lacking_a_weight_is_refused(classifier, write):
    path = write(classifier)
    content = torch.load(path, weights_only=True)
    del content["state_dict"]["classifier.head.mix.scores"]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"missing=.*head\.mix\.scores"):
        load_classifier(path)


def test_another_backbone_is_refused_and_both_are_named(classifier, write, folder):
    path, trained_on = write(classifier), classifier.backbone.fingerprint[:12]
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layers.0.attention.q_proj.bias"][0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    found = SpeechBackbone(str(folder)).fingerprint[:12]
    with pytest.raises(CheckpointError) as caught:
        load_classifier(path)
    for part in (f"backbone={str(folder)!r}", trained_on, found, "use the same weights"):
        assert part in str(caught.value)


def test_a_backbone_that_is_gone_is_named(classifier, write, folder):
    path = write(classifier)
    folder.rename(folder.with_name("moved"))
    with pytest.raises(ModelError, match=f"backbone='{folder}' could not be opened.*--backbone DIR"):
        load_classifier(path)


def test_a_backbone_that_was_moved_opens_where_it_is_now(classifier, write, folder, clip):
    path, moved = write(classifier), folder.with_name("moved")
    folder.rename(moved)
    found = load_classifier(path, backbone=moved)
    assert torch.equal(found(clip), classifier.eval()(clip))
    assert found.backbone.settings.name == str(moved)


def test_another_backbone_is_refused_wherever_it_is(classifier, write):
    with pytest.raises(CheckpointError, match=r"backbone='tiny'.*use the same weights"):
        load_classifier(write(classifier), backbone="tiny")


def test_a_relative_backbone_is_found_from_anywhere(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    backbone = SpeechBackbone(folder.name)
    assert backbone.settings.name == str(folder)
    monkeypatch.chdir(tmp_path)
    backbone.rename(os.path.relpath(folder))
    assert backbone.settings.name == str(folder)


def test_the_place_of_the_final_norm_is_part_of_a_checkpoint(classifier, write):
    with pytest.raises(SettingError, match="final_norm=True needs a Hugging Face model"):
        load_classifier(write(classifier), final_norm=True)


def test_a_flipped_bit_is_noticed(write, classifier):
    path = write(classifier)
    content = bytearray(path.read_bytes())
    weights = next(value for value in trained_state(classifier).values() if value.numel() > 100)
    place = bytes(content).index(weights.numpy().tobytes()[:64])
    content[place + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        load_classifier(path)


def test_weights_that_are_not_finite_are_refused(classifier):
    state = {name: value.clone() for name, value in trained_state(classifier).items()}
    next(value for value in state.values() if value.is_floating_point())[:] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        load_trained_state(classifier, state)


def test_loading_leaves_the_global_random_state_alone(write, classifier):
    path = write(classifier)
    before = torch.random.get_rng_state()
    load_classifier(path)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "change",
    [{"labels": None}, {"head": {"dropout": "x"}}, {"labels": ["one"]}, {"head": None}],
    ids=str,
)
def test_a_record_of_no_classifier_is_refused(change, write, classifier, unchecked_types):
    path = write(classifier)
    content = torch.load(path, weights_only=True)
    content[CLASSIFIER_KEY] |= change
    torch.save(content, path)
    with pytest.raises((CheckpointError, SettingError)):
        load_classifier(path)


def test_a_pointer_of_git_lfs_is_told_from_a_damaged_checkpoint(tmp_path):
    (tmp_path / "best.ckpt").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n"
    )
    with pytest.raises(CheckpointError, match="git lfs pull"):
        load_classifier(tmp_path / "best.ckpt")
