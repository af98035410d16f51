"""Laws of the classifier: its stages compose, and clips do not touch one another."""

from __future__ import annotations

import pytest
import torch

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.models.head import HeadSettings

LABELS = ("angry", "happy", "sad")


@pytest.fixture(params=["mean", "mean_std", "attentive"])
def classifier(request, variant, build_model, open_backbone):
    head = HeadSettings(pooling=request.param, hidden_size=16)
    return EmotionClassifier(open_backbone(build_model(*variant)), LABELS, head).eval()


def test_the_stages_compose_to_the_whole(classifier, padded_batch):
    waveforms, lengths = padded_batch
    num_frames = classifier.backbone.num_frames(lengths)
    layers = classifier.encoder(classifier.frontend(waveforms, lengths), num_frames)
    logits = classifier(waveforms, lengths)
    assert torch.equal(classifier.head(layers, num_frames), logits)
    assert torch.equal(layers, classifier.backbone(waveforms, lengths))
    assert logits.shape == (3, len(LABELS))


def test_a_padded_batch_is_its_clips_one_by_one(classifier, padded_batch):
    waveforms, lengths = padded_batch
    logits = classifier(waveforms, lengths)
    for clip, length, expected in zip(waveforms, lengths, logits, strict=True):
        torch.testing.assert_close(classifier(clip[None, :length])[0], expected, rtol=1e-4, atol=1e-5)


def test_without_lengths_every_sample_counts(classifier, generator):
    waveforms = torch.randn(2, 400, generator=generator)
    assert torch.equal(classifier(waveforms), classifier(waveforms, torch.tensor([400, 400])))


def test_training_reaches_the_head_and_nothing_else(classifier, padded_batch):
    classifier.train()
    assert classifier.head.training
    assert not any(module.training for module in classifier.backbone.modules())
    classifier(*padded_batch).square().sum().backward()
    assert all(parameter.grad is not None for parameter in classifier.head.parameters())
    assert all(parameter.grad is None for parameter in classifier.backbone.parameters())


def test_the_waveform_takes_a_gradient_at_every_stage(classifier, padded_batch):
    waveforms, lengths = padded_batch
    waveforms.requires_grad_()
    logits = classifier(waveforms, lengths)
    (gradient,) = torch.autograd.grad(logits.square().sum(), waveforms)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_labels_and_sample_rate_are_told(open_backbone):
    classifier = EmotionClassifier(open_backbone(), list(LABELS))
    assert classifier.labels == LABELS
    assert classifier.sample_rate == classifier.backbone.sample_rate


def test_a_label_named_twice_is_refused(open_backbone):
    with pytest.raises(SettingError, match=r"labels=\['a', 'b', 'a'\] must be two classes or more"):
        EmotionClassifier(open_backbone(), ["a", "b", "a"])


@pytest.mark.parametrize("labels", [[], ["angry"]])
def test_fewer_than_two_labels_are_refused(labels, open_backbone):
    with pytest.raises(SettingError, match="must be two classes or more"):
        EmotionClassifier(open_backbone(), labels)


@pytest.mark.parametrize("task", ["labels", "dimensions"])
def test_other_outputs_may_be_a_single_one(task, open_backbone):
    assert EmotionClassifier(open_backbone(), ["arousal"], task=task).labels == ("arousal",)
    with pytest.raises(SettingError, match="must be one output or more"):
        EmotionClassifier(open_backbone(), [], task=task)
