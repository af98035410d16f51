"""Laws of classifiers of several tasks: a part is its columns, dimensions come on their scale."""

from __future__ import annotations

import json

import pytest
import torch

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import HeadSettings, Outputs, logits_to_outputs
from wavshap_lightning.models.loading import load_classifier

CLASSES = ("angry", "happy", "sad")
EMOTIONS = Outputs("classes", CLASSES)
DIMENSIONS = Outputs("dimensions", ("arousal", "valence"), (1.0, 7.0))
VOTES = Outputs("distribution", ("angry", "other"))


@pytest.fixture(params=["mean", "attentive"])
def classifier(request, open_backbone):
    settings = HeadSettings(pooling=request.param, hidden_size=16)
    torch.manual_seed(0)
    return EmotionClassifier(open_backbone(), [EMOTIONS, DIMENSIONS, VOTES], settings).eval()


def test_a_part_is_the_columns_of_the_whole(classifier, padded_batch):
    logits = classifier(*padded_batch)
    assert logits.shape == (3, 7)
    for start, one in zip((0, 3, 5), classifier.outputs, strict=True):
        part = classifier.part(one.task)
        assert (part.outputs, part.labels, part.task) == ((one,), one.labels, one.task)
        columns = logits[:, start : start + len(one.labels)]
        torch.testing.assert_close(part(*padded_batch), columns, rtol=1e-6, atol=1e-6)
        assert (part.training, part.backbone) == (False, classifier.backbone)
        assert part.part(one.task) is part


def test_a_part_shares_the_weights(classifier, padded_batch):
    part = classifier.part("dimensions")
    with torch.no_grad():
        for weight in classifier.head.parameters():
            weight.mul_(1.5)
    torch.testing.assert_close(part(*padded_batch), classifier(*padded_batch)[:, 3:5])


def test_building_a_part_draws_nothing(classifier):
    before = torch.random.get_rng_state()
    classifier.part("dimensions")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("valence", "dimensions"),
        ("other", "distribution"),
        ("angry", "classes"),  # of several the first
        ("other-vs-angry", "classes"),
        ("arousal-vs-valence", "dimensions"),
        ("distribution", "distribution"),
        ("predicted", "classes"),
    ],
)
def test_the_part_is_that_of_the_output_named(name, task, open_backbone):
    classifier = EmotionClassifier(open_backbone(), [EMOTIONS, DIMENSIONS, VOTES])
    assert classifier.part(name).task == task


def test_dimensions_begin_at_the_middle_of_their_scale_and_span_it(open_backbone, padded_batch):
    classifier = EmotionClassifier(open_backbone(), [EMOTIONS, DIMENSIONS]).eval()
    last = classifier.head.mlp[-2]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.1, 0.2, 0.3, -0.5, 0.5]))
    assert torch.equal(classifier(*padded_batch)[0], torch.tensor([0.1, 0.2, 0.3, 1.0, 7.0]))
    with torch.no_grad():
        last.bias.zero_()
    assert classifier(*padded_batch)[0].tolist() == [0, 0, 0, 4, 4]


def test_an_export_keeps_all_outputs(build_exportable, tmp_path, padded_batch, export):
    classifier = build_exportable(labels=[EMOTIONS, DIMENSIONS, VOTES])
    folder = export(classifier, tmp_path / "mine")
    again = load_classifier(folder)
    assert again.outputs == classifier.outputs
    assert torch.equal(again(*padded_batch), classifier(*padded_batch))
    export(again, tmp_path / "again" / "mine")
    for path in folder.iterdir():
        assert (tmp_path / "again" / "mine" / path.name).read_bytes() == path.read_bytes()
    body = (folder / "README.md").read_text()
    assert "| dimensions | arousal, valence, each from 1 to 7 |" in body
    assert "3 classes and 2 dimensions and 2 classes" in body


def test_an_export_keeps_the_scale_of_the_first_task(build_exportable, tmp_path, padded_batch, export):
    classifier = build_exportable(labels=[Outputs("dimensions", ("arousal",), (0.0, 10.0))])
    folder = export(classifier, tmp_path / "mine")
    assert torch.equal(load_classifier(folder)(*padded_batch), classifier(*padded_batch))
    assert json.loads((folder / "classifier.json").read_text())["outputs"][0]["scale"] == [0, 10]


def test_the_file_of_classes_has_no_field_of_other_tasks(build_exportable):
    assert not {"task", "outputs"} & build_exportable().record.to_dict().keys()


def test_a_distribution_sums_to_one():
    assert logits_to_outputs(torch.zeros(4), "distribution").tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("task", "labels", "scale", "hint"),
    [
        ("dimensions", ("arousal",), (7.0, 1.0), r"scale=\(7.0, 1.0\) of dimensions must be \[low, high\]"),
        ("dimensions", ("arousal",), (0.0, float("nan")), r"scale=\(0.0, nan\)"),
        ("classes", CLASSES, (1.0, 7.0), r"scale=\(1.0, 7.0\) of classes"),
        ("distribution", ("angry",), None, "two classes or more"),
    ],
)
def test_outputs_that_make_no_sense_are_refused(task, labels, scale, hint):
    with pytest.raises(SettingError, match=hint):
        Outputs(task, labels, scale)


@pytest.mark.usefixtures("unchecked_types")
def test_a_task_that_does_not_exist_is_refused():
    with pytest.raises(SettingError, match="task='votes' must be one of classes, distribution, labels, dim"):
        Outputs("votes", CLASSES)


def test_a_task_is_there_once(open_backbone):
    with pytest.raises(SettingError, match="must be different tasks"):
        EmotionClassifier(open_backbone(), [EMOTIONS, Outputs("classes", ("a", "b"))])
