"""The course of the learning rate and what decays, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim import AdamW

from wavshap_lightning.errors import SettingError
from wavshap_lightning.models.backbone import SpeechBackbone
from wavshap_lightning.models.classifier import EmotionClassifier
from wavshap_lightning.training.module import (
    LossSettings,
    OptimizerSettings,
    learning_rates,
    parameter_groups,
    warmup_cosine,
)


def test_the_learning_rate_rises_on_a_line_and_falls_on_a_cosine_to_zero():
    shape = warmup_cosine(100, 0.1)
    assert [shape(step) for step in range(10)] == pytest.approx([(step + 1) / 10 for step in range(10)])
    falling = [shape(step) for step in range(10, 101)]
    assert falling == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 90)) for step in range(91)])
    assert shape(100) == pytest.approx(0.0, abs=1e-12)
    assert shape(1000) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("num_steps", "share"), [(1, 0.0), (1, 1.0), (5, 1.0), (3, 0.1), (10, 0.0)])
def test_short_trainings_have_a_learning_rate_too(num_steps, share):
    shape = warmup_cosine(num_steps, share)
    assert all(0.0 <= shape(step) <= 1.0 for step in range(num_steps + 1))
    assert max(shape(step) for step in range(num_steps)) == pytest.approx(1.0)


def test_matrices_decay_and_nothing_else_does(opened):
    settings = OptimizerSettings(learning_rate=0.1, weight_decay=0.3)
    classifier = EmotionClassifier(opened, ["a", "b"])
    groups = parameter_groups(classifier, settings)
    name_of = {id(parameter): name for name, parameter in classifier.named_parameters()}
    decay_of = {name_of[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert decay_of == {
        "head.mix.scores": 0.0,
        "head.mlp.2.weight": 0.3,
        "head.mlp.2.bias": 0.0,
        "head.mlp.5.weight": 0.3,
        "head.mlp.5.bias": 0.0,
    }
    assert {group["lr"] for group in groups} == {0.1}


@pytest.mark.parametrize("change", [{"unfreeze_layers": 1}, {"lora_rank": 2}])
def test_what_is_unfrozen_has_a_learning_rate_of_its_own(backbone_folder, change):
    if "lora_rank" in change:
        pytest.importorskip("peft", reason="adapters need peft")
    backbone = SpeechBackbone(str(backbone_folder), **change)
    classifier = EmotionClassifier(backbone, ["a", "b"])
    groups = parameter_groups(classifier, OptimizerSettings(learning_rate=0.1, backbone_learning_rate=0.01))
    rate_of = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    assert rate_of.keys() == {id(parameter) for parameter in trained}
    in_head = {id(parameter) for parameter in classifier.head.parameters()}
    assert all(rate == (0.1 if key in in_head else 0.01) for key, rate in rate_of.items())


def test_the_optimiser_moves_each_part_at_its_rate(backbone_folder):
    classifier = EmotionClassifier(SpeechBackbone(str(backbone_folder), unfreeze_layers=1), ["a", "b"])
    before = {name: value.detach().clone() for name, value in classifier.named_parameters()}
    optimizer = AdamW(parameter_groups(classifier, OptimizerSettings(0.1, 0.001, weight_decay=0.0)))
    assert learning_rates(optimizer) == {"head": 0.1, "backbone": 0.001}
    for value in classifier.parameters():
        if value.requires_grad:
            value.grad = torch.ones_like(value)
    optimizer.step()
    for name, value in classifier.named_parameters():
        rate = (0.1 if name.startswith("head.") else 0.001) if value.requires_grad else 0.0
        moved = float((before[name] - value.detach()).abs().max())
        assert moved == pytest.approx(rate, rel=1e-2), name


def test_a_frozen_backbone_has_neither_group_nor_rate(opened):
    optimizer = AdamW(parameter_groups(EmotionClassifier(opened, ["a", "b"]), OptimizerSettings(0.1)))
    assert {group["name"] for group in optimizer.param_groups} == {"head", "head_undecayed"}
    assert learning_rates(optimizer) == {"head": 0.1}


def test_the_ends_of_a_range_are_allowed():
    OptimizerSettings(0.0, 0.0, 0.0, 0.0)
    OptimizerSettings(warmup_share=1.0)
    LossSettings(label_smoothing=1.0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: OptimizerSettings(learning_rate=-1.0), "learning_rate=-1.0 must be at least 0"),
        (lambda: OptimizerSettings(weight_decay=float("nan")), "weight_decay=nan must be at least 0"),
        (lambda: OptimizerSettings(warmup_share=1.5), "warmup_share=1.5 must be from 0 to 1"),
        (lambda: LossSettings(label_smoothing=2.0), "label_smoothing=2.0 must be from 0 to 1"),
    ],
)
def test_numbers_out_of_range_are_told(build, message):
    with pytest.raises(SettingError, match=message):
        build()
