"""Whatever a user calls a model opens, and what is none says what was expected and found."""

from __future__ import annotations

import json
import os

import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor, WavLMForSequenceClassification

from wavshap_lightning.errors import CheckpointError, ModelError, SettingError, WavshapError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.checkpoint import CLASSIFIER_KEY, trained_state
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import Outputs
from wavshap_lightning.models.loading import load_classifier, read_test_scores
from wavshap_lightning.models.record import TrainingProvenance

LABELS = ("angry", "happy")
PROTOCOL = {"hash": "h", "fold": 0, "digest": "d", "corpus": "c", "name": "n"}
COMMIT = "0123456789" * 4


@pytest.fixture
def classifier():
    return EmotionClassifier(SpeechBackbone("tiny"), LABELS).eval()


@pytest.fixture
def write_run(classifier, tmp_path):
    """`(name, **files) -> folder` of a run, with a checkpoint as the trainer writes it."""

    def write(name="runs/demo/version_0", **files):
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        classifier.provenance = TrainingProvenance(PROTOCOL)
        state = {f"classifier.{name}": value for name, value in trained_state(classifier).items()}
        path = folder / "checkpoints" / "best.ckpt"
        torch.save({"state_dict": state, CLASSIFIER_KEY: classifier.record.to_dict()}, path)
        for file, content in files.items():
            (folder / f"{file}.json").write_text(json.dumps(content))
        return folder

    return write


@pytest.fixture
def original(build_model, tmp_path):
    """A model of Hugging Face and its folder."""
    model = WavLMForSequenceClassification(build_model(id2label=dict(enumerate("abc"))).config).eval()
    torch.nn.init.uniform_(model.classifier.bias)
    model.save_pretrained(tmp_path / "hf")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "hf")
    return model, tmp_path / "hf"


@pytest.fixture
def put_on_hub(tmp_path, monkeypatch):
    """`(folder, name)`: as if it had been fetched from the Hub, which cannot be reached now."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(folder, name):
        home = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text(COMMIT)
        (home / "snapshots").mkdir()
        folder.rename(home / "snapshots" / COMMIT)
        return name

    return put


def refuse(model, *hints, error=ModelError, **options):
    with pytest.raises(error) as caught:
        load_classifier(model, **options)
    for hint in hints:
        assert hint in str(caught.value)


# What opens


@pytest.mark.parametrize(
    "place",
    ["", "checkpoints", "checkpoints/best.ckpt", ".."],
    ids=["run", "folder", "file", "runs of a name"],
)
def test_a_run_opens_wherever_it_is_pointed_at(place, write_run, classifier, clip):
    folder = write_run()
    found = load_classifier(folder / place)
    assert torch.equal(found(clip), classifier(clip))
    assert found.provenance.protocol == PROTOCOL


def test_of_several_runs_the_latest_opens(write_run, classifier):
    write_run("runs/demo/version_2")
    classifier.outputs = (Outputs("classes", ("calm", "loud")),)
    latest = write_run("runs/demo/version_10")
    assert load_classifier(latest.parent).labels == ("calm", "loud")


def test_a_run_knows_its_scores(write_run):
    content = {"uar": 0.5, "wa": 0.4, "protocol": PROTOCOL}
    folder = write_run("runs/demo/version_0/fold_0", test=content)
    folds = {"folds": [{}, {}], "uar": 0.6, "uar_low": 0.5, "uar_high": 0.7, "protocol": {"hash": "h"}}
    (folder.parent / "cv.json").write_text(json.dumps(folds))
    assert load_classifier(folder).provenance.scores == {
        "test": {"uar": 0.5, "wa": 0.4},
        "cross_validation": {"folds": 2, "uar": 0.6, "uar_low": 0.5, "uar_high": 0.7},
    }


@pytest.mark.parametrize("content", [{"uar": 0.5}, {"uar": 0.5, "protocol": PROTOCOL | {"fold": 1}}, []])
def test_scores_of_something_else_are_not_taken(content, write_run):
    assert load_classifier(write_run(test=content)).provenance.scores == {}


def test_a_folder_of_hugging_face_opens(original, clip):
    model, folder = original
    with torch.no_grad():
        torch.testing.assert_close(
            load_classifier(folder)(clip), model(_normalized(clip)).logits, rtol=1e-5, atol=1e-5
        )


def test_a_model_of_hugging_face_can_be_exported(original, tmp_path, clip):
    _, folder = original
    opened = load_classifier(str(folder))
    opened.save_pretrained(tmp_path / "mine")
    again = load_classifier(tmp_path / "mine")
    assert torch.equal(again(clip), opened(clip))
    assert again.backbone.fingerprint == opened.backbone.fingerprint
    assert again.labels == ("a", "b", "c")


def test_a_name_on_the_hub_opens_without_network_once_it_was_fetched(original, put_on_hub, clip):
    model, folder = original
    found = load_classifier(put_on_hub(folder, "me/wavlm-er"))
    with torch.no_grad():
        torch.testing.assert_close(found(clip), model(_normalized(clip)).logits, rtol=1e-5, atol=1e-5)
    assert (found.backbone.settings.name, found.backbone.settings.revision) == ("me/wavlm-er", COMMIT)


@pytest.mark.parametrize("revision", [None, COMMIT])
def test_an_export_on_the_hub_opens(revision, classifier, put_on_hub, tmp_path, clip):
    classifier.save_pretrained(tmp_path / "mine")
    name = put_on_hub(tmp_path / "mine", "me/mine")
    for load in (load_classifier, EmotionClassifier.from_pretrained):
        assert torch.equal(load(name, revision=revision)(clip), classifier(clip))


def test_half_an_export_on_the_hub_is_refused(classifier, put_on_hub, tmp_path):
    classifier.save_pretrained(tmp_path / "mine")
    (tmp_path / "mine" / "model.safetensors").unlink()
    refuse(put_on_hub(tmp_path / "mine", "me/mine"), "model='me/mine'", error=ModelError)


def test_a_model_of_hugging_face_is_no_export(original):
    _, folder = original
    with pytest.raises(ModelError, match=r"holds no classifier\.json.*load_classifier"):
        EmotionClassifier.from_pretrained(folder)


# What does not


def test_a_recording_is_no_model(tmp_path):
    (tmp_path / "clip.WAV").write_bytes(b"RIFF")
    refuse(tmp_path / "clip.WAV", "clip.WAV is a recording", "expected a checkpoint (.ckpt)")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "pytorch_model.bin"])
def test_one_file_of_a_model_is_no_model(name, tmp_path):
    (tmp_path / name).write_bytes(b"{}")
    refuse(tmp_path / name, f"give its folder: {tmp_path}")


def test_another_file_is_no_checkpoint(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    refuse(tmp_path / "notes.txt", "notes.txt is not a checkpoint", error=CheckpointError)


def test_an_empty_folder_is_no_model(tmp_path):
    refuse(tmp_path, "is a folder with nothing in it", "expected a checkpoint")


def test_a_folder_of_other_things_tells_what_is_in_it(tmp_path):
    for name in "fedcba":
        (tmp_path / name).write_text("")
    refuse(tmp_path, "is a folder with a, b, c, d and 2 more")


def test_of_a_cross_validation_one_fold_must_be_chosen(write_run):
    fold = write_run("runs/cv/version_0/fold_0")
    write_run("runs/cv/version_0/fold_1")
    refuse(fold.parent, "2 folds of a cross-validation; compare them, or choose one", str(fold))


OTHER_LAYOUTS = {
    "a LoRA adapter; load it .* merge_and_unload": ["adapter_config.json", "adapter_model.safetensors"],
    "the output of a Trainer .*, such as checkpoint-1000": ["checkpoint-90/x", "checkpoint-1000/x"],
    "a model in the cache of the Hub; give its folder snapshots/ab": ["refs/main", "snapshots/ab/x"],
    "the cache of the Hub; give the name": ["models--me--mine/refs"],
    "a SpeechBrain model": ["hyperparams.yaml", "model.ckpt"],
    "a FunASR model, such as emotion2vec": ["configuration.json", "config.yaml", "model.pt"],
    "a run of s3prl": ["dev-best.ckpt", "config.yaml"],
    "an experiment of nkululeko": ["exp.ini", "models/x"],
    "an ONNX model; give the model it was converted from": ["model.onnx"],
    "a GGUF model": ["model-q4.gguf"],
    "a Keras model": ["ser.h5"],
    "pickled Python, which is never opened": ["model.pkl"],
    "weights alone; the folder needs config.json": ["model.safetensors"],
}


@pytest.mark.parametrize(("words", "files"), OTHER_LAYOUTS.items(), ids=str)
def test_a_folder_of_another_program_is_named(words, files, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    with pytest.raises(ModelError, match=f"model={tmp_path} is {words}"):
        load_classifier(tmp_path)
    with pytest.raises(ModelError, match=words):
        SpeechBackbone(str(tmp_path))


def test_a_file_of_another_format_is_named(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    refuse(tmp_path / "model.onnx", "model.onnx is an ONNX model")


def test_a_checkpoint_of_another_program_is_named(tmp_path):
    torch.save({"model": {}}, tmp_path / "model.ckpt")
    (tmp_path / "hyperparams.yaml").write_text("")
    refuse(tmp_path / "model.ckpt", "not written by wavshap-lightning", "Its folder is a SpeechBrain model")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_named(name, original):
    _, folder = original
    (folder / "model.safetensors").unlink()
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n")
    refuse(folder, f"{name} is only a pointer of Git LFS", "git lfs pull")


@pytest.mark.parametrize(
    ("file", "words"), [("tf_model.h5", "a TensorFlow model"), ("flax_model.msgpack", "a Flax model")]
)
def test_weights_of_another_library_are_named(file, words, original):
    _, folder = original
    (folder / "model.safetensors").rename(folder / file)
    refuse(folder, f"it is {words}", "transformers 4")


@pytest.mark.parametrize(
    "name", ["nothing.ckpt", "nothing", "a/b/c", "clip.wav", "no such name", "../nothing", "", "a" * 5000]
)
def test_what_is_not_there_and_no_name_on_the_hub_is_refused(name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    refuse(name, "model=", "expected a checkpoint")


def test_a_path_whose_beginning_is_here_is_not_looked_for_on_the_hub(write_run, tmp_path, monkeypatch):
    write_run()
    monkeypatch.chdir(tmp_path)
    refuse("runs/dmeo", "model=runs/dmeo does not exist", "expected a checkpoint")


def test_without_network_a_name_on_the_hub_says_how_to_fetch_it(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refuse("nobody/nothing", "model='nobody/nothing' could not be opened", "hf download nobody/nothing")


def test_the_embedded_backbone_is_no_classifier():
    refuse("tiny", "no classification head", "python train.py")


def test_a_revision_is_for_the_hub(write_run):
    refuse(write_run(), "revision='abc' needs a name on the Hub", error=SettingError, revision="abc")


def test_a_moved_backbone_is_for_checkpoints(original):
    _, folder = original
    refuse(folder, f"backbone={folder} needs a checkpoint", error=SettingError, backbone=folder)


def test_pickled_code_is_refused_and_not_run(original, tmp_path):
    _, folder = original
    (folder / "model.safetensors").unlink()
    torch.save({"code": MakesFolder(tmp_path / "made")}, folder / "pytorch_model.bin")
    refuse(folder, "pickled code, which is never run", error=WavshapError)
    assert not (tmp_path / "made").exists()


class MakesFolder:
    """Pickled, it makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def _normalized(clip):
    return (clip - clip.mean()) / (clip.var(correction=0) + 1e-7).sqrt()


def test_scores_of_another_test_may_be_read(tmp_path):
    (tmp_path / "test.json").write_text(json.dumps({"uar": 0.5, "loss": float("nan"), "protocol": {}}))
    assert read_test_scores(tmp_path / "test.json") == {"uar": 0.5}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"uar": "high"}'], ids=repr)
def test_what_are_no_scores_is_refused(content, tmp_path):
    (tmp_path / "test.json").write_text(content)
    with pytest.raises(SettingError, match=r"give the test\.json of a test"):
        read_test_scores(tmp_path / "test.json")
