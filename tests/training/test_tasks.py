"""Laws of tasks: targets of a clip, one loss of several, and a checkpoint that comes back on its scale."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.corpora.clip import Clip
from wavshap_lightning.corpora.manifest import read_manifest, save_manifest
from wavshap_lightning.errors import CheckpointError, CorpusError, SettingError
from wavshap_lightning.models.checkpoint import read_checkpoint
from wavshap_lightning.models.head import Outputs
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.training.callbacks import default_callbacks
from wavshap_lightning.training.checkpoints import AtomicCheckpointIO
from wavshap_lightning.training.losses import LossSettings, ccc_loss
from wavshap_lightning.training.module import EmotionModule
from wavshap_lightning.training.tasks import TaskLoss, TaskSettings, check_targets, targets_of

LABELS = ("neutral", "happy", "sad")
DIMENSIONS = TaskSettings("dimensions", labels=["arousal", "valence"], scale=(1.0, 7.0))
ALONE = [
    [TaskSettings()],
    [TaskSettings("distribution")],
    [TaskSettings("labels")],
    [DIMENSIONS],
]
TOGETHER = [DIMENSIONS, TaskSettings(weight=0.5), TaskSettings("distribution"), TaskSettings("labels")]
NAMES = [tasks[0].task for tasks in ALONE]


def annotate(clip, place):
    """Votes for the label and the next; every fifth clip without votes, every fourth without valence."""
    index = LABELS.index(clip.label)
    votes = ((clip.label, 3.0), (LABELS[(index + 1) % 3], 1.0), ("other", 1.0))
    values = (("arousal", 2.0 + 2.0 * index + 0.1 * (place % 3)), ("valence", 6.0 - 0.2 * place))
    values = values[: 1 if place % 4 == 3 else 2]
    return replace(clip, votes=() if place % 5 == 4 else votes, values=values)


@pytest.fixture(scope="session")
def annotated(corpus, tmp_path_factory):
    """The usual corpus with votes and values."""
    path = tmp_path_factory.mktemp("annotated") / "clips.jsonl"
    save_manifest(path, [annotate(clip, place) for place, clip in enumerate(read_manifest(corpus))])
    return path


@pytest.fixture
def build_annotated(annotated, build_datamodule):
    return lambda **settings: build_datamodule(root=str(annotated), **settings)


# Targets


@pytest.mark.parametrize(
    ("task", "labels", "changes", "expected"),
    [
        ("classes", LABELS, {}, [0, 1, 0]),
        ("classes", LABELS, {"label": "no-agreement"}, None),
        ("distribution", LABELS, {}, [0, 1, 0]),
        ("distribution", LABELS, {"votes": (("sad", 3.0), ("happy", 1.0), ("other", 4.0))}, [0, 0.25, 0.75]),
        ("distribution", LABELS, {"votes": (("other", 4.0),)}, None),
        ("distribution", LABELS, {"votes": (("sad", 0.0),)}, None),
        ("distribution", LABELS, {"label": "no-agreement"}, None),
        ("labels", LABELS, {}, [0, 1, 0]),
        ("labels", LABELS, {"votes": (("sad", 3.0), ("happy", 1.0), ("neutral", 0.0))}, [0, 1, 1]),
        ("labels", LABELS, {"votes": (("other", 4.0),)}, None),
        ("labels", LABELS, {"votes": (("sad", 1.0), ("other", 4.0))}, [0, 0, 1]),
        ("labels", LABELS, {"label": "unlabeled"}, None),
        ("dimensions", ("arousal",), {"values": (("valence", 2.0), ("arousal", 3.5))}, [3.5]),
        ("dimensions", ("arousal",), {}, None),
    ],
)
def test_targets_are_those_of_the_annotation(task, labels, changes, expected):
    clip = replace(Clip(Path("a.wav"), "happy"), **changes)
    scale = (1.0, 7.0) if task == "dimensions" else None
    found = targets_of([clip], [Outputs(task, labels, scale)])
    expected = [math.nan] * len(labels) if expected is None else expected
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float32), equal_nan=True)


def test_targets_of_several_tasks_stand_side_by_side():
    clip = Clip(Path("a.wav"), "happy", values=(("arousal", 2.0),))
    outputs = [Outputs("dimensions", ("arousal",), (1.0, 7.0)), Outputs("classes", LABELS)]
    assert targets_of([clip, clip], outputs).tolist() == [[2, 0, 1, 0]] * 2


def test_a_task_without_any_target_in_a_split_is_refused(build_annotated, attach):
    known = Clip(Path("a.wav"), "happy", values=(("arousal", 2.0),))
    outputs = [DIMENSIONS.outputs, Outputs("distribution", LABELS)]
    check_targets("validation", [known, replace(known, votes=(("sad", 0.0),))], outputs)
    check_targets("validation", [], outputs)
    with pytest.raises(SettingError, match=r"task=dimensions: labels=\['valence'\] .* train clips"):
        check_targets("train", [known], outputs)
    with pytest.raises(SettingError, match=r"task=distribution: labels=\['neutral', .* validation clips"):
        check_targets("validation", [replace(known, votes=(("sad", 0.0),))], outputs)
    with pytest.raises(SettingError, match=r"labels=\['bored', 'tired'\] have no target in the train clips"):
        attach(build_annotated(), tasks=[TaskSettings("distribution", labels=["bored", "tired"])])


# Losses


@pytest.mark.parametrize("tasks", ALONE, ids=NAMES)
def test_a_clip_without_a_target_does_not_change_the_gradient(tasks):
    num_outputs, generator = 2 if tasks == [DIMENSIONS] else 3, torch.Generator().manual_seed(0)
    logits = torch.randn(4, num_outputs, generator=generator)
    loss = TaskLoss(tasks[0].with_outputs(LABELS, {}), LossSettings())
    targets = torch.full_like(logits, 1 / num_outputs)
    targets[1], targets[3] = targets[1].roll(1) + torch.arange(num_outputs) / 9, math.nan
    labels = torch.tensor([0, 2, 1, -100])
    gradients = []
    for rows in (slice(4), slice(3)):
        chosen = logits[rows].clone().requires_grad_()
        loss(chosen, (labels if tasks[0].task == "classes" else targets)[rows]).backward()
        gradients.append(chosen.grad)
    torch.testing.assert_close(gradients[0][:3], gradients[1])
    assert not gradients[0][3].any()
    assert gradients[0].any()


def test_the_loss_is_the_weighted_sum_over_the_tasks(attach, build_annotated):
    datamodule = build_annotated()
    module = attach(datamodule, tasks=TOGETHER).eval()
    module.log = lambda *_, **__: None
    batch = next(iter(datamodule.val_dataloader()))
    logits = batch.logits(module.classifier)
    votes, present = batch.targets[:, 5:8], batch.targets[:, 8:]
    voted = ~votes.isnan().any(1)
    expected = (
        ccc_loss(logits[:, :2], batch.targets[:, :2])
        + 0.5 * F.cross_entropy(logits[:, 2:5], batch.labels)
        + F.cross_entropy(logits[voted, 5:8], votes[voted])
        + F.binary_cross_entropy_with_logits(logits[:, 8:], present)
    )
    torch.testing.assert_close(module.training_step(batch), expected)


def test_class_weights_count_the_votes(attach, build_annotated):
    datamodule = build_annotated()
    module = attach(datamodule, tasks=[TaskSettings("distribution")], loss=LossSettings(class_weights=True))
    shares = datamodule.targets(datamodule.prepared["train"]).nansum(0)
    torch.testing.assert_close(module.losses[0].class_weights, shares.sum() / 3 / shares)


# Training


def weights_of(module):
    return {name: value.clone() for name, value in module.classifier.head.state_dict().items()}


def test_classes_among_the_tasks_are_trained_as_classes_alone(
    build_annotated, build_module, build_trainer, build_datamodule
):
    found = []
    for datamodule, tasks in ((build_datamodule(), None), (build_annotated(), [TaskSettings()])):
        module, trainer = build_module(tasks=tasks), build_trainer(max_epochs=2)
        trainer.fit(module, datamodule=datamodule)
        found.append((weights_of(module), trainer.callback_metrics))
    (before, scores), (after, same_scores) = found
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {name: float(value) for name, value in same_scores.items()} == {
        name: float(value) for name, value in scores.items()
    }


@pytest.mark.parametrize("tasks", [*ALONE[1:], TOGETHER], ids=[*NAMES[1:], "together"])
def test_cached_and_live_training_agree(tasks, build_annotated, build_module, build_trainer):
    found = []
    for cache in (True, False):
        module, trainer = build_module(tasks=tasks), build_trainer()
        trainer.fit(module, datamodule=build_annotated(cache=cache))
        found.append((module.validation_predictions, trainer.callback_metrics["train/loss"]))
    (cached, loss), (live, live_loss) = found
    torch.testing.assert_close(loss, live_loss, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cached.logits, live.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(cached.targets, live.targets, equal_nan=True)


@pytest.mark.parametrize("tasks", [*ALONE, TOGETHER], ids=[*NAMES, "together"])
def test_a_checkpoint_comes_back_with_the_same_outputs(
    tasks, build_annotated, build_module, build_trainer, tmp_path, backbone_folder
):
    module, trainer = build_module(tasks=tasks), build_trainer(plugins=[AtomicCheckpointIO()])
    datamodule = build_annotated()
    trainer.fit(module, datamodule=datamodule)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    sound = torch.rand(2, 8000, generator=torch.Generator().manual_seed(0)) - 0.5
    expected = module.classifier.eval()(sound)
    opened = load_classifier(tmp_path / "a.ckpt")
    opened.save_pretrained(tmp_path / "export")
    again = EmotionModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    for one in (opened, load_classifier(tmp_path / "export"), again.eval().classifier):
        assert one.outputs == module.classifier.outputs
        assert torch.equal(one(sound), expected)


@pytest.mark.parametrize(
    ("tasks", "score", "mode"),
    [
        ([TaskSettings(), DIMENSIONS], "val/uar", "max"),
        ([TaskSettings("distribution"), TaskSettings()], "val/jsd", "min"),
        ([TaskSettings("labels")], "val/macro_f1", "max"),
        ([DIMENSIONS, TaskSettings()], "val/ccc", "max"),
    ],
)
def test_the_first_task_chooses_the_checkpoint(
    tasks, score, mode, build_annotated, build_module, build_trainer, tmp_path
):
    module = build_module(tasks=tasks)
    assert module.chosen_by == (score, mode)
    own = default_callbacks(chosen_by=module.chosen_by, folder=tmp_path, progress=False, patience=5)
    trainer = build_trainer(max_epochs=2, enable_checkpointing=True, callbacks=own)
    trainer.fit(module, datamodule=build_annotated())
    best = next(one for one in trainer.checkpoint_callbacks if one.filename == "best")
    assert (best.monitor, best.mode, trainer.early_stopping_callback.monitor) == (score, mode, score)
    assert read_checkpoint(best.best_model_path)["epoch"] in (0, 1)
    assert {f"val/{one.task}_loss" for one in tasks[1:]} <= trainer.callback_metrics.keys()


@pytest.mark.parametrize(
    ("tasks", "hint"),
    [
        ([DIMENSIONS], r"outputs=dimensions \(arousal, valence\) \(1.0, 7.0\) must be classes \(neutral, h"),
        ([TaskSettings(), DIMENSIONS], "those of the checkpoint: set data.labels and model.tasks"),
    ],
)
def test_a_checkpoint_of_other_tasks_is_refused(
    tasks, hint, build_annotated, build_module, build_trainer, tmp_path
):
    trainer = build_trainer(plugins=[AtomicCheckpointIO()])
    trainer.fit(build_module(), datamodule=build_annotated())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=hint):
        build_trainer(max_epochs=2, plugins=[AtomicCheckpointIO()]).fit(
            build_module(tasks=tasks),
            datamodule=build_annotated(),
            ckpt_path=str(tmp_path / "a.ckpt"),
            weights_only=True,
        )


# Clips without a class, and values


@pytest.fixture
def without_classes(annotated, tmp_path):
    clips = [replace(clip, label="unlabeled", votes=()) for clip in read_manifest(annotated)]
    save_manifest(tmp_path / "clips.jsonl", clips)
    return tmp_path / "clips.jsonl"


def test_dimensions_need_no_classes(without_classes, build_datamodule, build_module, build_trainer):
    datamodule = build_datamodule(root=str(without_classes), max_samples=20)
    module, trainer = build_module(labels=datamodule.labels, tasks=[DIMENSIONS]), build_trainer()
    trainer.fit(module, datamodule=datamodule)
    assert datamodule.labels == []
    assert math.isfinite(trainer.callback_metrics["val/ccc"])
    with pytest.raises(CorpusError, match="two classes or more are needed"):
        _ = build_datamodule(root=str(without_classes)).prepared
    with pytest.raises(SettingError, match=r"labels=\[\] must be two classes or more"):
        build_module(labels=[], tasks=[TaskSettings()])
    with pytest.raises(SettingError, match=r"model.tasks=\[\] must name a task"):
        build_module(tasks=[])


def test_classes_cannot_be_balanced_where_there_are_none(without_classes, build_datamodule):
    with pytest.raises(SettingError, match="balanced=True: 25 clips have no class"):
        build_datamodule(root=str(without_classes), balanced=True).require("train")


def test_clips_without_agreement_train_the_other_tasks(
    annotated, build_datamodule, build_module, build_trainer, tmp_path
):
    clips = read_manifest(annotated)
    clips[0] = replace(clips[0], label="no-agreement")
    save_manifest(tmp_path / "clips.jsonl", clips)
    tasks = [TaskSettings("distribution"), TaskSettings()]
    for no_agreement, num_clips, indices in (("drop", 11, {0, 1, 2}), ("soft", 12, {-100, 0, 1, 2})):
        datamodule = build_datamodule(root=str(tmp_path / "clips.jsonl"), no_agreement=no_agreement)
        module, trainer = build_module(tasks=tasks), build_trainer()
        trainer.fit(module, datamodule=datamodule)
        assert datamodule.labels == list(LABELS)
        assert len(datamodule.clips("train")) == num_clips
        assert {*datamodule.statistics(datamodule.prepared["train"]).labels.tolist()} == indices
        assert trainer.callback_metrics["train/loss"].isfinite()


def test_names_and_scale_are_those_declared_for_the_corpus():
    scales = {"arousal": (1.0, 5.0), "valence": (1.0, 5.0)}
    found = TaskSettings("dimensions").with_outputs((), scales)
    assert found.outputs == Outputs("dimensions", ("arousal", "valence"), (1.0, 5.0))
    for tasks in (TaskSettings("dimensions"), TaskSettings("dimensions", labels=["arousal"])):
        with pytest.raises(SettingError, match=r"scale=None: none is declared; give both"):
            tasks.with_outputs((), {})
    with pytest.raises(SettingError, match=r"labels=\['sad'\] of classes: set data.labels instead"):
        TaskSettings(labels=["sad"]).with_outputs(LABELS, {})
    with pytest.raises(SettingError, match=r"weight=-1.0 must be from 0"):
        TaskSettings(weight=-1.0).with_outputs(LABELS, {})
