"""The module: what is trained, minimised, stored and refused."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from wavshap_lightning.audio.io import load_audio
from wavshap_lightning.audio.voice import VoiceMeasures
from wavshap_lightning.errors import CheckpointError, SettingError
from wavshap_lightning.models.backbone import BackboneSettings, SpeechBackbone
from wavshap_lightning.models.checkpoint import CLASSIFIER_KEY
from wavshap_lightning.models.head import HeadSettings
from wavshap_lightning.models.loading import load_classifier
from wavshap_lightning.training.checkpoints import AtomicCheckpointIO
from wavshap_lightning.training.module import EmotionModule, LossSettings, OptimizerSettings

LABELS = ("neutral", "happy", "sad")


@pytest.fixture
def trained(build_datamodule, build_module, build_trainer, tmp_path):
    """A module after an epoch, its datamodule, and its checkpoint."""
    datamodule, module, trainer = build_datamodule(), build_module(), build_trainer()
    trainer.fit(module, datamodule=datamodule)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    return module, datamodule, tmp_path / "a.ckpt"


def first_batch(datamodule):
    return next(iter(datamodule.val_dataloader()))


def loss_of(module, batch):
    module.log = lambda *_, **__: None
    return module.eval().training_step(batch).detach()


def test_the_backbone_is_the_one_of_the_settings(backbone_folder):
    module = EmotionModule(LABELS, BackboneSettings(str(backbone_folder)))
    assert module.classifier.backbone.settings.name == str(backbone_folder)
    assert module.classifier.labels == LABELS


def test_an_epoch_changes_the_head_and_nothing_else(build_datamodule, build_module, build_trainer):
    module, trainer = build_module(), build_trainer()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer.fit(module, datamodule=build_datamodule())
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert trained <= changed
    assert all(name.startswith("classifier.head.") for name in changed)


@pytest.mark.parametrize("change", [{"unfreeze_layers": 1}, {"lora_rank": 2}])
def test_an_unfrozen_backbone_trains_where_it_should(
    backbone_folder, build_datamodule, build_module, build_trainer, change
):
    if "lora_rank" in change:
        pytest.importorskip("peft", reason="adapters need peft")
    backbone = SpeechBackbone(str(backbone_folder), **change)
    module, trainer, datamodule = build_module(opened=backbone), build_trainer(), build_datamodule()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer.fit(module, datamodule=datamodule)
    assert not datamodule.is_cached("train")
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    allowed = "encoder.layers.1." if "unfreeze_layers" in change else "lora_"
    in_backbone = {name for name in changed if ".backbone." in name}
    assert in_backbone
    assert all(allowed in name for name in in_backbone)
    assert changed - in_backbone == {name for name in changed if name.startswith("classifier.head.")}
    # Adapters begin at zero on one side, which shields the other side from the first step's gradient alone.
    assert trained <= changed


def test_the_loss_is_cross_entropy(attach, build_datamodule):
    datamodule = build_datamodule()
    module = attach(datamodule)
    batch = first_batch(datamodule)
    expected = F.cross_entropy(batch.logits(module.eval().classifier), batch.labels)
    torch.testing.assert_close(loss_of(module, batch), expected.detach())


def test_label_smoothing_spreads_the_target(attach, build_datamodule):
    datamodule = build_datamodule()
    module = attach(datamodule, loss=LossSettings(label_smoothing=0.2))
    batch = first_batch(datamodule)
    log_probabilities = batch.logits(module.eval().classifier).log_softmax(1)
    target = 0.8 * F.one_hot(batch.labels, 3) + 0.2 / 3
    expected = -(target * log_probabilities).sum(1).mean()
    torch.testing.assert_close(loss_of(module, batch), expected.detach())


def test_class_weights_are_inverse_frequencies_with_a_mean_of_one(
    tmp_path, write_corpus, build_datamodule, build_module, build_trainer
):
    speakers = {"cy": "train", "ann": "validation", "bob": "test"}  # cy has 3 neutral, 2 happy, 2 sad clips
    corpus = write_corpus(tmp_path / "corpus", speakers=speakers)
    module = build_module(loss=LossSettings(class_weights=True))
    build_trainer().fit(module, datamodule=build_datamodule(root=str(corpus)))
    weights = module.losses[0].class_weights
    torch.testing.assert_close(weights, torch.tensor([7 / 9, 7 / 6, 7 / 6]))
    assert float((torch.tensor([3, 2, 2]) * weights).sum() / 7) == pytest.approx(1.0)
    assert not any("class_weights" in name for name in module.state_dict())


def test_class_weights_need_a_datamodule_that_counts(build_module, build_trainer, build_datamodule, attach):
    datamodule = build_datamodule()
    attach(datamodule)
    module = build_module(loss=LossSettings(class_weights=True))
    with pytest.raises(SettingError, match="needs an EmotionDataModule"):
        build_trainer().fit(module, datamodule.train_dataloader(), datamodule.val_dataloader())


def test_a_training_without_end_is_refused(build_module, build_trainer, build_datamodule):
    with pytest.raises(SettingError, match=r"max_epochs=-1.*set trainer\.max_epochs"):
        build_trainer(max_epochs=-1).fit(build_module(), datamodule=build_datamodule())


def test_a_training_may_end_by_steps(build_module, build_trainer, build_datamodule):
    trainer = build_trainer(max_epochs=-1, max_steps=4)
    trainer.fit(build_module(), datamodule=build_datamodule())
    assert trainer.global_step == 4
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)


def test_all_scores_are_logged(build_module, build_trainer, build_datamodule):
    trainer, module, datamodule = build_trainer(), build_module(), build_datamodule()
    trainer.fit(module, datamodule=datamodule)
    scores = {"loss", "uar", "wa", "macro_f1", "ece"}
    assert trainer.callback_metrics.keys() == {
        "train/loss",
        "learning_rate/head",
        *(f"val/{name}" for name in scores),
    }
    assert len(module.validation_predictions.labels) == 7
    (found,) = trainer.test(module, datamodule=datamodule, verbose=False)
    assert found.keys() == {f"test/{name}" for name in scores}
    assert len(module.test_predictions.labels) == 6


def test_a_checkpoint_is_small_and_opens_without_running_anything(trained, tmp_path):
    module, _, path = trained
    content = torch.load(path, weights_only=True)
    assert not [name for name in content["state_dict"] if "backbone" in name]
    head_bytes = sum(value.nbytes for value in module.classifier.head.state_dict().values())
    # Weights, two moments of the optimiser, and less than 64 kB of everything else.
    assert path.stat().st_size < 3 * head_bytes + 65_536
    record = content[CLASSIFIER_KEY]
    assert record["labels"] == list(LABELS)
    assert record["protocol"]["hash"]
    assert record["protocol"]["clips"] == {"train": 12, "validation": 7, "test": 6}
    assert record["head"] == asdict(HeadSettings())
    assert {"torch", "lightning", "transformers", "soundfile", "soxr"} <= record["versions"].keys()


def test_a_classifier_loaded_from_a_checkpoint_gives_the_same_logits(trained):
    module, _, path = trained
    classifier = load_classifier(path)
    waveforms = 0.1 * torch.randn(3, 6000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([6000, 5000, 4000])
    with torch.no_grad():
        found = classifier(waveforms, lengths)
        expected = module.eval().classifier(waveforms, lengths)
    for name, value in module.classifier.state_dict().items():
        assert torch.equal(classifier.state_dict()[name], value)
    torch.testing.assert_close(found, expected)  # equal weights elsewhere in memory: the last bit may differ


def test_a_module_is_built_from_its_checkpoint(trained, backbone_folder, build_datamodule, build_trainer):
    module, datamodule, path = trained
    loaded = EmotionModule.load_from_checkpoint(path, weights_only=True)
    assert loaded.classifier.labels == LABELS
    assert loaded.classifier.backbone.settings == module.classifier.backbone.settings
    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert loaded.optimizer_settings == OptimizerSettings()
    assert loaded.classifier.provenance.protocol == datamodule.protocol_record
    build_trainer().test(loaded, datamodule=datamodule, verbose=False)
    again = EmotionModule.load_from_checkpoint(path, weights_only=True, loss={"label_smoothing": 0.1})
    assert again.losses[0].settings == LossSettings(label_smoothing=0.1)


def test_a_checkpoint_without_settings_is_told(trained):
    _, _, path = trained
    content = torch.load(path, weights_only=True)
    del content["hyper_parameters"]
    torch.save(content, path)
    with pytest.raises(SettingError, match="load_classifier"):
        EmotionModule.load_from_checkpoint(path, weights_only=True)


def test_a_loaded_module_is_not_tested_on_its_training_speakers(
    build_datamodule, build_module, build_trainer, tmp_path
):
    trainer, first = build_trainer(), build_datamodule(protocol="leave-one-speaker-out")
    trainer.fit(build_module(), datamodule=first)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = EmotionModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    other = build_datamodule(protocol="leave-one-speaker-out", fold=1)
    with pytest.raises(CheckpointError, match="of the test split of fold=1"):
        build_trainer().test(loaded, datamodule=other, verbose=False)


def test_a_checkpoint_is_loaded_into_an_equal_module(trained, build_module, build_trainer):
    module, datamodule, path = trained
    other, trainer = build_module(), build_trainer(plugins=[AtomicCheckpointIO()])
    trainer.validate(other, datamodule=datamodule, ckpt_path=str(path), weights_only=True, verbose=False)
    for name, value in module.classifier.head.state_dict().items():
        assert torch.equal(other.classifier.head.state_dict()[name], value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": ("neutral", "sad", "happy")},
            r"outputs=classes \(neutral, sad, happy\) must be classes \(neutral, happy, sad\)",
        ),
        (
            {"head": HeadSettings(layer=1)},
            "head=.*layer=1.* must be that of the checkpoint, head=.*layer='learned'",
        ),
        ({"head": HeadSettings(pooling="attentive")}, "head=.*must be that of the checkpoint"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    trained, build_module, build_trainer, build_datamodule, change, message
):
    path = trained[2]
    datamodule = build_datamodule(labels=list(change.get("labels", LABELS)))
    with pytest.raises(CheckpointError, match=message):
        build_trainer(max_epochs=2).fit(
            build_module(**change), datamodule=datamodule, ckpt_path=str(path), weights_only=True
        )


def test_dropout_may_differ_from_the_checkpoint(trained, build_module, build_trainer):
    module = build_module(head=HeadSettings(dropout=0.5))
    build_trainer().validate(
        module, datamodule=trained[1], ckpt_path=str(trained[2]), weights_only=True, verbose=False
    )


def test_a_checkpoint_of_another_backbone_is_refused(trained, build_module, build_trainer, build_datamodule):
    module = build_module(opened=None, backbone=BackboneSettings("tiny"))
    with pytest.raises(CheckpointError, match=r"was trained on backbone=.*use the same weights"):
        build_trainer(max_epochs=2).fit(
            module, datamodule=build_datamodule(), ckpt_path=str(trained[2]), weights_only=True
        )


def test_a_checkpoint_of_another_program_is_refused(trained, build_module, build_trainer, tmp_path):
    content = torch.load(trained[2], weights_only=True)
    del content[CLASSIFIER_KEY]
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="give one of wavshap-lightning"):
        build_trainer().validate(
            build_module(), datamodule=trained[1], ckpt_path=str(tmp_path / "other.ckpt"), weights_only=True
        )


def test_a_checkpoint_of_other_outputs_is_refused(trained, build_module, build_trainer, tmp_path):
    """The same names and weights, but not classes: they would be trained as if they were."""
    content = torch.load(trained[2], weights_only=True)
    content[CLASSIFIER_KEY]["task"] = "labels"
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"must be labels \(neutral, happy, sad\), those of the"):
        build_trainer().validate(
            build_module(), datamodule=trained[1], ckpt_path=str(tmp_path / "other.ckpt"), weights_only=True
        )


def test_a_linear_head_trains_too(build_module, build_trainer, build_datamodule):
    module = build_module(
        head=HeadSettings(layer="last", pooling="mean", hidden_size=0),
        optimizer=OptimizerSettings(warmup_share=0.0),
    )
    before = module.classifier.head.mlp[-1].weight.clone()
    build_trainer().fit(module, datamodule=build_datamodule())
    assert not torch.equal(module.classifier.head.mlp[-1].weight, before)


def level_db(clip):
    return 10 * np.log10(np.square(load_audio(clip.path)).mean())


def test_the_mean_voice_of_training_clips_travels_in_the_checkpoint(
    build_datamodule, build_module, build_trainer, tmp_path
):
    """The clips are steady tones, whose level is known without WORLD; other splits have no part in it."""
    datamodule, trainer, path = build_datamodule(num_voices=1_000), build_trainer(), tmp_path / "a.ckpt"
    trainer.fit(build_module(), datamodule=datamodule)
    trainer.save_checkpoint(path)
    voice = VoiceMeasures(**load_classifier(path).provenance.voice)
    clips = datamodule.clips("train")
    seconds = [len(load_audio(clip.path)) / 16_000 for clip in clips]
    assert voice.loudness == pytest.approx(np.mean([*map(level_db, clips)]), abs=0.1)
    assert voice.tempo == pytest.approx(np.mean(seconds), abs=0.005)


def test_few_voices_are_the_same_clips_for_every_training_and_none_are_no_voice(attach, build_datamodule):
    few, again, every = (build_datamodule(num_voices=count) for count in (1, 1, 1_000))
    for one in (few, again, every):
        attach(one)
    assert few.voice == again.voice != every.voice
    alone = [level_db(clip) for clip in few.clips("train")]
    assert min(abs(few.voice["loudness"] - level) for level in alone) < 0.1
    none = build_datamodule()
    attach(none)
    assert none.voice == {}
