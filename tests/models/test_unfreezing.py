"""Laws of training part of the backbone."""

from __future__ import annotations

import sys

import pytest
import torch

from wavshap_lightning.errors import SettingError


def trained_names(backbone):
    return {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}


def names_with_gradient(backbone, clip):
    backbone(clip).square().sum().backward()
    return {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}


def names_under(backbone, *prefixes):
    return {name for name, _ in backbone.named_parameters() if name.startswith(prefixes)}


def modules_in_training(backbone):
    return {name for name, module in backbone.named_modules() if module.training}


@pytest.fixture
def clip(generator):
    return 0.2 * torch.randn(1, 1600, generator=generator)


@pytest.mark.parametrize("num_layers", [0, 1, 2])
def test_exactly_the_last_layers_are_trained(variant, num_layers, build_model, open_backbone, clip):
    backbone = open_backbone(build_model(*variant), unfreeze_layers=num_layers)
    stack = "model.encoder.encoder.layer" if variant[0] == "sew-d" else "model.encoder.layers"
    layers = tuple(f"{stack}.{index}." for index in (1, 0)[:num_layers])
    expected = names_under(backbone, *layers) if layers else set()
    assert trained_names(backbone) == expected
    if num_layers:
        assert names_with_gradient(backbone, clip) == expected


def test_exactly_the_last_layers_go_into_training_mode(open_backbone):
    backbone = open_backbone(unfreeze_layers=1)
    layer = "model.encoder.layers.1"
    inside = {name for name, _ in backbone.named_modules() if name == layer or name.startswith(f"{layer}.")}
    assert modules_in_training(backbone) == set()
    assert modules_in_training(backbone.train()) == inside
    assert modules_in_training(backbone.eval()) == set()


def test_dropout_acts_in_the_trained_layers(open_backbone, clip):
    backbone = open_backbone(unfreeze_layers=1).train()
    first, second = backbone(clip), backbone(clip)
    assert torch.equal(first[:, :2], second[:, :2])
    assert not torch.equal(first[:, 2], second[:, 2])


def test_what_is_trained_changes_nothing_before_training(
    variant, build_model, open_backbone, clip, relative_error
):
    expected = open_backbone(build_model(*variant))(clip)
    for options in ({"unfreeze_layers": 2}, {"lora_rank": 2}, {"unfreeze_layers": 1, "lora_rank": 2}):
        found = open_backbone(build_model(*variant), **options)(clip)
        assert relative_error(found, expected) <= 1e-6


def test_low_rank_adapters_alone_are_trained(variant, build_model, open_backbone, clip):
    backbone = open_backbone(build_model(*variant), lora_rank=3)
    attention, projections = {
        "wav2vec2-conformer": ("encoder.layers.{}.self_attn", ("linear_q", "linear_v")),
        "sew-d": ("encoder.encoder.layer.{}.attention.self", ("query_proj", "value_proj")),
    }.get(variant[0], ("encoder.layers.{}.attention", ("q_proj", "v_proj")))
    expected = {
        f"model.{attention.format(layer)}.{projection}.lora_{matrix}.default.weight"
        for layer in (0, 1)
        for projection in projections
        for matrix in "AB"
    }
    assert trained_names(backbone) == expected
    assert names_with_gradient(backbone, clip) == expected
    assert sum(backbone.get_parameter(name).numel() for name in expected) == 2 * 2 * 2 * 3 * 32


def test_adapters_alone_go_into_training_mode(open_backbone):
    backbone = open_backbone(lora_rank=3)
    assert modules_in_training(backbone) == set()
    in_training = modules_in_training(backbone.train())
    assert any(name.endswith("lora_dropout.default") for name in in_training)
    assert all("lora_" in name for name in in_training)


def test_layers_and_adapters_together_train_both(open_backbone, clip):
    backbone = open_backbone(unfreeze_layers=1, lora_rank=2)
    adapters = {name for name, _ in backbone.named_parameters() if "lora_" in name}
    expected = names_under(backbone, "model.encoder.layers.1.") | adapters
    assert trained_names(backbone) == expected
    assert names_with_gradient(backbone, clip) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unfreeze_layers": -1}, "unfreeze_layers=-1 must lie between 0 and this backbone's 2 layers"),
        ({"unfreeze_layers": 3}, "unfreeze_layers=3 must lie between 0 and this backbone's 2 layers"),
        ({"lora_rank": -1}, "lora_rank=-1 must be at least 0"),
        ({"lora_rank": 2, "last_layer": 0}, "0 if last_layer=0"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message, open_backbone):
    with pytest.raises(SettingError, match=message):
        open_backbone(**options)


def test_without_peft_it_says_how_to_install_it(open_backbone, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        SettingError, match=r"lora_rank=2 needs peft.*pip install 'wavshap-lightning\[lora\]'"
    ):
        open_backbone(lora_rank=2)
    assert open_backbone().settings.frozen
