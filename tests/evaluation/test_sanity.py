"""The cascade reaches every parameter, each with draws of its own, and leaves the classifier alone."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from wavshap_lightning.evaluation.sanity import cascade, fully_random, head_redrawn


def changed(classifier, level):
    before, after = dict(classifier.named_parameters()), dict(level.classifier.named_parameters())
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_the_head_comes_first_alone_and_in_the_end_every_parameter_has_changed(classifier):
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    levels = list(cascade(classifier, seed=0))
    names = {name for name, _ in classifier.named_parameters()}
    assert levels[0].name == "head"
    assert changed(classifier, levels[0]) == {name for name in names if name.startswith("head.")}
    assert changed(classifier, levels[-1]) == names
    assert levels[-1].num_redrawn == sum(parameter.numel() for parameter in classifier.parameters())
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())


def test_each_level_keeps_what_was_drawn_before_and_goes_towards_the_sound(classifier):
    levels = list(cascade(classifier, seed=0))
    reached = [changed(classifier, level) for level in levels]
    assert all(first < second for first, second in pairwise(reached))
    order = [level.name for level in levels]
    blocks = [order.index(f"backbone.model.encoder.layers.{index}") for index in (2, 1, 0)]
    assert blocks == sorted(blocks)
    convolutions = [order.index(f"backbone.model.feature_extractor.conv_layers.{index}") for index in (1, 0)]
    assert max(blocks) < min(convolutions)
    assert convolutions == sorted(convolutions)
    first = dict(levels[0].classifier.named_parameters())
    last = dict(levels[-1].classifier.named_parameters())
    assert torch.equal(first["head.mlp.2.weight"], last["head.mlp.2.weight"])


@pytest.mark.parametrize("frozen", [True, False])
def test_only_a_frozen_backbone_is_shared_with_the_copy_whose_head_is_drawn_anew(classifier, frozen):
    asked = deepcopy(classifier)
    if not frozen:
        asked.backbone.settings = replace(asked.backbone.settings, unfreeze_layers=1)
    before = {name: value.clone() for name, value in asked.state_dict().items()}
    copied = head_redrawn(asked, seed=0)
    assert (copied.backbone is asked.backbone) == frozen
    assert all(torch.equal(before[name], value) for name, value in asked.state_dict().items())
    first = dict(next(cascade(asked, seed=0)).classifier.named_parameters())
    assert all(torch.equal(value, first[name]) for name, value in copied.named_parameters())
    assert not copied.training


def test_tensors_of_one_shape_get_draws_of_their_own(classifier):
    drawn = dict(fully_random(classifier, seed=0).named_parameters())
    layers = [
        drawn[f"backbone.model.encoder.layers.{index}.feed_forward.intermediate_dense.weight"]
        for index in range(3)
    ]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        both = torch.stack([layers[one].flatten(), layers[other].flatten()])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.2


def test_sizes_stay_and_a_seed_is_a_seed(classifier):
    first, again, other = (dict(fully_random(classifier, seed).named_parameters()) for seed in (1, 1, 2))
    for name, parameter in classifier.named_parameters():
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])
        if parameter.numel() > 200:
            found, expected = first[name].detach().std(), parameter.detach().std()
            assert float(found) == pytest.approx(float(expected), rel=0.25)
